//! The `sse` tool, as a shell meets it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::rogue::{Rogue, soon};

pub(crate) fn sse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse"));
    command
        .args(arguments)
        .arg("--no-proxy")
        .env_remove("SSE_TOKEN")
        .kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = soon(sse(arguments).output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn served(events: &'static str) -> Rogue {
    Rogue::start(move |mut peer| async move {
        peer.events(events).await;
        peer.hang().await;
    })
    .await
}

const EVENTS: &str = "event: connected\ndata: {\"connection_id\":\"c\"}\n\n\
    event: ping\ndata: keep-alive\n\n\
    id: 1\nevent: greeting\ndata: good\ndata: morning\n\n\
    data: \x1b[2Jplain\n\n";

#[tokio::test]
async fn sub_prints_for_people_for_programs_and_bare() {
    let rogue = served(EVENTS).await;
    let url = rogue.url("/events");
    let (code, out, err) = run(&["sub", &url, "-n", "2"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        out, "greeting 1 good\n  morning\nmessage \x1b[2Jplain\n",
        "not a terminal: as it is"
    );
    assert_eq!(err, format!("sse: connected to {url}\n"));
    let (_, out, err) = run(&["sub", &url, "-n", "2", "--json", "--quiet"]).await;
    let lines: Vec<serde_json::Value> = out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({"event": "greeting", "id": "1", "data": "good\nmorning"})
    );
    assert_eq!(lines[1]["id"], "1");
    assert_eq!(err, "");
    let (_, out, _) = run(&["sub", &url, "-n", "4", "--data", "--all"]).await;
    assert!(out.contains("keep-alive\ngood\nmorning\n"), "{out}");
}

#[tokio::test]
async fn filters_tokens_and_ids_reach_the_server() {
    let rogue = served("data: x\n\n").await;
    let url = rogue.url("/events");
    let arguments = [
        "sub",
        &url,
        "-n",
        "1",
        "--topic",
        "job/42",
        "--topic",
        "a b",
        "--subscribe",
        "x,y",
        "--last-event-id",
        "earliest",
        "--bearer",
        "t0k",
        "-H",
        "X-A: 1",
    ];
    assert_eq!(run(&arguments).await.0, 0);
    let request = &rogue.requests()[0];
    assert_eq!(
        request.line(),
        "GET /events?topic=job%2F42&topic=a+b&subscribe=x%2Cy HTTP/1.1"
    );
    assert_eq!(request.header("last-event-id"), Some("earliest"));
    assert_eq!(request.header("authorization"), Some("Bearer t0k"));
    assert_eq!(request.header("x-a"), Some("1"));
}

#[tokio::test]
async fn exit_codes_tell_what_happened() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let (code, _, err) = run(&["sub", &rogue.url("/events")]).await;
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "sse: server answered 404 Not Found (is the path right? a host without a path means its /events)\n"
        )
    );
    for wrong in [
        ["sub", "ftp://x/"].as_slice(),
        &["sub", "hub:port"],
        &["sub", "hub", "--last-event-id", "a\nb"],
        &["pub", "hub", "x", "--type", ""],
        &["pub", "hub", "x", "--id", "a\nb"],
        &["top", "hub:99999"],
    ] {
        let (code, out, err) = run(wrong).await;
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert_eq!(run(&["sub", "--nonsense"]).await.0, 2);
    let gap = served("event: gap\ndata: {\"reason\":\"trimmed\"}\n\n").await;
    let (code, out, _) = run(&["sub", &gap.url("/events"), "--fail-on-gap"]).await;
    assert_eq!((code, out.as_str()), (3, "gap {\"reason\":\"trimmed\"}\n"));
    let gone = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    assert_eq!(run(&["sub", &gone.url("/events")]).await.0, 0);
}

#[tokio::test]
async fn a_mistake_is_one_line_that_says_what_to_look_at() {
    let answer = |head: &'static str| {
        Rogue::start(move |mut peer| async move {
            peer.write(head).await;
        })
    };
    let refused = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let token = answer("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await;
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi";
    let page = answer(page).await;
    let ssh = answer("SSH-2.0-OpenSSH_9.2\r\n").await;
    let nowhere = answer("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n").await;
    for (host, says) in [
        (refused, "is it running, and on that port?"),
        (token.addr().to_string(), "--bearer or SSE_TOKEN"),
        (
            page.addr().to_string(),
            "text/html instead of text/event-stream",
        ),
        (ssh.addr().to_string(), "is it an HTTP server"),
        (
            nowhere.addr().to_string(),
            "the answer has no Location header",
        ),
    ] {
        let (code, out, err) = run(&["sub", &host, "--max-attempts", "1"]).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains(says), "{err}");
        let (code, _, err) = run(&["top", &host]).await;
        assert_eq!(
            (code, err.lines().count()),
            (1, 1),
            "it does not look again: {err}"
        );
    }
    let (code, _, err) = run(&["sub", "hub", "--save-position", "/no/such/folder/at"]).await;
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "sse: cannot load the position: there is no folder /no/such/folder\n"
        )
    );
}

#[tokio::test]
async fn a_publish_that_waits_says_so() {
    let rogue = Rogue::start(|mut peer| async move {
        let answer = match peer.n {
            0 => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"id\":\"7\"}",
        };
        peer.write(answer).await;
    })
    .await;
    let (code, out, err) = run(&["pub", &rogue.url("/events"), "x"]).await;
    assert_eq!((code, out.as_str()), (0, "7\n"));
    assert!(
        err.starts_with("sse: server answered 503 Service Unavailable; trying again in "),
        "{err}"
    );
}

#[tokio::test]
async fn sub_tells_an_event_over_the_limit_once_and_goes_on_behind_it() {
    let rogue = Rogue::start(|mut peer| async move {
        let huge = "x".repeat(2000);
        if peer.request.header("last-event-id") == Some("2") {
            peer.events("id: 3\ndata: behind\n\n").await;
            return peer.hang().await;
        }
        peer.events(&format!(
            "id: 1\ndata: before\n\nevent: e\nid: 2\ndata: {huge}\n\n"
        ))
        .await;
    })
    .await;
    let url = rogue.url("/events");
    let (code, out, err) = run(&["sub", &url, "--data", "-n", "2", "--max-event", "1K"]).await;
    assert_eq!((code, out.as_str()), (0, "before\nbehind\n"));
    let told: Vec<_> = err
        .lines()
        .filter(|line| line.contains("dropped"))
        .collect();
    assert_eq!(
        told,
        [
            r#"sse: the event "2" was dropped: event is over the limit of 1024 bytes; to get such events, raise --max-event"#
        ]
    );
    assert_eq!(rogue.requests().len(), 2);

    let huge: &'static str = "x".repeat(2000).leak();
    let rogue = Rogue::start(move |mut peer| async move {
        peer.events(&format!("data: {huge}\n\n")).await;
    })
    .await;
    let url = rogue.url("/events");
    let (code, out, err) = run(&["sub", &url, "--data", "--quiet", "--max-event", "1K"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err.lines().count(), 2, "a loss is told: {err}");
    assert!(
        err.contains("at the beginning of the stream is over the limit of 1024 bytes"),
        "{err}"
    );
    assert!(err.contains("give --max-event a larger size"), "{err}");
    assert_eq!(rogue.requests().len(), 2);
}

#[tokio::test]
async fn sub_tells_why_a_hub_refuses_within_the_stream() {
    let problem = r#"{"status":503,"title":"Full","detail":"the hub is full","code":"full"}"#;
    let rogue = Rogue::start(move |mut peer| async move {
        let refusal = format!("retry: 1\n\nevent: unavailable\ndata: {problem}\n\n");
        peer.events(&refusal).await;
    })
    .await;
    let url = rogue.url("/events");
    let (code, out, err) = run(&["sub", &url, "--max-attempts", "2"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "it is no event");
    let told: Vec<_> = err
        .lines()
        .filter(|line| !line.contains("connected to"))
        .collect();
    assert_eq!(told.len(), 2, "{err}");
    let refused = "sse: server answered 503 Service Unavailable: the hub is full";
    assert!(
        told[0].starts_with(&format!("{refused}; attempt 2 in ")),
        "{err}"
    );
    assert_eq!(told[1], format!("{refused}; given up after 2 attempts"));
}

#[tokio::test]
async fn the_environment_names_the_proxy() {
    let proxy = served("data: by proxy\n\n").await;
    let sse = |no_proxy: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sse"));
        for name in ["ALL_PROXY", "all_proxy", "http_proxy", "no_proxy"] {
            command.env_remove(name);
        }
        command
            .args(["sub", "http://hub.invalid/events", "--data", "-n", "1"])
            .args(["--max-attempts", "1"])
            .env("HTTP_PROXY", format!("http://{}", proxy.addr()))
            .env("NO_PROXY", no_proxy)
            .kill_on_drop(true);
        command
    };
    let output = soon(sse("").output()).await.unwrap();
    assert_eq!(output.stdout, b"by proxy\n");
    assert_eq!(
        proxy.requests()[0].line(),
        "GET http://hub.invalid/events HTTP/1.1"
    );
    let output = soon(sse("hub.invalid").output()).await.unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "asked for by itself, it has no address"
    );
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn each_event_is_there_at_once_and_a_closed_pipe_is_no_failure() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.events("data: first\n\n").await;
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peer.write("data: more\n\n").await;
        }
    })
    .await;
    let mut child = sse(&["sub", &rogue.url("/events"), "--data"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(soon(lines.next_line()).await.unwrap().unwrap(), "first");
    drop(lines);
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .await
        .unwrap();
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
    assert_eq!(err.lines().count(), 1, "only that it was connected: {err}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_saves_the_position_and_says_so() {
    let rogue = Rogue::start(|mut peer| async move {
        let from = peer
            .request
            .header("last-event-id")
            .unwrap_or("0")
            .to_owned();
        peer.events(&format!("id: {from}1\ndata: after {from}\n\n"))
            .await;
        peer.hang().await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let url = rogue.url("/events");
    let arguments = [
        "sub",
        &url,
        "--data",
        "--save-position",
        file.to_str().unwrap(),
    ];
    for expected in ["after 0", "after 01", "after 011"] {
        let mut child = sse(&arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(soon(lines.next_line()).await.unwrap().unwrap(), expected);
        let id = child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(soon(child.wait()).await.unwrap().code(), Some(130));
    }
}

#[tokio::test]
async fn lines_of_standard_input_go_out_in_order_under_ids_that_survive_a_retry() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n == 0 {
            return peer.reset(); // the answer is lost, whatever became of the lines
        }
        let lines = peer
            .request
            .body
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty());
        let results: Vec<_> = lines
            .map(|line| {
                let event: serde_json::Value = serde_json::from_slice(line).unwrap();
                format!(r#"{{"id":{},"durability":"fsync"}}"#, event["id"])
            })
            .collect();
        let body = format!("[{}]", results.join(","));
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        peer.write(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
    })
    .await;
    let url = rogue.url("/events");
    let arguments = [
        "pub", &url, "--stdin", "--run-id", "run", "--topic", "t", "--batch", "3",
    ];
    let mut child = sse(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"one\n\n{\"three\": 3}\r\nfour\nlast without an end")
        .await
        .unwrap();
    drop(stdin);
    let output = soon(child.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let err = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = err.lines().collect();
    assert_eq!(told.len(), 2, "{err}");
    assert!(told[0].contains("; trying again in "), "{err}");
    assert_eq!(told[1], "sse: 5 events published (fsync)");
    let sent = |request: &crate::rogue::Request| -> Vec<(String, String)> {
        let lines = request
            .body
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let event: serde_json::Value = serde_json::from_slice(line).unwrap();
                assert_eq!(event["topic"], serde_json::json!(["t"]));
                (
                    event["id"].as_str().unwrap().into(),
                    event["data"].as_str().unwrap().into(),
                )
            })
            .collect()
    };
    let requests = rogue.requests();
    assert_eq!(sent(&requests[0]), sent(&requests[1]), "the same ids again");
    let all: Vec<_> = requests[1..].iter().flat_map(sent).collect();
    let data = ["one", "", "{\"three\": 3}", "four", "last without an end"];
    let expected: Vec<_> = (1..)
        .zip(data)
        .map(|(n, d)| (format!("run-{n}"), d.to_owned()))
        .collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn completions_and_manual_pages_are_printed() {
    for (arguments, has) in [
        (["completions", "bash"].as_slice(), "_sse"),
        (&["man"], ".TH sse"),
        (&["man"], "Exit codes"),
        (
            &["man"],
            "some lines could not be published and were skipped",
        ),
        (&["pub", "--help"], "the exit code is 4"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sse"))
            .args(arguments)
            .output()
            .await
            .unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains(has));
    }
}
