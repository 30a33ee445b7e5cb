//! What publishing holds for a moment, and what stays of it, counted by the allocator.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use allocation_counter::measure;
use sse_server::access::budget::Account;
use sse_server::http::{PUBLICATION_OVERHEAD_BYTES, Publications, parse_publications};
use sse_server::hub::{Hub, HubConfig};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn publish(runtime: &Runtime, hub: &Hub, body: &[u8]) {
    match parse_publications(body).unwrap() {
        Publications::Many(publications) => {
            let published = runtime.block_on(hub.publish_all(publications)).unwrap();
            assert!(published.iter().all(Result::is_ok));
        }
        Publications::One(_) => unreachable!("many are published"),
    }
}

/// Events on their way take the text of their request, and so much each.
#[test]
fn events_on_their_way_take_no_more_than_their_permit() {
    let runtime = runtime();
    let hub = runtime
        .block_on(Hub::in_memory(HubConfig::default()))
        .unwrap();
    let long: Vec<String> = (0..16).map(|n| format!("\"{n:0>200}\"")).collect();
    for (what, event) in [
        ("small", r#"{"data":1}"#.to_owned()),
        (
            "with id, type and owner",
            r#"{"data":"x","event_type":"t","user_id":"u"}"#.to_owned(),
        ),
        (
            "with topics",
            format!(r#"{{"data":1,"topics":[{}]}}"#, long.join(",")),
        ),
    ] {
        let count = 500;
        let body = vec![event; count].join("\n");
        publish(&runtime, &hub, body.as_bytes());
        let used = measure(|| publish(&runtime, &hub, body.as_bytes()));
        let kept = used.bytes_current.max(0) as u64;
        let most = (used.bytes_max - kept) / count as u64;
        let permitted = (body.len() / count + PUBLICATION_OVERHEAD_BYTES) as u64;
        println!(
            "{what}: {} bytes each stay, {most} are held for a moment, {permitted} permitted",
            kept / count as u64
        );
        assert!(most <= permitted, "{what}: {most} of {permitted}");
    }
    assert_eq!(
        hub.memory()[Account::Publications as usize].held_bytes,
        0,
        "the permits are the HTTP side's"
    );
}

/// What the hub says that window and log hold is what they hold, within a quarter.
#[test]
fn what_stays_is_what_is_said() {
    let runtime = runtime();
    let topics = |from: usize| -> String {
        let names: Vec<String> = (from..from + 64)
            .map(|n| format!("\"{n:0>1000}\""))
            .collect();
        names.join(",")
    };
    let one_kib = "x".repeat(1 << 10);
    let hundred_kib = "x".repeat(100 << 10);
    let kinds: [Kind<'_>; 7] = [
        ("small", 5_000, &|_| r#"{"data":1}"#.to_owned()),
        ("a topic each", 5_000, &|n| {
            format!(r#"{{"data":1,"topic":"t/{n}"}}"#)
        }),
        ("64 equal topics of 1 KiB", 500, &|_| {
            format!(r#"{{"data":1,"topics":[{}]}}"#, topics(0))
        }),
        ("64 different topics of 1 KiB", 200, &|n| {
            format!(r#"{{"data":1,"topics":[{}]}}"#, topics(n * 64))
        }),
        ("1 KiB of data", 5_000, &|_| {
            format!(r#"{{"data":"{one_kib}"}}"#)
        }),
        ("100 KiB of data", 200, &|_| {
            format!(r#"{{"data":"{hundred_kib}"}}"#)
        }),
        ("an id, a type and owners", 5_000, &|n| {
            format!(
                r#"{{"data":1,"id":"publisher-{n}","event_type":"progress","user_id":"u{n}","session_id":"s{n}"}}"#
            )
        }),
    ];
    for (what, count, event) in kinds {
        for shards in [1, 4] {
            let config = HubConfig {
                shards,
                window_bytes: 1 << 30,
                ..HubConfig::default()
            };
            let hub = runtime.block_on(Hub::in_memory(config)).unwrap();
            publish(&runtime, &hub, br#"[{"data":0}]"#);
            let before = said(&hub);
            let used = measure(|| {
                for n in 0..count {
                    publish(&runtime, &hub, format!("[{}]", event(n)).as_bytes());
                }
            });
            // An allocator adds a word to each, and rounds it up to a pair of them.
            let takes = (used.bytes_current + 16 * used.count_current) as f64;
            let says = (said(&hub) - before) as f64;
            println!(
                "{what}, {shards} shards: {:.0} bytes each, {:.0} said",
                takes / count as f64,
                says / count as f64
            );
            assert!(
                (0.8..=1.25).contains(&(says / takes)),
                "{what}: {says} said, {takes} taken"
            );
        }
    }
}

/// What a kind of events is called, how many of them are looked at, and the JSON of one.
type Kind<'a> = (&'a str, usize, &'a dyn Fn(usize) -> String);

fn said(hub: &Hub) -> usize {
    let memory = hub.memory();
    memory[Account::Window as usize].held_bytes + memory[Account::Log as usize].held_bytes
}
