//! Dialling, and proxies.

use std::time::Duration;

use sse_client::{Connector, Error, Notice};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};

use crate::rogue::{Rogue, quick, soon, take};

#[tokio::test]
async fn a_plain_request_goes_through_a_proxy_in_absolute_form() {
    let proxy = Rogue::start(|mut peer| async move {
        peer.events("data: by proxy\n\n").await;
        peer.hang().await;
    })
    .await;
    let address = format!("http://user:pass@{}", proxy.addr());
    let mut events = sse_client::EventSource::builder("http://hub.invalid/events?a=1")
        .connector(Connector::builder().proxy(&address).build())
        .build()
        .unwrap();
    assert_eq!(take(&mut events, 1).await, ["by proxy"]);
    let request = &proxy.requests()[0];
    assert_eq!(request.line(), "GET http://hub.invalid/events?a=1 HTTP/1.1");
    assert_eq!(request.header("host"), Some("hub.invalid"));
    assert_eq!(
        request.header("proxy-authorization"),
        Some("Basic dXNlcjpwYXNz")
    );
}

#[tokio::test]
async fn a_secure_request_opens_a_tunnel() {
    let proxy = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 403 Forbidden\r\n\r\n").await;
    })
    .await;
    let mut events = sse_client::EventSource::builder("https://hub.invalid/events")
        .connector(
            Connector::builder()
                .proxy(&format!("http://{}", proxy.addr()))
                .build(),
        )
        .build()
        .unwrap();
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert!(
        matches!(what.error(), Error::Connect { .. }),
        "{:?}",
        what.error()
    );
    let request = &proxy.requests()[0];
    assert_eq!(request.line(), "CONNECT hub.invalid:443 HTTP/1.1");
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_dial_that_nobody_answers_ends_by_its_own_clock_or_by_close() {
    // A listener whose queue is full: the system then answers no further dial.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    let dial = || tokio::net::TcpStream::connect(addr);
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), dial()).await {
        queued.push(stream.unwrap());
    }
    let source = |connect: Duration| {
        let connector = Connector::builder().no_proxy().connect_timeout(connect);
        sse_client::EventSource::builder(format!("http://{addr}/"))
            .connector(connector.build())
            .reconnect(quick().max_attempts(2))
            .build()
            .unwrap()
    };
    let mut events = source(Duration::from_millis(100));
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert!(matches!(what.error(), Error::ConnectTimeout { .. }));
    let end = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(end, Error::ConnectTimeout { .. }), "{end:?}");

    let mut events = source(Duration::from_secs(600));
    let pending = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(pending.is_err(), "it is still dialling");
    events.close();
    assert!(events.next_notice().await.is_none());
}

/// A CONNECT proxy that lets everything through to `target`.
pub(crate) async fn tunnel_to(target: std::net::SocketAddr) -> Rogue {
    Rogue::start(move |mut peer| async move {
        let mut upstream = tokio::net::TcpStream::connect(target).await.unwrap();
        peer.stream
            .write_all(b"HTTP/1.1 200 Tunnel\r\n\r\n")
            .await
            .unwrap();
        let _ = copy_bidirectional(&mut peer.stream, &mut upstream).await;
    })
    .await
}
