//! The audit log: who did what, as one JSON object a line.
//!
//! What is written is a fact: an event was published (never what it says), a stream began or ended, a request was refused,
//! something was administered, the file of API tokens changed. The `writer` is a thread of its own; nobody waits for it. Facts that
//! cannot be kept until they are written are dropped, counted, and the log itself says how many. Strangers cannot make it long: of
//! refusals so many are written a second, and the others are counted.
//!
//! No secret is ever part of a fact: no data, no token, no query.

mod fact;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use fact::{Cut, Fact, Topics, Who};
use writer::{Target, Writer};

use crate::clock;

/// Where facts are written; cloning it is cheap. By default nowhere.
#[derive(Clone, Default)]
pub struct AuditLog(Option<Arc<Inner>>);

struct Inner {
    lines: SyncSender<Message>,
    shared: Arc<Shared>,
    refusals: Mutex<RefusalsOfSecond>,
}

/// What its users and its thread have in common.
#[derive(Debug, Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    written: AtomicU64,
    /// Those that the thread has not told of yet.
    dropped: AtomicU64,
    dropped_total: AtomicU64,
    failed_total: AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct RefusalsOfSecond {
    begun: Instant,
    count: u32,
    left_out: u64,
}

/// How the audit log fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditStatus {
    /// Lines that were written.
    pub written: u64,
    /// Facts that were not, because too many waited.
    pub dropped: u64,
    /// Lines that the file system did not take.
    pub failed: u64,
}

impl AuditLog {
    /// Appends to a file, which only its owner may read if it is made. A file that was renamed or removed is made anew within a
    /// second, so that logs can be rotated.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Self::start(Target::open(path)?)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    ///
    /// When its thread cannot be started.
    pub fn to_stdout() -> io::Result<Self> {
        Self::start(Target::Stdout)
    }

    fn start(target: Target) -> io::Result<Self> {
        let (lines, receiver): (_, Receiver<Message>) = sync_channel(MAX_WAITING_LINES);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(target, Arc::clone(&shared));
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self(Some(Arc::new(Inner {
            lines,
            shared,
            refusals: Mutex::new(RefusalsOfSecond {
                begun: clock::now(),
                count: 0,
                left_out: 0,
            }),
        }))))
    }

    /// Whether anything is written: if not, nobody need gather facts.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a fact, soon. Costs its serialization; never waits.
    pub(crate) fn write(&self, fact: &Fact<'_>) {
        let Some(inner) = &self.0 else { return };
        if matches!(fact, Fact::Refused { .. }) {
            match inner.refusals.lock().one_more(clock::now()) {
                None => return,
                Some(0) => {}
                Some(count) => inner.send(&Fact::RefusalsLeftOut { count }),
            }
        }
        inner.send(fact);
    }

    /// Writes that the hub serves from now on.
    pub fn started(&self) {
        self.write(&Fact::Started {
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
        });
    }

    /// Writes that the configuration was read again: the settings that changed, and those that need a restart to.
    pub fn reloaded(&self, changed: &[String], needs_restart: &[String]) {
        self.write(&Fact::Reloaded {
            changed: changed.iter().map(|name| Cut(name)).collect(),
            needs_restart: needs_restart.iter().map(|name| Cut(name)).collect(),
        });
    }

    /// Writes that the hub has ended in order, and waits a little until that is written. It blocks.
    pub fn stopped(&self) {
        self.write(&Fact::Stopped);
        self.flush(LAST_WORDS);
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> AuditStatus {
        let Some(inner) = &self.0 else {
            return AuditStatus::default();
        };
        let shared = &inner.shared;
        AuditStatus {
            written: shared.written.load(Ordering::Relaxed),
            dropped: shared.dropped_total.load(Ordering::Relaxed),
            failed: shared.failed_total.load(Ordering::Relaxed),
        }
    }

    /// Waits until what was said so far is written, for so long at most. For the end; it blocks.
    pub fn flush(&self, within: Duration) {
        let Some(inner) = &self.0 else { return };
        let (done, is_done) = sync_channel(1);
        if inner.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(within);
        }
    }
}

impl Inner {
    fn send(&self, fact: &Fact<'_>) {
        let line = fact::line(clock::unix_millis(), fact);
        let bytes = line.len();
        let shared = &self.shared;
        let waiting = shared.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let is_sent =
            waiting < MAX_WAITING_BYTES && self.lines.try_send(Message::Line(line)).is_ok();
        if !is_sent {
            shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            shared.dropped_total.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RefusalsOfSecond {
    /// Whether one more is to be written, and how many were not since the last that was.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.begun) >= Duration::from_secs(1) {
            self.begun = now;
            self.count = 0;
        }
        if self.count >= MAX_REFUSALS_A_SECOND {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuditLog").field(&self.is_on()).finish()
    }
}

/// How much waits to be written at most. Stated guesses: some ten thousand facts, which a disk takes in less than a second.
const MAX_WAITING_LINES: usize = 16_384;
const MAX_WAITING_BYTES: usize = 4 << 20;
/// So many refusals are written a second. A stated guess: enough to see who does what, and 3 GB a day at most.
/// How long the end waits for what is still to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);
const MAX_REFUSALS_A_SECOND: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_some_are_written_and_the_others_counted() {
        let begun = clock::now();
        let mut refusals = RefusalsOfSecond {
            begun,
            count: 0,
            left_out: 0,
        };
        let written = (0..250).filter_map(|_| refusals.one_more(begun)).count();
        assert_eq!(written, 100);
        let later = begun + Duration::from_secs(1);
        assert_eq!(refusals.one_more(later), Some(150));
        assert_eq!(refusals.one_more(later), Some(0));
    }

    #[test]
    fn an_audit_log_that_is_off_takes_everything_and_writes_nothing() {
        let audit = AuditLog::default();
        assert!(!audit.is_on());
        audit.write(&Fact::RefusalsLeftOut { count: 1 });
        audit.flush(Duration::from_secs(1));
        assert_eq!(audit.status(), AuditStatus::default());
    }
}
