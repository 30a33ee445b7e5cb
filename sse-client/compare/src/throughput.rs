//! One stream over loopback, read to its end by each client in turn; the fastest round of each counts.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use sse_protocol::Decoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::clients::{self, Ask, Told};

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const NAMES: [&str; 4] = [
    "read and decode",
    "ours",
    "reqwest-eventsource",
    "eventsource-client",
];
const SHAPE_TIME: Duration = Duration::from_secs(10);

pub(crate) fn run(runtime: &Runtime) {
    let token =
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}";
    let large = "x".repeat(1024);
    println!("MB/s, fastest of interleaved rounds.\n");
    println!("| shape | bare socket | {} |", NAMES.join(" | "));
    println!("|---|---|{}", "---|".repeat(NAMES.len()));
    for (shape, data, count) in [
        ("token events", token, 50_000),
        ("1 KiB events", &*large, 10_000),
    ] {
        let text: String = (0..count)
            .map(|n| format!("id: 1-{n}\nevent: message\ndata: {data}\n\n"))
            .collect();
        let body: &'static [u8] = Box::leak(text.into_bytes().into_boxed_slice());
        let url = format!("http://{}/", serve(runtime, body));
        let mut best = [Duration::MAX; NAMES.len() + 1];
        let begin = Instant::now();
        while begin.elapsed() < SHAPE_TIME {
            for (i, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                let seen = runtime.block_on(read(i, &url, count));
                *best = (*best).min(start.elapsed());
                assert_eq!(
                    seen,
                    if i == 0 { body.len() } else { count },
                    "contestant {i}"
                );
            }
        }
        let speeds =
            best.map(|time| format!("{:.0}", body.len() as f64 / time.as_secs_f64() / 1e6));
        println!("| {shape} | {} |", speeds.join(" | "));
    }
}

/// Contestant `i` reads the stream; gives its bytes (0) or events.
async fn read(i: usize, url: &str, count: usize) -> usize {
    let ask = Ask {
        url: url.to_owned(),
        post: false,
        headers: &[],
    };
    let mut events = 0;
    let each = |told: Told<'_>| {
        match told {
            Told::Event(_) => events += 1,
            other => panic!("{other:?}"),
        }
        if events == count {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match i {
        0 => return bare(url, false).await,
        1 => return bare(url, true).await,
        2 => clients::ours(ask, each).await,
        3 => clients::reqwest_eventsource(ask, each).await,
        _ => clients::eventsource_client(ask, each).await,
    }
    events
}

/// What no client can leave out: the bytes read, or read and decoded.
async fn bare(url: &str, decode: bool) -> usize {
    let addr = &url["http://".len()..url.len() - 1];
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("a request");
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 16 * 1024];
    let (mut bytes, mut events) = (0, 0);
    loop {
        let n = stream.read(&mut buffer).await.expect("bytes");
        if n == 0 {
            return if decode { events } else { bytes - HEAD.len() };
        }
        bytes += n;
        if decode {
            // The head is one odd line or two to the decoder, and no event.
            events += decoder.feed(&buffer[..n]).owned().count();
        }
    }
}

/// A server that answers each connection with `body` and closes it.
fn serve(runtime: &Runtime, body: &'static [u8]) -> SocketAddr {
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 2048];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(HEAD).await;
                    let _ = stream.write_all(body).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        addr
    })
}
