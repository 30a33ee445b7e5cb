//! Readers that keep nothing: the hub remembers their place under a name, also across a crash.

use serde_json::{Value, json};

use crate::client::{Stream, eventually};
use crate::server::{Server, folder};

const STREAM: &str = "/events?durable=mailer";
const NAMED: &str = "/events/subscriptions/mailer";

fn publish(server: &Server, data: &[&str]) -> Vec<String> {
    let events: Vec<Value> = data.iter().map(|data| json!({"data": data})).collect();
    let published = server.publish(&json!(events));
    let published = published.as_array().unwrap().iter();
    published
        .map(|one| one["position"].as_str().unwrap().to_owned())
        .collect()
}

fn data(stream: &mut Stream, n: usize) -> Vec<String> {
    stream.take(n).into_iter().map(|event| event.data).collect()
}

fn ack(server: &Server, body: &Value) -> Value {
    server.post(&format!("{NAMED}/ack"), body).ok()
}

#[test]
fn a_reader_that_kept_nothing_goes_on_after_what_it_acknowledged() {
    let server = Server::start();
    publish(&server, &["before"]);
    let mut stream = server.open(STREAM);
    let told = &stream.connected["durable"];
    assert_eq!(*told, json!({"name": "mailer", "created": true}));
    assert_eq!(stream.connected["resumed"], false);
    publish(&server, &["1", "2", "3"]);
    assert_eq!(data(&mut stream, 3), ["1", "2", "3"]);
    let second = {
        let page = server.get("/events/poll?after=earliest").ok();
        page["events"][2]["position"].clone()
    };
    let status = ack(&server, &json!({"position": second}));
    assert_eq!(status["position"], second);
    assert_eq!(status["behind"], 1);
    drop(stream);
    publish(&server, &["4"]);

    let mut again = server.open(STREAM);
    assert_eq!(again.connected["durable"]["created"], false);
    assert_eq!(again.connected["resumed"], true);
    assert_eq!(data(&mut again, 2), ["3", "4"]);
    // The name has a place and no filter: the same place serves any topics.
    drop(again);
    server.publish(&json!({"data": "5", "topic": "other"}));
    let mut other = server.open("/events?durable=mailer&topic=other");
    assert_eq!(data(&mut other, 1), ["5"]);
}

#[test]
fn a_new_name_begins_where_it_was_told_to_and_only_a_new_one() {
    let server = Server::start();
    publish(&server, &["1", "2"]);
    let from_the_first = "/events?durable=mailer&last_event_id=earliest";
    let mut stream = server.open(from_the_first);
    assert_eq!(data(&mut stream, 2), ["1", "2"]);
    ack(&server, &json!({"id": stream.last_id}));
    publish(&server, &["3"]);
    // The same address again, as a page has it: the name is known, so its place counts.
    let mut again = server.open(from_the_first);
    assert_eq!(data(&mut again, 1), ["3"]);
}

#[test]
fn a_browser_that_reconnects_goes_on_after_what_it_has_seen() {
    let server = Server::start();
    drop(server.open(STREAM));
    let positions = publish(&server, &["1", "2", "3"]);
    let mut seen_two = server.resume(STREAM, &positions[1]);
    assert_eq!(data(&mut seen_two, 1), ["3"]);
    // What it says is of no use here, so its acknowledged place is what counts.
    let mut foreign = server.resume(STREAM, "0000000000000001-7");
    assert_eq!(data(&mut foreign, 3), ["1", "2", "3"]);
    ack(&server, &json!({"position": positions[2]}));
    let mut behind = server.resume(STREAM, &positions[0]);
    server.assert_nothing_came(&mut [&mut behind], "marker");
}

#[test]
fn acknowledging_is_idempotent_and_never_goes_back() {
    let server = Server::start();
    drop(server.open(STREAM));
    let positions = publish(&server, &["1", "2"]);
    server.publish(&json!({"data": "3", "id": "order-3"}));
    let third = server.head();
    for (body, expected) in [
        (json!({"position": positions[1]}), &positions[1]),
        (json!({"position": positions[1]}), &positions[1]),
        (json!({"position": positions[0]}), &positions[1]),
        (json!({"id": "order-3"}), &third),
        (json!({"id": positions[0]}), &third),
    ] {
        assert_eq!(ack(&server, &body)["position"], **expected, "{body}");
    }
}

#[test]
fn what_cannot_be_acknowledged_is_refused_and_says_why() {
    let server = Server::start();
    drop(server.open(STREAM));
    let epoch = server.head().split_once('-').unwrap().0.to_owned();
    let path = format!("{NAMED}/ack");
    for (body, status, field) in [
        (json!({}), 400, "position"),
        (json!({"position": "soon"}), 400, "position"),
        (json!({"position": "latest"}), 400, "position"),
        (json!({"position": format!("{epoch}-99")}), 400, "position"),
        (
            json!({"position": format!("{epoch}-0"), "id": "x"}),
            400,
            "id",
        ),
        (json!({"position": "0000000000000001-0"}), 409, "position"),
        (json!({"id": "nobody-said-this"}), 409, "id"),
    ] {
        let problem = server.post(&path, &body).problem(status);
        assert_eq!(problem["field"], field, "{body}");
    }
    server.post(&path, &json!({"up_to": 1})).problem(400);
    let nobody = "/events/subscriptions/nobody";
    let place = json!({"position": "latest"});
    server.get(nobody).problem(404);
    server.request("DELETE", nobody, &[], b"").problem(404);
    server.post(&format!("{nobody}/reset"), &place).problem(404);
    server
        .post(&format!("{nobody}/ack"), &json!({"id": "x"}))
        .problem(404);
    let refused = server.try_open("/events?durable=a%0Ab", &[]).map(|_| ());
    assert_eq!(refused.unwrap_err().problem(400)["field"], "durable");
}

#[test]
fn the_newer_of_two_streams_under_a_name_is_the_one_that_reads() {
    let server = Server::start();
    let mut older = server.open(STREAM);
    let mut newer = server.open(STREAM);
    assert!(older.try_next().is_err(), "the older stream ends");
    publish(&server, &["1"]);
    assert_eq!(data(&mut newer, 1), ["1"]);
    let listed = server.get(NAMED).ok();
    assert_eq!(listed["connection_id"], newer.connection_id());
    drop(newer);
    eventually("the name has no stream", || {
        server.get(NAMED).ok()["connection_id"]
            .is_null()
            .then_some(())
    });
}

#[test]
fn names_are_listed_reset_and_deleted() {
    let server = Server::start();
    let positions = publish(&server, &["1", "2"]);
    let mut stream = server.open(STREAM);
    drop(server.open("/events?durable=a%2Fb"));
    let listed = server.get("/events/subscriptions").ok();
    assert_eq!(listed["total"], 2);
    assert_eq!(listed["subscriptions"][0]["name"], "a/b");
    assert_eq!(listed["subscriptions"][1]["position"], positions[1]);
    assert_eq!(server.get("/events/subscriptions/a%2Fb").ok()["behind"], 0);

    // An open stream goes where its name is put.
    let reset = |place: &str| {
        let body = json!({"position": place});
        server.post(&format!("{NAMED}/reset"), &body).ok()
    };
    let first = format!("{}0", positions[0].strip_suffix('1').unwrap());
    assert_eq!(reset("earliest")["position"], first);
    assert_eq!(data(&mut stream, 2), ["1", "2"]);
    assert_eq!(reset(&positions[0])["behind"], 1);
    assert_eq!(data(&mut stream, 1), ["2"]);
    assert_eq!(reset("latest")["position"], positions[1]);
    server.assert_nothing_came(&mut [&mut stream], "marker");

    let deleted = server.request("DELETE", NAMED, &[], b"").ok();
    assert_eq!(deleted, json!({"status": "deleted", "name": "mailer"}));
    server.get(NAMED).problem(404);
    server.assert_nothing_came(&mut [&mut stream], "still there");
    assert_eq!(server.open(STREAM).connected["durable"]["created"], true);
}

#[test]
fn a_name_made_by_a_user_is_that_users() {
    let server = Server::start();
    let mine = "/events?durable=mailer&user_id=ann";
    drop(server.open(mine));
    let place = json!({"position": server.head()});
    for path in [STREAM, "/events?durable=mailer&user_id=bob"] {
        let refused = server.try_open(path, &[]).map(|_| ()).unwrap_err();
        assert_eq!(refused.problem(403)["field"], "user_id");
    }
    server.post(&format!("{NAMED}/ack"), &place).problem(404);
    server.get(&format!("{NAMED}?user_id=bob")).problem(404);
    server
        .post(&format!("{NAMED}/ack?user_id=ann"), &place)
        .ok();
    drop(server.open(mine));
}

#[test]
fn there_are_no_more_names_than_allowed_and_unused_ones_make_room() {
    let server = Server::with(&[
        "--max-named-subscriptions=1",
        "--named-subscription-expiry=1s",
        "--sweep-interval=1s",
    ]);
    let stream = server.open(STREAM);
    let another = "/events?durable=another";
    let refused = server.try_open(another, &[]).map(|_| ()).unwrap_err();
    refused.problem(503);
    // A plain stream needs no name.
    drop(server.open("/events"));
    drop(stream);
    eventually("the unused name is forgotten", || {
        server.try_open(another, &[]).ok().map(|_| ())
    });
}

#[test]
fn names_and_what_they_acknowledged_survive_a_clean_end() {
    let folder = folder();
    let mut server = Server::on_disk(folder.path(), &[]);
    drop(server.open(STREAM));
    let positions = publish(&server, &["1", "2", "3"]);
    ack(&server, &json!({"position": positions[1]}));
    server.signal("TERM");
    assert!(server.wait().success());

    let server = Server::on_disk(folder.path(), &[]);
    assert_eq!(server.get(NAMED).ok()["position"], positions[1]);
    let mut again = server.open(STREAM);
    assert_eq!(data(&mut again, 1), ["3"]);
}

#[test]
fn a_crash_may_repeat_what_was_acknowledged_last_and_loses_no_event() {
    let folder = folder();
    let positions = {
        let mut server = Server::on_disk(folder.path(), &[]);
        drop(server.open(STREAM));
        let positions = publish(&server, &["1", "2", "3"]);
        ack(&server, &json!({"position": positions[2]}));
        server.signal("KILL");
        server.wait();
        positions
    };
    let server = Server::on_disk(folder.path(), &[]);
    // The name itself was in the log before its stream began, and never stands beyond its reader.
    let kept = server.get(NAMED).ok()["position"]
        .as_str()
        .unwrap()
        .to_owned();
    let last = |position: &str| {
        position
            .rsplit_once('-')
            .unwrap()
            .1
            .parse::<usize>()
            .unwrap()
    };
    assert!(last(&kept) <= last(&positions[2]), "{kept}");
    let mut again = server.open(STREAM);
    let missing = ["1", "2", "3"][last(&kept)..].to_vec();
    assert_eq!(data(&mut again, missing.len()), missing);
    server.assert_nothing_came(&mut [&mut again], "marker");
}

#[test]
fn an_acknowledgement_is_in_the_log_within_moments_and_outlives_a_crash() {
    let folder = folder();
    let mut server = Server::on_disk(folder.path(), &[]);
    drop(server.open(STREAM));
    let positions = publish(&server, &["1", "2"]);
    ack(&server, &json!({"position": positions[0]}));
    // A state goes along with the commit of the next second; a second name waits for its own commit, and
    // whatever is due goes with it.
    drop(server.open("/events?durable=another"));
    server.signal("KILL");
    server.wait();
    let server = Server::on_disk(folder.path(), &[]);
    assert_eq!(server.get(NAMED).ok()["position"], positions[0]);
    let mut again = server.open(STREAM);
    assert_eq!(data(&mut again, 1), ["2"]);
}

#[test]
fn a_place_that_is_no_longer_kept_is_a_gap_and_not_silence() {
    let server = Server::with(&["--retention-events=2"]);
    drop(server.open(STREAM));
    publish(&server, &["1", "2", "3", "4"]);
    let mut stream = server.open(STREAM);
    assert_eq!(stream.connected["gap"], true);
    let gap = stream.next();
    assert_eq!(
        (&*gap.name, &gap.json()["reason"]),
        ("gap", &json!("trimmed"))
    );
    assert_eq!(data(&mut stream, 2), ["3", "4"]);
    // The gap's own id can be acknowledged, so that it is told once.
    ack(&server, &json!({"id": gap.id.unwrap()}));
    let mut again = server.open(STREAM);
    assert_eq!(again.connected["gap"], false);
    assert_eq!(data(&mut again, 2), ["3", "4"]);
}
