//! The command line, the environment and the configuration file: what the process is told, and what it says of mistakes.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Server, command, folder};

/// Runs the binary to its end, which must come by itself.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command();
    command.args(arguments).envs(environment.iter().copied());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{arguments:?} runs on and on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// The one line that a failed start says.
#[track_caller]
pub(crate) fn complaint(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(arguments, environment);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.status.code().is_some(), "{arguments:?} was killed");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?} said:\n{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn help_and_version_tell_and_end_well() {
    let output = run(&["--help"], &[]);
    assert!(output.status.success() && output.stderr.is_empty());
    let help = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--listen",
        "--data-dir",
        "--ephemeral",
        "--config",
        "--max-connections-per-ip",
        "--heartbeat",
        "--allow-anonymous",
        "--send-timeout",
        "--window",
        "--durability",
        "SSE_LISTEN",
        "SSE_HEARTBEAT",
    ] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
    assert!(run(&["serve", "--help"], &[]).status.success());
    let output = run(&["--version"], &[]);
    assert!(output.status.success());
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        version.trim(),
        concat!("sse-server ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn every_wrong_start_is_one_clear_line() {
    let folder = folder();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let below_file = format!("{file}/data");
    let bad = folder.path().join("hub.toml");
    let bad = bad.to_str().unwrap();
    std::fs::write(bad, "listen = \"127.0.0.1:0\"\n\nmax-conections = 5\n").unwrap();
    let no_toml = folder.path().join("no.toml");
    let no_toml = no_toml.to_str().unwrap();
    std::fs::write(no_toml, "ephemeral = true\nheartbeat = = 3\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().to_string();
    let rows: &[(&[&str], &[&str])] = &[
        (&["--bogus"], &["--bogus"]),
        (&["bogus"], &["bogus"]),
        (&["--listen", "nowhere"], &["nowhere", "--listen"]),
        (
            &["--listen", "http://127.0.0.1:0"],
            &["--listen: \"http://127.0.0.1:0\" has a scheme; write 127.0.0.1:0"],
        ),
        (
            &["--allowed-host", "https://hub.example"],
            &[
                "--allowed-host: \"https://hub.example\" has a scheme; write the host name alone, for example hub.example",
            ],
        ),
        (
            &["--allowed-host", "hub.example,"],
            &["--allowed-host: \"\" is empty"],
        ),
        (
            &["--allowed-origin", "app.example"],
            &["--allowed-origin: \"app.example\" has no scheme; write https://app.example"],
        ),
        (
            &["--allowed-origin", "https://app.example/path"],
            &["--allowed-origin", "has a path; write https://app.example"],
        ),
        (
            &["--allowed-event-type", "a b"],
            &["--allowed-event-type: \"a b\" has a blank"],
        ),
        (
            &["--trusted-proxy", "10.0.0.5/8"],
            &[
                "--trusted-proxy: \"10.0.0.5/8\" has an address within the network; write 10.0.0.0/8",
            ],
        ),
        (
            &["--trusted-proxy", "0.0.0.0/0"],
            &["--trusted-proxy: \"0.0.0.0/0\" is every address"],
        ),
        (
            &["--trusted-proxy", "proxy.example"],
            &["--trusted-proxy: \"proxy.example\" is not a network"],
        ),
        (
            &["--trusted-proxy-header", "X Forwarded"],
            &["--trusted-proxy-header: \"X Forwarded\" is not the name of a header"],
        ),
        (
            &["--trusted-proxy-header", "Forwarded"],
            &["--trusted-proxy-header Forwarded is given, but --trusted-proxy is not"],
        ),
        (
            &["--trusted-proxy", "unix"],
            &["--trusted-proxy unix has no use", "--listen unix:"],
        ),
        (
            &["--max-requests", "0"],
            &["--max-requests must be at least 1"],
        ),
        (&["--max-event", "0"], &["--max-event must be at least 1"]),
        (&["--ephemeral=perhaps"], &["--ephemeral", "true or false"]),
        (
            &["--max-connections", "many"],
            &["--max-connections: \"many\" is not valid"],
        ),
        (&["--max-connections", "0"], &["max-connections"]),
        (&["--max-connections"], &["--max-connections needs a value"]),
        (&["--heartbeat", "soon"], &["soon", "30s"]),
        (&["--heartbeat", "10m"], &["heartbeat", "idle-timeout"]),
        (&["--window", "big"], &["big", "--window"]),
        (
            &["--retain", "room/(\\d+);max-count=1"],
            &["--retain, rule 1: `room/(\\d+)` is not a valid pattern: regular expressions"],
        ),
        (
            &["--retain", "http://]{;max-count=1"],
            &["--retain, rule 1: `http://]{` is not a valid pattern: a `{` has no `}`"],
        ),
        (&["--durability", "hope"], &["hope", "fsync"]),
        (
            &["--ephemeral", "--durability", "os"],
            &["--ephemeral", "--durability"],
        ),
        (
            &["--max-event", "8MiB", "--max-body", "4MiB"],
            &["max-event", "max-body"],
        ),
        (
            &["--memory", "1KiB"],
            &["--memory 1KiB", "10MiB or more", "two of its largest items"],
        ),
        (
            &["--memory", "64MiB", "--window", "63MiB"],
            &["--window takes 63MiB", "--memory"],
        ),
        (
            &["--memory", "64MiB", "--stream-compression", "1GiB"],
            &["--stream-compression", "--memory"],
        ),
        (
            &[
                "--memory",
                "64MiB",
                "--ephemeral",
                "--retention-size",
                "1GiB",
            ],
            &["--retention-size", "--memory"],
        ),
        (
            &["--memory", "64MiB", "--max-connections", "1000000"],
            &["--max-connections", "--memory"],
        ),
        (
            &["--ephemeral", "--data-dir", "elsewhere"],
            &["--ephemeral", "--data-dir (elsewhere)"],
        ),
        (&["--overflow", "explode"], &["explode", "disconnect"]),
        (
            &["--ephemeral", "--log", "sse_server=loud"],
            &["sse_server=loud"],
        ),
        (
            &["--ephemeral", "--listen", "0.0.0.0:0"],
            &["--allow-anonymous", "0.0.0.0:0"],
        ),
        (
            &["--ephemeral", "--trusted-proxy", "10.0.0.1"],
            &[
                "--trusted-proxy 10.0.0.1",
                "--token-file",
                "--allow-anonymous",
            ],
        ),
        (
            &["--ephemeral", "--listen", "[::]:0"],
            &["--allow-anonymous"],
        ),
        (
            &["--ephemeral", "--listen", "192.0.2.1:0"],
            &["--allow-anonymous"],
        ),
        (
            &[
                "--ephemeral",
                "--allow-anonymous",
                "--listen",
                "192.0.2.1:0",
            ],
            &["192.0.2.1", "--listen"],
        ),
        (&["--ephemeral", "--listen", &busy], &[&busy, "in use"]),
        (&["--config", "/nowhere/hub.toml"], &["/nowhere/hub.toml"]),
        (&["--config", bad], &[bad, "line 3", "max-conections"]),
        (&["--config", no_toml], &[no_toml, "line 2"]),
        (
            &["--listen", "127.0.0.1:0", "--data-dir", file],
            &[file, "--data-dir"],
        ),
        (
            &["--listen", "127.0.0.1:0", "--data-dir", &below_file],
            &[&below_file, "--data-dir"],
        ),
        (
            &["--listen", "127.0.0.1:0", "--data-dir", "/proc/sse-data"],
            &["/proc/sse-data", "--data-dir"],
        ),
    ];
    for (arguments, words) in rows {
        let complaint = complaint(arguments, &[]);
        for word in *words {
            assert!(complaint.contains(word), "no {word:?} in {complaint}");
        }
    }
    for (name, value, words) in [
        ("SSE_MAX_CONNECTIONS", "many", "--max-connections: \"many\""),
        (
            "SSE_LISTN",
            "8080",
            "SSE_LISTN is not a setting of this program; did you mean SSE_LISTEN?",
        ),
        ("SSE_PORT", "8080", "did you mean SSE_LISTEN?"),
    ] {
        let complaint = complaint(&["--ephemeral"], &[(name, value)]);
        assert!(complaint.contains(words), "{complaint}");
    }
    // The log's tools read variables too.
    let complaint = complaint(&["log", "inspect"], &[("SSE_DATADIR", "x")]);
    assert!(
        complaint.contains("did you mean SSE_DATA_DIR?"),
        "{complaint}"
    );
}

/// A shell in which the client and the tests are set up too must be able to start the server.
#[test]
fn what_our_other_programs_read_from_the_environment_is_no_mistake() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut names = std::collections::BTreeSet::new();
    for folder in [
        "sse-client/src",
        "sse-client/tests",
        "sse-broker/tests",
        "sse-broker/benches",
        "xtask/src",
    ] {
        variables_read_in(&root.join(folder), &mut names);
    }
    assert!(
        names.contains("SSE_TOKEN") && names.contains("SSE_BROKER_SEEDS"),
        "{names:?}"
    );
    let mut command = command();
    command.args(["--ephemeral", "--listen", "127.0.0.1:0"]);
    for name in &names {
        command.env(name, "1");
    }
    let server = Server::spawn(command);
    assert_eq!(server.get("/livez").text(), "ok\n");
}

/// The names of the form `SSE_…` that stand as a whole text in the sources there.
fn variables_read_in(folder: &Path, names: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            variables_read_in(&path, names);
        } else if let Ok(source) = std::fs::read_to_string(&path) {
            let texts = source.split('"').filter(|text| {
                text.strip_prefix("SSE_").is_some_and(|rest| {
                    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                })
            });
            names.extend(texts.map(str::to_owned));
        }
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = folder();
    let file = folder.path().join("hub.toml");
    std::fs::write(
        &file,
        "ephemeral = true\nmax-connections = 5\nmax-connections-per-ip = 6\nheartbeat = \"7s\"\n",
    )
    .unwrap();
    let mut command = command();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--max-connections", "3"])
        .env("SSE_CONFIG", &file)
        .env("SSE_MAX_CONNECTIONS", "4")
        .env("SSE_MAX_CONNECTIONS_PER_IP", "2");
    let server = Server::spawn(command);
    let health = server.get("/sse/health").ok();
    assert_eq!(health["connections"]["max"], 3);
    assert_eq!(health["connections"]["per_ip_limit"], 2);
    assert_eq!(health["heartbeat"]["interval"], 7);
}

/// Long times overflowed what the kernel takes, and so did large limits what is computed from them.
#[test]
fn the_largest_values_that_are_taken_work() {
    let options = [
        "--max-connections-per-ip",
        "--max-jobs",
        "--max-subscriptions",
        "--max-named-subscriptions",
        "--retention-events",
        "--compression-threshold",
    ];
    let times = [
        "--idle-timeout",
        "--sweep-interval",
        "--retry",
        "--send-timeout",
        "--drain-timeout",
        "--retention-age",
        "--named-subscription-expiry",
    ];
    let largest = u64::MAX.to_string();
    let mut flags: Vec<&str> = vec!["--heartbeat", "36000d", "--max-linger", "1s"];
    for option in options {
        flags.extend([option, &largest]);
    }
    for option in times {
        flags.extend([option, "36500d"]);
    }
    let mut server = Server::with(&flags);
    let mut stream = server.open("/events");
    server.publish(&json!({"data": "x".repeat(100_000)}));
    stream.next();
    server.post("/jobs", &json!({"title": "t"})).ok();
    server.get("/events/stats").ok();
    server.get("/health").ok();
    drop(stream);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let log = server.stderr();
    assert!(!log.contains("panicked"), "{log}");
}

/// A hub that promised more than its memory would be ended by the system on its worst day.
#[test]
fn what_does_not_fit_into_the_memory_is_refused_with_what_would() {
    let largest = u64::MAX.to_string();
    for (arguments, named) in [
        (
            &[
                "--memory",
                "16MiB",
                "--max-body",
                "1MiB",
                "--max-event",
                "1MiB",
            ][..],
            "--max-event",
        ),
        (&["--memory", "64MiB", "--max-body", "64MiB"], "--max-body"),
        (&["--max-body", &largest], "--max-body"),
        (&["--memory", "0"], "--memory"),
    ] {
        let complaint = complaint(arguments, &[]);
        assert!(complaint.contains(named), "{complaint}");
        assert!(complaint.contains("--memory"), "{complaint}");
    }
    // What it says would be enough is enough.
    let complaint = complaint(&["--memory", "64MiB", "--max-body", "16MiB"], &[]);
    let enough = complaint.split("give ").nth(1).unwrap();
    let enough = enough.split(" or more").next().unwrap().replace(' ', "");
    drop(Server::with(&["--memory", &enough, "--max-body", "16MiB"]));
}
