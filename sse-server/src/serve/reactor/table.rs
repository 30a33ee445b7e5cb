//! The connections of a reactor, each in the slot that the pool gave its reader.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::Instant;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use sse_pool::ReaderKey;

use crate::access::{Peer, Sockets, StreamingSocket};
use crate::session::Session;
use crate::wire::Format;

/// One connection. There are as many of these as readers, so it holds only what a reader that waits needs.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: TcpStream,
    pub(super) key: ReaderKey,
    /// When something was last written, for the heartbeat.
    pub(super) last_write: Ticks,
    pub(super) format: Format,
    /// HTTP/1.1: in chunks.
    pub(super) is_chunked: bool,
    /// The connection outlives the stream, if no input was dropped meanwhile.
    pub(super) goes_on: bool,
    /// The poll also tells when the socket takes bytes again.
    pub(super) is_armed: bool,
    /// What only a reader has that does not simply wait for the next event.
    pub(super) more: Option<Box<More>>,
}

/// What a connection needs while it is not simply live and waiting.
#[derive(Default)]
pub(super) struct More {
    /// `None`: the reader is live and nothing else.
    pub(super) session: Option<Box<Session>>,
    /// Bytes that the socket did not take.
    pub(super) unsent: Bytes,
    /// Since when it takes nothing.
    pub(super) blocked_since: Option<Instant>,
    /// Since when there is something in `unsent`, whatever it takes of that.
    pub(super) holds_since: Option<Instant>,
    /// Nothing comes after `unsent`.
    pub(super) is_last: bool,
    /// What the client has sent that nobody asked for.
    pub(super) ignored_bytes: usize,
}

impl std::fmt::Debug for More {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("More")
            .field("unsent", &self.unsent.len())
            .field("is_last", &self.is_last)
            .finish_non_exhaustive()
    }
}

impl Entry {
    pub(super) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Whether the connection is there for other requests after the stream. One that was read and dropped would be waited
    /// for in vain.
    pub(super) fn goes_on(&self) -> bool {
        let has_ignored = self
            .more
            .as_ref()
            .is_some_and(|more| more.ignored_bytes > 0);
        self.goes_on && !has_ignored
    }

    /// The session of a reader that is live, if it needs one: it has a place in a cohort and nothing else to remember.
    pub(super) fn live_session(&mut self) -> Option<&mut Session> {
        self.more.as_mut()?.session.as_deref_mut()
    }

    /// Whether it is live, and what the window has can be written as it comes.
    pub(super) fn is_live(&self) -> bool {
        self.more.as_ref().is_none_or(|more| {
            let is_compressed = more
                .session
                .as_ref()
                .is_some_and(|session| session.is_plain_but_compressed());
            is_compressed && more.unsent.is_empty() && !more.is_last
        })
    }

    /// Whether bytes wait for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.more
            .as_ref()
            .is_some_and(|more| !more.unsent.is_empty())
    }

    /// Writes; true when the socket took everything. What it did not take is kept, and the poll tells when it takes more.
    ///
    /// # Errors
    ///
    /// The socket's, which is broken then.
    pub(super) fn send(
        &mut self,
        registry: &Registry,
        bytes: &Bytes,
        ticks: Ticks,
        now: Instant,
    ) -> io::Result<bool> {
        self.last_write = ticks;
        if self.is_blocked() {
            // What its socket did not take goes first.
            let more = self.more();
            more.unsent = [&more.unsent[..], bytes].concat().into();
            return Ok(false);
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let more = self.more();
                    more.unsent = bytes.slice(sent..);
                    more.blocked_since = Some(now);
                    more.holds_since.get_or_insert(now);
                    if !self.is_armed {
                        self.is_armed = true;
                        registry.reregister(
                            &mut self.socket,
                            Token(self.key.slot()),
                            Interest::READABLE | Interest::WRITABLE,
                        )?;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Gives back what a live reader that waits does not need.
    pub(super) fn settle(&mut self) {
        let Some(more) = &mut self.more else { return };
        if more
            .session
            .as_ref()
            .is_some_and(|session| session.is_plain())
        {
            more.session = None;
        }
        let is_needed = more.session.is_some()
            || !more.unsent.is_empty()
            || more.is_last
            || more.ignored_bytes > 0;
        if !is_needed {
            self.more = None;
        }
    }
}

/// Milliseconds since the reactor began, in four bytes: they begin anew after 49 days, and only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks(u32);

impl Ticks {
    pub(super) fn since(origin: Instant, now: Instant) -> Self {
        let millis = now.saturating_duration_since(origin).as_millis();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only differences count, and they are small"
        )]
        Self(millis as u32)
    }

    /// How many milliseconds this is after `earlier`; zero when it is before.
    pub(super) fn millis_after(self, earlier: Self) -> u32 {
        let difference = self.0.wrapping_sub(earlier.0);
        if difference > u32::MAX / 2 {
            0
        } else {
            difference
        }
    }
}

/// Entries by slot, in pages that are given back when they empty.
#[derive(Debug)]
pub(super) struct Table {
    pages: Vec<Option<Box<Page>>>,
    len: usize,
    /// Where each of them has a place.
    sockets: Sockets,
    /// The peers that proxies told of, by slot. Of all others the socket itself knows it.
    told: HashMap<usize, Peer>,
}

#[derive(Debug)]
struct Page {
    entries: [Option<Entry>; PAGE],
    used: usize,
}

/// Entries per page: 8 KiB.
const PAGE: usize = 256;

impl Table {
    pub(super) fn new(sockets: Sockets) -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
            sockets,
            told: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One past the highest slot that may be in use.
    pub(super) fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Puts an entry into its slot; the one that was there, if any.
    pub(super) fn insert(
        &mut self,
        entry: Entry,
        place: StreamingSocket,
        told: Option<Peer>,
    ) -> Option<Entry> {
        if let Some(peer) = told {
            self.told.insert(entry.key.slot(), peer);
        }
        let (number, at) = split(entry.key.slot());
        if number >= self.pages.len() {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(|| {
            Box::new(Page {
                entries: [const { None }; PAGE],
                used: 0,
            })
        });
        let before = page.entries[at].replace(entry);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
            place.keep();
        }
        before
    }

    pub(super) fn at(&mut self, slot: usize) -> Option<&mut Entry> {
        let (number, place) = split(slot);
        self.pages.get_mut(number)?.as_mut()?.entries[place].as_mut()
    }

    pub(super) fn get(&mut self, key: ReaderKey) -> Option<&mut Entry> {
        self.at(key.slot()).filter(|entry| entry.key == key)
    }

    /// The peer that a proxy told of at the beginning of a connection.
    pub(super) fn told(&self, key: ReaderKey) -> Option<Peer> {
        self.told.get(&key.slot()).copied()
    }

    pub(super) fn remove(&mut self, key: ReaderKey) -> Option<Entry> {
        self.get(key)?;
        let (number, place) = split(key.slot());
        let page = self.pages.get_mut(number)?.as_mut()?;
        let entry = page.entries[place].take()?;
        page.used -= 1;
        self.len -= 1;
        self.told.remove(&key.slot());
        self.sockets.stream_ended();
        if page.used == 0 {
            self.pages[number] = None;
            while let Some(None) = self.pages.last() {
                self.pages.pop();
            }
        }
        Some(entry)
    }
}

fn split(slot: usize) -> (usize, usize) {
    (slot / PAGE, slot % PAGE)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener, TcpStream as StdStream};
    use std::time::Duration;

    use sse_pool::{ConnectionId, ConnectionInfo, Pool, PoolConfig, Selector, Start};

    use super::*;
    use crate::clock;

    #[test]
    fn what_a_socket_did_not_take_goes_before_what_comes_later() {
        let now = clock::now();
        let address = Ipv4Addr::LOCALHOST.into();
        let pool = Pool::<()>::new(PoolConfig::default());
        let info = ConnectionInfo::new(ConnectionId::from_uuid([1; 16]), address);
        let (permit, shard) = (pool.admit(address).unwrap(), pool.shard(0).unwrap());
        let key = shard
            .connect(permit, info, Selector::all(), Start::Live, now)
            .unwrap();

        let listener = TcpListener::bind((address, 0)).unwrap();
        let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let poll = mio::Poll::new().unwrap();
        let mut entry = Entry {
            socket: TcpStream::from_std(socket),
            key,
            last_write: Ticks::default(),
            format: Format::default(),
            is_chunked: false,
            goes_on: false,
            is_armed: false,
            more: None,
        };
        poll.registry()
            .register(&mut entry.socket, Token(key.slot()), Interest::READABLE)
            .unwrap();

        let mut all = Vec::new();
        let mut send = |bytes: Vec<u8>| {
            all.extend_from_slice(&bytes);
            entry
                .send(poll.registry(), &bytes.into(), Ticks::default(), now)
                .unwrap()
        };
        let mut n = 0;
        while send(vec![n; 50_000]) {
            n = n.wrapping_add(1);
        }
        assert!(!send(b"later".to_vec()));
        assert!(!send(b"and still later".to_vec()));
        let unsent = std::mem::take(&mut entry.more().unsent);
        let mut got = vec![0; all.len() - unsent.len()];
        client.read_exact(&mut got).unwrap();
        got.extend_from_slice(&unsent);
        assert!(got == all, "bytes are out of order or lost");
    }

    #[test]
    fn a_connection_that_waits_is_32_bytes() {
        // With debug assertions a socket also knows its poll.
        let more = if cfg!(debug_assertions) { 16 } else { 0 };
        assert_eq!(size_of::<Option<Entry>>(), 32 + more);
    }

    #[test]
    fn ticks_are_differences_and_survive_their_wrap() {
        assert_eq!(Ticks(5).millis_after(Ticks(u32::MAX - 4)), 10);
        assert_eq!(Ticks(5).millis_after(Ticks(6)), 0);
    }
}
