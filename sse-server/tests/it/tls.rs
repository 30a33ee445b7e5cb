//! HTTPS: both versions of HTTP behind one handshake, and what a handshake and a certificate may get wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use rustls::pki_types::ServerName;
use sse_server::hub::{Hub, HubConfig, Publication};
use sse_server::serve::{ServerConfig, StreamWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{DEADLINE, eventually};
use crate::secure::{Files, GET, Secure, ask, body_until, soon, until};
use crate::server::command;

#[tokio::test]
async fn a_stream_over_http_1_is_published_to_and_resumed() {
    let server = Secure::start().await;
    let mut stream = server.open(GET).await;
    until(&mut stream, "event: connected").await;
    let body = r#"{"data": "first", "topic": "a"}"#;
    let post = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut publisher = server.open(&post).await;
    assert!(
        until(&mut publisher, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let block = until(&mut stream, "data: first").await;
    let id = block
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    drop(stream);
    server.publish("second", "a").await;
    let again = GET.replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {id}\r\n\r\n"));
    let mut stream = server.open(&again).await;
    let rest = until(&mut stream, "data: second").await;
    assert!(!rest.contains("data: first"), "{rest}");
}

#[tokio::test]
async fn many_streams_share_one_connection_over_http_2() {
    let server = Secure::start().await;
    let mut requests = server.multiplexed().await;
    let mut streams = Vec::new();
    for topic in ["a", "b", "c"] {
        for _ in 0..10 {
            let path = format!("/events?topic={topic}");
            let response = ask(&mut requests, "GET", &path, &[], "").await;
            assert_eq!(
                (response.status(), response.version()),
                (StatusCode::OK, Version::HTTP_2)
            );
            assert!(!response.headers().contains_key("connection"));
            let mut body = response.into_body();
            body_until(&mut body, "event: connected").await;
            streams.push((topic, body));
        }
    }
    assert_eq!(server.hub.connections(100).len(), 30);
    for topic in ["a", "b", "c"] {
        let json: &'static str = match topic {
            "a" => r#"{"data": "for a", "topic": "a"}"#,
            "b" => r#"{"data": "for b", "topic": "b"}"#,
            _ => r#"{"data": "for c", "topic": "c"}"#,
        };
        let headers = [("content-type", "application/json")];
        let answer = ask(&mut requests, "POST", "/events", &headers, json).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    for (topic, body) in &mut streams {
        let events = body_until(body, "data: for").await;
        assert!(events.contains(&format!("data: for {topic}")), "{events}");
    }
    // One that is given up leaves the pool, and the others go on.
    streams.truncate(1);
    soon(async {
        while server.hub.connections(100).len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.publish("more", "a").await;
    body_until(&mut streams[0].1, "data: more").await;
}

#[tokio::test]
async fn the_guards_of_host_and_origin_stand_before_http_2_too() {
    let server = Secure::start().await;
    let mut requests = server.multiplexed().await;
    let foreign = Request::get("https://evil.example/events")
        .body(Full::default())
        .unwrap();
    let answer = soon(requests.send_request(foreign)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    // Two that contradict each other, either of which would do alone.
    let two = [("host", "127.0.0.1")];
    let answer = ask(&mut requests, "GET", "/livez", &two, "").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let same = [("host", "localhost")];
    let answer = ask(&mut requests, "GET", "/livez", &same, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    for (origin, status) in [
        ("https://evil.example", StatusCode::FORBIDDEN),
        ("https://localhost", StatusCode::OK),
    ] {
        let headers = [("origin", origin), ("content-type", "application/json")];
        let answer = ask(&mut requests, "POST", "/events", &headers, "{\"data\": 1}").await;
        assert_eq!(answer.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn plain_http_is_answered_and_closed_without_harm() {
    let server = Secure::start().await;
    let mut other = server.open(GET).await;
    until(&mut other, "event: connected").await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(async {
        // The answer ends with the server's side; ours ends with this socket.
        while plain.read_buf(&mut answer).await.unwrap() > 0 {}
    })
    .await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(plain);
    server.publish("still here", "a").await;
    until(&mut other, "data: still here").await;
}

#[tokio::test]
async fn a_handshake_or_an_http_2_connection_on_which_nothing_comes_is_let_go() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let config = ServerConfig {
        header_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let server = Secure::with(hub, StreamWriter::default(), config);
    // The beginning of a TLS record, and no more.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    // Others do not wait for it.
    let mut other = server.open(GET).await;
    until(&mut other, "event: connected").await;
    let mut answer = Vec::new();
    let _ = soon(silent.read_to_end(&mut answer)).await;
    // Neither a preface nor a request.
    let mut idle = server.connect(b"h2").await;
    let _ = soon(idle.read_to_end(&mut answer)).await;
    server.publish("still here", "a").await;
    until(&mut other, "data: still here").await;
    // A connection with a stream is not idle, however quiet.
    let mut requests = server.multiplexed().await;
    let mut quiet = ask(&mut requests, "GET", "/events?topic=a", &[], "")
        .await
        .into_body();
    body_until(&mut quiet, "event: connected").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.publish("not idle", "a").await;
    body_until(&mut quiet, "data: not idle").await;
}

#[tokio::test]
async fn a_drain_ends_the_streams_of_both_versions_cleanly() {
    let mut server = Secure::start().await;
    let mut first = server.open(GET).await;
    until(&mut first, "event: connected").await;
    let mut requests = server.multiplexed().await;
    let mut second = ask(&mut requests, "GET", "/events?topic=a", &[], "")
        .await
        .into_body();
    body_until(&mut second, "event: connected").await;
    server.stop();
    let mut rest = Vec::new();
    // rustls takes an end without close_notify for an error.
    soon(first.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk");
    while let Some(frame) = soon(second.frame()).await {
        frame.expect("no reset");
    }
    assert_eq!(soon(&mut server.running).await.unwrap(), 0);
}

/// The events of a stream over HTTP/1.1 and a certificate of its own, without what is each reader's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_task_that_writes_over_tls_sends_what_hyper_does() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let writers = [
        StreamWriter::Hyper,
        StreamWriter::Task,
        StreamWriter::Reactor,
    ];
    let servers = writers.map(|writer| Secure::with(hub.clone(), writer, ServerConfig::default()));
    for n in 0..40 {
        let data = format!("line {n}\n{}", "é".repeat(n * 37));
        hub.publish(Publication::new(data)).await.unwrap();
    }
    // More than the socket, the session and hyper hold together, so that each has to be waited for.
    hub.publish(Publication::new("x".repeat(900_000)))
        .await
        .unwrap();
    let request = "GET /events?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut reads = Vec::new();
    for server in &servers {
        let mut socket = server.open(request).await;
        reads.push(tokio::spawn(async move {
            let mut bytes = Vec::new();
            soon(socket.read_to_end(&mut bytes))
                .await
                .expect("the stream ends with close_notify");
            bytes
        }));
    }
    soon(async {
        while hub.connections(100).len() < servers.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for n in 40..80 {
        hub.publish(Publication::new(format!("live {n}")))
            .await
            .unwrap();
    }
    assert_eq!(
        hub.shutdown(DEADLINE).await,
        0,
        "every stream ends by itself"
    );
    let mut hypers = None;
    for (writer, read) in writers.iter().zip(reads) {
        let bytes = read.await.unwrap();
        let (lines, body) = crate::writers::split(&bytes, request);
        let events = crate::writers::events(&body);
        assert_eq!(events.len(), 81, "{writer:?}");
        let hypers = hypers.get_or_insert_with(|| (lines.clone(), events.clone()));
        assert_eq!((lines, events), *hypers, "{writer:?}");
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_a_slow_one_is_not() {
    let hub = Hub::in_memory(HubConfig {
        send_timeout: Duration::from_secs(1),
        ..HubConfig::default()
    })
    .await
    .unwrap();
    let server = Secure::with(hub, StreamWriter::Task, ServerConfig::default());
    let mut slow = server.open(GET).await;
    let mut stuck = server.open(GET).await;
    until(&mut slow, "event: connected").await;
    until(&mut stuck, "event: connected").await;
    let data = "x".repeat(900_000);
    for _ in 0..16 {
        server.publish(&data, "a").await;
    }
    server.publish("the end", "a").await;
    let slow = tokio::spawn(async move {
        let mut space = vec![0; 512 << 10];
        let mut read = 0;
        loop {
            read += soon(slow.read(&mut space)).await.unwrap();
            if read > 16 * 900_000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    soon(async {
        while server.hub.connections(100).len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    soon(slow).await.unwrap();
    assert_eq!(server.hub.connections(100).len(), 1);
    drop(stuck);
}

/// Runs the binary until it gives up, and gives the one line it says.
fn complaint(arguments: &[&str]) -> String {
    let output = command()
        .args(["--ephemeral", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"));
    said
}

#[test]
fn every_file_that_will_not_do_is_named_with_what_to_do() {
    let files = Files::new();
    let other = Files::new();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (certificate, key) = (text(files.certificate()), text(files.key()));
    let (empty, damaged) = (
        text(files.path("empty.pem")),
        text(files.path("damaged.pem")),
    );
    std::fs::write(&empty, "").unwrap();
    let whole = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&damaged, whole.replace("-----END", "")).unwrap();
    let nonsense = text(files.path("nonsense.pem"));
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&nonsense, pem).unwrap();
    let absent = text(files.path("absent.pem"));
    let folder = text(files.folder.path().to_owned());
    let others = text(other.key());
    let rows: &[(&str, &str, &[&str])] = &[
        (&absent, &key, &[&absent, "cannot read", "--tls-cert"]),
        (
            &certificate,
            &absent,
            &[&absent, "cannot read", "--tls-key"],
        ),
        (&folder, &key, &[&folder, "--tls-cert"]),
        (&empty, &key, &[&empty, "BEGIN CERTIFICATE", "--tls-cert"]),
        (&certificate, &empty, &[&empty, "PRIVATE KEY", "--tls-key"]),
        (&certificate, &certificate, &["PRIVATE KEY", "--tls-key"]),
        (&certificate, &damaged, &[&damaged, "--tls-key"]),
        (&nonsense, &key, &[&nonsense, "--tls-cert"]),
        (&certificate, &others, &[&others, &certificate, "belong"]),
    ];
    for (certificate, key, words) in rows {
        let said = complaint(&["--tls-cert", certificate, "--tls-key", key]);
        for word in *words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
    assert!(complaint(&["--tls-cert", &certificate]).contains("--tls-key"));
    assert!(complaint(&["--tls-key", &key]).contains("--tls-cert"));
}

#[tokio::test]
async fn the_binary_says_https_and_reads_a_renewed_certificate_when_told() {
    let files = Files::new();
    let config = files.path("hub.toml");
    let toml = |path: &Path| format!("{path:?}");
    let text = format!(
        "ephemeral = true\nlisten = \"127.0.0.1:0\"\ntls-cert = {}\ntls-key = \"/nowhere\"\n",
        toml(&files.certificate())
    );
    std::fs::write(&config, text).unwrap();
    let mut command = command();
    command
        .env("SSE_CONFIG", &config)
        .env("SSE_TLS_KEY", files.key());
    let server = tokio::task::spawn_blocking(|| crate::server::Server::spawn(command))
        .await
        .unwrap();
    assert!(
        server
            .welcome
            .contains(&format!("curl -N https://{}/events", server.address))
    );
    let shakes_hands = async |connector: TlsConnector| {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        soon(connector.connect(name, socket)).await.is_ok()
    };
    let old = files.connector(b"h2");
    assert!(shakes_hands(old.clone()).await);
    // What cannot be used changes nothing.
    std::fs::write(files.certificate(), "").unwrap();
    server.signal("HUP");
    eventually("it complains", || {
        server
            .stderr()
            .contains("nothing was changed")
            .then_some(())
    });
    assert!(shakes_hands(old.clone()).await);
    files.renew();
    server.signal("HUP");
    eventually("it is read", || {
        server.stderr().contains("were read again").then_some(())
    });
    assert!(shakes_hands(files.connector(b"http/1.1")).await);
    let renewed = files.connector(b"http/1.1");
    assert!(shakes_hands(renewed).await);
}

#[test]
fn a_unix_socket_beside_https_speaks_plain_http() {
    use std::io::{Read as _, Write as _};

    let files = Files::new();
    let path = files.path("hub.sock");
    let unix = format!("unix:{}", path.display());
    let start = |listen: &[&str]| {
        let mut command = command();
        command.arg("--ephemeral").arg("--tls-cert");
        command
            .arg(files.certificate())
            .arg("--tls-key")
            .arg(files.key());
        for listen in listen {
            command.args(["--listen", listen]);
        }
        command
    };
    let server = crate::server::Server::spawn(start(&["127.0.0.1:0", &unix]));
    assert_eq!(
        server.listening(),
        [format!("https://{}", server.address), unix.clone()]
    );
    let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(server);
    let output = start(&[&unix]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: --tls-cert has no use"), "{said}");
}

#[test]
fn a_certificate_out_of_its_time_is_complained_of_and_served() {
    let files = Files::new();
    for (years, words) in [
        ((2001, 2002), "expired at 2002-01-01T00:00:00Z"),
        ((2400, 2401), "valid only from 2400-01-01T00:00:00Z"),
    ] {
        files.renew_for(years);
        let mut command = command();
        command
            .args(["--ephemeral", "--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(files.certificate())
            .arg("--tls-key")
            .arg(files.key());
        let server = crate::server::Server::spawn(command);
        eventually("it complains", || {
            server.stderr().contains(words).then_some(())
        });
        assert_eq!(server.stderr().matches("ERROR").count(), 1);
    }
}
