//! The connection pool of a Server-Sent Events hub: a bounded window of the newest events, and connections as
//! cursors into it.
//!
//! **A connection is a cursor, not a queue.** The usual pool gives every connection a queue of its own and
//! copies every event into all of them, so its memory is the product of readers and slowness. Here the newest
//! events stand once, in one *window* with bounds in bytes and entries; a connection is a position in it, a
//! [`Selector`] and a waker. Memory is `base + window + connections × c`, whatever the readers do.
//!
//! * **A publish costs its own topic's readers.** [`Pool::append`] finds the readers of an entry's topics in an
//!   index and wakes the ones that wait; ten thousand connections on other topics are not looked at.
//! * **A reader takes everything that is ready at once** ([`Connection::poll_read`]), so a fast publisher makes
//!   batches, not wake-ups.
//! * **Lost is a statement about one's own topics.** A reader that has seen everything is *parked*: the window
//!   may move on as far as it likes, the next entry the reader wants sets its cursor. A reader that is behind is
//!   lost only when something of *its* topics was evicted, which each topic remembers. It is then told
//!   [`Read::Lagged`], reads on from the log, and [rejoins](Connection::rejoin): a slow reader loses nothing
//!   and costs the others nothing.
//! * **A place is taken before, and given back after.** [`Pool::admit`] gives a [`Permit`], limited in all and
//!   per address (an IPv6 client is its /64); dropping the connection gives it back, whatever happened.
//! * **Time is an argument, the outside is a payload.** The pool reads no clock, makes no randomness, knows no
//!   socket and no runtime, and never looks at what an event means.
//! * **Locks are leaves.** Connections are spread over shards, each behind one lock under which small things
//!   move. Wakes, drops and foreign code (topic patterns, wakers' clones) wait until it is gone.
//!
//! Two ways to read: a [`Connection`] has a waker of its own, for a task per reader; a [`ShardHandle`] serves a
//! whole shard by key with one wake per append, for a reactor that owns the sockets itself.
//!
//! ```
//! use std::{sync::Arc, task::{Context, Poll, Waker}, time::Instant};
//! use sse_pool::{ConnectionInfo, Entry, Pool, PoolConfig, Read, Selector, Start};
//!
//! let pool = Pool::new(PoolConfig::default());
//! let now = Instant::now();
//! let ip = "192.0.2.1".parse().unwrap();
//!
//! let permit = pool.admit(ip)?;
//! let info = ConnectionInfo::new("client-7".parse()?, ip);
//! let mut reader = pool.connect(permit, info, Selector::topics(["news"]), Start::Live, now)?;
//!
//! let topics = |name: &str| vec![Arc::from(name)];
//! pool.append(&[
//!     Arc::new(Entry::new(1, "data: for someone else\n\n", 24, topics("weather"))),
//!     Arc::new(Entry::new(2, "data: hello\n\n", 13, topics("news"))),
//! ], now);
//!
//! let mut batch = Vec::new();
//! let mut cx = Context::from_waker(Waker::noop());
//! assert_eq!(reader.poll_read(&mut cx, now, 65_536, &mut batch), Poll::Ready(Read::Entries));
//! assert_eq!(batch[0].payload, "data: hello\n\n");
//! assert_eq!(reader.cursor(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod automaton;
mod close;
mod compact_instant;
mod config;
mod connection;
mod entry;
mod high_water;
mod id;
mod pattern_index;
mod pattern_set;
mod patterns;
mod pool;
mod prefix_map;
mod reader;
mod selector;
mod shard;
mod shard_handle;
mod slab;
mod stats;
mod status;
mod sweep;
mod sync;
mod topics;
mod visibility;
mod window;

pub use admission::{AddressKey, Permit, Refusal};
pub use close::CloseReason;
pub use config::{Limits, PoolConfig, WindowConfig};
pub use connection::{
    ClientInfo, Connection, ConnectionInfo, HeldByConnection, Note, PackedIp, Read, Seek, Start,
};
pub use entry::{Entry, Priority, topic_bytes};
pub use id::{ConnectionId, InvalidConnectionId, MAX_CONNECTION_NAME_BYTES};
pub use pattern_set::PatternSet;
pub use pool::{AppendOutcome, ConnectError, Pool, UpdateError};
pub use selector::{Held, PatternPart, Selector, TopicFilter, TopicPattern};
pub use shard_handle::{GroupRead, ShardHandle};
pub use stats::Stats;
pub use status::{ConnectionStatus, ReaderKey, ReaderState};
pub use sweep::SweepOutcome;
pub use visibility::{Audience, Limit, Routed, Visibility};
