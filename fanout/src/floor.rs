//! The floor: the least that handing events to many sockets can cost on this kernel.
//!
//! One thread, one epoll. A publish becomes finished bytes once; at the end of each turn of the
//! loop they are written to every reader of their topic, each event with a write of its own, or
//! all of a topic in one. There are no ids, limits, logs or counters, and requests are read just
//! well enough for the load generator's. It is no server: it is what a server is held against.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;

use memchr::memmem::find;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};

/// How many events one write carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Writes {
    /// One
    Each,
    /// All that wait
    Together,
}

/// Serves on `port` until the process is ended.
pub(crate) fn serve(port: u16, writes: Writes) -> io::Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    listener.set_reuse_address(true)?;
    listener.set_nonblocking(true)?;
    listener.set_tcp_nodelay(true)?; // which those it accepts inherit
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    listener.listen(4096)?;
    let listener = OwnedFd::from(listener);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut floor = Floor {
        epoll,
        listener,
        peers: Vec::new(),
        free: Vec::new(),
        topics: HashMap::new(),
        waiting: Vec::new(),
        writes,
        buffer: vec![0; 64 * 1024],
    };
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(
            &floor.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        )?;
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept()?,
                peer => floor.ready(peer as usize, event.flags),
            }
        }
        floor.deliver();
    }
}

const LISTENER: u64 = u64::MAX;

struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    topics: HashMap<Box<str>, Vec<u32>>,
    /// What was published in this turn: the topic and the finished chunk.
    waiting: Vec<(Box<str>, Vec<u8>)>,
    writes: Writes,
    buffer: Vec<u8>,
}

/// A connection: a publisher until it asks for a stream.
struct Peer {
    stream: TcpStream,
    topic: Option<Box<str>>,
    /// Of a publisher, the beginning of a request.
    request: Vec<u8>,
    /// What the socket would not take.
    unsent: Vec<u8>,
}

impl Floor {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let at = self.free.pop().unwrap_or(self.peers.len());
            let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(
                &self.epoll,
                &socket,
                EventData::new_u64(at as u64),
                interest,
            )?;
            let peer = Peer {
                stream: TcpStream::from(socket),
                topic: None,
                request: Vec::new(),
                unsent: Vec::new(),
            };
            if at == self.peers.len() {
                self.peers.push(Some(peer));
            } else {
                self.peers[at] = Some(peer);
            }
            // Mostly the request has come with the connection.
            self.ready(at, EventFlags::IN);
        }
    }

    fn ready(&mut self, at: usize, flags: EventFlags) {
        let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else {
            return; // closed earlier in this turn
        };
        if flags.contains(EventFlags::OUT) && !peer.unsent.is_empty() {
            let unsent = std::mem::take(&mut peer.unsent);
            peer.send(&unsent);
            if peer.unsent.is_empty() {
                let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                let data = EventData::new_u64(at as u64);
                let _ = epoll::modify(&self.epoll, &peer.stream, data, interest);
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            return;
        }
        let is_over = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        loop {
            match (&peer.stream).read(&mut self.buffer) {
                Ok(0) => return self.close(at),
                Ok(len) => {
                    peer.request.extend_from_slice(&self.buffer[..len]);
                    // An edge-triggered socket that gave less than asked for has no more.
                    if len < self.buffer.len() && !is_over {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.close(at),
            }
        }
        while let Some(request) = self.peers[at].as_mut().and_then(Peer::next_request) {
            self.answer(at, request);
        }
    }

    fn answer(&mut self, at: usize, request: Request) {
        let Some(peer) = self.peers[at].as_mut() else {
            return;
        };
        match request {
            Request::Subscribe(topic) => {
                peer.send(STREAM_HEAD);
                self.topics
                    .entry(topic.clone())
                    .or_default()
                    .push(at as u32);
                peer.topic = Some(topic);
            }
            Request::Publish(topic, chunk) => {
                peer.send(ACCEPTED);
                self.waiting.push((topic, chunk));
            }
        }
    }

    /// Writes what was published in this turn.
    fn deliver(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if self.writes == Writes::Together {
            waiting = together(waiting);
        }
        for (topic, bytes) in &waiting {
            for reader in self.topics.get(topic).into_iter().flatten() {
                let Some(peer) = self.peers[*reader as usize].as_mut() else {
                    continue;
                };
                let was_blocked = !peer.unsent.is_empty();
                peer.send(bytes);
                if !was_blocked && !peer.unsent.is_empty() {
                    let interest =
                        EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                    let data = EventData::new_u64(u64::from(*reader));
                    let _ = epoll::modify(&self.epoll, &peer.stream, data, interest);
                }
            }
        }
        waiting.clear();
        self.waiting = waiting;
    }

    fn close(&mut self, at: usize) {
        let Some(peer) = self.peers[at].take() else {
            return;
        };
        self.free.push(at);
        if let Some(topic) = &peer.topic
            && let Some(readers) = self.topics.get_mut(topic)
        {
            // Searched from the end: who came last mostly leaves first, or all leave.
            if let Some(found) = readers.iter().rposition(|reader| *reader == at as u32) {
                readers.swap_remove(found);
            }
            if readers.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}

enum Request {
    Subscribe(Box<str>),
    /// The topic, and the event as a chunk of the body.
    Publish(Box<str>, Vec<u8>),
}

impl Peer {
    /// Takes the next whole request out of what was read.
    fn next_request(&mut self) -> Option<Request> {
        let head_len = find(&self.request, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.request[..head_len]).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let topic = target.split_once("topic=").map_or("", |(_, topic)| topic);
        if head.starts_with("GET ") {
            self.request = Vec::new(); // a reader says nothing more
            return Some(Request::Subscribe(topic.into()));
        }
        let body_len = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .and_then(|value| value.parse::<usize>().ok())
            .unwrap_or(0);
        let body = self.request.get(head_len..head_len + body_len)?;
        let mut chunk = format!("{:x}\r\ndata: ", body.len() + 8).into_bytes();
        chunk.extend_from_slice(body);
        chunk.extend_from_slice(b"\n\n\r\n");
        self.request.drain(..head_len + body_len);
        Some(Request::Publish(topic.into(), chunk))
    }

    /// Writes `bytes` after what is still unsent; keeps what the socket does not take.
    fn send(&mut self, bytes: &[u8]) {
        let mut written = 0;
        if self.unsent.is_empty() {
            // An error is seen again, and dealt with, when the loop reads.
            written = (&self.stream).write(bytes).unwrap_or(0);
        }
        self.unsent.extend_from_slice(&bytes[written..]);
    }
}

/// Joins the bytes of each topic, topics in the order of their first event.
fn together(waiting: Vec<(Box<str>, Vec<u8>)>) -> Vec<(Box<str>, Vec<u8>)> {
    let mut joined: Vec<(Box<str>, Vec<u8>)> = Vec::new();
    for (topic, bytes) in waiting {
        match joined.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, all)) => all.extend_from_slice(&bytes),
            None => joined.push((topic, bytes)),
        }
    }
    joined
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_topic_are_joined_in_their_order() {
        let event = |topic: &str, bytes: &[u8]| (Box::from(topic), bytes.to_vec());
        let joined = together(vec![event("a", b"1"), event("b", b"2"), event("a", b"3")]);
        assert_eq!(joined, [event("a", b"13"), event("b", b"2")]);
    }
}
