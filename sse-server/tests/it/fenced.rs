//! A log that cannot be written any more, and a clock that cannot be believed: the health says so, and what to do.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sse_broker::{Broker, DiskBroker, DiskConfig, LogTime};

use crate::client::eventually;
use crate::server::{Server, folder};

/// What `/health` has to say of a signal.
fn reason(health: &Value, signal: &str) -> Option<Value> {
    let reasons = health["reasons"].as_array().unwrap();
    reasons
        .iter()
        .find(|reason| reason["signal"] == signal)
        .cloned()
}

#[test]
fn a_hub_whose_log_is_gone_is_critical_and_says_what_to_do() {
    let parent = folder();
    let data = parent.path().join("data");
    let server = Server::on_disk(&data, &[]);
    server.publish(&json!({"data": "kept"}));
    assert_eq!(reason(&server.get("/health").ok(), "log"), None);
    std::fs::remove_dir_all(&data).unwrap();
    let health = eventually("the removed file is noticed", || {
        let health = server.get("/health").ok();
        reason(&health, "log").is_some().then_some(health)
    });
    assert_eq!(health["status"], "critical");
    let told = reason(&health, "log").unwrap();
    assert_eq!(told["status"], "critical");
    let message = told["message"].as_str().unwrap();
    for said in ["was removed", "start the hub again", "log salvage"] {
        assert!(message.contains(said), "{said:?} is not in {message}");
    }
    for path in ["/sse/health", "/events/stats"] {
        assert_eq!(server.get(path).ok()["status"], "critical", "{path}");
    }
    let metrics = server.get("/metrics").text();
    assert!(
        metrics.contains("sse_health_status{status=\"critical\"} 1"),
        "{metrics}"
    );
    // Known: it was noticed before, so nothing was written.
    let refused = server
        .post("/events", &json!({"data": "lost"}))
        .problem(503);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("nothing was published"), "{detail}");
    eventually("it is logged", || {
        let told = server.stderr();
        (told.matches("the log cannot be written").count() > 0).then_some(())
    });
}

/// A sync that fails: what was written may be on the disk or not, and the answer says so.
#[test]
fn a_publish_whose_sync_failed_is_not_said_to_be_not_published() {
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    if !has_strace {
        // Nothing to fail with on this machine; the broker's simulated disk fails everywhere.
        eprintln!("strace is not installed");
        return;
    }
    let data = folder();
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync,fdatasync",
        ])
        // Of each thread: the log is open by then.
        .args(["-e", "inject=fsync,fdatasync:error=EIO:when=30+"])
        .arg(env!("CARGO_BIN_EXE_sse-server"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let server = Server::spawn(strace);
    let _traced = Traced(server.pid());
    let mut published = 0;
    let refused = (0..100)
        .map(|n| server.post("/events", &json!({ "data": n })))
        .inspect(|reply| published += u32::from(reply.status == 200))
        .find(|reply| reply.status == 503)
        .expect("a sync fails");
    assert!(published > 5, "{published}");
    let detail = refused.problem(503)["detail"].to_string();
    assert!(
        detail.contains("it is not known whether it was stored"),
        "{detail}"
    );
    assert!(!detail.contains("nothing was published"), "{detail}");
    let health = server.get("/health").ok();
    assert_eq!(health["status"], "critical");
    let message = reason(&health, "log").unwrap()["message"].to_string();
    assert!(message.contains("syncing the file failed"), "{message}");
    server.get("/readyz").problem(503);
    // What comes later is known.
    let later = server
        .post("/events", &json!({"data": "later"}))
        .problem(503);
    assert!(
        later["detail"]
            .to_string()
            .contains("nothing was published"),
        "{later}"
    );
}

/// Kills the children of a process at the end: strace does not hand a signal on.
struct Traced(u32);

impl Drop for Traced {
    fn drop(&mut self) {
        let parent = self.0.to_string();
        let _ = Command::new("pkill").args(["-9", "-P", &parent]).status();
    }
}

/// Lets the log believe that it was last open so long ago.
fn open_last(data: &Path, millis_ago: u64) {
    let broker = DiskBroker::open(data, DiskConfig::default()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = u64::try_from(now.as_millis()).unwrap() - millis_ago;
    broker.note_time(LogTime {
        age: then,
        wall: then,
    });
}

#[test]
fn events_do_not_age_by_one_reading_of_a_clock_that_has_jumped() {
    let data = folder();
    let flags = ["--retention-age", "1s", "--sweep-interval", "1s"];
    let events = |server: &Server| {
        let polled = server.get("/events/poll?after=earliest").ok();
        polled["events"].as_array().unwrap().len()
    };
    let mut server = Server::on_disk(data.path(), &["--retention-age", "1h"]);
    server.publish(&json!([{"data": 1}, {"data": 2}]));
    server.signal("TERM");
    assert!(server.wait().success());
    std::thread::sleep(std::time::Duration::from_millis(1_500));

    // A year has passed, says the clock.
    open_last(data.path(), 365 * 24 * 3_600_000);
    let mut server = Server::on_disk(data.path(), &flags);
    let health = server.get("/health").ok();
    let told = reason(&health, "clock").unwrap();
    assert_eq!(told["status"], "warning");
    assert!(
        told["message"].as_str().unwrap().contains("--trust-clock"),
        "{told}"
    );
    assert!(
        server.stderr().contains("--trust-clock"),
        "{}",
        server.stderr()
    );
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert_eq!(events(&server), 2, "swept and read by the same time");
    server.signal("TERM");
    assert!(server.wait().success());

    // The operator says that it is right.
    let trusting = [&flags[..], &["--trust-clock"]].concat();
    let server = Server::on_disk(data.path(), &trusting);
    assert_eq!(reason(&server.get("/health").ok(), "clock"), None);
    assert_eq!(events(&server), 0, "read by the clock before it is swept");
    server.publish(&json!({"data": 3}));
    assert_eq!(events(&server), 1);
}
