//! What each client does with answers that are not quite right: the same scripted server for all of them.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::clients::{self, Ask, Told};

const CLIENTS: [&str; 5] = [
    "ours",
    "reqwest-eventsource",
    "eventsource-client",
    "fetch-event-source",
    "sse.js",
];

/// What the server does on the `n`th connection, from 0: what it writes, and whether it then closes. `{other}` becomes
/// the address of a server on another port.
type Script = fn(n: usize) -> (&'static str, After);

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Close,
    Hang,
}

struct Probe {
    name: &'static str,
    post: bool,
    time: Duration,
    script: Script,
}

const SECRETS: &[(&str, &str)] = &[("Authorization", "Bearer secret"), ("X-Api-Key", "secret")];

const PROBES: &[Probe] = &[
    probe("text/event-streamX", 2, |_| {
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-streamX\r\n\r\ndata: a\n\n",
            After::Hang,
        )
    }),
    probe("TEXT/Event-Stream; charset=x;", 2, |_| {
        (
            "HTTP/1.1 200 OK\r\nContent-Type: TEXT/Event-Stream; charset=x;\r\n\r\ndata: a\n\n",
            After::Hang,
        )
    }),
    probe("no type", 2, |_| {
        ("HTTP/1.1 200 OK\r\n\r\ndata: a\n\n", After::Hang)
    }),
    probe("text/html", 2, |_| {
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\ndata: a\n\n",
            After::Hang,
        )
    }),
    probe("206", 2, |_| {
        (
            "HTTP/1.1 206 Partial\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n",
            After::Hang,
        )
    }),
    probe("204", 4, |_| {
        ("HTTP/1.1 204 No Content\r\n\r\n", After::Close)
    }),
    probe("401", 4, |_| {
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", After::Close)
    }),
    probe("503 with Retry-After: 3", 9, |_| {
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
            After::Close,
        )
    }),
    probe("an event, then the end, each time", 15, |_| {
        (STREAM_A, After::Close)
    }),
    probe("retry: 0, then the end, each time", 5, |_| {
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 0\ndata: a\n\n",
            After::Close,
        )
    }),
    probe("id: 7, then an empty id", 12, |n| {
        let first = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nid: 7\ndata: a\n\n";
        let second = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nid\ndata: a\n\n";
        (if n == 0 { first } else { second }, After::Close)
    }),
    probe("a redirect to another origin", 6, |_| {
        (
            "HTTP/1.1 307 There\r\nLocation: {other}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            After::Close,
        )
    }),
    Probe {
        post: true,
        ..probe("POST: an event, then the end", 8, |_| {
            (STREAM_A, After::Close)
        })
    },
];

const STREAM_A: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: a\n\n";

const fn probe(name: &'static str, seconds: u64, script: Script) -> Probe {
    Probe {
        name,
        post: false,
        time: Duration::from_secs(seconds),
        script,
    }
}

/// The requests that a server saw.
type Requests = Arc<Mutex<Vec<(Instant, String)>>>;

pub(crate) async fn run(part: &str) {
    for probe in PROBES.iter().filter(|probe| probe.name.contains(part)) {
        println!("## {} ({} s)\n", probe.name, probe.time.as_secs());
        let results = CLIENTS.map(|client| tokio::spawn(one(client, probe)));
        for (client, result) in CLIENTS.iter().zip(results) {
            println!("* {client}: {}", result.await.expect("no panic"));
        }
        println!();
    }
}

/// Lets `client` meet the probe for its time; says what both sides saw.
async fn one(client: &'static str, probe: &'static Probe) -> String {
    let (requests, elsewhere) = (Requests::default(), Requests::default());
    let other = serve(
        |_| (STREAM_A, After::Hang),
        String::new(),
        Arc::clone(&elsewhere),
    )
    .await;
    let url = serve(probe.script, other, Arc::clone(&requests)).await;
    let ask = Ask {
        url,
        post: probe.post,
        headers: SECRETS,
    };
    let mut told: Vec<String> = Vec::new();
    let tell = |what: Told<'_>| {
        told.push(match what {
            Told::Event(data) => format!("event {data:?}"),
            Told::Trouble(what) => format!("error \"{what}\""),
            Told::End => "end".to_owned(),
        });
        ControlFlow::Continue(())
    };
    let running = async {
        match client {
            "ours" => clients::ours(ask, tell).await,
            "reqwest-eventsource" => clients::reqwest_eventsource(ask, tell).await,
            "eventsource-client" => clients::eventsource_client(ask, tell).await,
            name => clients::javascript(name, ask, tell).await,
        }
    };
    let _ = tokio::time::timeout(probe.time, running).await;
    let mut seen = summary(&requests);
    let elsewhere = elsewhere.lock().expect("no panic");
    if let Some((_, head)) = elsewhere.first() {
        let sent = ["authorization", "x-api-key"]
            .into_iter()
            .filter(|name| head.to_lowercase().contains(&format!("\r\n{name}:")));
        seen += &format!("; elsewhere with {:?}", sent.collect::<Vec<_>>());
    }
    let total = told.len();
    told.dedup();
    told.truncate(4);
    format!("{seen}; told {total}: {}", told.join(", "))
}

/// How many requests came, how far apart, and with which last event ids.
fn summary(requests: &Requests) -> String {
    let requests = requests.lock().expect("no panic");
    let gaps: Vec<String> = requests
        .windows(2)
        .map(|pair| format!("{:.1}", (pair[1].0 - pair[0].0).as_secs_f64()))
        .take(8)
        .collect();
    let ids: Vec<String> = requests
        .iter()
        .map(|(_, head)| {
            head.lines()
                .find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("last-event-id")
                        .then(|| format!("{:?}", value.trim()))
                })
                .unwrap_or_else(|| "none".to_owned())
        })
        .take(4)
        .collect();
    format!(
        "{} requests, {} s apart, ids [{}]",
        requests.len(),
        gaps.join(" "),
        ids.join(" ")
    )
}

async fn serve(script: Script, other: String, requests: Requests) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut n = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(len) if len > 0 => head.extend_from_slice(&buffer[..len]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            requests
                .lock()
                .expect("no panic")
                .push((Instant::now(), head));
            let (reply, after) = script(n);
            n += 1;
            let reply = reply.replace("{other}", &other);
            tokio::spawn(async move {
                let _ = stream.write_all(reply.as_bytes()).await;
                if after == After::Hang {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("http://{addr}/")
}
