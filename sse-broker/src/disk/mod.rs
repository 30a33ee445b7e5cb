//! The log on disk, on redb.
//!
//! One thread writes and a few read; publishers and readers wait in their futures, on no thread, and
//! need no particular runtime. What is acknowledged is in a commit that the disk has confirmed (at the
//! level `fsync`), and so is all that the tail hears: no reader ever saw what a crash took back.
//!
//! * **Group commit without a timer.** What arrives while a commit runs is the next group. One publisher
//!   alone waits for its own commit and for nothing else; many share one. Only after a commit that
//!   answered several does the writer let them run for up to an eighth of that commit's time when the
//!   first of them is back: with 1,024 in flight that was 44,000 appends a second before and 126,000
//!   after, beside redb's bare 120,000 and 194,000 in the same two runs on a busy machine.
//! * **A failed commit fences the writer.** Nothing is acknowledged on a storage that has once failed,
//!   nothing is tried again blindly; what was committed before can be read on. Opening the log again is
//!   the way out. A full disk is an answer of its own, and ends by itself when there is space.
//! * **A commit writes its records and little else.** They lie side by side in blocks of a page or a few,
//!   one insertion each. What points at them by topic follows some thousand records later, sorted; ids are
//!   found in memory, nine to eighteen bytes for each that is retained, and are listed in the file only to
//!   be read when it is opened.
//! * **Reads cost what they return.** A position is sought in a B-tree, a topic and an id in an index.
//! * **Damage is contained.** Each record and each value carries a checksum. A damaged record is left out
//!   and announced as a gap; a damaged index is passed over.
//! * **A log that may have lost something is another log.** Below the level `fsync` a log that was not
//!   closed gets a new [`Epoch`] when it is opened, and so every reader of the old one hears of a gap.
//!
//! # Space
//!
//! The file grows to what retention keeps and is reused from there on; pages that become free at its end
//! are given back with the next commits, those in its middle when the file is compacted: when it is opened and is
//! mostly free ([`DiskConfig::compact_above_bytes`]), or by [`StoppedLog::compact`].

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
mod scan;
mod session;
mod shared;
mod shared_database;
mod sink;
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
pub use stopped::{Progress, StoppedLog};
pub use verify::{LogProblem, Verification};
