//! What connections take of the machine's memory: the formula that the documentation states, held against the real binary.
//!
//! A program of its own, because it holds nineteen thousand sockets.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod gauges;
mod scarce;
mod smallest;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// User memory per idle connection, in KiB.
const USER_KIB_EACH: f64 = 0.35;
/// What comes once, with the first connections: the runtime's and the allocator's own.
const USER_KIB_ONCE: f64 = 1_024.0;
/// The kernel's part, both ends of a connection together, in KiB; a server has one of them. Other programs' part is in what is
/// seen, so this has room: about 9 are seen on a quiet machine.
const KERNEL_KIB_PER_PAIR: f64 = 14.0;

/// One at a time: what one does is in what the other sees.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn idle_connections_take_what_the_formula_says_and_no_more_the_second_time() {
    let _alone = ALONE.lock();
    let limit = hard_limit_of_open_files();
    assert!(
        limit >= 20_000,
        "this test needs 20,000 open files; the hard limit is {limit} (`ulimit -Hn`)"
    );
    let server = Server::start();
    // What a first connection sets up is not a connection's.
    drop(server.open(0));
    server.wait_until_empty();
    let (user, kernel) = (server.pss_kib(), kernel_kib());
    let mut streams: Vec<TcpStream> = Vec::new();
    for count in [1_000, 5_000, 19_000] {
        while streams.len() < count {
            streams.push(server.open(streams.len()));
        }
        server.settle();
        let used = server.pss_kib() - user;
        let formula = USER_KIB_ONCE + USER_KIB_EACH * count as f64;
        println!(
            "{count} connections: {used} KiB of user memory, {:.3} each; the formula allows {formula:.0}; \
             kernel, both ends: {:.2} KiB each",
            used / count as f64,
            (kernel_kib() - kernel) / count as f64,
        );
        assert!(
            used <= formula,
            "{count} connections take {used} KiB, the formula allows {formula}"
        );
    }
    let pair = (kernel_kib() - kernel) / streams.len() as f64;
    assert!(
        pair <= KERNEL_KIB_PER_PAIR,
        "the kernel takes {pair} KiB for both ends of a connection"
    );
    let count = streams.len();
    drop(streams);
    server.wait_until_empty();
    // The allocator keeps some of it, for those who come next: a second wave takes no more than the first.
    let streams: Vec<_> = (0..count).map(|number| server.open(number)).collect();
    server.settle();
    let used = server.pss_kib() - user;
    println!("all gone and {count} others there: {used} KiB");
    assert!(
        used <= USER_KIB_ONCE + USER_KIB_EACH * count as f64,
        "a second wave takes {used} KiB"
    );
    drop(streams);
}

#[test]
fn topics_of_readers_that_are_gone_take_nothing() {
    let _alone = ALONE.lock();
    let server = Server::start();
    let subscribe_and_leave = |from: usize, connections: usize| {
        for connection in from..from + connections {
            let topics: Vec<String> = (0..TOPICS_EACH)
                .map(|topic| format!("topic=own/{}/{topic}", connection))
                .collect();
            let path = format!("/events?{}", topics.join("&"));
            drop(server.open_path(&path, connection));
        }
        server.wait_until_empty();
        server.settle();
        server.pss_kib()
    };
    // A few rounds first, for what the allocator keeps at hand.
    let before = subscribe_and_leave(0, 500);
    let after = subscribe_and_leave(500, 1_000_000 / TOPICS_EACH);
    println!(
        "{before} KiB before, {after} KiB after a million topics came and went with their readers"
    );
    assert!(
        after - before <= MAX_KIB_LEFT,
        "{} KiB are left of a million topics",
        after - before
    );
}

/// Whatever kind of request has taken much memory: once those who sent it are gone, the system has it back.
#[test]
fn memory_that_an_attack_took_goes_back_to_the_system() {
    let _alone = ALONE.lock();
    // What is kept is small, so that all that is seen is what the attack leaves.
    let server = Server::start_with(&["--window", "1MiB", "--retention-size", "1MiB"]);
    server.publish(1_000);
    for stream in (0..100).map(|number| server.open(number)) {
        drop(stream);
    }
    server.wait_until_empty();
    server.settle();
    let before = server.rss_kib();
    let mut peaks = Vec::new();
    let kinds: [(&str, Attack); 5] = [
        ("unfinished bodies", unfinished_bodies),
        ("answers that nobody reads", unread_answers),
        ("selectors", many_selectors),
        ("bodies of many events", bodies_of_many_events),
        ("5,000 connections", |server| {
            (0..5_000).map(|number| server.open(number)).collect()
        }),
    ];
    for (kind, attack) in kinds {
        let attackers = attack(&server);
        let peak = server.rss_kib();
        println!("{kind}: {before} KiB before, {peak} KiB with them");
        peaks.push(peak);
        drop(attackers);
    }
    let peak = peaks.into_iter().fold(0.0, f64::max);
    assert!(
        peak - before > MAX_KIB_LEFT_BY_ATTACK,
        "{before} KiB grew to {peak} KiB: that is no attack"
    );
    let gone = Instant::now();
    loop {
        let after = server.rss_kib();
        let seconds = gone.elapsed().as_secs();
        if after - before <= MAX_KIB_LEFT_BY_ATTACK {
            println!("{after} KiB after {seconds} s");
            break;
        }
        assert!(
            seconds < 60,
            "{before} KiB before, {peak} KiB at the most, {after} KiB after {seconds} s"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    // With more time, for the record.
    server.settle();
    println!("{} KiB at last", server.rss_kib());
}

/// What may be left of an attack a minute after its end.
const MAX_KIB_LEFT_BY_ATTACK: f64 = 64.0 * 1024.0;

/// Gives those who attack, as long as they are there.
type Attack = fn(&Server) -> Vec<TcpStream>;

fn unfinished_bodies(server: &Server) -> Vec<TcpStream> {
    let body = vec![b' '; 900_000];
    let attackers: Vec<_> = (0..300)
        .map(|number| {
            let head = format!(
                "POST /events HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                server.address,
                body.len() + 1
            );
            let mut attacker = server.connect(number);
            attacker.write_all(head.as_bytes()).expect("a head");
            // Whoever is refused is closed.
            let _ = attacker.write_all(&body);
            attacker
        })
        .collect();
    server.settle();
    attackers
}

fn unread_answers(server: &Server) -> Vec<TcpStream> {
    let request = format!(
        "GET /events/poll?after=earliest&limit=1000 HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    );
    let attackers: Vec<_> = (0..400)
        .map(|number| {
            let mut attacker = server.connect(number);
            // More than the sockets take.
            for _ in 0..40 {
                attacker.write_all(request.as_bytes()).expect("a request");
            }
            attacker
        })
        .collect();
    server.settle();
    attackers
}

fn many_selectors(server: &Server) -> Vec<TcpStream> {
    let pad = "x".repeat(60);
    let streams = (0..3_000).map(|connection| {
        let topics: Vec<String> = (0..TOPICS_EACH)
            .map(|topic| format!("topic=own/{connection}/{topic}/{pad}"))
            .collect();
        server.open_path(&format!("/events?{}", topics.join("&")), connection)
    });
    streams.collect()
}

fn bodies_of_many_events(server: &Server) -> Vec<TcpStream> {
    let body = r#"{"topic":"a/b/c","data":"an event that is small, one of many"}
"#
    .repeat(10_000);
    let head = format!(
        "POST /events?receipts=all HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    let attackers = (0..60).map(|number| {
        let mut attacker = server.connect(number);
        attacker.write_all(head.as_bytes()).expect("a head");
        let _ = attacker.write_all(body.as_bytes());
        attacker
    });
    attackers.collect()
}

#[test]
fn what_load_takes_it_takes_once_and_not_for_each_connection() {
    let _alone = ALONE.lock();
    // The events that are kept would be all that is seen.
    let server = Server::start_with(&["--window", "256KiB", "--retention-size", "256KiB"]);
    let mut streams: Vec<_> = (0..2_000).map(|number| server.open(number)).collect();
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let mut load = |rounds: usize| {
        for _ in 0..rounds {
            server.publish(20);
            while streams.iter_mut().map(read_what_is_there).sum::<usize>() > 0 {}
        }
        server.settle();
        server.pss_kib()
    };
    let idle = load(0);
    let first = load(20);
    let second = load(20);
    println!("{idle} KiB idle, {first} after a load, {second} after as much again");
    assert!(
        first - idle <= MAX_KIB_OF_LOAD,
        "load takes {} KiB",
        first - idle
    );
    assert!(
        second - first <= MAX_KIB_OF_MORE_LOAD,
        "more of it takes {} KiB more",
        second - first
    );
}

/// The kept events, the buffers of one batch, and the code that had not run before.
const MAX_KIB_OF_LOAD: f64 = 4_096.0;
/// A quarter of a KiB for each connection.
const MAX_KIB_OF_MORE_LOAD: f64 = 512.0;

/// Reads what a stream has for its reader, and says how much that is.
fn read_what_is_there(stream: &mut TcpStream) -> usize {
    let mut all = 0;
    let mut space = [0; 64 << 10];
    loop {
        match stream.read(&mut space) {
            Ok(0) => panic!("the stream ended"),
            Ok(read) => all += read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What may be left of a million topics. How many readers are there at once depends on how soon their leaving is seen;
/// a topic that stayed would take 200 bytes, all of them 200,000 KiB.
const MAX_KIB_LEFT: f64 = 16_384.0;
/// As many as one connection may name.
const TOPICS_EACH: usize = 64;

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let ephemeral = ["--ephemeral"];
        let is_said = args.contains(&"--ephemeral");
        let ephemeral = if is_said { &[][..] } else { &ephemeral };
        Self::start_on(&[ephemeral, args].concat())
    }

    /// The same, with a log wherever the arguments say.
    fn start_on(args: &[&str]) -> Self {
        let many = [
            "--max-connections",
            "30000",
            "--max-connections-per-ip",
            "30000",
        ];
        Self::start_bare(&[&many, args].concat())
    }

    /// The same, with nothing beside the arguments that concerns memory.
    fn start_bare(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-server"))
            .args(["--listen", "127.0.0.1:0"])
            .env_remove("SSE_CONFIG")
            .args(["--heartbeat", "0", "--idle-timeout", "1h"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        output.read_line(&mut line).expect("its first line");
        let address = line.trim_end().rsplit('/').next().expect("an address");
        let address = address.parse().expect("an address");
        Self { child, address }
    }

    fn open(&self, number: usize) -> TcpStream {
        self.open_path("/events", number)
    }

    /// A connection from one of many addresses.
    fn connect(&self, number: usize) -> TcpStream {
        self.connect_with(number, |_| {})
    }

    /// The same, with little room for what the server sends.
    fn connect_small(&self, number: usize) -> TcpStream {
        self.connect_with(number, |socket| {
            socket.set_recv_buffer_size(4 << 10).expect("a buffer");
        })
    }

    fn connect_with(&self, number: usize, set: impl FnOnce(&Socket)) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        set(&socket);
        let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 200) as u8);
        socket
            .bind(&SocketAddr::from((from, 0)).into())
            .expect("a port");
        socket.connect(&self.address.into()).expect("a connection");
        let stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Opens a stream from one of many addresses, and reads its beginning.
    fn open_path(&self, path: &str, number: usize) -> TcpStream {
        let mut stream = self.connect(number);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        // The head and the first event, in one packet or two.
        while !answer
            .windows(7)
            .any(|part| part == b"\n\n\r\n\r\n" || part.ends_with(b"}\n\n\r\n"))
        {
            let mut space = [0; 2048];
            let read = stream.read(&mut space).expect("an answer");
            assert!(read > 0, "the stream ended");
            answer.extend_from_slice(&space[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{path} was refused");
        stream
    }

    /// Publishes so many events of a KiB.
    fn publish(&self, count: usize) {
        let body = format!(r#"{{"topic":"t","data":"{}"}}"#, "x".repeat(1024));
        for _ in 0..count {
            let answer = self.ask(
                &format!(
                    "POST /events HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}",
                    body.len()
                ),
                &body,
            );
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        }
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1"), "")
    }

    /// Sends a request, to which a few headers are added, and returns the answer.
    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let request = format!(
            "{head}\r\nHost: {}\r\nConnection: close\r\n\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn wait_until_empty(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self
            .get("/events/stats")
            .contains("\"active_connections\":0,")
        {
            assert!(Instant::now() < end, "connections stay");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the memory in use does not change any more.
    fn settle(&self) {
        let mut last = self.pss_kib();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.pss_kib();
            if (now - last).abs() < 32.0 {
                break;
            }
            last = now;
        }
    }

    /// What the process has in memory.
    fn rss_kib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("the process's memory");
        number_after(&text, "VmRSS:")
    }

    /// What the process holds, its share of shared pages counted.
    fn pss_kib(&self) -> f64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).expect("the process's memory");
        number_after(&text, "Pss:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel holds in its own objects.
fn kernel_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("the machine's memory");
    number_after(&text, "Slab:")
}

fn number_after(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|it| it.parse().ok()).expect(name)
}

/// The hard limit of open files.
fn hard_limit_of_open_files() -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").expect("this process's limits");
    let line = text
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a limit");
    let hard = line.split_whitespace().nth(4).expect("a limit");
    hard.parse().unwrap_or(u64::MAX)
}
