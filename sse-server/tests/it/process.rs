//! The process: what it prints, its files, its signals, and what survives them.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::client::{End, Reply, Stream, Wire, eventually};
use crate::server::{Server, command, folder};
use crate::starting::complaint;

#[test]
fn another_address_is_served_when_that_is_meant() {
    let mut command = command();
    command.args(["--ephemeral", "--listen", "0.0.0.0:0", "--allow-anonymous"]);
    let mut server = Server::spawn(command);
    assert!(server.address.ip().is_unspecified());
    server.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(server.get("/livez").text(), "ok\n");
    assert_eq!(server.get("/readyz").text(), "ready\n");
}

#[test]
fn the_two_lines_it_prints_work_when_they_are_pasted() {
    let server = Server::start();
    let lines: Vec<_> = server
        .welcome
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .collect();
    let [listen, publish] = lines[..] else {
        panic!("{}", server.welcome)
    };
    let mut stream = server.curl_stream(listen);
    server.curl(publish).ok();
    let event = stream.next();
    assert_eq!(
        (event.name.as_str(), &event.json()["hello"]),
        ("greeting", &json!("world"))
    );
    assert!(server.welcome.contains("in memory"), "{}", server.welcome);
}

#[test]
fn nobody_need_read_what_it_prints() {
    let mut command = command();
    command.args(["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn both_signals_end_it_well_and_streams_end_properly() {
    for signal in ["INT", "TERM"] {
        let mut server = Server::start();
        let mut streams: Vec<_> = (0..10).map(|_| server.open("/events")).collect();
        server.publish(&json!([{"data": 1}, {"data": 2}]));
        server.signal(signal);
        for stream in &mut streams {
            let (events, end) = stream.rest();
            assert_eq!(events.len(), 2);
            assert_eq!(end, End::Clean);
        }
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{signal}");
        let log = server.stderr();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn a_signal_that_is_not_for_the_end_ends_nothing() {
    let mut server = Server::start();
    let mut stream = server.open("/events");
    for signal in ["HUP", "USR1", "USR2", "PIPE", "HUP"] {
        server.signal(signal);
        server.publish(&json!({"data": signal}));
        assert_eq!(stream.next().data, signal);
    }
    eventually("it says so", || {
        let log = server.stderr();
        let said = ["SIGHUP: the configuration", "SIGUSR1", "SIGUSR2"];
        said.iter().all(|words| log.contains(words)).then_some(())
    });
    // A shell's Ctrl-\ drains as Ctrl-C does.
    server.signal("QUIT");
    assert_eq!(stream.rest().1, End::Clean);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut command = command();
    command.args(["--ephemeral", "--listen", "127.0.0.1:0", "--log", "debug"]);
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut first)
        .unwrap();
    let address = first.trim().strip_prefix("listening on http://").unwrap();
    drop(child.stderr.take());
    drop(child.stdout.take());
    for _ in 0..3 {
        let mut socket = TcpStream::connect(address).unwrap();
        let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        assert!(Stream::read(Wire::from_socket(socket)).is_ok());
    }
    let kill = format!("kill -HUP {0}; kill -TERM {0}", child.id());
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    let status = eventually("it has ended", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_was_published_just_before_the_end_is_still_delivered() {
    // A quarter of it is for what was not delivered yet, which takes a busy machine some seconds.
    let mut server = Server::with(&["--window", "64KiB", "--drain-timeout", "60s"]);
    let streams: Vec<_> = (0..10).map(|_| server.open("/events")).collect();
    let events: Vec<_> = (0..500)
        .map(|n| json!({"data": {"n": n, "pad": "x".repeat(1000)}}))
        .collect();
    // All read at the same time: the hub does not wait long for one that does not.
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| std::thread::spawn(move || stream.rest()))
        .collect();
    server.publish(&json!(events));
    server.signal("TERM");
    for reader in readers {
        let (events, end) = reader.join().unwrap();
        let numbers = events
            .iter()
            .map(|event| event.json()["n"].as_u64().unwrap());
        assert!(numbers.eq(0..500), "{} events", events.len());
        assert_eq!(end, End::Clean);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn readers_are_told_to_come_back_at_different_times() {
    let server = Server::start();
    let mut streams: Vec<_> = (0..20).map(|_| server.open("/events")).collect();
    server.signal("TERM");
    let mut times = std::collections::BTreeSet::new();
    for stream in &mut streams {
        assert_eq!(stream.rest().1, End::Clean);
        let raw = String::from_utf8(stream.raw.clone()).unwrap();
        let last = raw
            .lines()
            .rev()
            .find(|line| line.starts_with("retry: "))
            .unwrap();
        times.insert(last.to_owned());
    }
    assert!(times.len() > 5, "{times:?}");
}

/// The last slice's turn came with the end of the drain itself, and so one stream of many was always cut.
#[test]
fn many_streams_end_one_after_another_and_none_is_cut() {
    let flags = ["--max-connections-per-ip", "300", "--drain-timeout", "2s"];
    let mut server = Server::with(&flags);
    let streams: Vec<_> = (0..150).map(|_| server.open("/events")).collect();
    let begun = Instant::now();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                let end = stream.rest().1;
                (end, begun.elapsed(), stream.raw)
            })
        })
        .collect();
    server.signal("TERM");
    let mut ends = Vec::new();
    for reader in readers {
        let (end, at, raw) = reader.join().unwrap();
        assert_eq!(end, End::Clean);
        let raw = String::from_utf8(raw).unwrap();
        let last = raw.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("retry: "), "{raw:?}");
        ends.push(at);
    }
    assert_eq!(server.wait().code(), Some(0));
    let log = server.stderr();
    assert!(!log.contains("were cut"), "{log}");
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(
        *last - *first > Duration::from_secs(1),
        "{first:?}, {last:?}"
    );
}

#[test]
fn a_poll_that_waits_is_answered_when_the_server_leaves() {
    let mut server = Server::with(&["--drain-timeout", "5s"]);
    server.post("/jobs", &json!({"job_id": "j"})).ok();
    let head = server.head();
    std::thread::scope(|scope| {
        let server = &server;
        let poll = scope.spawn(|| server.get(&format!("/events/poll?after={head}&wait=50")));
        let job = scope.spawn(|| server.get("/jobs/j?wait=50"));
        std::thread::sleep(Duration::from_secs(1));
        server.signal("TERM");
        for reply in [poll.join().unwrap(), job.join().unwrap()] {
            assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        }
    });
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::with(&["--max-connections-per-ip", "300", "--drain-timeout", "10m"]);
    let _many: Vec<_> = (0..200).map(|_| server.open("/events")).collect();
    server.signal("TERM");
    eventually("the server drains", || {
        server.stderr().contains("draining").then_some(())
    });
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = folder();
    let mut server = Server::on_disk(folder.path(), &[]);
    assert!(
        server.welcome.contains(folder.path().to_str().unwrap()),
        "{}",
        server.welcome
    );
    let mut stream = server.open("/events");
    let first = server.publish(&json!({"id": "first", "data": 1, "topic": "t"}));
    assert_eq!(first["durability"], "fsync");
    assert_eq!(stream.next().data, "1");
    server.publish(&json!({"data": "private", "session_filter": "s"}));
    server
        .post("/jobs", &json!({"job_id": "open", "title": "survives"}))
        .ok();
    server
        .post("/jobs/open/progress", &json!({"progress": 40}))
        .ok();
    stream.take(2);
    server.publish(&json!({"data": "last", "id": "last"}));
    let head = server.head();
    server.signal("TERM");
    assert_eq!(stream.rest().1, End::Clean);
    assert_eq!(server.wait().code(), Some(0));

    let server = Server::on_disk(folder.path(), &[]);
    assert_eq!(server.head(), head, "the log goes on where it was");
    // The reader that was cut off goes on, by position and by id.
    let mut resumed = server.resume("/events", "first");
    assert_eq!(resumed.connected["resumed"], true);
    let names: Vec<_> = resumed
        .take(3)
        .into_iter()
        .map(|event| event.name)
        .collect();
    assert_eq!(names, ["status", "progress", "message"]);
    let mut session = server.resume(
        "/events?session_id=s&topic=nothing",
        first["position"].as_str().unwrap(),
    );
    assert_eq!(session.next().data, "private");
    // A publisher's retry is stored once, across the restart.
    let again = server.publish(&json!({"id": "first", "data": 1, "topic": "t"}));
    assert_eq!(
        (&again["position"], &again["duplicate"]),
        (&first["position"], &json!(true))
    );
    server
        .post("/events", &json!({"id": "first", "data": 2, "topic": "t"}))
        .problem(409);
    // Jobs are what they were, and go on.
    let job = server.get("/jobs/open").ok();
    assert_eq!(
        (&job["title"], &job["progress"]),
        (&json!("survives"), &json!(40))
    );
    server.post("/jobs/open/complete", &json!({})).ok();
    assert_eq!(resumed.next().name, "complete");
}

/// The answer, or nothing where the server was killed meanwhile.
fn answer_unless_killed(server: &Server, request: &[u8]) -> Option<Reply> {
    let mut socket = TcpStream::connect(server.address).ok()?;
    socket.write_all(request).ok()?;
    Wire::from_socket(socket).reply_or_cut()
}

#[test]
fn neither_a_kill_nor_a_stop_loses_what_was_acknowledged() {
    let folder = folder();
    let acknowledged = Mutex::new(Vec::<(String, Value)>::new());
    for (round, signal) in ["KILL", "TERM", "KILL"].into_iter().enumerate() {
        let mut server = Server::on_disk(folder.path(), &["--log", "warn"]);
        let killed = AtomicBool::new(false);
        let before = acknowledged.lock().unwrap().len();
        std::thread::scope(|scope| {
            for publisher in 0..4 {
                let (server, killed, acknowledged) = (&server, &killed, &acknowledged);
                scope.spawn(move || {
                    for n in 0.. {
                        let id = format!("{round}/{publisher}/{n}");
                        let body = json!({"id": id, "data": n}).to_string();
                        let request = server.bytes("POST", "/events", &[], Some(body.as_bytes()));
                        let Some(answer) = answer_unless_killed(server, &request) else {
                            assert!(killed.load(Ordering::Relaxed), "the server ended by itself");
                            return;
                        };
                        if answer.status == 503 {
                            assert!(killed.load(Ordering::Relaxed), "{}", answer.text());
                            return;
                        }
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        acknowledged
                            .lock()
                            .unwrap()
                            .push((id, answer.json()["position"].clone()));
                        if killed.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            eventually("there is something to lose", || {
                (acknowledged.lock().unwrap().len() >= before + 60).then_some(())
            });
            killed.store(true, Ordering::Relaxed);
            server.signal(signal);
        });
        let code = server.wait().code();
        assert_eq!(code, (signal == "TERM").then_some(0), "{}", server.stderr());
    }
    let server = Server::on_disk(folder.path(), &[]);
    let mut kept = Vec::new();
    let mut after = "earliest".to_owned();
    loop {
        let page = server
            .get(&format!("/events/poll?limit=500&after={after}"))
            .ok();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            break;
        }
        kept.extend(events.iter().map(|event| {
            (
                event["id"].as_str().unwrap().to_owned(),
                event["position"].clone(),
            )
        }));
        page["position"].as_str().unwrap().clone_into(&mut after);
    }
    let ids: std::collections::HashSet<_> = kept.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), kept.len(), "an event is there twice");
    for (id, position) in acknowledged.into_inner().unwrap() {
        assert!(
            kept.contains(&(id.clone(), position.clone())),
            "{id} at {position} is lost"
        );
    }
}

/// What is in a folder: each file's name, bytes and the time when it was last changed.
fn contents(folder: &Path) -> Vec<(OsString, Vec<u8>, SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let changed = entry.metadata().unwrap().modified().unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            (entry.file_name(), bytes, changed)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_second_server_on_the_same_folder_ends_at_once_and_leaves_it_alone() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let server = Server::on_disk(folder.path(), &["--sweep-interval", "1h"]);
    server.publish(&json!({"data": "mine"}));
    let before = contents(folder.path());
    let mut took = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let complaint = complaint(&["--listen", "127.0.0.1:0", "--data-dir", path], &[]);
        took.push(begun.elapsed());
        assert!(complaint.contains(path), "{complaint}");
        assert!(complaint.contains("in use"), "{complaint}");
    }
    took.sort();
    eprintln!("a second server ended after {took:?}");
    // A second is the promise; a busy machine may take longer to start a process.
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
    assert!(contents(folder.path()) == before, "the folder has changed");
    server.publish(&json!({"data": "still mine"}));
    let events = server.get("/events/poll?after=earliest").ok()["events"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(events, 2);
}

#[test]
fn durability_is_what_was_asked_for() {
    for level in ["fsync", "os"] {
        let folder = folder();
        let server = Server::on_disk(folder.path(), &["--durability", level]);
        assert_eq!(server.publish(&json!({"data": 1}))["durability"], level);
        assert_eq!(server.get("/events/stats").ok()["log"]["durability"], level);
    }
    let server = Server::start();
    assert_eq!(server.publish(&json!({"data": 1}))["durability"], "memory");
}

#[test]
fn the_log_on_standard_error_can_be_read_by_machines() {
    let mut server = Server::with(&["--log-format", "json", "--log", "debug"]);
    drop(server.open("/events"));
    server.signal("TERM");
    server.wait();
    let log = server.stderr();
    assert!(log.lines().count() > 1, "{log}");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(
            entry["timestamp"].is_string() && entry["level"].is_string(),
            "{line}"
        );
    }
    assert!(log.contains("connected"), "{log}");
}

#[test]
fn a_folder_of_its_own_is_made_where_there_is_none() {
    let folder = folder();
    let server = Server::on_disk(&folder.path().join("not/yet"), &[]);
    server.publish(&json!({"data": 1}));
    let made = Command::new("ls")
        .arg(folder.path().join("not/yet"))
        .output()
        .unwrap();
    assert!(made.status.success() && !made.stdout.is_empty());
}

/// Its log filled the pipe, and the hub stood still at the next line.
#[test]
fn a_hub_whose_log_nobody_reads_goes_on() {
    let mut hub = Command::new(env!("CARGO_BIN_EXE_sse-server"))
        .args(["--ephemeral", "--listen", "127.0.0.1:0", "--log", "trace"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(hub.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let address = said.trim().rsplit("http://").next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    // More lines than the pipe and the queue of lines hold.
    for _ in 0..3_000 {
        let mut wire = Wire::connect(address);
        wire.write(b"GARBAGE\r\n\r\n");
        assert_eq!(wire.reply(false).unwrap().status, 400);
    }
    hub.kill().unwrap();
    let mut log = Vec::new();
    hub.stderr.take().unwrap().read_to_end(&mut log).unwrap();
    assert!(
        log.len() > 32 << 10,
        "{} bytes of log are no test",
        log.len()
    );
    hub.wait().unwrap();
}
