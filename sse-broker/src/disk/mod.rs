//! The log on disk, on redb.
//!
//! One thread writes and a few read; publishers and readers wait in their futures, on no thread, and
//! need no particular runtime. What is acknowledged is in a commit that the disk has confirmed (at the
//! level `fsync`), and so is all that the tail hears: no reader ever saw what a crash took back.
//!
//! * **Group commit without a timer.** What arrives while a commit runs is the next group. A publisher that is alone
//!   waits for its own commit and for nothing else; many share one. After a commit that answered several publishers,
//!   the writer waits up to an eighth of that commit's time for the others once the first of them is back: with 1,024
//!   in flight that was 44,000 appends a second before and 126,000 after, beside redb's bare 120,000 and 194,000 in
//!   the same two runs on a busy machine.
//! * **A failed commit fences the writer.** Nothing is acknowledged on a storage that has failed once, and nothing is
//!   tried again blindly; what was committed before can still be read. Opening the log again is the way out. A full
//!   disk is an answer of its own, and ends by itself when there is space.
//! * **A commit writes its records and little else.** They lie side by side in blocks of a page or a few,
//!   one insertion each. What points at them by topic follows some thousand records later, sorted; ids are
//!   found in memory, nine to eighteen bytes for each that is retained, and are listed in the file only to
//!   be read when it is opened.
//! * **Reads cost what they return.** A position is sought in a B-tree, a topic and an id in an index.
//! * **Reads follow retention.** What it asks for leaves the file with a later commit; readers do not get it meanwhile.
//! * **Damage is contained.** Each record and each value carries a checksum. A damaged record is left out
//!   and announced as a gap; a damaged index is passed over.
//! * **A log that may have lost something is another log.** Below the level `fsync` a log that was not
//!   closed gets a new [`Epoch`](crate::Epoch) when it is opened, and so every reader of the old one hears of a gap.
//!
//! # Space
//!
//! The file grows to what retention keeps and is reused from there on. Pages that become free at its end
//! are given back with the next commits, those in its middle when the file is compacted: when it is opened and is
//! mostly free ([`DiskConfig::compact_above_bytes`]), or by [`StoppedLog::compact`].
//!
//! # Files
//!
//! They form a ladder: no two of them use each other, and none uses this one.
//!
//! * `block`, `codec`, `checked`, `runs`: how values are written; `tables`: which there are; `scan`: records in blocks.
//! * `storage`, `location`, `shared_database`, `panics`: the file, and redb on it.
//! * `meta`, `log_state`, `session`, `seal`: where the log stands, and whether it is what it was. `ids`, `index`, `states`, `snapshots`: what finds a record, and what stands beside.
//! * `tombstones`, `ledger`, `topic_retention`, `trim`: what retention removes; `due`: what readers do not get meanwhile.
//! * `open`, `compact`; `pending`, `commit`, `shared`, `writer`: opening and writing.
//! * `readers`, `topic_cursor`, `sink`, `page`, `lookup`, `yield_budget`: reading.
//! * `broker`: all of it as a [`Broker`](crate::Broker); `stopped`, `inspect`, `verify`, `import`, `salvage`: the tools.

mod block;
mod broker;
mod checked;
mod codec;
mod commit;
mod compact;
mod config;
mod due;
mod error;
mod ids;
mod import;
mod index;
mod inspect;
mod ledger;
mod location;
mod log_state;
mod lookup;
mod meta;
mod open;
mod page;
mod panics;
mod pending;
mod read_error;
mod readers;
mod runs;
mod salvage;
mod scan;
mod seal;
mod session;
mod shared;
mod shared_database;
mod sink;
mod snapshots;
mod states;
mod stopped;
mod storage;
mod tables;
mod tombstones;
mod topic_cursor;
mod topic_retention;
mod trim;
mod verify;
mod writer;
mod yield_budget;

pub use broker::DiskBroker;
pub use config::DiskConfig;
pub use error::{LogToolError, OpenError};
pub use import::{Imported, LogImport};
pub use inspect::Inspection;
pub use salvage::{Salvaged, salvage};
pub use seal::NewEpoch;
pub use stopped::{Progress, StoppedLog};
pub use verify::{LogProblem, Verification};
