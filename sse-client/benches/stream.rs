//! What the client costs on top of the bytes: one stream over loopback, read to its end, beside two floors in
//! the same run: the same bytes read from a bare socket, and read and decoded.

use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sse_client::{Connector, EventSource, ReconnectPolicy};
use sse_protocol::Decoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

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

async fn dial(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("a request");
    stream
}

async fn bare(addr: SocketAddr, decode: bool) -> usize {
    let mut stream = dial(addr).await;
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

async fn client(addr: SocketAddr, connector: Connector) -> usize {
    let mut source = EventSource::builder(format!("http://{addr}/"))
        .connector(connector)
        .reconnect(ReconnectPolicy::never())
        .no_compression()
        .build()
        .expect("a source");
    let mut events = 0;
    while let Some(event) = source.next().await {
        event.expect("an event");
        events += 1;
    }
    events
}

fn stream(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let connector = Connector::builder().no_proxy().build();
    let token =
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}";
    let large = "x".repeat(1024);
    for (shape, data, count) in [
        ("token_events", token, 50_000),
        ("1_kib_events", &*large, 10_000),
    ] {
        let text: String = (0..count)
            .map(|n| format!("id: 1-{n}\nevent: message\ndata: {data}\n\n"))
            .collect();
        let body: &'static [u8] = Box::leak(text.into_bytes().into_boxed_slice());
        let addr = serve(&runtime, body);
        let mut group = c.benchmark_group(shape);
        group
            .throughput(Throughput::Bytes(body.len() as u64))
            .sample_size(10);
        group.measurement_time(Duration::from_secs(4));
        group.bench_function(BenchmarkId::from_parameter("floor_read"), |b| {
            b.iter(|| assert_eq!(runtime.block_on(bare(addr, false)), body.len()));
        });
        group.bench_function(BenchmarkId::from_parameter("floor_read_and_decode"), |b| {
            b.iter(|| assert_eq!(runtime.block_on(bare(addr, true)), count));
        });
        group.bench_function(BenchmarkId::from_parameter("event_source"), |b| {
            b.iter(|| assert_eq!(runtime.block_on(client(addr, connector.clone())), count));
        });
        group.finish();
    }
}

criterion_group!(benches, stream);
criterion_main!(benches);
