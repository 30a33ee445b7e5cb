//! The log begins another epoch under a running hub: every reader hears of one gap, and goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sse_broker::{Broker, Epoch, MemoryBroker, MemoryConfig};
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Overflow, Publication};
use sse_server::serve::{Server, ServerConfig};

use crate::client::{Stream, Wire, eventually};

/// A server within this process, so that its log can be taken by the hand.
struct Inside {
    runtime: Option<tokio::runtime::Runtime>,
    broker: Arc<MemoryBroker>,
    hub: Hub,
    address: SocketAddr,
}

impl Inside {
    fn start(config: HubConfig) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let broker = MemoryBroker::new(MemoryConfig::default());
        let hub = runtime.block_on(Hub::open(config, broker.clone())).unwrap();
        let service = HubService::new(hub.clone(), HttpConfig::default());
        let config = ServerConfig {
            workers: 2,
            ..ServerConfig::default()
        };
        let _inside = runtime.enter();
        let server = Server::listen(&["127.0.0.1:0".parse().unwrap()], service, config).unwrap();
        let address = server.addresses()[0]
            .to_string()
            .replace("http://", "")
            .parse()
            .unwrap();
        runtime.spawn(server.run(std::future::pending(), Duration::ZERO));
        drop(_inside);
        Self {
            runtime: Some(runtime),
            broker,
            hub,
            address,
        }
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap()
    }

    fn publish(&self, topic: &str, data: &str) -> String {
        let publication = Publication::new(data).to_topic(sse_broker::Topic::new(topic).unwrap());
        self.runtime()
            .block_on(self.hub.publish(publication))
            .unwrap()
            .id
    }

    fn begin_epoch(&self, epoch: u64) {
        self.runtime()
            .block_on(self.broker.begin_epoch(Epoch(epoch)))
            .unwrap();
    }

    fn open(&self, path: &str, headers: &str) -> Stream {
        let mut wire = Wire::connect(self.address);
        wire.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
        Stream::read(wire).unwrap_or_else(|refused| panic!("{refused:?}"))
    }
}

impl Drop for Inside {
    /// The server's threads serve until the process ends, and nobody waits for them.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn each_reader_hears_of_another_epoch_once_and_goes_on_in_it() {
    let inside = Inside::start(HubConfig {
        shards: 2,
        ..HubConfig::default()
    });
    let first = inside.publish("a", "1");
    let resume = format!("Last-Event-ID: {first}\r\n");
    let mut streams = [
        inside.open("/events?topic=a", ""),
        inside.open("/events?topic=a&topic=b", ""),
        inside.open("/events", ""),
        inside.open("/events?topic=:any", ""),
        inside.open("/events?topic=a", &resume),
    ];
    inside.publish("a", "2");
    for stream in &mut streams {
        assert_eq!(stream.next().data, "2");
    }
    let old = streams[0].last_id.clone();
    for (epoch, data) in [(7, "3"), (8, "4")] {
        inside.begin_epoch(epoch);
        let id = inside.publish("a", data);
        for stream in &mut streams {
            let before = stream.last_id.clone();
            let gap = stream.next();
            assert_eq!(gap.name, "gap");
            assert_eq!(gap.json()["reason"], "foreign_epoch");
            assert_eq!(gap.json()["from"], before);
            let event = stream.next();
            assert_eq!((&*event.data, event.id.as_deref()), (data, Some(&*id)));
        }
    }
    // One that comes later with a position of the old epoch hears of it, too, and one with the gap's own does not.
    let mut later = inside.open("/events?topic=a", &format!("Last-Event-ID: {old}\r\n"));
    assert_eq!(later.next().json()["reason"], "foreign_epoch");
    let again = inside.open(
        "/events?topic=a",
        &format!("Last-Event-ID: {}\r\n", later.last_id),
    );
    assert_eq!(again.connected["gap"], json!(false));
}

#[test]
fn a_poll_that_waits_hears_of_another_epoch() {
    let inside = Inside::start(HubConfig::default());
    let position = inside.publish("a", "1");
    let address = inside.address;
    let poll = std::thread::spawn(move || {
        let mut wire = Wire::connect(address);
        let request = format!(
            "GET /events/poll?after={position}&wait=50 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        wire.write(request.as_bytes());
        wire.reply(false).unwrap().json()
    });
    // Beginning one again and again finds the poll while it waits, and harms nothing.
    let mut epoch = 100;
    eventually("the poll is answered", || {
        epoch += 1;
        inside.begin_epoch(epoch);
        poll.is_finished().then_some(())
    });
    let polled = poll.join().unwrap();
    assert_eq!(
        (&polled["gap"], &polled["gap_reason"]),
        (&json!(true), &json!("foreign_epoch"))
    );
    assert_eq!(polled["events"], json!([]));
}

/// Readers come, replay and read while the epoch changes under them: what one gets of an epoch is in order, of one epoch
/// after the other, and each change is heard of before anything of the new one.
#[test]
fn no_reader_gets_anything_of_an_epoch_that_it_has_not_heard_of() {
    let inside = Arc::new(Inside::start(HubConfig {
        shards: 2,
        window_events: 4,
        overflow: Overflow::DropOldest,
        ..HubConfig::default()
    }));
    const EPOCHS: u64 = 20;
    let end = format!("{EPOCHS}");
    let readers: Vec<_> = (0..6)
        .map(|n| {
            let (inside, end) = (Arc::clone(&inside), end.clone());
            std::thread::spawn(move || {
                let from = ["", "&last_event_id=earliest"][n % 2];
                let mut stream = inside.open(&format!("/events?topic=a{from}"), "");
                let (mut epoch, mut offset, mut gaps) = (String::new(), 0u64, 0);
                loop {
                    let event = stream.next();
                    if event.name == "gap" {
                        let to = event.json()["to"].as_str().unwrap().to_owned();
                        let (now, at) = to.split_once('-').unwrap();
                        let is_other = now != epoch;
                        assert!(
                            is_other || event.json()["reason"] != "foreign_epoch",
                            "heard twice"
                        );
                        (epoch, offset) = (now.to_owned(), at.parse().unwrap());
                        gaps += 1;
                        continue;
                    }
                    let id = event.id.clone().unwrap();
                    let (now, at) = id.split_once('-').unwrap();
                    let at: u64 = at.parse().unwrap();
                    assert!(
                        epoch.is_empty() || now == epoch,
                        "{now} after {epoch} without a gap"
                    );
                    assert!(at > offset || epoch.is_empty(), "{at} after {offset}");
                    (epoch, offset) = (now.to_owned(), at);
                    if event.data == end {
                        return gaps;
                    }
                }
            })
        })
        .collect();
    eventually("the readers are there", || {
        (inside.hub.stats().active_connections == 6).then_some(())
    });
    for epoch in 1..=EPOCHS {
        for _ in 0..20 {
            inside.publish("a", "x");
        }
        inside.begin_epoch(epoch);
    }
    // Until each of them has seen the end.
    let mut left = readers;
    eventually("all have come to the end", || {
        inside.publish("a", &end);
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut left)
            .into_iter()
            .partition(|reader| reader.is_finished());
        for reader in done {
            assert!(reader.join().unwrap() >= 1, "each was there for a change");
        }
        left = rest;
        left.is_empty().then_some(())
    });
}
