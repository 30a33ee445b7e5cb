//! Places for sockets, and who gives way when there are none left.
//!
//! Every socket has a place from its acceptance to its end. Most need it only while something is asked or streamed on them. One that
//! waits for its next request, or whose request has only begun to arrive, gives way to a new one when all places are taken:
//!
//! ```text
//!            begin()                     all places are taken
//!   Waiting ────────▶ Busy   Waiting ──────────────────────────▶ Evicted
//!      ▲               │
//!      └───────────────┘
//!   the last Busy is dropped
//! ```
//!
//! Those that have never asked for anything go first, then those that have waited longest. Requests and streams have bounds of their
//! own, and there are as many places for sockets as for both together. So as long as there is a place for a request, there is one for
//! its socket, however many sockets others open and leave idle.
//!
//! There is no socket in here, only its place: whoever drives it asks [`SocketPlace::poll_evicted`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use sse_pool::AddressKey;

use super::places::{Counts, NoPlace, PlaceLimits, PlaceStatus};
use crate::clock;

/// The places for sockets. Cloning it is cheap; all clones are the same places.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    counts: Counts,
    states: Slab<State>,
    /// Those that give way, in the order in which they do.
    waiting: BTreeMap<Turn, usize>,
    /// Counts how often somebody began to wait.
    turns: u64,
    evicted: u64,
}

/// Whether a socket has asked for something before, and since when it waits. The lowest one goes first.
type Turn = (bool, u64);

#[derive(Debug)]
struct State {
    address: Option<AddressKey>,
    /// Whether it is among the counted ones. One that was evicted, or whose stream goes on elsewhere, is not.
    is_counted: bool,
    /// How many requests and streams there are on it.
    busy: usize,
    has_asked: bool,
    turn: Option<Turn>,
    /// Since when it waits, if it does.
    since: Instant,
    opened: Weak<Opened>,
}

/// How the sockets are at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketStatus {
    /// How many there are, and how many were refused.
    pub places: PlaceStatus,
    /// How many wait for a request.
    pub waiting: usize,
    /// How many gave way to new ones.
    pub evicted: u64,
}

impl Sockets {
    /// So many places.
    #[must_use]
    pub fn new(limits: PlaceLimits) -> Self {
        Self(Arc::new(Mutex::new(Table {
            counts: Counts::new(limits),
            states: Slab::new(),
            waiting: BTreeMap::new(),
            turns: 0,
            evicted: 0,
        })))
    }

    /// A place for a socket that was accepted. `None` as address is for proxies, which bring many clients: only all sockets
    /// together are bounded then.
    ///
    /// # Errors
    ///
    /// When its address has its share, or all places are taken and no socket is waiting.
    pub fn open(&self, address: Option<IpAddr>) -> Result<SocketPlace, NoPlace> {
        let address = address.map(AddressKey::from);
        let (opened, evicted) = self.0.lock().open(self, address);
        if let Some(evicted) = evicted {
            evicted.tell();
        }
        opened.map(SocketPlace)
    }

    /// Lets one socket give way that has waited for a while: there is no memory for another one. False when there is none.
    pub fn evict_idle(&self, now: Instant) -> bool {
        let evicted = self.0.lock().evict_idle(now);
        evicted.is_some_and(|opened| {
            opened.tell();
            true
        })
    }

    /// Lets sockets give way that have never asked for anything, up to so many: the system has no more files.
    pub fn evict_silent(&self, most: usize) {
        let evicted: Vec<_> = {
            let mut table = self.0.lock();
            let silent = table.waiting.range(..(true, 0)).count().min(most);
            (0..silent).filter_map(|_| table.evict()).collect()
        };
        evicted.into_iter().for_each(|opened| opened.tell());
    }

    /// How they are.
    #[must_use]
    pub fn status(&self) -> SocketStatus {
        let table = self.0.lock();
        SocketStatus {
            places: table.counts.status(),
            waiting: table.waiting.len(),
            evicted: table.evicted,
        }
    }

    /// A stream whose place was [kept](StreamingSocket::keep) has ended.
    pub(crate) fn stream_ended(&self) {
        self.0.lock().counts.release(None);
    }
}

impl Table {
    fn open(
        &mut self,
        sockets: &Sockets,
        address: Option<AddressKey>,
    ) -> (Result<Arc<Opened>, NoPlace>, Option<Arc<Opened>>) {
        // An address that has its share makes nobody give way.
        let has_room = self.counts.has_share(address);
        let evicted = match self.counts.is_full() && has_room {
            true => self.evict(),
            false => None,
        };
        if let Err(refused) = self.counts.take(address) {
            return (Err(refused), evicted);
        }
        let entry = self.states.vacant_entry();
        let opened = Arc::new(Opened {
            sockets: sockets.clone(),
            index: entry.key(),
            is_evicted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let index = entry.key();
        entry.insert(State {
            address,
            is_counted: true,
            busy: 0,
            has_asked: false,
            turn: None,
            since: clock::now(),
            opened: Arc::downgrade(&opened),
        });
        self.wait(index);
        (Ok(opened), evicted)
    }

    /// Lets the first one give way.
    fn evict(&mut self) -> Option<Arc<Opened>> {
        let (_, index) = self.waiting.first_key_value()?;
        self.evict_at(*index)
    }

    /// Lets the first one give way that waits for longer than a request takes that was sent at once.
    fn evict_idle(&mut self, now: Instant) -> Option<Arc<Opened>> {
        let silent = self.waiting.range(..(true, 0)).next();
        let asked = self.waiting.range((true, 0)..).next();
        let mut firsts = silent.into_iter().chain(asked).map(|(_, index)| *index);
        let idle = firsts.find(|index| now.duration_since(self.states[*index].since) >= IDLE)?;
        self.evict_at(idle)
    }

    fn evict_at(&mut self, index: usize) -> Option<Arc<Opened>> {
        self.wait_no_more(index);
        let state = &mut self.states[index];
        state.is_counted = false;
        self.counts.release(state.address);
        self.evicted += 1;
        let opened = state.opened.upgrade()?;
        opened.is_evicted.store(true, Ordering::Release);
        Some(opened)
    }

    fn wait(&mut self, index: usize) {
        let state = &mut self.states[index];
        if state.is_counted {
            self.turns += 1;
            let turn = (state.has_asked, self.turns);
            state.since = clock::now();
            state.turn = Some(turn);
            self.waiting.insert(turn, index);
        }
    }

    fn wait_no_more(&mut self, index: usize) {
        if let Some(turn) = self.states[index].turn.take() {
            self.waiting.remove(&turn);
        }
    }
}

/// The place of a socket. Cloning it is cheap; the place is given back with the last clone.
#[derive(Clone)]
pub struct SocketPlace(Arc<Opened>);

struct Opened {
    sockets: Sockets,
    index: usize,
    is_evicted: AtomicBool,
    waker: AtomicWaker,
}

impl Opened {
    /// Tells whoever drives the socket that it gives way.
    fn tell(&self) {
        self.waker.wake();
    }
}

impl SocketPlace {
    /// Something was asked for on it. Until what this returns is dropped it does not give way. What was asked for at the very moment is
    /// answered too, instead of being cut off: then there is one socket more for as long.
    pub fn begin(&self) -> Busy {
        let index = self.0.index;
        let mut table = self.0.sockets.0.lock();
        table.wait_no_more(index);
        let Table { counts, states, .. } = &mut *table;
        let state = &mut states[index];
        state.busy += 1;
        state.has_asked = true;
        if self.0.is_evicted.swap(false, Ordering::AcqRel) {
            counts.add(state.address);
            state.is_counted = true;
        }
        drop(table);
        Busy(self.clone())
    }

    /// Ready when it was to give way: then it is to be closed at once.
    pub fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_evicted() {
            return Poll::Ready(());
        }
        self.0.waker.register(cx.waker());
        match self.is_evicted() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether it was to give way.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.0.is_evicted.load(Ordering::Acquire)
    }

    /// A proxy has told whose socket it is, and it counts for that address from now on.
    ///
    /// # Errors
    ///
    /// When that address has its share.
    pub fn count_for(&self, address: IpAddr) -> Result<(), NoPlace> {
        let address = AddressKey::from(address);
        let mut table = self.0.sockets.0.lock();
        let Table { counts, states, .. } = &mut *table;
        let state = &mut states[self.0.index];
        if state.is_counted && state.address.is_none() {
            counts.take_share(Some(address))?;
            state.address = Some(address);
        }
        Ok(())
    }

    /// Its stream goes on where the bounds of streams are all that counts: it is one of all sockets, and no longer one of its
    /// address's.
    pub(crate) fn stream(&self) -> StreamingSocket {
        let index = self.0.index;
        let mut table = self.0.sockets.0.lock();
        table.wait_no_more(index);
        let Table { counts, states, .. } = &mut *table;
        let state = &mut states[index];
        if std::mem::take(&mut state.is_counted) {
            counts.release_share(state.address);
        } else {
            counts.add(None);
        }
        drop(table);
        StreamingSocket(Some(self.0.sockets.clone()))
    }
}

impl fmt::Debug for SocketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketPlace").field(&self.0.index).finish()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut table = self.sockets.0.lock();
        table.wait_no_more(self.index);
        let state = table.states.remove(self.index);
        if state.is_counted {
            table.counts.release(state.address);
        }
    }
}

/// A socket that is at work does not give way.
#[derive(Debug)]
#[must_use = "the socket is at work until this is dropped"]
pub struct Busy(SocketPlace);

impl Drop for Busy {
    fn drop(&mut self) {
        let index = self.0.0.index;
        let mut table = self.0.0.sockets.0.lock();
        let state = &mut table.states[index];
        state.busy -= 1;
        if state.busy == 0 {
            table.wait(index);
        }
    }
}

/// A socket that has waited for so long is idle. A stated guess: what was sent together with the opening of a socket is read by then.
const IDLE: Duration = Duration::from_secs(1);

/// One of all sockets, with a stream on it.
#[must_use = "the place is given back when this is dropped"]
pub(crate) struct StreamingSocket(Option<Sockets>);

impl StreamingSocket {
    /// Keeps the place until [`Sockets::stream_ended`]: whoever has many streams need not hold one of these for each.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for StreamingSocket {
    fn drop(&mut self) {
        if let Some(sockets) = &self.0 {
            sockets.stream_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    fn sockets(max: usize, max_per_address: usize) -> Sockets {
        Sockets::new(PlaceLimits {
            max,
            max_per_address,
        })
    }

    fn is_evicted(socket: &SocketPlace) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        socket.poll_evicted(&mut cx).is_ready()
    }

    #[test]
    fn those_that_never_asked_give_way_first_and_those_at_work_never() {
        let sockets = sockets(3, 3);
        let (asked, at_work, silent) = (
            sockets.open(address(1)).unwrap(),
            sockets.open(address(1)).unwrap(),
            sockets.open(address(1)).unwrap(),
        );
        drop(asked.begin());
        let work = at_work.begin();
        let second = sockets.open(address(2)).unwrap();
        assert!(is_evicted(&silent) && !is_evicted(&asked));
        let third = sockets.open(address(2)).unwrap();
        assert!(is_evicted(&second) && !is_evicted(&asked));
        let third_work = third.begin();
        let fourth = sockets.open(address(2)).unwrap();
        assert!(is_evicted(&asked) && !is_evicted(&at_work));
        let _fourth_work = fourth.begin();
        assert_eq!(sockets.open(address(2)).unwrap_err(), NoPlace::Full(3));
        drop(work);
        assert!(sockets.open(address(3)).is_ok());
        assert!(is_evicted(&at_work));
        drop(third_work);
        let status = sockets.status();
        assert_eq!((status.places.taken, status.evicted), (2, 4));
    }

    #[test]
    fn what_is_asked_at_the_moment_of_giving_way_is_answered() {
        let sockets = sockets(1, 1);
        let first = sockets.open(address(1)).unwrap();
        let second = sockets.open(address(1));
        assert_eq!(second.unwrap_err(), NoPlace::TooManyFromAddress(1));
        let second = sockets.open(address(2)).unwrap();
        let busy = first.begin();
        assert!(!is_evicted(&first));
        assert_eq!(sockets.status().places.taken, 2);
        drop((busy, second));
        let _third = sockets.open(address(3)).unwrap();
        assert!(is_evicted(&first));
        assert_eq!(sockets.status().places.taken, 1);
    }

    #[test]
    fn where_files_run_out_those_that_never_asked_give_way() {
        let sockets = sockets(9, 9);
        let all: Vec<_> = (0..4).map(|_| sockets.open(address(1)).unwrap()).collect();
        drop(all[1].begin());
        let _busy = all[2].begin();
        sockets.evict_silent(1);
        assert_eq!(all.iter().filter(|socket| is_evicted(socket)).count(), 1);
        sockets.evict_silent(9);
        let evicted: Vec<_> = all.iter().map(is_evicted).collect();
        assert_eq!(evicted, [true, false, false, true]);
    }

    #[test]
    fn where_memory_runs_out_those_give_way_that_have_waited_for_a_while() {
        let sockets = sockets(9, 9);
        let all: Vec<_> = (0..3).map(|_| sockets.open(address(1)).unwrap()).collect();
        drop(all[1].begin());
        let busy = all[2].begin();
        assert!(!sockets.evict_idle(clock::now()));
        let later = clock::now() + IDLE;
        assert!(sockets.evict_idle(later) && is_evicted(&all[0]));
        assert!(sockets.evict_idle(later) && is_evicted(&all[1]));
        assert!(!sockets.evict_idle(later) && !is_evicted(&all[2]));
        drop(busy);
        assert_eq!(sockets.status().places.taken, 1);
    }

    #[test]
    fn an_address_with_its_share_makes_nobody_give_way() {
        let sockets = sockets(3, 2);
        let other = sockets.open(address(2)).unwrap();
        let own = [sockets.open(address(1)), sockets.open(address(1))];
        let refused = sockets.open(address(1)).unwrap_err();
        assert_eq!(refused, NoPlace::TooManyFromAddress(2));
        assert!(!is_evicted(&other));
        drop(own);
        // A proxy's sockets are bounded all together.
        let proxy: Vec<_> = (0..2).map(|_| sockets.open(None).unwrap()).collect();
        assert!(proxy.iter().all(|socket| !is_evicted(socket)));
        assert!(sockets.open(None).is_ok() && is_evicted(&other));
    }

    #[test]
    fn a_socket_counts_for_whom_the_proxy_names() {
        let sockets = sockets(9, 1);
        let (first, second) = (sockets.open(None).unwrap(), sockets.open(None).unwrap());
        let client = [192, 0, 2, 1].into();
        first.count_for(client).unwrap();
        assert!(second.count_for(client).is_err());
        drop(first);
        second.count_for(client).unwrap();
    }

    #[test]
    fn a_stream_stays_one_of_all_and_is_none_of_its_address() {
        let sockets = sockets(2, 1);
        let socket = sockets.open(address(1)).unwrap();
        let busy = socket.begin();
        let stream = socket.stream();
        drop((busy, socket));
        assert_eq!(sockets.status().places.taken, 1);
        let next = sockets.open(address(1)).unwrap();
        let _busy = next.begin();
        assert!(sockets.open(address(2)).is_err());
        stream.keep();
        assert!(sockets.open(address(2)).is_err());
        sockets.stream_ended();
        assert!(sockets.open(address(2)).is_ok());
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_places_and_in_the_end_none(
            ops in prop::collection::vec((0_u8..5, 0_u8..3, 0_usize..8), 0..200),
        ) {
            let sockets = sockets(4, 3);
            let mut there: Vec<(SocketPlace, Vec<Busy>)> = Vec::new();
            let mut streams = Vec::new();
            for (op, who, at) in ops {
                let at = at % there.len().max(1);
                match op {
                    0 | 1 => {
                        let opened = sockets.open((who > 0).then(|| [192, 0, 2, who].into()));
                        there.extend(opened.ok().map(|socket| (socket, Vec::new())));
                    }
                    2 if !there.is_empty() => {
                        let busy = there[at].0.begin();
                        there[at].1.push(busy);
                    }
                    3 if !there.is_empty() => drop(there[at].1.pop()),
                    4 if !there.is_empty() => {
                        let (socket, busy) = there.remove(at);
                        if !busy.is_empty() && !is_evicted(&socket) {
                            streams.push(socket.stream());
                        }
                    }
                    _ => drop(streams.pop()),
                }
                there.retain(|(socket, _)| !is_evicted(socket));
                let status = sockets.status();
                prop_assert!(status.places.taken <= 4);
                prop_assert_eq!(status.places.taken, there.len() + streams.len());
                let idle = there.iter().filter(|(_, busy)| busy.is_empty()).count();
                prop_assert_eq!(status.waiting, idle);
            }
            drop((there, streams));
            let table = sockets.0.lock();
            prop_assert!(table.states.is_empty() && table.waiting.is_empty());
            prop_assert_eq!(table.counts.status().taken, 0);
        }
    }
}
