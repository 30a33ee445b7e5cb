//! Real input, end to end: what a program prints goes through `sse pub` into the real hub, and out of it to
//! `sse sub`, to one that is killed and resumed, and to a browser's own `EventSource`.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well stop here"
)]

mod browser;
mod clients;
mod compressed;
mod foreign_pages;
mod hub;
mod logins;
mod programs;
mod proxies;
mod recipes;
mod relay;
mod secure;
mod websockets;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub::{Guard, Hub, wait_until};
use serde_json::Value;

/// The `sse` program under test.
const SSE: &str = env!("CARGO_BIN_EXE_sse");

/// The last line of every run, so that the readers know when they have everything.
const LAST_LINE: &str = "the end";

#[test]
fn what_a_build_prints_reaches_every_reader_complete_and_in_order() {
    let page = browser::Page::serve();
    let hub = Hub::start(&["--allowed-origin", &page.origin()]);
    let url = format!("{}?topic=build", hub.events());

    let browser = page.open(&url);
    let (steady, mut steady_lines) = subscriber(&url, &[]);
    let (doomed, mut doomed_lines) = subscriber(&url, &[]);
    wait_until("all three are connected", || hub.connections() == 3);

    let input = build_output();
    let mut publisher = Command::new(SSE)
        .args([
            "pub",
            "--stdin",
            "--quiet",
            "--topic",
            "build",
            "--batch",
            "16",
            &hub.events(),
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = publisher.stdin.take().unwrap();
    let (half, rest) = input.split_at(input.len() / 2);
    write_lines(&mut stdin, half);

    // One reader is killed in the middle, and comes back with the last id it has printed.
    let mut resumed: Vec<Value> = (0..half.len() / 2)
        .map(|_| next(&mut doomed_lines))
        .collect();
    let last_id = resumed.last().unwrap()["id"].as_str().unwrap().to_owned();
    drop(doomed);
    wait_until("the killed reader is gone", || hub.connections() == 2);
    write_lines(&mut stdin, rest);
    let (_again, mut again_lines) = subscriber(&url, &["--last-event-id", &last_id]);
    drop(stdin);
    assert!(publisher.wait().unwrap().success());

    let expected: Vec<&str> = input.iter().map(String::as_str).collect();
    let read_all = |lines: &mut dyn Iterator<Item = Value>, events: &mut Vec<Value>| {
        while events.last().is_none_or(|event| event["data"] != LAST_LINE) {
            events.push(
                lines
                    .next()
                    .expect("the stream goes on until the last line"),
            );
        }
    };
    let mut steady_events = Vec::new();
    read_all(&mut steady_lines, &mut steady_events);
    assert_eq!(data(&steady_events), expected, "the reader that stayed");
    read_all(&mut again_lines, &mut resumed);
    assert_eq!(
        data(&resumed),
        expected,
        "the reader that was killed and resumed"
    );
    let in_browser = browser.events_until(LAST_LINE);
    assert_eq!(data(&in_browser), expected, "the browser");
    let ids = |events: &[Value]| {
        events
            .iter()
            .map(|event| event["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(&steady_events),
        ids(&in_browser),
        "everyone sees the same ids"
    );
    drop(steady);
}

#[test]
fn a_run_that_is_published_twice_is_stored_once() {
    let hub = Hub::start(&[]);
    for _ in 0..2 {
        let mut publisher = Command::new(SSE)
            .args([
                "pub",
                "--stdin",
                "--quiet",
                "--run-id",
                "nightly",
                &hub.events(),
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        write_lines(
            publisher.stdin.as_mut().unwrap(),
            &["one".into(), "two".into(), LAST_LINE.into()],
        );
        assert!(publisher.wait().unwrap().success());
    }
    let output = Command::new(SSE)
        .args([
            "sub",
            "--json",
            "--quiet",
            "--last-event-id",
            "earliest",
            "--count",
            "3",
            &hub.events(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let events: Vec<Value> = output
        .stdout
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    assert_eq!(data(&events), ["one", "two", LAST_LINE]);
    assert!(
        hub.get("/events/stats")["log"]["head"]
            .as_str()
            .unwrap()
            .ends_with("-3"),
        "three are stored"
    );
}

#[test]
fn lines_that_the_hub_does_not_take_are_skipped_and_the_others_are_stored() {
    let hub = Hub::start(&[]);
    let mut publisher = Command::new(SSE)
        .args(["pub", "--stdin", "--topic", "a", &hub.events()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let large = "x".repeat(3_000_000);
    let longest = "y".repeat(40 << 20);
    write_lines(
        publisher.stdin.as_mut().unwrap(),
        &[
            "one".into(),
            large,
            "three".into(),
            longest,
            LAST_LINE.into(),
        ],
    );
    let output = publisher.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(
        told.contains("line 2 was skipped: 3000000 bytes; server answered 413"),
        "{told}"
    );
    assert!(
        told.contains("line 4 was skipped: longer than 16777216 bytes"),
        "{told}"
    );
    let (_reader, mut lines) = subscriber(&hub.events(), &["--last-event-id", "earliest"]);
    let events: Vec<Value> = (0..3).map(|_| next(&mut lines)).collect();
    assert_eq!(data(&events), ["one", "three", LAST_LINE]);
}

#[test]
fn a_browser_goes_on_where_it_was_when_the_hub_is_restarted() {
    let page = browser::Page::serve();
    let mut hub = Hub::start(&["--allowed-origin", &page.origin(), "--retry", "200ms"]);
    let browser = page.open(&hub.events());
    wait_until("the browser is connected", || hub.connections() == 1);
    hub.publish("before");
    browser.events_until("before");

    hub.kill();
    hub.start_again();
    hub.publish("while the browser was away, perhaps");
    hub.publish(LAST_LINE);
    let events = browser.events_until(LAST_LINE);
    assert_eq!(
        data(&events),
        ["before", "while the browser was away, perhaps", LAST_LINE]
    );
}

/// Starts `sse sub --json` and waits for nothing; its lines come parsed.
fn subscriber(url: &str, more: &[&str]) -> (Guard, impl Iterator<Item = Value> + use<>) {
    let mut child: Child = Command::new(SSE)
        .args(["sub", "--json", "--quiet"])
        .args(more)
        .arg(url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (
        Guard(child),
        lines
            .map_while(Result::ok)
            .map(|line| serde_json::from_str(&line).expect("a JSON line")),
    )
}

fn next(lines: &mut impl Iterator<Item = Value>) -> Value {
    lines.next().expect("one more event")
}

fn data(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["data"].as_str().unwrap())
        .collect()
}

fn write_lines(stdin: &mut impl Write, lines: &[String]) {
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    stdin.flush().unwrap();
}

/// What `cargo build --message-format json` prints for a workspace of a few small crates, with a warning
/// each, and then lines that are harder on the format than JSON is.
fn build_output() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let root = folder.path();
    write(
        &root.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"crate-*\"]\n",
    );
    for n in 0..8 {
        let name = format!("crate-{n}");
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
        write(&root.join(&name).join("Cargo.toml"), &manifest);
        write(
            &root.join(&name).join("src/lib.rs"),
            "fn nobody_calls_this() { let ünïcödé = \"→\"; }\n",
        );
    }
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--message-format", "json"])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .env_remove("RUSTFLAGS")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(
        lines.len() > 20,
        "a build prints more than {} lines",
        lines.len()
    );
    lines.extend((0..2000).map(|n| format!("line {n} {}", "x".repeat(n % 97))));
    lines.extend(
        [
            "",
            " ",
            "data: forged",
            ": comment",
            "id: 7",
            "\u{feff}mark",
            "tab\there",
            "null",
        ]
        .map(str::to_owned),
    );
    lines.push("y".repeat(100_000));
    lines.push(LAST_LINE.to_owned());
    lines
}

/// How long anything may take on a busy machine before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
