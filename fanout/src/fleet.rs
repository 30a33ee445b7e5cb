//! The load: readers and publishers on one thread with one epoll.
//!
//! The loop never sleeps. A server that writes to a reader which waits in the kernel would pay for
//! waking it, on a virtual machine with an interrupt to another core, and real readers are on
//! other machines. For the same reason the loop has a core of its own.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::payload::Payload;
use crate::process::Server;
use crate::publisher::Publisher;
use crate::reader::{Reader, Reading, Ready};
use crate::tally::{Tally, number_of};
use crate::target::Dialect;
use crate::{Failure, Outcome};

/// Who gets an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All readers are on one topic.
    Everyone,
    /// Each reader has a topic of its own, and each event goes to one of them.
    One,
}

/// How readers come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) reading: Reading,
    pub(crate) accept_encoding: Option<&'static str>,
    /// The socket's receive buffer, in bytes; the kernel's own choice without.
    pub(crate) receive_buffer: Option<usize>,
}

impl Default for Arrival {
    fn default() -> Self {
        Self {
            reading: Reading::Check,
            accept_encoding: None,
            receive_buffer: None,
        }
    }
}

/// Readers and publishers of one server.
pub(crate) struct Fleet {
    epoll: OwnedFd,
    addr: SocketAddrV4,
    dialect: Dialect,
    pub(crate) audience: Audience,
    /// With topics of their own: how many of them are published to.
    pub(crate) addressed: usize,
    pub(crate) readers: Vec<Reader>,
    arrival: Arrival,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) tally: Tally,
    started: Instant,
    under_way: usize,
    pub(crate) subscribed: usize,
    /// Readers that were refused or ended by the server.
    pub(crate) ended: usize,
    /// Events that came to a reader of another topic.
    pub(crate) misrouted: u64,
    /// Readers whose head has come since this was last emptied.
    fresh: Vec<usize>,
    /// Readers that read on after a pause: which of the events since then they have.
    catching_up: HashMap<usize, CatchUp>,
    /// How long the loop found nothing to do.
    pub(crate) idle: Duration,
    source: u32,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

impl Fleet {
    /// A fleet for `server`, with nobody in it.
    pub(crate) fn new(server: &Server, audience: Audience) -> Outcome<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            addr: server.addr,
            dialect: server.dialect,
            audience,
            addressed: usize::MAX,
            readers: Vec::new(),
            arrival: Arrival::default(),
            publishers: Vec::new(),
            tally: Tally::new(1, 0),
            started: Instant::now(),
            under_way: 0,
            subscribed: 0,
            ended: 0,
            misrouted: 0,
            fresh: Vec::new(),
            catching_up: HashMap::new(),
            idle: Duration::ZERO,
            // Ports of ended connections rest for a minute, so each fleet has addresses of its own.
            source: fastrand::u32(0x01_0000..0xff_0000),
            buffer: vec![0; 128 * 1024],
            request: Vec::new(),
        })
    }

    /// Nanoseconds since the fleet was made.
    pub(crate) fn now_nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Adds `count` readers and returns when all are subscribed.
    pub(crate) fn subscribe(&mut self, count: usize, arrival: Arrival) -> Outcome {
        self.arrival = arrival;
        let wanted = self.readers.len() + count;
        self.open_until(wanted, |_| {})
    }

    /// Has `count` readers come and go again as soon as they are subscribed.
    pub(crate) fn churn(&mut self, count: usize) -> Outcome {
        self.arrival = Arrival::default();
        let wanted = self.readers.len() + count;
        self.open_until(wanted, |fleet| {
            for at in std::mem::take(&mut fleet.fresh) {
                fleet.readers[at].close();
                fleet.subscribed -= 1;
            }
        })
    }

    fn open_until(&mut self, wanted: usize, mut after_turn: impl FnMut(&mut Self)) -> Outcome {
        let mut progress = (self.readers.len(), self.under_way);
        let mut give_up = Instant::now() + QUIET;
        while self.readers.len() < wanted || self.under_way > 0 {
            while self.readers.len() < wanted && self.under_way < CONNECTIONS_UNDER_WAY {
                self.open()?;
            }
            self.turn()?;
            after_turn(self);
            let now = (self.readers.len(), self.under_way);
            if now != progress {
                progress = now;
                give_up = Instant::now() + QUIET;
            } else if Instant::now() > give_up {
                return Err(Failure::new(format!(
                    "{} readers wait for their stream in vain",
                    self.under_way
                )));
            }
            if self.ended > 0 {
                return Err(Failure::new(
                    "the server refused a reader, or ended its stream",
                ));
            }
        }
        self.fresh.clear();
        Ok(())
    }

    fn open(&mut self) -> Outcome {
        let at = self.readers.len();
        if at.is_multiple_of(READERS_PER_ADDRESS) {
            self.source += 1;
        }
        let from = SocketAddrV4::new(Ipv4Addr::from(0x7f00_0000 | self.source), 0);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = self.arrival.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&from.into())?;
        start_connecting(&socket, self.addr)?;
        let stream = TcpStream::from(socket);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            &self.epoll,
            &stream,
            EventData::new_u64(at as u64),
            interest,
        )?;
        self.readers
            .push(Reader::connecting(stream, self.arrival.reading));
        self.under_way += 1;
        Ok(())
    }

    /// Has at least `count` publishers connected.
    pub(crate) fn have_publishers(&mut self, count: usize) -> Outcome {
        while self.publishers.len() < count {
            let publisher = self.new_publisher(self.publishers.len())?;
            self.publishers.push(publisher);
        }
        Ok(())
    }

    fn new_publisher(&self, at: usize) -> Outcome<Publisher> {
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let token = EventData::new_u64(PUBLISHER | at as u64);
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &stream, token, interest)?;
        Ok(Publisher::new(stream))
    }

    /// Begins to count anew, for the readers there are.
    pub(crate) fn begin(&mut self) {
        let quorum = match self.audience {
            Audience::Everyone => self.readers.iter().filter(|r| r.is_checked()).count(),
            Audience::One => 1,
        };
        self.tally = Tally::new(self.tally.next_first(), quorum);
        for reader in &mut self.readers {
            reader.place = 0;
            reader.bytes = 0;
        }
        self.idle = Duration::ZERO;
    }

    /// Publishes an event through an idle one of the first `publishers`, as if at `at_nanos`;
    /// false when all of them wait for an answer.
    pub(crate) fn publish(
        &mut self,
        payload: Payload,
        publishers: usize,
        at_nanos: u64,
    ) -> Outcome<bool> {
        let addressed = self.addressed();
        let idle = self.publishers[..publishers]
            .iter_mut()
            .find(|p| p.is_idle());
        let Some(publisher) = idle else {
            return Ok(false);
        };
        let number = self.tally.next_first();
        let payload = self.tally.publish(|number| payload.of(number), at_nanos);
        let topic = match self.audience {
            Audience::Everyone => TOPIC.to_owned(),
            Audience::One => own_topic(reader_of(number, addressed)),
        };
        self.dialect
            .publish(self.addr, &topic, payload, &mut self.request);
        publisher.send(&self.request)?;
        Ok(true)
    }

    fn addressed(&self) -> usize {
        self.addressed.min(self.readers.len())
    }

    /// Looks once at what is ready, and deals with it.
    pub(crate) fn turn(&mut self) -> Outcome {
        let began = Instant::now();
        let mut events = [const { EMPTY }; 512];
        let at_once = Timespec::default();
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&at_once)) {
            Ok(ready) => ready,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..ready] {
            let (token, flags) = (event.data.u64(), event.flags);
            if token & PUBLISHER == 0 {
                self.reader_ready(token as usize, flags);
            } else {
                let at = (token & !PUBLISHER) as usize;
                if !self.publishers[at].read(&mut self.buffer)? {
                    self.publishers[at] = self.new_publisher(at)?;
                }
            }
        }
        if ready == 0 {
            self.idle += began.elapsed();
        }
        Ok(())
    }

    fn reader_ready(&mut self, at: usize, flags: EventFlags) {
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let addressed = self.addressed();
        let reader = &mut self.readers[at];
        if reader.is_connecting() {
            let mut ready = Ready::Ended;
            if !flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                let topic = match self.audience {
                    Audience::Everyone => TOPIC.to_owned(),
                    Audience::One => own_topic(at),
                };
                let encoding = self.arrival.accept_encoding;
                let request = self.dialect.subscribe(self.addr, &topic, encoding);
                ready = reader.request(&request);
                if let Some(stream) = &reader.stream {
                    let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                    let data = EventData::new_u64(at as u64);
                    let _ = epoll::modify(&self.epoll, stream, data, interest);
                }
            }
            return self.note(at, ready);
        }
        if flags.contains(EventFlags::IN) && reader.stalls() {
            if let Some(stream) = &reader.stream {
                let _ = epoll::delete(&self.epoll, stream);
            }
            return self.note(at, Ready::Subscribed);
        }
        let (tally, misrouted) = (&mut self.tally, &mut self.misrouted);
        let audience = self.audience;
        let now = self.started.elapsed().as_nanos() as u64;
        let mut catching_up = self.catching_up.get_mut(&at);
        let ready = reader.read(
            &mut self.buffer,
            flags.intersects(over),
            |place, data| match (audience, &mut catching_up) {
                (_, Some(catching_up)) => catching_up.received(data),
                (Audience::Everyone, None) => tally.arrived(place, data, now),
                (Audience::One, None) => {
                    let number = number_of(data);
                    if number.is_some_and(|number| reader_of(number, addressed) != at) {
                        *misrouted += 1;
                    }
                    tally.arrived_alone(data, now);
                }
            },
        );
        self.note(at, ready);
    }

    fn note(&mut self, at: usize, ready: Ready) {
        let reader = &mut self.readers[at];
        match ready {
            Ready::Goes => {}
            Ready::Subscribed => {
                self.under_way = self.under_way.saturating_sub(1);
                self.subscribed += 1;
                self.fresh.push(at);
            }
            Ready::Ended => {
                if reader.is_subscribed() {
                    self.subscribed -= 1;
                } else {
                    self.under_way = self.under_way.saturating_sub(1);
                }
                reader.leave(&mut self.tally);
                reader.close();
                self.ended += 1;
            }
        }
    }

    /// Lets a reader that never read begin to; it should get the events of `numbers`.
    pub(crate) fn wake(&mut self, at: usize, numbers: Range<u64>) -> Outcome {
        self.readers[at].wake();
        if let Some(stream) = &self.readers[at].stream {
            let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, stream, EventData::new_u64(at as u64), interest)?;
            self.subscribed -= 1;
            self.under_way += 1;
            self.catching_up.insert(at, CatchUp::new(numbers));
        }
        Ok(())
    }

    /// Whether a reader that was woken has each of its events, once.
    pub(crate) fn caught_up(&self, at: usize) -> bool {
        self.catching_up.get(&at).is_some_and(CatchUp::is_whole)
    }

    /// Goes on for `time`, whatever comes.
    pub(crate) fn idle_for(&mut self, time: Duration) -> Outcome {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }
}

/// The events that a reader which paused should get, and has.
struct CatchUp {
    first: u64,
    times: Vec<u8>,
    /// An event that it should not have got.
    strange: bool,
}

impl CatchUp {
    fn new(numbers: Range<u64>) -> Self {
        Self {
            first: numbers.start,
            times: vec![0; (numbers.end - numbers.start) as usize],
            strange: false,
        }
    }

    fn received(&mut self, data: &[u8]) {
        let Some(number) = number_of(data) else {
            return; // what the server itself says when a stream begins
        };
        let index = number.checked_sub(self.first);
        match index.and_then(|index| self.times.get_mut(index as usize)) {
            Some(times) => *times = times.saturating_add(1),
            None => self.strange = true,
        }
    }

    fn is_whole(&self) -> bool {
        !self.strange && self.times.iter().all(|times| *times == 1)
    }
}

/// Begins to connect a socket that does not block.
fn start_connecting(socket: &Socket, to: SocketAddrV4) -> Outcome {
    match socket.connect(&to.into()) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn own_topic(reader: usize) -> String {
    format!("own-{reader}")
}

/// Whom the event `number` goes to when each reader has a topic of its own: each in turn, in an
/// order in which neighbours are far apart.
fn reader_of(number: u64, readers: usize) -> usize {
    (number.wrapping_mul(7919) % readers.max(1) as u64) as usize
}

/// The topic that all share.
const TOPIC: &str = "t";

/// Marks the token of a publisher.
const PUBLISHER: u64 = 1 << 63;

const EMPTY: epoll::Event = epoll::Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};

/// Connections that are opened at a time.
const CONNECTIONS_UNDER_WAY: usize = 256;

/// Few enough that a free port is found quickly.
const READERS_PER_ADDRESS: usize = 2_000;

/// After so long without anything arriving, what has not come is lost.
pub(crate) const QUIET: Duration = Duration::from_secs(3);
