//! A server that does exactly what a test tells it, byte by byte, over real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sse_client::{Connector, EventSource, EventSourceBuilder, ReconnectPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// A listening server; it ends with the test.
pub(crate) struct Rogue {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One connection of a client, with its first request read.
pub(crate) struct Peer {
    /// Which connection this is, from 0.
    pub(crate) n: usize,
    pub(crate) request: Request,
    pub(crate) stream: TcpStream,
}

impl Peer {
    /// Writes; that the client is gone is no matter here.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Writes the head of a stream and this.
    pub(crate) async fn events(&mut self, text: &str) {
        self.write(HEAD).await;
        self.write(text).await;
    }

    /// Closes by RST.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Waits until the client has closed.
    pub(crate) async fn closed(&mut self) {
        let mut buffer = [0; 1024];
        while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
    }

    /// Keeps the connection open without a word.
    pub(crate) async fn hang(self) {
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(self);
    }
}

impl Rogue {
    /// Serves every connection by `serve`.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let serve = Arc::new(serve);
        let task = tokio::spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (log, serve) = (Arc::clone(&log), Arc::clone(&serve));
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else {
                        return;
                    };
                    log.lock().unwrap().push(request.clone());
                    serve(Peer { n, request, stream }).await;
                });
            }
        });
        Self {
            addr,
            requests,
            task,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// A source of this server's `/events` that reconnects quickly.
    pub(crate) fn source(&self) -> EventSourceBuilder {
        EventSource::builder(self.url("/events"))
            .connector(direct())
            .reconnect(quick())
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request with its body; `None` when the client left.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer).await {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    let request = Request {
        head,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |n| n.parse().unwrap());
    while body.len() < length {
        match stream.read(&mut buffer).await {
            Ok(n @ 1..) => body.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
    Some(Request { body, ..request })
}

/// A connector that no environment can send elsewhere.
pub(crate) fn direct() -> Connector {
    Connector::builder().no_proxy().build()
}

/// Delays of at most 20 ms.
pub(crate) fn quick() -> ReconnectPolicy {
    let ms = Duration::from_millis;
    ReconnectPolicy::default()
        .initial_delay(ms(5))
        .max_delay(ms(20))
        .retry_bounds(ms(1), ms(20))
        .retry_after_ceiling(ms(300))
}

/// Fails a test that hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("this takes too long")
}

/// The data of the next `n` events.
pub(crate) async fn take(events: &mut EventSource, n: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < n {
        data.push(
            soon(events.next())
                .await
                .unwrap()
                .unwrap()
                .data()
                .to_owned(),
        );
    }
    data
}
