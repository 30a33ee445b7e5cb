//! The log of a Server-Sent Events hub: what was said, in one order, and how to read on from any point of it.
//!
//! A [`Broker`] takes [`NewRecord`]s, gives each a [`Position`] and keeps it as long as its
//! [`Retention`] says. It knows nothing of who is connected: what it has committed it hands, in order,
//! to one [`Tail`], and what a reader has missed it reads back in [`Page`]s.
//!
//! * [`topic`](Topic), [`position`](Position), [`record`](Record), [`audience`](Audience): what the log is made of.
//! * [`broker`](Broker): the promises, the same for every backend and tested by one suite.
//! * [`retention`](Retention): how long it remembers, all and by topic; [`pattern`](TopicPattern): which
//!   topics; `topic_retention`: what the rules of topics take, the same for every backend.
//! * [`replay`](ResumeFrom) and [`splice`](Splice): where a reader goes on, and how it gets from the
//!   log into the live window: pure, with nothing lost, nothing twice, or the [`Gap`] first.
//! * [`state`](StateChange): small things beside the log that outlive a restart.
//! * [`MemoryBroker`]: as long as the process lives.
//! * `DiskBroker`, by the feature `disk` (default): on disk, safe once acknowledged; `StoppedLog`,
//!   `LogImport` and `salvage` are its tools.

mod audience;
mod broker;
#[cfg(feature = "disk")]
mod disk;
#[cfg(feature = "disk")]
mod encoding;
mod memory;
mod pattern;
mod position;
mod queue;
mod record;
mod replay;
mod retention;
mod splice;
mod state;
mod tombstones;
mod topic;
mod topic_retention;

pub use audience::{Audience, AudienceRef, TopicNames};
pub use broker::{
    AppendError, Appended, Bounds, BoxFuture, Broker, Durability, LogHealth, LogTime, Page,
    ReadError, ReadRequest, Render, Rendered, Scope, Tail,
};
#[cfg(feature = "disk")]
pub use disk::{
    DiskBroker, DiskConfig, Imported, Inspection, LogImport, LogProblem, LogToolError, NewEpoch,
    OpenError, Progress, Salvaged, StoppedLog, Verification, salvage,
};
pub use memory::{MemoryBroker, MemoryConfig};
pub use pattern::TopicPattern;
pub use position::{Epoch, Offset, ParsePositionError, Position};
pub use queue::DEFAULT_MAX_PENDING_BYTES;
pub use record::{DataKind, NewRecord, Priority, Record, RecordRef, Snapshot, UnixMillis};
pub use replay::{Gap, GapReason, ResumeFrom};
pub use retention::{Retention, TopicRetention, Trimmed};
pub use splice::{Splice, Step};
pub use state::{StateChange, StoredState};
pub use topic::{InvalidTopic, Topic};
