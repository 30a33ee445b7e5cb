//! Erasing: what was published is gone for good, and nothing else is.

use std::path::Path;

use serde_json::{Value, json};

use crate::server::{Server, folder};

fn erase(server: &Server, query: &str) -> Value {
    server
        .request("DELETE", &format!("/events?{query}"), &[], b"")
        .ok()
}

/// The data of everything that is kept.
fn kept(server: &Server, query: &str) -> Vec<Value> {
    let polled = server
        .get(&format!("/events/poll?after=earliest&limit=1000{query}"))
        .ok();
    let events = polled["events"].as_array().unwrap();
    events.iter().map(|event| event["data"].clone()).collect()
}

fn in_memory_and_on_disk(check: impl Fn(&Server)) {
    check(&Server::start());
    let folder = folder();
    check(&Server::on_disk(folder.path(), &[]));
    let folder = crate::server::folder();
    check(&Server::on_disk(
        folder.path(),
        &["--retain", "a;keep-latest=3", "--durability", "os"],
    ));
}

#[test]
fn one_event_is_erased_by_its_id_or_its_position() {
    in_memory_and_on_disk(|server| {
        let first = server.publish(&json!({"topic": "a", "data": "first"}));
        server.publish(&json!({"topic": "a", "data": "mistake", "id": "own-id"}));
        let third = server.publish(&json!({"topic": "a", "data": "mistake too"}));
        server.publish(&json!({"topic": "a", "data": "last"}));
        let mut live = server.open("/events?topic=a");
        assert_eq!(
            erase(server, "id=own-id"),
            json!({"status": "erased", "id": "own-id", "events": 1})
        );
        let position = third["position"].as_str().unwrap();
        assert_eq!(erase(server, &format!("id={position}"))["events"], 1);
        assert_eq!(kept(server, ""), ["first", "last"]);
        // Again, and what never was.
        for id in ["own-id", position, "never", "0000000000000000-1"] {
            assert_eq!(erase(server, &format!("id={id}"))["events"], 0, "{id}");
        }
        // Whoever resumes before it is told that something is missing, and gets the rest.
        let seen = first["position"].as_str().unwrap();
        let mut late = server.open(&format!("/events?topic=a&last_event_id={seen}"));
        let gap = late.next();
        assert_eq!(gap.name, "gap");
        assert_eq!(gap.json()["reason"], "thinned");
        assert_eq!(late.next().data, "last");
        // Its id is free, and streams go on.
        server.publish(&json!({"topic": "a", "data": "corrected", "id": "own-id"}));
        assert_eq!(live.next().data, "corrected");
        assert_eq!(late.next().data, "corrected");
        assert_eq!(kept(server, ""), ["first", "last", "corrected"]);
    });
}

#[test]
fn a_topic_is_erased_with_everything_that_has_it_and_its_job() {
    in_memory_and_on_disk(|server| {
        for n in 0..700 {
            let topic = ["b", "x"][n % 2];
            server.publish(&json!({"topic": topic, "data": n}));
        }
        server.publish(&json!({"topics": ["b", "c"], "data": "both"}));
        assert_eq!(erase(server, "topic=x")["events"], 350);
        assert_eq!(kept(server, "&topic=x"), Vec::<Value>::new());
        assert_eq!(kept(server, "&topic=b").len(), 351);
        assert_eq!(erase(server, "topic=c")["events"], 1);
        assert_eq!(kept(server, "&topic=b").len(), 350);
        server.post("/jobs", &json!({"job_id": "7"}));
        server
            .post(
                "/jobs/7/progress",
                &json!({"progress": 1, "step": "private"}),
            )
            .ok();
        assert!(erase(server, "topic=job/7")["events"].as_u64().unwrap() >= 2);
        server.get("/jobs/7").problem(404);
        // A job's state says what its events said, also where these go by its other topic.
        server.post("/jobs", &json!({"job_id": "8", "topic": "orders"}));
        server
            .post(
                "/jobs/8/progress",
                &json!({"progress": 1, "step": "private"}),
            )
            .ok();
        assert!(erase(server, "topic=orders")["events"].as_u64().unwrap() >= 2);
        server.get("/jobs/8").problem(404);
        // A report begins it anew, without what was erased.
        let job = server
            .post("/jobs/8/progress", &json!({"progress": 2}))
            .ok();
        assert_eq!((&job["version"], &job["step"]), (&json!(2), &Value::Null));
        let all = server.get("/events/poll?after=earliest&limit=1000").text();
        assert!(!all.contains("private"), "{all}");
    });
}

#[test]
fn what_a_user_alone_was_told_is_erased_wherever_it_stands() {
    in_memory_and_on_disk(|server| {
        server.publish(&json!({"topic": "user/ann", "data": "to ann"}));
        server.publish(&json!({"topic": "orders", "user_id": "ann", "data": "ann's order"}));
        server.publish(&json!({"topic": "orders", "user_id": "bob", "data": "bob's order"}));
        server.publish(&json!({"session_id": "s", "data": "to a session"}));
        server.publish(&json!({"topic": "orders", "data": "for all"}));
        server.post("/jobs", &json!({"job_id": "of-ann", "user_id": "ann"}));
        let erased = erase(server, "user_id=ann")["events"].as_u64().unwrap();
        assert!(erased >= 3, "{erased}");
        server.get("/jobs/of-ann").problem(404);
        assert_eq!(kept(server, "&topic=orders&user_id=ann"), ["for all"]);
        assert_eq!(
            kept(server, "&topic=user/ann&user_id=ann"),
            Vec::<Value>::new()
        );
        assert_eq!(
            kept(server, "&topic=orders&user_id=bob"),
            ["bob's order", "for all"]
        );
        assert_eq!(erase(server, "session_id=s")["events"], 1);
        assert_eq!(erase(server, "session_id=s")["events"], 0);
    });
}

#[test]
fn a_reader_that_is_behind_does_not_get_it_from_the_window() {
    let server = Server::start();
    for n in 0..50 {
        server.publish(&json!({"topic": "a", "data": n, "id": format!("id-{n}")}));
    }
    erase(&server, "id=id-30");
    let mut reader = server.open("/events?topic=a&last_event_id=id-9");
    let mut read = Vec::new();
    while read.len() < 39 {
        let event = reader.next();
        if event.name != "gap" {
            read.push(event.data);
        }
    }
    let expected: Vec<_> = (10..50)
        .filter(|n| *n != 30)
        .map(|n| n.to_string())
        .collect();
    assert_eq!(read, expected);
}

#[test]
fn what_says_two_things_or_nothing_erases_nothing() {
    let server = Server::start();
    server.publish(&json!({"topic": "a", "data": "stays"}));
    for query in [
        "",
        "id=",
        "topic=",
        "topic=a&user_id=b",
        "topic=a&topic=b",
        "topic=a&all=true",
        "tpic=a",
        "topic=%00",
        "user_id=a%0ab",
    ] {
        server
            .request("DELETE", &format!("/events?{query}"), &[], b"")
            .problem(400);
    }
    assert_eq!(kept(&server, ""), ["stays"]);
    // A page of another origin must not.
    let headers = [("Origin", "https://evil.example")];
    server
        .request("DELETE", "/events?topic=a", &headers, b"")
        .problem(403);
    assert_eq!(kept(&server, ""), ["stays"]);
}

/// Every byte of every file in a folder.
fn holds(folder: &Path, words: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files = files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default());
    files.any(|bytes| bytes.windows(words.len()).any(|it| it == words.as_bytes()))
}

#[test]
fn it_outlives_a_kill_and_no_byte_of_it_is_in_a_copy_of_the_log() {
    const CANARY: &str = "canary-9c1e77-of-somebody";
    let folder = folder();
    let mut server = Server::on_disk(folder.path(), &[]);
    for n in 0..300 {
        let data = match n % 3 {
            0 => format!("{CANARY} {n}"),
            _ => format!("others {n}"),
        };
        let topic = ["x", "y", "z"][n % 3];
        let id = match topic {
            "x" => format!("{CANARY}-{n}"),
            _ => format!("id-{n}"),
        };
        server.publish(&json!({"topic": topic, "data": data, "id": id}));
    }
    assert!(holds(folder.path(), CANARY));
    assert_eq!(erase(&server, "topic=x")["events"], 100);
    server.signal("KILL");
    server.wait();
    let mut server = Server::on_disk(folder.path(), &[]);
    assert_eq!(kept(&server, "").len(), 200);
    server.signal("TERM");
    server.wait();
    // The file keeps free pages, with what stood there until they are used again. A copy has none of it.
    let copy = crate::server::folder();
    let export = crate::server::command()
        .args(["log", "export", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(export.status.success());
    let dump = copy.path().join("events.ndjson");
    std::fs::write(&dump, export.stdout).unwrap();
    let data = copy.path().join("data");
    let import = crate::server::command()
        .args(["log", "import", "--data-dir"])
        .arg(&data)
        .stdin(std::fs::File::open(&dump).unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&import.stderr).into_owned();
    assert!(import.status.success(), "{told}");
    assert!(!holds(&data, CANARY) && holds(&data, "others 1"));
    let server = Server::on_disk(&data, &[]);
    assert_eq!(kept(&server, "").len(), 200);
}
