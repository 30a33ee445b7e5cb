//! The audit log: who did what. And that no secret is in anything the hub says.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Guarded, SECRET, admin, now, signed, token};
use crate::client::eventually;
use crate::server::{Server, folder};

/// A hub with an audit log, and where that is.
fn audited(flags: &[&str]) -> (Guarded, TempDir) {
    let folder = folder();
    let path = folder.path().join("audit");
    let mut all = vec!["--audit-log", path.to_str().unwrap()];
    all.extend(flags);
    (Guarded::start(&all), folder)
}

/// Every line is one JSON object.
fn lines(folder: &TempDir) -> Vec<Value> {
    read(&folder.path().join("audit"))
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect()
}

/// The first line with these fields, once it is there.
fn line(folder: &TempDir, fields: &Value) -> Value {
    let is_it = |line: &Value| {
        let mut wanted = fields.as_object().unwrap().iter();
        wanted.all(|(name, value)| line.get(name) == Some(value))
    };
    eventually(&format!("a line with {fields}"), || {
        lines(folder).into_iter().find(is_it)
    })
}

#[test]
fn it_says_who_did_what_and_never_what_an_event_says() {
    let (hub, folder) = audited(&[]);
    let ann = token(json!({"sub": "ann", "sid": "s1", "jti": "t-1",
        "sse": {"publish": ["job/*"], "subscribe": ["job/*"]}}));
    let stream = hub.open(&ann, "/events?topic=job/1");
    let published = hub
        .post(
            &ann,
            "/events",
            &json!({"topic": "job/1", "event_type": "progress", "data": "do not tell"}),
        )
        .ok();
    let many = json!([{"topic": "job/1", "data": "first"}, {"topic": "job/2", "data": "nor this", "id": "own"}]);
    hub.post(&ann, "/events", &many).ok();
    let id = stream.connection_id();
    let connected = line(&folder, &json!({"event": "connected", "connection": id}));
    assert_eq!(connected["user"], "ann");
    assert_eq!(connected["session"], "s1");
    assert_eq!(connected["credential"], "jwt");
    assert_eq!(connected["credential_id"], "t-1");
    assert_eq!(connected["address"], "127.0.0.1");
    assert_eq!(connected["topics"], json!(["job/1"]));
    let first = line(
        &folder,
        &json!({"event": "published", "id": published["id"]}),
    );
    assert_eq!(first["topics"], json!(["job/1"]));
    assert_eq!(first["event_type"], "progress");
    assert_eq!(first["bytes"], "do not tell".len());
    assert_eq!(first["position"], published["position"]);
    line(
        &folder,
        &json!({"event": "published", "id": "own", "user": "ann", "topics": ["job/2"]}),
    );

    hub.post(&ann, "/events", &json!({"topic": "news", "data": "x"}))
        .problem(403);
    line(
        &folder,
        &json!({"event": "refused", "status": 403, "user": "ann", "method": "POST", "path": "/events"}),
    );
    hub.get("not.a.token", "/events/poll").problem(401);
    line(
        &folder,
        &json!({"event": "refused", "status": 401, "path": "/events/poll", "address": "127.0.0.1"}),
    );

    let root = admin();
    hub.request(
        &root,
        "DELETE",
        &format!("/events/connections/{id}"),
        &Value::Null,
    );
    line(
        &folder,
        &json!({"event": "done", "action": "close_connection", "path": format!("/events/connections/{id}")}),
    );
    let left = line(&folder, &json!({"event": "disconnected", "connection": id}));
    assert_eq!(
        (&left["reason"], &left["user"]),
        (&json!("server"), &json!("ann"))
    );
    assert!(left["milliseconds"].is_u64());
    let again = hub.open(&ann, "/events?topic=job/1");
    let id = again.connection_id();
    drop(again);
    line(
        &folder,
        &json!({"event": "disconnected", "connection": id, "reason": "client"}),
    );
    hub.post(&root, "/admin/revocations", &json!({"user": "ann"}))
        .ok();
    line(
        &folder,
        &json!({"event": "done", "action": "revoke", "what": "user ann", "status": 200}),
    );
    hub.post(&root, "/events/tickets", &json!({})).ok();
    line(&folder, &json!({"event": "done", "action": "make_ticket"}));
    hub.post(&root, "/jobs", &json!({"job_id": "j"})).ok();
    line(
        &folder,
        &json!({"event": "done", "action": "create_job", "path": "/jobs"}),
    );

    let metrics = hub.get(&root, "/metrics").text();
    assert!(metrics.contains("sse_audit_lines_total "), "{metrics}");
    let mut server = hub.server;
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let all = lines(&folder);
    assert_eq!(all[0]["event"], "started");
    assert_eq!(all.last().unwrap()["event"], "stopped");
    let text = std::fs::read_to_string(folder.path().join("audit")).unwrap();
    assert!(
        !text.contains("do not tell") && !text.contains("nor this"),
        "{text}"
    );
}

#[test]
fn a_request_is_one_line_whatever_bytes_it_carries() {
    let (hub, folder) = audited(&[]);
    let mut refusals = 0;
    for path in [
        "/events/connections/%0a%7b%22event%22%3a%22forged%22%7d",
        "/jobs/%00%1b%5b31m",
        "/jobs/%ff%fe",
        &format!("/jobs/{}", "x".repeat(5_000)),
    ] {
        for bearer in ["not.a.token", "Bearer \u{e9}\u{2028}"] {
            let reply = hub.get(bearer, path);
            refusals += usize::from(reply.status == 401);
        }
    }
    assert!(refusals >= 6, "{refusals}");
    eventually("they are all told", || {
        let refused = |line: &&Value| line["event"] == "refused";
        (lines(&folder).iter().filter(refused).count() == refusals).then_some(())
    });
    assert!(lines(&folder).iter().all(|line| line["event"] != "forged"));
    let size = std::fs::metadata(folder.path().join("audit"))
        .unwrap()
        .len();
    assert!(size < 16 << 10, "{size} bytes");
}

#[test]
fn api_tokens_are_told_of_when_they_come_and_when_they_go() {
    let folder = folder();
    let tokens = folder.path().join("tokens.json");
    let audit = folder.path().join("audit");
    let _hub = Server::with(&[
        "--token-file",
        tokens.to_str().unwrap(),
        "--audit-log",
        audit.to_str().unwrap(),
    ]);
    let command = |args: &[&str]| {
        let mut command = crate::server::command();
        command
            .arg("token")
            .args(args)
            .arg("--token-file")
            .arg(&tokens);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let text = command(&["new", "--publish", "*"]);
    let id = text.split('_').nth(1).unwrap();
    line(&folder, &json!({"event": "tokens_changed", "added": [id]}));
    command(&["revoke", id]);
    line(
        &folder,
        &json!({"event": "tokens_changed", "revoked": [id]}),
    );
    let secret = text.trim().rsplit('_').next().unwrap();
    assert!(!std::fs::read_to_string(audit).unwrap().contains(secret));
}

#[test]
fn an_audit_log_that_cannot_be_written_is_said_at_the_start() {
    let said = crate::starting::complaint(&["--ephemeral", "--audit-log", "/nowhere/audit"], &[]);
    assert!(
        said.contains("--audit-log") && said.contains("/nowhere/audit"),
        "{said}"
    );
}

/// Secrets are sent through every door, good ones and bad ones, with everything logged that can be. None is found in anything that
/// the hub writes or answers.
#[test]
fn no_secret_is_in_logs_metrics_answers_or_the_audit_log() {
    const CANARY: &str = "canary7f3a9c";
    let (hub, folder) = audited(&["--log", "trace", "--token-file", "/nonexistent-tokens"]);
    let mut heard = String::new();
    let mut hear = |text: String| heard.push_str(&text);
    let good =
        token(json!({"sub": "ann", "sse": {"publish": ["*"], "subscribe": ["*"], "issue": true}}));
    let signature = good.rsplit('.').next().unwrap().to_owned();
    let expired = signed(
        &jsonwebtoken::Header::default(),
        &json!({"sub": CANARY, "exp": now() - 60}),
    );
    hear(hub.get(&good, "/events/poll").text());
    hear(hub.post(&good, "/events", &json!({"data": CANARY})).text());
    let ticket = hub
        .post(&good, "/events/tickets", &json!({"topics": ["a"]}))
        .ok();
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    let stream = hub.server.open(&format!("/events?topic=a&ticket={ticket}"));
    // Used up; then bad ones of each kind, in every place.
    let refused = hub
        .server
        .try_open(&format!("/events?topic=a&ticket={ticket}"), &[]);
    hear(match refused {
        Ok(mut stream) => stream
            .rest()
            .0
            .iter()
            .map(|event| event.data.clone())
            .collect(),
        Err(reply) => reply.text(),
    });
    for bearer in [
        expired.clone(),
        format!("{CANARY}.{CANARY}.{CANARY}"),
        format!("sse_{CANARY}_{CANARY}"),
        CANARY.to_owned(),
        format!("{CANARY} {CANARY}"),
        format!("\"{CANARY}\u{fc}"),
    ] {
        for (method, path) in [
            ("GET", "/events"),
            ("GET", "/events/poll"),
            ("POST", "/events"),
            ("GET", "/metrics"),
            ("DELETE", "/events/connections/x"),
            ("GET", "/nothing"),
        ] {
            hear(hub.request(&bearer, method, path, &Value::Null).text());
        }
    }
    for path in [
        format!("/events/poll?ticket={CANARY}"),
        format!("/events?ticket={CANARY}"),
        format!("/events/poll?access_token={CANARY}"),
        format!("/events/poll?token={CANARY}&topic=a"),
        format!("/events/poll?user_id=ann&ticket=a&ticket={CANARY}"),
    ] {
        // What is wrong with a parameter may name it, but not say what it was given.
        hear(hub.server.get(&path).text());
    }
    let headers = [
        ("Cookie", "session=canary7f3a9c"),
        ("Proxy-Authorization", "Basic canary7f3a9c"),
        ("X-Api-Key", "canary7f3a9c"),
    ];
    hear(
        hub.server
            .request("GET", "/events/poll", &headers, b"")
            .text(),
    );
    hear(hub.get(&admin(), "/metrics").text());
    hear(hub.get(&admin(), "/events/stats").text());
    hear(hub.get(&admin(), "/events/connections").text());
    drop(stream);
    let mut server = hub.server;
    server.signal("TERM");
    server.wait();
    hear(server.stderr());
    hear(std::fs::read_to_string(folder.path().join("audit")).unwrap());
    let secret = String::from_utf8(SECRET.to_vec()).unwrap();
    for canary in [CANARY, &signature, &ticket, &secret, &expired] {
        let at = heard.find(canary);
        let around = at.map(|at| &heard[at.saturating_sub(200)..(at + 100).min(heard.len())]);
        assert_eq!(around, None, "{canary} was told");
    }
    assert!(
        heard.len() > 10_000,
        "little was heard: {} bytes",
        heard.len()
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_crash_leaves_no_core_dump_unless_that_is_asked_for() {
    for (flags, expected) in [(&[][..], "0"), (&["--core-dumps"][..], "unlimited")] {
        let mut command = std::process::Command::new("sh");
        let script = "ulimit -c unlimited; exec \"$0\" --ephemeral --listen 127.0.0.1:0 \"$@\"";
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_sse-server")])
            .args(flags)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let server = Server::spawn(command);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.contains("core file"))
            .unwrap();
        assert_eq!(line.split_whitespace().nth(4), Some(expected), "{line}");
    }
}
