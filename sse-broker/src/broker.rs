//! The [`Broker`] trait: what every log promises, in memory or on disk.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use sse_protocol::EventId;

use crate::{
    Epoch, NewRecord, Offset, Position, Record, RecordRef, StateChange, StoredState, Topic,
    TopicPattern, Trimmed, UnixMillis,
};

/// A future on the heap, as the [`Broker`] trait returns them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The log behind a hub.
///
/// # Promises
///
/// * **One order.** Every committed record has an offset; offsets of an epoch strictly increase, in
///   the order in which the tail is handed the records.
/// * **Acknowledged is safe.** [`append`](Self::append) answers after the commit, and the tail is told after it too, so no
///   reader sees what a crash takes back. How safe is [`durability`](Self::durability).
/// * **Once.** A publisher's id is stored once while it is retained: the same id with the same
///   content answers the first one's position, with other content it is a conflict.
/// * **All or nothing.** The records of one `append` are committed together, side by side in the
///   order, or none is; only duplicates and conflicts are left out, and each says so. A record that
///   [expects](NewRecord::expects) a version of a snapshot that the topic does not have takes the whole append with it.
/// * **Another epoch is said.** While a log is open its epoch changes only by [`begin_epoch`](Self::begin_epoch) and what
///   an implementation says is like it. The tail hears of it in the order of the records:
///   all that it heard before is of the old epoch, all that it hears after of the new.
pub trait Broker: Send + Sync + 'static {
    /// Puts records into the log; one answer for each, in order.
    ///
    /// # Cancel safety
    ///
    /// Once called, the records are on their way whether or not the future is polled to its end;
    /// dropping it only drops the answer.
    ///
    /// # Errors
    ///
    /// When nothing of it was committed, or when that is not known; see [`AppendError`].
    fn append(
        &self,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>>;

    /// Reads the next page of the log after an offset, by what retention says at `request.now`.
    ///
    /// What is too old by then, or too much, is not in the page, and the page tells of it like of what was
    /// trimmed: whether [`trim`](Self::trim) was called since makes no difference.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>>;

    /// Reads the next page as bytes: `render` is lent each record in order, and writes it, or nothing.
    ///
    /// It runs where the log is read, and the log on disk copies nothing and allocates nothing for a
    /// record on the way. The page is bounded as in [`read`](Self::read), and by `max_bytes` of what is
    /// written, where the log can tell.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn render(
        &self,
        request: ReadRequest,
        mut render: Render,
    ) -> BoxFuture<'static, Result<Rendered, ReadError>> {
        let page = self.read(request);
        Box::pin(async move {
            let page = page.await?;
            let mut rendered = Rendered {
                first: page.records.first().map(|first| first.position.offset),
                upto: page.upto,
                trimmed: page.trimmed,
                removed: page.removed,
                ..Rendered::default()
            };
            for record in &page.records {
                rendered.add(&RecordRef::from(&**record), &mut render);
            }
            Ok(rendered)
        })
    }

    /// Where the retained record with a publisher's `id` stands.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<Offset>, ReadError>>;

    /// The snapshots of all topics that begin with `prefix`, in the order of the topics.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn snapshots(&self, prefix: &str)
    -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>>;

    /// Which version a topic's snapshot has: the position of the record that put it, offset 0 when there is none.
    ///
    /// It is what a record may [expect](NewRecord::expects). A snapshot from before versions were kept has offset 1.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn snapshot_version(&self, topic: Topic) -> BoxFuture<'static, Result<Position, ReadError>>;

    /// Goes on under another epoch: positions of the old one are foreign from here on. What is kept stays, under the
    /// same offsets. Answers what the log covers then.
    ///
    /// The tail is told before this answers ([`Tail::epoch_changed`]). The epoch that the log has changes nothing.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); a broker that cannot says so by [`AppendError::Fenced`], which is what happens
    /// unless an implementation does better.
    fn begin_epoch(&self, epoch: Epoch) -> BoxFuture<'static, Result<Bounds, AppendError>> {
        let _ = epoch;
        Box::pin(ready(Err(AppendError::Fenced {
            reason: "this log cannot begin another epoch".into(),
        })))
    }

    /// Whether the retention of single topics has a rule for this topic.
    ///
    /// A reader of such a topic is to be served from the log: what is kept elsewhere, a window of the newest
    /// events for instance, does not know the rules. Cheap: patterns are matched once for each topic.
    fn has_rule_for(&self, topic: &str) -> bool {
        let _ = topic;
        false
    }

    /// Whether there is any rule for single topics; for readers that name none.
    fn has_topic_rules(&self) -> bool {
        false
    }

    /// Removes what is too old at `now`, oldest first; called now and then by the owner of the clock.
    ///
    /// Costs what it removes. What is beyond the retention's count or bytes goes without it, as
    /// records arrive; what single topics' rules ask for has been done when this answers.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>>;

    /// Removes records for good, all together or none; answers how many of them were there. What is gone is told to readers as what
    /// the retention of a topic has removed, and the ids that it had are free again.
    ///
    /// Answers when that is safe, also where appended records are less so. Costs what it removes; call it with some thousand at a time.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); a broker that cannot says so by [`AppendError::Fenced`], which is what happens unless an
    /// implementation does better.
    fn erase(&self, offsets: Vec<Offset>) -> BoxFuture<'static, Result<u64, AppendError>> {
        drop(offsets);
        Box::pin(ready(Err(AppendError::Fenced {
            reason: "nothing can be erased from this log".into(),
        })))
    }

    /// Changes states that stand beside the log, all together or none; answers when they are as safe
    /// as [`durability`](Self::durability) says.
    ///
    /// They go along with the commit that is next, so that they cost no commit of their own while
    /// records arrive. Changes of one key take effect in the order of the calls.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); a broker that keeps no states says so by
    /// [`AppendError::Fenced`], which is what happens unless an implementation does better.
    fn put_states(&self, changes: Vec<StateChange>) -> BoxFuture<'static, Result<(), AppendError>> {
        drop(changes);
        Box::pin(ready(Err(AppendError::Fenced {
            reason: "this log keeps no states".into(),
        })))
    }

    /// The states whose keys begin with `prefix`, in the order of the keys; none unless an
    /// implementation does better.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    fn states(&self, prefix: &str) -> BoxFuture<'static, Result<Vec<StoredState>, ReadError>> {
        let _ = prefix;
        Box::pin(ready(Ok(Vec::new())))
    }

    /// What the log covers now.
    fn bounds(&self) -> Bounds;

    /// How safe an acknowledged record is.
    fn durability(&self) -> Durability;

    /// What the log holds in memory now, as far as it can tell: records, snapshots, states and indexes. What waits to be
    /// committed is its publishers'. Cheap.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// How the log is. Cheap: it is what is known anyway.
    fn health(&self) -> LogHealth {
        LogHealth::default()
    }

    /// Notes the time, for [`last_time`](Self::last_time) after a restart. It goes to where the log is kept with what is
    /// written next, and at the end. A log that does not outlive the process forgets it.
    fn note_time(&self, time: LogTime) {
        let _ = time;
    }

    /// The time that was noted last when the log was last open.
    fn last_time(&self) -> Option<LogTime> {
        None
    }

    /// Sets who is told of committed records. To be called once, before the first append.
    fn follow(&self, tail: Arc<dyn Tail>);

    /// Commits what is under way and closes the log; later appends fail with [`AppendError::Closed`].
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Who is told of what was committed.
pub trait Tail: Send + Sync + 'static {
    /// Takes the next committed records, in order. Called by one thread at a time, with no lock of
    /// the broker held, before the publishers of these records are answered.
    fn committed(&self, records: &[Arc<Record>]);

    /// The log is another one from here on, of which nothing has been told yet: what comes next is after `bounds.head`,
    /// which may be smaller than what was told before. Called as [`committed`](Self::committed) is, and after
    /// [`Broker::bounds`] says so.
    fn epoch_changed(&self, bounds: Bounds);
}

/// What became of one record of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Appended {
    /// It is in the log.
    Stored(Position),
    /// The same record was there already, at this position; nothing new was stored.
    Duplicate(Position),
    /// Its id belongs to a record with other content, at this position; it was not stored.
    Conflict(Position),
    /// It [expects](NewRecord::expects) another version of its topic's snapshot than this one, so nothing of its append
    /// was stored. What is expected is compared with what stood before the append, and not at all for a duplicate: a
    /// retry of an append that was stored is answered as that.
    Stale(Position),
    /// Another record of the same append was stale, so this one was not stored.
    Withheld,
}

/// Why an append failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log is closed, or closing.
    #[error("the log is closed")]
    Closed,
    /// Too much is waiting to be committed; nothing was stored, and trying again later helps.
    #[error("too much is waiting to be committed")]
    Busy,
    /// There is no space left; nothing was stored, and publishing works again once there is.
    #[error("no space is left for the log")]
    Full,
    /// The commit failed: it is not known whether it was stored. Opening the log again tells; a publisher that repeats it
    /// then with the same id has it stored once. Nothing is stored until then.
    #[error(
        "the log failed while it was written, and it is not known whether it was stored: {reason}"
    )]
    Unknown {
        /// What happened.
        reason: Arc<str>,
    },
    /// An earlier commit failed, and nothing is stored until the log has been opened again; nor was this.
    #[error("the log cannot be written: {reason}")]
    Fenced {
        /// What happened.
        reason: Arc<str>,
    },
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The storage failed.
    #[error("the log cannot be read: {reason}")]
    Storage {
        /// What happened.
        reason: Arc<str>,
    },
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Only records after this offset.
    pub after: Offset,
    /// Only records of these topics.
    pub scope: Scope,
    /// At most so many records; at least one is read where there is one.
    pub max_records: usize,
    /// At most so many bytes of event data, but always one record.
    pub max_bytes: usize,
    /// The time, by which records are too old or not. It is the same clock that [`Broker::trim`] is told.
    pub now: UnixMillis,
}

/// Which records concern a reader. It may be too wide, never too narrow: the reader filters again.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every record.
    All,
    /// Records that have at least one of these topics.
    Topics(Arc<[Topic]>),
    /// Records that have a topic which this means. They are looked for among all records.
    Matching(Arc<dyn TopicPattern>),
}

/// A piece of the log.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records, in order, oldest first.
    pub records: Vec<Arc<Record>>,
    /// How far this page reaches: there is no record within the scope after `request.after` and up
    /// to here that is not in it. Read on from here.
    pub upto: Offset,
    /// Whether records after `request.after` may have been trimmed before they were read: then this
    /// page begins with the oldest that is left.
    pub trimmed: bool,
    /// The newest offset after `request.after` and the log's floor at which the retention of a topic within the scope
    /// has removed something, whether or not this page reaches so far. May name one where nothing within the scope
    /// was removed when very many topics are concerned, and never misses one.
    pub removed: Option<Offset>,
}

/// Writes a record's bytes behind those that are there, or none. See [`Broker::render`].
pub type Render = Box<dyn FnMut(&RecordRef<'_>, &mut Vec<u8>) + Send>;

/// A piece of the log, as bytes. See [`Broker::render`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What was written for the records, in order.
    pub bytes: Vec<u8>,
    /// For how many of them something was written.
    pub events: u64,
    /// The first record, whether or not anything was written for it.
    pub first: Option<Offset>,
    /// See [`Page::upto`].
    pub upto: Offset,
    /// See [`Page::trimmed`].
    pub trimmed: bool,
    /// See [`Page::removed`].
    pub removed: Option<Offset>,
}

impl Rendered {
    pub(crate) fn add(&mut self, record: &RecordRef<'_>, render: &mut Render) {
        let before = self.bytes.len();
        render(record, &mut self.bytes);
        self.events += u64::from(self.bytes.len() > before);
    }
}

/// What a log covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which log this is.
    pub epoch: Epoch,
    /// Everything after this offset is retained but for what the retention of single topics has taken;
    /// everything up to it may be gone.
    pub floor: Offset,
    /// The newest committed offset; 0 when nothing was ever committed.
    pub head: Offset,
}

/// How a log is; see [`Broker::health`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogHealth {
    /// Why nothing is stored until the log has been opened again; `None` while it is written to.
    pub fenced: Option<Arc<str>>,
    /// Why it has another epoch than when it was last open; `None` when it goes on as what it was.
    pub new_epoch: Option<Arc<str>>,
    /// Whether acknowledged records are known to be gone: [`new_epoch`](Self::new_epoch) says which.
    pub has_lost: bool,
}

/// What time it was: for whoever owns the clock, to find out whether it jumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTime {
    /// By the reckoning that [`Broker::trim`] is told.
    pub age: UnixMillis,
    /// By the wall clock.
    pub wall: UnixMillis,
}

/// How safe a record is once its publisher has the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// It is in this process's memory.
    Memory,
    /// It is with the operating system: it survives a crash of the process, not of the machine.
    Os,
    /// It is on the disk: it survives the loss of power.
    Fsync,
}

impl Durability {
    /// Its name in answers and configuration: `memory`, `os`, `fsync`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
