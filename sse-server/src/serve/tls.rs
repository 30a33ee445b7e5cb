//! HTTPS: the certificate, and what the handshake may cost.
//!
//! A session that is resumed is cheap for both sides, and readers come back in crowds. What the server would have to
//! remember of it goes to the client instead, sealed in a ticket: the hub keeps nothing for those who left.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use sse_broker::UnixMillis;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Socket;
use crate::access::budget::Permit;
use crate::clock;

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
pub struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why a certificate cannot be used. Each message is one line, and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {path}: {source}; give its path with {option}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file holds nothing of what it should.
    #[error(
        "{path} holds no {what} in PEM (-----BEGIN {label}-----); give one that does with {option}"
    )]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What PEM calls it.
        label: &'static str,
        /// The option that names it.
        option: &'static str,
    },
    /// What a file holds is damaged.
    #[error("{path} is not a {what} that can be used: {reason}; give another one with {option}")]
    Malformed {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "the key {key} does not belong to the certificate {certificate}; give the two that were made together, \
         the server's own certificate first in its file"
    )]
    Mismatched {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error(
        "the certificate {certificate} has expired at {since}, and clients refuse it; renew it, and send SIGHUP"
    )]
    Expired {
        /// Its path.
        certificate: PathBuf,
        /// When, in RFC 3339.
        since: String,
    },
    /// The certificate's time has not begun.
    #[error(
        "the certificate {certificate} is valid only from {from}, and clients refuse it until then; \
         is this machine's clock right?"
    )]
    NotYetValid {
        /// Its path.
        certificate: PathBuf,
        /// When, in RFC 3339.
        from: String,
    },
    /// The cryptography itself does not work.
    #[error("TLS cannot be used here: {0}")]
    Unusable(rustls::Error),
}

impl Tls {
    /// Reads a certificate, with those between it and the root behind it, and its key: two PEM files, or one with both.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or does not hold what it should, and when the key is not the certificate's.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let certificate = Arc::new(Certificate(RwLock::new(files.read(&provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Unusable)?;
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            certificate,
            files: Arc::new(files),
        })
    }

    /// Reads the two files again. Connections that are open stay as they are; when the files cannot be used, the old
    /// certificate goes on being used.
    ///
    /// # Errors
    ///
    /// As of [`from_files`](Self::from_files).
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = self.files.read(self.config.crypto_provider())?;
        let old = std::mem::replace(&mut *self.certificate.0.write(), read);
        drop(old);
        Ok(())
    }

    /// Whether clients take the certificate at this time, by its dates. One that they refuse can be served nevertheless.
    ///
    /// # Errors
    ///
    /// [`TlsError::Expired`] and [`TlsError::NotYetValid`].
    pub fn check_dates(&self, now: UnixMillis) -> Result<(), TlsError> {
        let certified = Arc::clone(&self.certificate.0.read());
        let Some((own, rest)) = certified.cert.split_first() else {
            return Ok(());
        };
        // A verifier that trusts the certificate itself: the dates are what it looks at first, and what else it may say
        // (whose it is, for which name) is not the question.
        let mut roots = RootCertStore::empty();
        let provider = Arc::clone(self.config.crypto_provider());
        let verifier = match roots.add(own.clone()) {
            Ok(()) => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
            }
            Err(_) => return Ok(()),
        };
        let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from("localhost")) else {
            return Ok(());
        };
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now));
        let said = verifier.verify_server_cert(own, rest, &name, &[], at);
        let date = |time: UnixTime| clock::rfc3339(time.as_secs().saturating_mul(1000));
        let path = || self.files.certificate.clone();
        match said {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => Err(TlsError::Expired {
                certificate: path(),
                since: date(not_after),
            }),
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => Err(TlsError::NotYetValid {
                certificate: path(),
                from: date(not_before),
            }),
            _ => Ok(()),
        }
    }

    /// The handshake on a socket. Who speaks plain HTTP is told so.
    pub(super) async fn accept(&self, socket: TcpStream, held: Permit) -> io::Result<TlsSocket> {
        let socket = HandshakenSocket {
            _held: held,
            socket,
            written: 0,
            begins_with: None,
        };
        let handshake = TlsAcceptor::from(Arc::clone(&self.config))
            .accept_with(socket, |session| {
                session.set_buffer_limit(Some(MAX_HELD_BACK_BYTES));
            })
            .into_fallible();
        match handshake.await {
            Ok(socket) => Ok(socket),
            Err((error, socket)) if socket.is_text() => {
                let _ = tokio::time::timeout(LAST_WORD, explain(socket.socket)).await;
                Err(error)
            }
            Err((error, _)) => Err(error),
        }
    }
}

/// Tells who speaks plain HTTP what is spoken here.
async fn explain(mut socket: TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{PLAIN_HTTP}",
        PLAIN_HTTP.len()
    );
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    // A socket that is closed with bytes unread in it takes the answer along.
    let mut rest = socket.take(MAX_IGNORED_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = CERTIFICATE.read(&self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CERTIFICATE.malformed(&self.certificate, &error))?;
        if chain.is_empty() {
            return Err(CERTIFICATE.empty(&self.certificate));
        }
        let key = KEY.read(&self.key)?;
        let key = match PrivateKeyDer::pem_slice_iter(&key).next() {
            None => return Err(KEY.empty(&self.key)),
            Some(Err(error)) => return Err(KEY.malformed(&self.key, &error)),
            Some(Ok(key)) => key,
        };
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| KEY.malformed(&self.key, &error))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatched {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            }),
            Err(error) => Err(CERTIFICATE.malformed(&self.certificate, &error)),
        }
    }
}

/// What one of the files should hold.
struct Part {
    what: &'static str,
    label: &'static str,
    option: &'static str,
}

impl Part {
    fn read(&self, path: &Path) -> Result<Vec<u8>, TlsError> {
        std::fs::read(path).map_err(|source| TlsError::Unreadable {
            what: self.what,
            path: path.to_owned(),
            option: self.option,
            source,
        })
    }

    fn empty(&self, path: &Path) -> TlsError {
        TlsError::Empty {
            what: self.what,
            path: path.to_owned(),
            label: self.label,
            option: self.option,
        }
    }

    fn malformed(&self, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
        TlsError::Malformed {
            what: self.what,
            path: path.to_owned(),
            option: self.option,
            reason: reason.to_string().replace('\n', " "),
        }
    }
}

/// The certificate that the next handshake shows.
#[derive(Debug)]
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// A socket after the handshake.
pub(super) type TlsSocket = TlsStream<HandshakenSocket>;

impl Socket for TlsSocket {
    fn into_cleartext(self) -> Result<TcpStream, Self> {
        Err(self)
    }

    fn passed_on_bytes(&self) -> u64 {
        self.get_ref().0.written
    }
}

/// Whether the client chose HTTP/2.
pub(super) fn speaks_http_2(socket: &TlsSocket) -> bool {
    socket.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

/// A socket that counts what it takes, and remembers how its client began.
pub(super) struct HandshakenSocket {
    socket: TcpStream,
    /// The right to hold what TLS takes for it.
    _held: Permit,
    written: u64,
    begins_with: Option<u8>,
}

impl HandshakenSocket {
    /// Whether the client began with a letter, as every method of HTTP does and no record of TLS.
    fn is_text(&self) -> bool {
        self.begins_with
            .is_some_and(|byte| byte.is_ascii_alphabetic())
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written = self.written.saturating_add(*bytes as u64);
        }
        written
    }
}

impl AsyncRead for HandshakenSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        if self.begins_with.is_none() {
            self.begins_with = buffer.filled().first().copied();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for HandshakenSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_text() {
            // An alert, which such a client would take for an answer.
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_text() {
            return Poll::Ready(Ok(bytes.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

const CERTIFICATE: Part = Part {
    what: "certificate",
    label: "CERTIFICATE",
    option: "--tls-cert",
};
const KEY: Part = Part {
    what: "key",
    label: "PRIVATE KEY",
    option: "--tls-key",
};
/// The protocols' names in ALPN (RFC 7301, section 6, and RFC 9113, section 3.2).
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// What the TLS session may hold for a socket that takes nothing: two records, so that one is ready when the other
/// is gone. A guess.
const MAX_HELD_BACK_BYTES: usize = 32 << 10;
/// What somebody reads who forgot a letter in the address.
const PLAIN_HTTP: &str = "this port speaks HTTPS: use https:// in the address\n";
/// How long that may take, and how much of the request is read before it is given up.
const LAST_WORD: Duration = Duration::from_secs(1);
const MAX_IGNORED_BYTES: u64 = 1 << 20;
