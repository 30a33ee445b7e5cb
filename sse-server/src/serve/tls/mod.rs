//! HTTPS: the certificate, what the handshake may cost, and the certificates of clients.
//!
//! A session that is resumed is cheap for both sides, and readers come back in crowds. What the server would have to
//! remember of it goes to the client instead, sealed in a ticket: the hub keeps nothing for those who left. A client certificate
//! is in that ticket too, and is checked again when it comes back.
//!
//! All files are read together and used together, or not at all: see [`Tls::reload`].

mod error;
mod expiry;
mod files;
mod socket;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use error::TlsError;
use expiry::{Expiry, Left};
use socket::HandshakenSocket;
pub(super) use socket::{TlsSocket, speaks_http_2};

use crate::access::authentication::{ClientCertificate, RevokedCertificates};
use crate::access::budget::Permit;
use crate::clock;
use crate::hub::Hub;

/// A certificate and its key, for a server that speaks HTTPS.
///
/// TLS 1.2 and 1.3, with HTTP/2 and HTTP/1.1 by ALPN; a client that names no protocol gets HTTP/1.1. Cloning it is
/// cheap, and the clones have the same certificate, also after a [`reload`](Self::reload).
///
/// ```no_run
/// use sse_server::serve::{ServerConfig, Tls};
///
/// let tls = Tls::from_files("hub.pem".as_ref(), "hub-key.pem".as_ref())?;
/// let config = ServerConfig { tls: Some(tls), ..ServerConfig::default() };
/// # Ok::<(), sse_server::serve::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    /// The same after a reload, so that sessions can still be resumed.
    ticketer: Arc<dyn ProducesTickets>,
    current: RwLock<Arc<Current>>,
}

/// What the next handshake goes by.
struct Current {
    session: Arc<ServerConfig>,
    /// Checks the certificates of clients, if any are taken.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    expiries: Vec<Expiry>,
}

/// What a server that speaks HTTPS goes by.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The server's certificate in PEM, with those between it and the root behind it.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whose certificates clients may show; `None` asks for none.
    pub clients: Option<ClientAuth>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Which certificates of clients are taken.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// The authorities that sign them: certificates in PEM.
    pub authorities: PathBuf,
    /// Lists of those that were taken back: CRLs in PEM, one of each authority of the chain.
    pub revocations: Option<PathBuf>,
    /// Whether a client without one is refused.
    pub is_required: bool,
    /// Told which are revoked, also after a reload.
    pub revoked: RevokedCertificates,
}

impl TlsConfig {
    /// TLS 1.2 and 1.3 with this certificate and key, for clients that show none.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            min_version: TlsVersion::default(),
            clients: None,
        }
    }
}

impl Tls {
    /// Reads a certificate, with those between it and the root behind it, and its key: two PEM files, or one with both.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or does not hold what it should, and when the key is not the certificate's.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::new(TlsConfig::new(certificate, key))
    }

    /// The same, with all that can be set.
    ///
    /// # Errors
    ///
    /// As of [`from_files`](Self::from_files), also for the files of client certificates.
    pub fn new(config: TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Unusable)?;
        let current = Current::read(&config, &provider, &ticketer)?;
        Ok(Self(Arc::new(Inner {
            config,
            provider,
            ticketer,
            current: RwLock::new(Arc::new(current)),
        })))
    }

    /// Reads all files again. Either all of it is used from the next handshake on, or the files cannot be used, a certificate
    /// without its key for example, and everything stays as it was. Connections that are open stay as they are, but for those
    /// whose client certificate is on the list of the revoked ones.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new).
    pub fn reload(&self) -> Result<(), TlsError> {
        let inner = &self.0;
        let read = Current::read(&inner.config, &inner.provider, &inner.ticketer)?;
        let old = std::mem::replace(&mut *inner.current.write(), Arc::new(read));
        drop(old);
        Ok(())
    }

    /// Goes by what another one has read, from the next handshake on: other files, another oldest version, other clients. Sessions
    /// of before are not resumed. Connections that are open stay as they are.
    pub fn replace_with(&self, other: &Self) {
        let read = Arc::clone(&other.0.current.read());
        let old = std::mem::replace(&mut *self.0.current.write(), read);
        drop(old);
    }

    /// The handshake on a socket, and the certificate that its client has shown. Who speaks plain HTTP is told so.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
        held: Permit,
    ) -> io::Result<(TlsSocket, Option<ClientCertificate>)> {
        let current = Arc::clone(&self.0.current.read());
        let handshake = TlsAcceptor::from(Arc::clone(&current.session))
            .accept_with(HandshakenSocket::new(socket, held), |session| {
                session.set_buffer_limit(Some(MAX_HELD_BACK_BYTES));
            })
            .into_fallible();
        match handshake.await {
            Ok(mut socket) => {
                let certificate = current.client_certificate(&mut socket)?;
                Ok((socket, certificate))
            }
            Err((error, socket)) if socket.is_text() => {
                socket.explain().await;
                Err(error)
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Says in the log and in the metrics until when the files are good, until the task is dropped.
    pub(super) async fn watch_expiry(&self, hub: &Hub) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said: Vec<(Expiry, Left)> = Vec::new();
        loop {
            ticks.tick().await;
            let now = clock::unix_millis();
            let current = Arc::clone(&self.0.current.read());
            let left = |expiry: &Expiry| (expiry.clone(), expiry.left(now));
            let found: Vec<_> = current.expiries.iter().map(left).collect();
            if found == said {
                continue;
            }
            for news in found.iter().filter(|it| !said.contains(it)) {
                news.0.complain(news.1, now);
            }
            let until = |(expiry, _): &(Expiry, Left)| (expiry.of, expiry.not_after / 1000);
            hub.metrics()
                .record_certificates(found.iter().map(until).collect());
            said = found;
        }
    }
}

impl Current {
    fn read(
        config: &TlsConfig,
        provider: &Arc<CryptoProvider>,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let pair = files::pair(&config.certificate, &config.key, provider)?;
        let mut expiries = vec![pair.expiry];
        let mut revoked = Vec::new();
        let clients = match &config.clients {
            None => None,
            Some(clients) => {
                let (verifier, revocations) = clients.verifier(provider, &mut expiries)?;
                revoked = revocations;
                Some(verifier)
            }
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(config.min_version.and_newer())
            .map_err(TlsError::Unusable)?;
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let certified = SingleCertAndKey::from(pair.certified);
        let mut session = builder.with_cert_resolver(Arc::new(certified));
        session.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        session.session_storage = Arc::new(NoServerSessionStorage {});
        session.ticketer = Arc::clone(ticketer);
        session.send_tls13_tickets = 1;
        // Nothing can fail any more.
        if let Some(clients) = &config.clients {
            clients.revoked.set(revoked);
        }
        Ok(Self {
            session: Arc::new(session),
            clients,
            expiries,
        })
    }

    /// The certificate that the client of a connection has shown. In a session that is resumed nobody has looked at it.
    fn client_certificate(&self, socket: &mut TlsSocket) -> io::Result<Option<ClientCertificate>> {
        let (held, session) = socket.get_mut();
        let (Some(clients), Some(chain)) = (&self.clients, session.peer_certificates()) else {
            return Ok(None);
        };
        let Some((own, rest)) = chain.split_first() else {
            return Ok(None);
        };
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            let now = UnixTime::since_unix_epoch(Duration::from_millis(clock::unix_millis()));
            clients
                .verify_client_cert(own, rest, now)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        // The session keeps them, and what is made of them here is smaller.
        let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
        held.hold(2 * bytes)
            .map_err(|refused| io::Error::new(io::ErrorKind::OutOfMemory, refused))?;
        Ok(Some(ClientCertificate::from_der(own)))
    }
}

impl TlsVersion {
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => NEWEST_VERSION,
        }
    }
}

/// What checks the certificates of clients, and which of them are revoked.
type Verifying = (Arc<dyn ClientCertVerifier>, Vec<(Vec<u8>, Vec<u8>)>);

impl ClientAuth {
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        expiries: &mut Vec<Expiry>,
    ) -> Result<Verifying, TlsError> {
        let (roots, expiry) = files::authorities(&self.authorities)?;
        expiries.push(expiry);
        let provider = Arc::clone(provider);
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let mut revoked = Vec::new();
        if let Some(path) = &self.revocations {
            let read = files::revocations(path)?;
            expiries.push(read.expiry);
            revoked = read.certificates;
            // A list that is too old does not say who was revoked since.
            builder = builder
                .with_crls(read.lists)
                .enforce_revocation_expiration();
        }
        if !self.is_required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| TlsError::Unverifiable {
            path: self.authorities.clone(),
            reason: error.to_string(),
        })?;
        Ok((verifier, revoked))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const NEWEST_VERSION: &[&SupportedProtocolVersion] = &[&TLS13];
/// The protocols' names in ALPN (RFC 7301, section 6, and RFC 9113, section 3.2).
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// What the TLS session may hold for a socket that takes nothing: two records, so that one is ready when the other
/// is gone. A guess.
const MAX_HELD_BACK_BYTES: usize = 32 << 10;
