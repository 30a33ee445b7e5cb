//! A server behind a certificate of its own, and clients that trust it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use sse_broker::Topic;
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Publication};
use sse_server::serve::{Server, ServerConfig, StreamWriter, Tls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::DEADLINE;

/// A folder with a certificate for `localhost` and its key.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.renew();
        files
    }

    /// Writes another certificate.
    pub(crate) fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    /// Writes one that is valid from the beginning of one year to that of another.
    pub(crate) fn renew_for(&self, (from, to): (i32, i32)) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let made = params.self_signed(&key).unwrap();
        std::fs::write(self.certificate(), made.pem()).unwrap();
        std::fs::write(self.key(), key.serialize_pem()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    /// A client that trusts this certificate and nothing else.
    pub(crate) fn connector(&self, protocol: &[u8]) -> TlsConnector {
        TlsConnector::from(self.client(protocol))
    }

    /// What such a client is made of.
    pub(crate) fn client(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.certificate()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// A server in this process.
pub(crate) struct Secure {
    pub(crate) files: Files,
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) running: JoinHandle<usize>,
}

impl Secure {
    pub(crate) async fn start() -> Self {
        let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
        Self::with(hub, StreamWriter::default(), ServerConfig::default())
    }

    pub(crate) fn with(hub: Hub, writer: StreamWriter, config: ServerConfig) -> Self {
        let files = Files::new();
        let config = ServerConfig {
            writer,
            tls: Some(Tls::from_files(&files.certificate(), &files.key()).unwrap()),
            ..config
        };
        let service = HubService::new(hub.clone(), HttpConfig::default());
        let server = Server::bind(([127, 0, 0, 1], 0).into(), service, config).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(server.run(stopped, DEADLINE));
        Self {
            files,
            hub,
            address,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = self.files.connector(protocol);
        connector.connect(name, socket).await.unwrap()
    }

    /// Sends a request over HTTP/1.1.
    pub(crate) async fn open(&self, request: &str) -> TlsStream<TcpStream> {
        let mut socket = self.connect(b"http/1.1").await;
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// A connection over HTTP/2.
    pub(crate) async fn multiplexed(&self) -> SendRequest<Full<Bytes>> {
        let socket = TokioIo::new(self.connect(b"h2").await);
        let (requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), socket)
                .await
                .unwrap();
        tokio::spawn(connection);
        requests
    }

    pub(crate) async fn publish(&self, data: &str, topic: &str) {
        let publication = Publication::new(data).to_topic(Topic::new(topic).unwrap());
        self.hub.publish(publication).await.unwrap();
    }

    /// Tells it to stop, as a signal would.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

/// Fails the test rather than waiting for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("done before the deadline")
}

/// Reads until this text has come, and gives all that came.
pub(crate) async fn until(socket: &mut TlsStream<TcpStream>, text: &str) -> String {
    let mut read = Vec::new();
    loop {
        let mut space = [0; 4096];
        let count = soon(socket.read(&mut space)).await.unwrap();
        assert!(count > 0, "it ended before {text:?} came");
        read.extend_from_slice(&space[..count]);
        let so_far = String::from_utf8_lossy(&read);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
    }
}

pub(crate) async fn body_until(body: &mut Incoming, text: &str) -> String {
    let mut read = Vec::new();
    loop {
        let frame = soon(body.frame()).await.expect("more").unwrap();
        read.extend_from_slice(&frame.into_data().unwrap());
        let so_far = String::from_utf8_lossy(&read);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
    }
}

pub(crate) async fn ask(
    requests: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).unwrap();
    soon(requests.send_request(request)).await.unwrap()
}

pub(crate) const GET: &str = "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n";
