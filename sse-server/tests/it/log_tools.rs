//! `sse-server log …`: the log of a stopped hub is looked at, checked, made small and copied.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::server::{Server, command, folder};

/// Runs `sse-server log` and waits for its end.
fn log(args: &[&str], folder: &Path) -> Output {
    log_with(args, folder, b"")
}

fn log_with(args: &[&str], folder: &Path, input: &[u8]) -> Output {
    let mut command = command();
    command.arg("log").args(args).arg("--data-dir").arg(folder);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It need not read what it refuses.
    let _ = std::io::Write::write_all(&mut stdin, input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn fine(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line in which it said why not.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// A stopped hub's folder, with events of every kind, a job and a named reader.
fn filled() -> tempfile::TempDir {
    let folder = folder();
    let mut server = Server::on_disk(folder.path(), &[]);
    drop(server.open("/events?durable=mailer"));
    server.publish(&json!([
        {"data": "plain"},
        {"data": {"n": 1}, "event_type": "progress", "topic": ["job/1", "all \u{1f980}"], "id": "one"},
        {"data": "two\nlines", "priority": "high", "ttl_seconds": 3600, "session_filter": "s"},
        {"data": "labelled", "subscription_filter": "label", "priority": "low", "retry": 1500},
    ]));
    server
        .post("/jobs", &json!({"job_id": "7", "title": "a job"}))
        .ok();
    let place = json!({"position": server.head()});
    server.post("/events/subscriptions/mailer/ack", &place).ok();
    server.signal("TERM");
    assert!(server.wait().success());
    folder
}

#[test]
fn a_log_is_described_for_people_and_programs() {
    let folder = filled();
    let text = fine(&log(&["inspect"], folder.path()));
    assert!(text.contains("events    5, after 0 and up to 5"), "{text}");
    let found: Value =
        serde_json::from_str(&fine(&log(&["inspect", "--json"], folder.path()))).unwrap();
    assert_eq!((&found["events"], &found["states"]), (&json!(5), &json!(1)));
    assert_eq!((&found["snapshots"], &found["ids"]), (&json!(1), &json!(1)));
}

#[test]
fn a_copy_of_a_log_is_the_same_log_for_every_reader() {
    let (old, new) = (filled(), folder());
    let copy = fine(&log(&["export"], old.path()));
    let place = new.path().join("made by the import");
    let told = fine(&log_with(&["import"], &place, copy.as_bytes()));
    assert_eq!(told, "5 events imported\n");
    // Copied again it is the same text: ids, positions, order, and what stands beside it.
    assert_eq!(fine(&log(&["export"], &place)), copy);
    assert!(fine(&log(&["verify"], &place)).ends_with(" 0 problems\n"));

    // The operator says that it is; else it would be another log, with a gap for each reader.
    let events = |folder: &Path| {
        let server = Server::on_disk(folder, &["--same-log"]);
        let poll = server.get("/events/poll?after=earliest&session_id=s").ok();
        let job = server.get("/jobs/7").ok();
        let named = server.get("/events/subscriptions/mailer").ok();
        (poll, job, named)
    };
    assert_eq!(events(&place), events(old.path()));
}

#[test]
fn a_copy_can_be_a_file_and_is_never_written_over_another() {
    let (old, new) = (filled(), folder());
    let file = new.path().join("copy.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(fine(&log(&["export", file], old.path())), "");
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 9);
    let again = log(&["export", file], old.path());
    assert!(refused(&again, 1).contains("cannot create"));
    let place = new.path().join("log");
    fine(&log(&["import", file], &place));
    let full = refused(&log(&["import", file], &place), 1);
    assert!(
        full.contains("is not empty") && full.contains("--append"),
        "{full}"
    );
}

#[test]
fn events_are_added_to_a_log_behind_its_own_and_ids_are_stored_once() {
    let (old, other) = (filled(), filled());
    let copy = fine(&log(&["export"], old.path()));
    let added = log_with(&["import", "--append"], other.path(), copy.as_bytes());
    assert_eq!(fine(&added), "4 events imported, 1 were there already\n");
    let found = fine(&log(&["inspect"], other.path()));
    assert!(found.contains("up to 9"), "{found}");
    let nothing = folder();
    let nowhere = log_with(&["import", "--append"], nothing.path(), copy.as_bytes());
    assert!(refused(&nowhere, 1).contains("there is no event log"));
}

#[test]
fn a_copy_that_is_damaged_or_cut_short_makes_no_log() {
    let old = filled();
    let copy = fine(&log(&["export"], old.path()));
    let lines: Vec<&str> = copy.lines().collect();
    let without = |n: usize| {
        let mut lines = lines.clone();
        lines.remove(n);
        lines.join("\n")
    };
    for (copy, line, word) in [
        (lines[..lines.len() - 1].join("\n"), 9, "cut short"),
        (without(0), 1, "begins with"),
        (without(3), 8, "5 events were copied and 4 are here"),
        (
            copy.replacen("\"event\"", "\"evnt\"", 1),
            2,
            "no line of a copy",
        ),
        (
            copy.replacen("\"offset\":2", "\"offset\":1", 1),
            3,
            "comes after",
        ),
        (
            copy.replacen("\"format\":1", "\"format\":2", 1),
            1,
            "format 2",
        ),
        (String::new(), 1, "cut short"),
    ] {
        let new = folder();
        let place = new.path().join("log");
        let told = refused(&log_with(&["import"], &place, copy.as_bytes()), 1);
        assert!(
            told.contains(&format!("line {line}")) && told.contains(word),
            "{told}"
        );
        assert!(!place.join("events.redb").exists());
    }
}

#[test]
fn a_damaged_log_is_told_by_the_exit_code_and_copied_as_far_as_it_goes() {
    let folder = filled();
    let file = folder.path().join("events.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // The newest copy of the page lies furthest back.
    let needle = b"labelled";
    let at = bytes
        .windows(needle.len())
        .rposition(|w| w == needle)
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let verified = log(&["verify"], folder.path());
    assert_eq!(verified.status.code(), Some(1));
    let told = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(told.contains("problem: "), "{told}");
}

#[test]
fn a_running_hubs_log_and_what_is_no_log_are_left_alone() {
    let folder = folder();
    let server = Server::on_disk(folder.path(), &[]);
    for task in ["inspect", "verify", "compact", "export"] {
        let busy = refused(&log(&[task], folder.path()), 1);
        assert!(
            busy.contains("in use") && busy.contains("stop the hub first"),
            "{busy}"
        );
    }
    let busy = refused(&log(&["import", "--append"], folder.path()), 1);
    assert!(busy.contains("cut short"), "{busy}");
    drop(server);

    let empty = crate::server::folder();
    let nothing = refused(&log(&["verify"], empty.path()), 1);
    assert!(nothing.contains("there is no event log") && nothing.contains("--data-dir"));
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    refused(&log(&["repair"], empty.path()), 2);
    refused(&log(&["verify", "--hard"], empty.path()), 2);
}

#[test]
fn compacting_says_what_it_gave_back() {
    let folder = filled();
    let told = fine(&log(&["compact"], folder.path()));
    assert!(
        told.starts_with("the file had ") && told.contains(" and has "),
        "{told}"
    );
    assert!(fine(&log(&["verify"], folder.path())).starts_with("5 events"));
}

#[test]
fn the_help_says_what_the_exit_codes_mean() {
    for args in [&["log", "--help"][..], &["log", "verify", "--help"]] {
        let output = command().args(args).output().unwrap();
        assert!(fine(&output).contains("Exit codes: 0 all is well; 1 a problem"));
    }
}
