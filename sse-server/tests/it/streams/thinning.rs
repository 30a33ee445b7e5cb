//! Rules for the events of some topics, over real sockets: who hears of what they took, and who does not.

use serde_json::json;

use crate::server::Server;

/// Publishes one event and returns its position.
fn publish(server: &Server, topic: &str, data: u64) -> String {
    let answer = server.publish(&json!({"topic": topic, "data": data}));
    answer["position"].as_str().unwrap().to_owned()
}

/// Waits until the rules have been kept for all that was published: they follow with a later commit.
fn settle(server: &Server) {
    publish(server, "settle", 0);
}

#[test]
fn a_gap_is_heard_by_exactly_those_whose_topics_were_thinned() {
    for ephemeral in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--retain", "chat/*;max-count=3", "--window", "1KiB"];
        let server = if ephemeral {
            Server::with(&flags)
        } else {
            Server::on_disk(folder.path(), &flags)
        };
        let mut positions = Vec::new();
        for n in 0..30 {
            for topic in ["chat/a", "quiet", "chat/b"] {
                positions.push(publish(&server, topic, n));
            }
        }
        settle(&server);
        let early = &positions[4];
        // Of `chat/*` the newest three are left: the last of `a`, and the last two of `b`.
        for (query, until, kept) in [
            ("topic=chat/a", Some(&positions[84]), &["29"][..]),
            ("topic=chat/b", Some(&positions[83]), &["28", "29"]),
            ("topic=chat/*", Some(&positions[84]), &["28", "29", "29"]),
        ] {
            let mut stream = server.resume(&format!("/events?{query}"), early);
            assert_eq!(
                (&stream.connected["resumed"], &stream.connected["gap"]),
                (&json!(false), &json!(true)),
                "{query}"
            );
            let gap = stream.next();
            assert_eq!(
                (gap.name.as_str(), &gap.json()["reason"]),
                ("gap", &json!("thinned"))
            );
            assert_eq!(gap.json()["from"], *early, "{query}");
            assert_eq!(
                gap.json()["until"].as_str(),
                until.map(String::as_str),
                "{query}"
            );
            let rest: Vec<_> = stream
                .take(kept.len())
                .into_iter()
                .map(|e| e.data)
                .collect();
            assert_eq!(rest, kept, "{query}");
        }
        // Everything, or a mixture: what is left comes all the same, after one gap.
        for (query, count) in [("", 29 + 3), ("topic=quiet&topic=chat/a", 29 + 1)] {
            let mut stream = server.resume(&format!("/events?{query}"), &positions[2]);
            assert_eq!(stream.next().name, "gap", "{query}");
            let rest = stream.take(count);
            assert!(rest.iter().all(|event| event.name == "message"), "{query}");
        }
        // Who wants other topics hears of nothing, nor does who has had what is gone.
        for (query, from, count) in [
            ("topic=quiet", early, 28),
            ("topic=qui*", early, 28),
            ("topic=chat/b", &positions[83], 2),
        ] {
            let mut stream = server.resume(&format!("/events?{query}"), from);
            assert_eq!(stream.connected["gap"], false, "{query}");
            assert_eq!(stream.connected["resumed"], true, "{query}");
            let rest = stream.take(count);
            assert!(rest.iter().all(|event| event.name == "message"), "{query}");
        }
        let mut newcomer = server.open("/events?topic=chat/*&last_event_id=earliest");
        assert_eq!(newcomer.connected["gap"], false);
        assert_eq!(newcomer.next().data, "28");

        let polled = server
            .get(&format!("/events/poll?topic=chat/a&after={early}"))
            .ok();
        assert_eq!(
            (&polled["gap"], &polled["gap_reason"]),
            (&json!(true), &json!("thinned"))
        );
        let polled = server
            .get(&format!("/events/poll?topic=quiet&after={early}"))
            .ok();
        assert_eq!(polled["gap"], false);
    }
}

#[test]
fn a_newcomer_gets_the_newest_value_of_each_topic_and_a_late_reader_no_gap() {
    let server = Server::with(&["--retain", "progress/*;keep-latest=1", "--window", "1KiB"]);
    let mut first = String::new();
    for n in 0..20 {
        for topic in ["progress/a", "progress/b", "progress/c"] {
            let position = publish(&server, topic, n);
            if first.is_empty() {
                first = position;
            }
        }
    }
    settle(&server);
    for resume in ["earliest", &first] {
        let path = format!("/events?topic=progress/*&last_event_id={resume}");
        let mut stream = server.open(&path);
        assert_eq!(
            stream.connected["gap"], false,
            "a value that was replaced is no loss"
        );
        let values: Vec<_> = stream.take(3).into_iter().map(|e| e.data).collect();
        assert_eq!(values, ["19", "19", "19"]);
        // And the stream is live.
        publish(&server, "progress/a", 20);
        assert_eq!(stream.next().data, "20");
        publish(&server, "progress/a", 19);
        assert_eq!(stream.next().data, "19");
        settle(&server);
    }
}
