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

/// A log that is damaged so that the hub refuses it: what it says leads to a log that the hub goes on with.
#[test]
fn what_a_damaged_log_still_has_is_salvaged_and_the_hub_goes_on_with_it() {
    let folder = folder();
    let server = Server::on_disk(folder.path(), &[]);
    let events = |from: u64| -> Vec<_> {
        (from..from + 50)
            .map(|n| json!({"data": format!("event {n}"), "topic": "a", "id": format!("id {n}")}))
            .collect()
    };
    for batch in 0..4 {
        server.publish(&json!(events(batch * 50)));
    }
    server
        .post("/jobs", &json!({"job_id": "7", "title": "a job"}))
        .ok();
    let old_position = server.head();
    server.signal("KILL");
    drop(server);
    let file = folder.path().join("events.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // Both of redb's commits, and one event wherever it lies.
    bytes[64..448].fill(0xff);
    let needle = b"event 120";
    let places: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(needle))
        .collect();
    places.iter().for_each(|at| bytes[*at] ^= 1);
    std::fs::write(&file, &bytes).unwrap();

    let refused_start = {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path());
        refused(&command.output().unwrap(), 1)
    };
    let hint = format!(
        "`sse-server log salvage {} NEW_DIR`",
        folder.path().display()
    );
    assert!(refused_start.contains(&hint), "{refused_start}");
    assert!(refused(&log(&["verify"], folder.path()), 1).contains(&hint));

    let out = crate::server::folder();
    let salvage = |out: &Path, flags: &[&str]| {
        let mut command = command();
        let command = command.args(["log", "salvage"]).arg(folder.path()).arg(out);
        command.args(flags).output().unwrap()
    };
    let new = out.path().join("new");
    let told = salvage(&new, &[]);
    assert_eq!(told.status.code(), Some(1), "something is missing");
    assert_eq!(String::from_utf8_lossy(&told.stderr), "");
    let text = String::from_utf8(told.stdout).unwrap();
    for said in [
        "saved     200 events, offsets 1 to 201, published 20",
        "missing   1 events: 121; 1 of them are damaged",
        "beside    1 snapshots of topics",
        &format!("--data-dir {}", new.display()),
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let again = salvage(&out.path().join("json"), &["--json"]);
    let json: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(json["events"], 200);
    assert_eq!(json["missing_offsets"], json!([[121, 121]]));
    assert_eq!(
        (&json["snapshots"], &json["is_complete"]),
        (&json!(1), &json!(false))
    );
    let taken = refused(&salvage(&new, &[]), 1);
    assert!(
        taken.contains("is not empty") && taken.contains("a new folder"),
        "{taken}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "only read");

    for flags in [&[][..], &["--same-log"]] {
        let server = Server::on_disk(&new, flags);
        let mut stream = server.resume("/events?topic=a", &old_position);
        assert_eq!(stream.next().name, "gap");
        let mut all = server.resume("/events?topic=a", "earliest");
        for n in (0..200).filter(|n| *n != 120) {
            assert_eq!(all.next().data, format!("event {n}"));
        }
        assert_eq!(server.get("/jobs/7").ok()["title"], "a job");
        // A retry of what was saved is not stored again.
        let before = server.head();
        server.publish(&json!(events(0)));
        assert_eq!(server.head(), before);
        drop(server);
    }
}

#[test]
fn what_cannot_be_salvaged_is_said_in_one_line() {
    let folder = folder();
    let out = folder.path().join("out");
    let salvage = |damaged: &Path| {
        let mut command = command();
        command
            .args(["log", "salvage"])
            .arg(damaged)
            .arg(&out)
            .output()
            .unwrap()
    };
    let diary = folder.path().join("diary");
    std::fs::write(&diary, "dear diary").unwrap();
    let nothing = refused(&salvage(&diary), 1);
    assert!(nothing.contains("nothing of an event log"), "{nothing}");
    let nowhere = refused(&salvage(&folder.path().join("nowhere")), 1);
    assert!(nowhere.contains("there is no event log"), "{nowhere}");
    let data = folder.path().join("data");
    let server = Server::on_disk(&data, &[]);
    let busy = refused(&salvage(&data), 1);
    assert!(busy.contains("stop the hub first"), "{busy}");
    drop(server);
    assert!(!out.exists());
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
    let output = command()
        .args(["log", "inspect", "./sse-data"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("--data-dir DIR") && told.lines().count() == 1,
        "{told}"
    );
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
    let salvage = command()
        .args(["log", "salvage", "--help"])
        .output()
        .unwrap();
    assert!(fine(&salvage).contains("Exit codes: 0 everything was saved"));
}
