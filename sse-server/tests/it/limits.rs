//! Bounds: what one reader may ask for, what a reader that takes nothing may cost, and what happens when the system
//! has no more to give.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::client::{End, Stream, Wire, eventually};
use crate::server::{Server, command};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn ended_jobs_make_room_for_new_ones_and_for_those_under_way() {
    // 1.5 MiB of it are for jobs.
    let server = Server::with(&["--memory", "20MiB"]);
    let change =
        |job_id: &str, call: &str, body| server.post(&format!("/jobs/{job_id}/{call}"), &body).ok();
    server.post("/jobs", &json!({"job_id": "long"})).ok();
    change("long", "progress", json!({"progress": 1}));
    for n in 0..14 {
        let created = server.post("/jobs", &json!({"job_id": n.to_string()}));
        assert_eq!(created.status, 201, "{n}");
    }
    // A result is taken in any case, and together these are larger than the memory for jobs.
    let result = "r".repeat(100_000);
    let large = "s".repeat(60_000);
    for n in 0..14 {
        change(
            &n.to_string(),
            "complete",
            json!({"result": &result, "message": &large[..20_000]}),
        );
    }
    change("long", "progress", json!({"progress": 2, "step": large}));
    server.get("/jobs/0").problem(404);
    for n in 20..40 {
        let job_id = n.to_string();
        let created = server.post("/jobs", &json!({"job_id": job_id}));
        assert_eq!(created.status, 201, "{n}");
        change(&job_id, "complete", json!({"result": &result}));
    }
    assert_eq!(server.get("/jobs/long").ok()["progress"], 2);
    assert_eq!(server.get("/jobs/39").ok()["status"], "completed");
}

#[test]
fn a_connection_may_have_so_many_subscriptions_and_no_more() {
    let server = Server::with(&["--max-subscriptions", "3"]);
    let mut stream = server.open("/events?topic=a&topic=marker&subscribe=x");
    assert_eq!(
        server
            .get("/events?topic=a&topic=b&subscribe=x,y")
            .problem(400)["field"],
        "subscribe"
    );
    assert_eq!(
        server
            .get("/events/poll?topic=a&topic=b&subscribe=x,y")
            .problem(400)["field"],
        "subscribe"
    );
    let connection_id = stream.connection_id();
    server
        .post(
            "/events/subscriptions",
            &json!({"connection_id": connection_id, "topics": ["a", "b", "c", "d"]}),
        )
        .problem(400);
    server
        .post(
            "/events/subscriptions",
            &json!({"connection_id": connection_id, "event_types": ["a", "b", "c", "d"]}),
        )
        .problem(400);
    // What it had it keeps.
    server.assert_nothing_came(&mut [&mut stream], "x");
}

#[test]
fn places_are_counted_by_address_and_given_back() {
    let server = Server::with(&["--max-connections", "4", "--max-connections-per-ip", "2"]);
    let open =
        |last: u8| server.try_open_from("/events", &[], Ipv4Addr::new(127, 0, 0, last).into());
    for _ in 0..20 {
        let first: Vec<_> = (0..2).map(|_| open(2).ok().unwrap()).collect();
        assert_eq!(open(2).err().map(|refused| refused.status), Some(503));
        let second: Vec<_> = (0..2).map(|_| open(3).ok().unwrap()).collect();
        assert_eq!(open(4).err().map(|refused| refused.status), Some(503));
        drop((first, second));
        eventually("all places are free", || {
            (server.active() == 0).then_some(())
        });
    }
    let stats = server.get("/events/stats").ok();
    assert_eq!(
        (
            &stats["accepted_connections"],
            &stats["refused_connections"]
        ),
        (&json!(80), &json!(40))
    );
    assert_eq!(stats["peak_connections"], 4);
    // Requests that are no streams take no place.
    let _full: Vec<_> = (0..2).map(|_| open(2).ok().unwrap()).collect();
    for _ in 0..5 {
        assert_eq!(server.get("/events/poll").status, 200);
    }
}

/// What a process holds of the machine's memory, its share of shared pages counted.
/// Memory that is the server's own. Its program is not in it: those pages it shares with the other tests' servers, and as
/// these come and go its part in them changes by megabytes.
pub(crate) fn memory_kib(server: &Server) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", server.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("Pss_Anon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A reader that opens a stream, and reads from it or does not. Its buffers are as small as a network's, not as large as a
/// loopback's, which would swallow megabytes before anything stalls.
pub(crate) fn with_small_buffers(server: &Server, receive_buffer_bytes: usize) -> Wire {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(receive_buffer_bytes).unwrap();
    socket.set_tcp_mss(1_400).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut wire = Wire::from_socket(socket.into());
    wire.write(&server.bytes("GET", "/events", &[], None));
    wire
}

const STALLED: u64 = 1_000;
const EVENTS: usize = 640;
const PAD_BYTES: usize = 4 << 10;
/// What a reader that takes nothing may cost in memory of the process: 29 KiB were measured, most of it the one chunk
/// that waits to be written. The socket's own buffers are the kernel's and come on top.
const MAX_KIB_PER_STALLED_READER: u64 = 64;

/// Publishes numbered events, each batch only when the reader has the one before, and gives the longest batch's time.
fn publish_at_the_readers_pace(server: &Server, reader: &mut Stream) -> Duration {
    let mut longest = Duration::ZERO;
    for begin in (0..EVENTS).step_by(20) {
        let events: Vec<_> = (begin..begin + 20)
            .map(|n| json!({"data": {"n": n, "pad": "x".repeat(PAD_BYTES)}}))
            .collect();
        let begun = Instant::now();
        server.publish(&json!(events));
        for n in begin..begin + 20 {
            assert_eq!(reader.next().json()["n"], n);
        }
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[test]
fn a_thousand_stalled_readers_cost_little_delay_nobody_and_lose_nothing() {
    let flags = [
        "--max-connections-per-ip",
        "2000",
        "--window",
        "1MiB",
        "--send-timeout",
        "25s",
        "--heartbeat",
        "0",
        "--log",
        "warn",
    ];
    // What the same events cost without them.
    let control = Server::with(&flags);
    let mut reader = control.open("/events");
    publish_at_the_readers_pace(&control, &mut reader);
    let without = memory_kib(&control);
    drop(control);

    let server = Server::with(&flags);
    let mut reader = server.open("/events");
    let mut wires: Vec<_> = (0..STALLED)
        .map(|_| with_small_buffers(&server, 4 << 10))
        .collect();
    eventually("all are connected", || {
        (server.active() == STALLED + 1).then_some(())
    });
    let longest = publish_at_the_readers_pace(&server, &mut reader);
    let with = memory_kib(&server);
    let each = with.saturating_sub(without) / STALLED;
    println!(
        "{with} KiB with and {without} KiB without stalled readers: {each} KiB each; longest batch {longest:?}"
    );
    assert_eq!(
        server.active(),
        STALLED + 1,
        "the send timeout cut readers before the memory was measured"
    );
    assert!(
        each <= MAX_KIB_PER_STALLED_READER,
        "a stalled reader costs {each} KiB"
    );
    assert!(
        longest < Duration::from_secs(10),
        "a healthy reader waited for {longest:?}"
    );

    // They are let go after the send timeout; the healthy one is not.
    eventually("the stalled readers are gone", || {
        (server.active() == 1).then_some(())
    });
    assert_eq!(
        server.get("/events/stats").ok()["evicted_connections"],
        STALLED
    );
    server.publish(&json!({"data": {"n": EVENTS}}));
    assert_eq!(reader.next().json()["n"], EVENTS);

    // And when they come again they miss nothing: what they got and what they get now is everything, once.
    for wire in wires.drain(..).step_by(50) {
        wire.socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut stream = Stream::read(wire).ok().unwrap();
        let (got, _) = stream.rest();
        assert!(got.len() < EVENTS, "it was not stalled at all");
        let mut resumed = server.resume("/events", &stream.last_id);
        assert_eq!(resumed.connected["gap"], false);
        for (n, event) in got.iter().enumerate() {
            assert_eq!(event.json()["n"], n);
        }
        for n in got.len()..=EVENTS {
            assert_eq!(resumed.next().json()["n"], n);
        }
    }
}

/// The processor time that a process has used.
fn cpu_seconds(server: &Server) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<_> = text
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux counts in hundredths of a second for programs, on every architecture that Rust knows.
    #[allow(clippy::cast_precision_loss, reason = "a few thousand ticks")]
    let seconds = ticks as f64 / 100.0;
    seconds
}

#[test]
fn a_server_out_of_file_descriptors_serves_on_and_does_not_spin() {
    let real = command();
    let mut limited = std::process::Command::new("sh");
    limited
        .args([
            "-c",
            "ulimit -n 44; exec \"$0\" --listen 127.0.0.1:0 --ephemeral --heartbeat 0",
        ])
        .arg(real.get_program())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let server = Server::spawn(limited);
    let mut publisher = Wire::connect(server.address);
    let mut publish = |n: usize| {
        let body = format!("{{\"data\": {n}}}");
        publisher.write(&server.bytes(
            "POST",
            "/events",
            &[("Connection", "keep-alive")],
            Some(body.as_bytes()),
        ));
        assert_eq!(publisher.reply(false).unwrap().status, 200);
    };
    publish(0);
    let mut streams: Vec<_> = (0..10).map(|_| server.open("/events")).collect();
    // Sockets that only connect, until no descriptor is left.
    let waiting: Vec<_> = (0..40).map(|_| Wire::connect(server.address)).collect();
    eventually("the server has run out", || {
        server.stderr().contains("accept failed").then_some(())
    });
    let before = cpu_seconds(&server);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    publish(1);
    for stream in &mut streams {
        assert_eq!(stream.next().data, "1");
    }
    let used = (cpu_seconds(&server) - before) / begun.elapsed().as_secs_f64();
    assert!(
        used < 0.3,
        "the server used {used:.2} of a core for nothing"
    );
    assert!(
        server.stderr().matches("accept failed").count() < 200,
        "and filled the log"
    );
    // With descriptors come connections.
    drop(waiting);
    streams.truncate(5);
    let mut late = server.open("/events");
    publish(2);
    assert_eq!(late.next().data, "2");
}

#[test]
fn a_silent_socket_that_never_asks_takes_no_place() {
    let server = Server::with(&["--max-connections", "1"]);
    let _silent: Vec<_> = (0..20)
        .map(|_| Wire::connect_from(server.address, LOCALHOST, None).unwrap())
        .collect();
    let mut stream = server.open("/events");
    server.publish(&json!({"data": 1}));
    assert_eq!(stream.next().data, "1");
}

#[test]
fn connecting_and_leaving_a_thousand_times_leaves_nothing_behind() {
    let server = Server::with(&["--log", "warn"]);
    let round = || {
        for n in 0..500 {
            drop(server.open(&format!("/events?topic=room/{n}&session_id={n}")));
        }
        eventually("all are gone", || (server.active() == 0).then_some(()));
    };
    round();
    let before = memory_kib(&server);
    round();
    round();
    let after = memory_kib(&server);
    assert!(
        after < before + (2 << 10),
        "{before} KiB grew to {after} KiB"
    );
}

#[test]
fn an_address_behind_many_ports_is_one_address() {
    let server = Server::with(&["--max-connections-per-ip", "1"]);
    let peer: SocketAddr = server.address;
    assert!(peer.ip().is_loopback());
    let _first = server.open("/events");
    let refused = server.try_open(
        "/events",
        &[
            ("X-Forwarded-For", "10.1.2.3"),
            ("Forwarded", "for=10.1.2.3"),
        ],
    );
    assert_eq!(
        refused.err().map(|refused| refused.status),
        Some(503),
        "a header is no address"
    );
}

#[test]
fn a_slow_reader_that_takes_something_is_kept_and_gets_everything() {
    let server = Server::with(&[
        "--send-timeout",
        "5s",
        "--heartbeat",
        "0",
        "--window",
        "256KiB",
    ]);
    let mut wire = with_small_buffers(&server, 64 << 10);
    eventually("it is connected", || (server.active() == 1).then_some(()));
    for begin in (0..EVENTS).step_by(20) {
        let events: Vec<_> = (begin..begin + 20)
            .map(|n| json!({"data": {"n": n, "pad": "x".repeat(PAD_BYTES)}}))
            .collect();
        server.publish(&json!(events));
    }
    // 2.5 MiB at 250 KiB a second: twice the send timeout, and never nothing for long.
    wire.pace = Some((32 << 10, Duration::from_millis(125)));
    let mut stream = Stream::read(wire).ok().unwrap();
    for n in 0..EVENTS {
        assert_eq!(stream.next().json()["n"], n);
    }
    assert_eq!(server.active(), 1);
}

/// A reader that takes nothing until more was published than is kept; then it reads.
fn reader_that_lost_something(policy: &str) -> (Server, Stream) {
    let server = Server::with(&[
        "--window",
        "64KiB",
        "--retention-events",
        "20",
        "--send-timeout",
        "10m",
        "--heartbeat",
        "0",
        "--overflow",
        policy,
    ]);
    let wire = with_small_buffers(&server, 64 << 10);
    eventually("it is connected", || (server.active() == 1).then_some(()));
    for begin in (0..EVENTS).step_by(20) {
        let events: Vec<_> = (begin..begin + 20)
            .map(|n| json!({"data": {"n": n, "pad": "x".repeat(PAD_BYTES)}}))
            .collect();
        server.publish(&json!(events));
    }
    let stream = Stream::read(wire).ok().unwrap();
    (server, stream)
}

#[test]
fn a_reader_whose_next_event_is_gone_hears_of_the_gap_and_is_let_go() {
    let (server, mut stream) = reader_that_lost_something("disconnect");
    let (mut events, end) = stream.rest();
    assert_eq!(end, End::Clean);
    let gap = events.pop().unwrap();
    assert_eq!(
        (gap.name.as_str(), &gap.json()["reason"]),
        ("gap", &json!("trimmed"))
    );
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.json()["n"], n);
    }
    // It comes back behind the gap. If still more has gone meanwhile, that is told too; the rest it gets.
    let mut resumed = server.resume("/events", &stream.last_id);
    if resumed.connected["gap"] == true {
        assert_eq!(resumed.next().name, "gap");
    }
    for n in offset(&resumed.last_id)..EVENTS {
        assert_eq!(resumed.next().json()["n"], n);
    }
    let mut again = server.resume("/events", &gap_end(&server));
    assert_eq!(again.connected["resumed"], true, "a gap is told once");
    assert_eq!(again.next().json()["n"], EVENTS - 20);
}

/// How many events there were up to a position.
fn offset(position: &str) -> usize {
    position.split_once('-').unwrap().1.parse().unwrap()
}

/// Behind what is lost, by the server's own word.
fn gap_end(server: &Server) -> String {
    let epoch_start = server.head().split_once('-').unwrap().0.to_owned() + "-0";
    let mut stream = server.resume("/events", &epoch_start);
    assert_eq!(stream.next().name, "gap");
    stream.last_id
}

#[test]
fn a_reader_whose_next_event_is_gone_may_go_on_behind_the_gap() {
    let (server, mut stream) = reader_that_lost_something("drop-oldest");
    let (mut next, mut gaps, mut last_id) = (0, 0, stream.last_id.clone());
    while next < EVENTS {
        let event = stream.next();
        if event.name == "gap" {
            gaps += 1;
            assert_eq!(
                event.json()["from"],
                last_id,
                "it begins where the reader was"
            );
            assert_eq!(event.json()["to"].as_str(), event.id.as_deref());
            let behind = offset(event.id.as_deref().unwrap());
            assert!(behind > next, "a gap of nothing");
            next = behind;
        } else {
            assert_eq!(
                event.json()["n"],
                next,
                "something is missing, and no gap was told"
            );
            next += 1;
        }
        last_id = event.id.unwrap();
    }
    assert!(gaps > 0);
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["gaps"], gaps);
    let by_reason = &stats["gaps_by_reason"]["trimmed"];
    assert_eq!(by_reason["gaps"], gaps);
    let missed = by_reason["missed_events"].as_u64().unwrap();
    assert!((gaps as u64..EVENTS as u64).contains(&missed), "{stats}");
    assert!(stats["success_rate"].as_f64().unwrap() < 1.0, "{stats}");
    let metrics = server.get("/metrics").text();
    for line in [
        format!("sse_gaps_total{{reason=\"trimmed\"}} {gaps}\n"),
        format!("sse_events_missed_total{{reason=\"trimmed\"}} {missed}\n"),
    ] {
        assert!(metrics.contains(&line), "{line}");
    }
    assert_eq!(server.active(), 1);
}

#[test]
fn a_reader_that_trickles_is_let_go_in_time_and_one_that_is_slow_is_not() {
    let server = Server::with(&[
        "--send-timeout",
        "1500ms",
        "--heartbeat",
        "0",
        "--max-event",
        "2MiB",
    ]);
    let mut trickles = with_small_buffers(&server, 4 << 10);
    let mut slow = with_small_buffers(&server, 4 << 10);
    eventually("both are connected", || {
        (server.active() == 2).then_some(())
    });
    let large = "x".repeat(1 << 20);
    server.publish(&json!({"topic": "large", "data": large}));
    // A megabyte in some three seconds is slow; a few bytes now and then are a way to hold memory.
    let reads = std::thread::spawn(move || {
        slow.pace = Some((32 << 10, Duration::from_millis(50)));
        while slow.buffer.len() < 1 << 20 {
            assert!(slow.fill());
        }
        slow
    });
    let begun = Instant::now();
    trickles.pace = Some((4 << 10, Duration::from_millis(100)));
    eventually("it is let go", || {
        let is_there = trickles.fill();
        (!is_there || server.active() == 1).then_some(())
    });
    assert!(
        begun.elapsed() > Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    let _still_open = reads.join().unwrap();
    assert_eq!(server.active(), 1);
    assert_eq!(server.get("/events/stats").ok()["evicted_connections"], 1);
}
