//! A disk that is full, seen from outside: publishers hear of it at once, readers do not notice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Stream, eventually};
use crate::server::{Server, command, folder};

/// A server whose folder is a disk of its own, of so many MiB, which is gone with it.
fn on_a_small_disk(folder: &Path, mib: u32) -> Server {
    let server = command();
    let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\"");
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(folder)
        .arg(server.get_program())
        .args(["--listen", "127.0.0.1:0", "--heartbeat", "100ms"])
        .args(["--window", "1MiB", "--data-dir"])
        .arg(folder.join("log"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    for (name, value) in server.get_envs() {
        if value.is_none() {
            command.env_remove(name);
        }
    }
    Server::spawn(command)
}

/// Waits for a heartbeat: the stream lives, whatever the disk does.
fn is_alive(stream: &mut Stream) {
    let event = stream.next_or_ping();
    assert_eq!(event.name, "ping", "{event:?}");
}

#[test]
#[ignore = "mounts a small disk in a namespace of its own; cargo xtask test --long runs it"]
fn a_full_disk_is_told_at_once_while_streams_live_on_and_is_over_by_itself() {
    let folder = folder();
    let server = on_a_small_disk(folder.path(), 48);
    // The disk is seen from the server's side alone.
    let seen = PathBuf::from(format!("/proc/{}/root", server.pid()));
    let filler = seen.join(folder.path().strip_prefix("/").unwrap());
    let filler = filler.join("filler");
    let mut live = server.open("/events");
    let batch: Vec<_> = (0..64)
        .map(|_| json!({"data": "x".repeat(1_000)}))
        .collect();
    let batch = json!(batch);
    let mut all = 0;
    for _ in 0..2 {
        std::fs::write(&filler, vec![1; 24 << 20]).unwrap();
        let mut stored = 0;
        let refused = loop {
            let reply = server.post("/events", &batch);
            if reply.status != 200 {
                break reply;
            }
            live.take(64);
            stored += 64;
        };
        let problem = refused.problem(507);
        all += stored;
        assert!(all > 0, "{problem}");

        // None of them waits for anything. (A smaller one might still fit.)
        let mut took: Vec<_> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                let reply = server.post("/events", &batch);
                let took = begun.elapsed();
                reply.problem(507);
                took
            })
            .collect();
        took.sort();
        eprintln!(
            "full after {stored} events; 507 after {:?} (median), {:?} (worst of 200)",
            took[100], took[199]
        );
        // 100 ms is the promise; a busy machine may take longer to come round to it.
        assert!(took[180] < Duration::from_millis(100), "{took:?}");

        // Who reads goes on reading, and who comes gets all there is.
        is_alive(&mut live);
        let mut late = server.resume("/events", "earliest");
        assert_eq!(late.take(all).len(), all);
        is_alive(&mut late);
        assert_eq!(server.get("/livez").status, 200);
        let not_ready = server.get("/readyz").problem(503);
        assert!(not_ready["detail"].as_str().unwrap().contains("no room"));

        std::fs::remove_file(&filler).unwrap();
        let begun = Instant::now();
        eventually("there is space again", || {
            let reply = server.post("/events", &batch);
            (reply.status == 200).then_some(())
        });
        assert_eq!(server.get("/readyz").status, 200);
        eprintln!(
            "publishing again {:?} after there was space",
            begun.elapsed()
        );
        // Nothing of what was refused was stored: they come once.
        server.publish(&json!({"data": "the end of the round"}));
        assert!(
            live.take(64)
                .iter()
                .all(|event| event.data.starts_with("xx"))
        );
        assert_eq!(live.next().data, "the end of the round");
        all += 65;
    }
}
