//! Streams with `Content-Encoding: gzip`: compressed once for all readers that get the same events.
//!
//! Readers with the same subscriptions, rights and form are a *cohort*. What one of them reads first is encoded as a block,
//! and the others take the same bytes. A reader that has something else to hear (its greeting, a replay, an event for it
//! alone, a batch that does not fall on the blocks' borders) gets that as stored bytes of its own and is back in step
//! soon after; see [`sse_compress::CohortEncoder`]. So the cost of an event does not
//! depend on the number of readers, and neither does the memory: a cohort holds about as much as one connection's
//! own encoder would.
//!
//! Two cohorts share nothing, so what one reader may see never shapes the bytes of another who may not.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sse_compress::{BlockForm, Coding, CohortBlock, CohortEncoder, CohortReader, Level};
use sse_pool::{Selector, Visibility};

use super::encoded_record::EncodedRecord;
use super::interest::Interest;
use super::reader::Batch;
use crate::access::budget::{Account, Budget, Permit};
use crate::wire::Format;

/// Everything that decides which events a reader gets, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CohortKey {
    /// In its [canonical form](Interest::canonical).
    pub(crate) interest: Interest,
    pub(crate) visibility: Visibility,
    pub(crate) format: Format,
}

/// All cohorts of a hub, within a budget of memory.
#[derive(Debug)]
pub(crate) struct Cohorts {
    cohorts: Mutex<HashMap<CohortKey, Weak<Cohort>>>,
    budget: Budget,
    counts: Arc<Counts>,
}

/// What stream compression has done.
#[derive(Debug, Default)]
struct Counts {
    cohorts: AtomicUsize,
    plain_bytes: AtomicU64,
    packed_bytes: AtomicU64,
}

/// The same, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CohortStats {
    /// Cohorts with readers.
    pub(crate) cohorts: usize,
    /// Bytes that were encoded, each once however many readers took it.
    pub(crate) plain_bytes: u64,
    /// What became of them.
    pub(crate) packed_bytes: u64,
}

#[derive(Debug)]
struct Cohort {
    inner: Mutex<Blocks>,
    _permit: Permit,
    counts: Arc<Counts>,
}

impl Drop for Cohort {
    fn drop(&mut self) {
        self.counts.cohorts.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The encoder and its last blocks.
#[derive(Debug)]
struct Blocks {
    encoder: CohortEncoder,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    /// The number of the block that comes next.
    next: u64,
    /// The newest offset that was encoded.
    upto: u64,
}

#[derive(Debug)]
struct Recent {
    /// The events in it; none for a heartbeat.
    offsets: Vec<u64>,
    block: Arc<CohortBlock>,
}

/// One reader of a cohort.
#[derive(Debug)]
pub(crate) struct Member {
    cohort: Arc<Cohort>,
    reader: CohortReader,
    /// What it was subscribed to when it joined. When that changes, it gets bytes of its own.
    selector: Arc<Selector>,
    is_detached: bool,
    has_begun: bool,
    /// The block that it takes next.
    next: u64,
}

impl Cohorts {
    /// Cohorts within their account of a budget.
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            cohorts: Mutex::default(),
            budget,
            counts: Arc::default(),
        }
    }

    /// A place in the cohort of this key; `None` when there is no such cohort and no memory is left for one, or not for a reader
    /// at this address.
    pub(crate) fn join(
        &self,
        key: CohortKey,
        selector: Arc<Selector>,
        address: IpAddr,
    ) -> Option<Member> {
        let mut cohorts = self.cohorts.lock();
        let known = cohorts.get(&key).and_then(Weak::upgrade);
        let cohort = match known {
            Some(cohort) => cohort,
            None => {
                let account = Account::Compression;
                let permit = self.budget.try_take(account, address, COHORT_BYTES).ok()?;
                self.counts.cohorts.fetch_add(1, Ordering::Relaxed);
                let cohort = Arc::new(Cohort {
                    inner: Mutex::new(Blocks {
                        encoder: CohortEncoder::new(Level::Fast),
                        recent: VecDeque::new(),
                        recent_bytes: 0,
                        next: 0,
                        upto: 0,
                    }),
                    _permit: permit,
                    counts: Arc::clone(&self.counts),
                });
                let most = self.budget.max_bytes(account) / COHORT_BYTES;
                if cohorts.len() >= 2 * most.max(8) {
                    cohorts.retain(|_, cohort| cohort.strong_count() > 0);
                }
                cohorts.insert(key, Arc::downgrade(&cohort));
                cohort
            }
        };
        drop(cohorts);
        let (reader, next) = {
            let mut blocks = cohort.inner.lock();
            (blocks.encoder.join(), blocks.next)
        };
        Some(Member {
            cohort,
            reader,
            selector,
            is_detached: false,
            has_begun: false,
            next,
        })
    }

    /// Forgets the subscriptions of cohorts that are gone.
    pub(super) fn forget_unused(&self) {
        let mut cohorts = self.cohorts.lock();
        cohorts.retain(|_, cohort| cohort.strong_count() > 0);
    }

    pub(crate) fn stats(&self) -> CohortStats {
        CohortStats {
            cohorts: self.counts.cohorts.load(Ordering::Relaxed),
            plain_bytes: self.counts.plain_bytes.load(Ordering::Relaxed),
            packed_bytes: self.counts.packed_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Member {
    /// What its bytes are in.
    pub(crate) const fn coding(&self) -> Coding {
        Coding::Gzip
    }

    /// Bytes that only this reader gets.
    pub(crate) fn own(&mut self, plain: &[u8]) -> Bytes {
        let mut out = self.begin();
        self.take_own(plain, &mut out);
        out.into()
    }

    /// A batch of the window. `is_same` says whether the reader still has the selector `self` knows of; `frame` writes one
    /// event.
    pub(crate) fn batch<'a>(
        &mut self,
        batch: &'a Batch,
        is_same: impl FnOnce(&Arc<Selector>) -> bool,
        frame: impl Fn(&'a Arc<EncodedRecord>) -> &'a Bytes,
    ) -> Bytes {
        self.is_detached |= !is_same(&self.selector);
        let mut writer = Writer {
            out: self.begin(),
            only: None,
        };
        let mut rest = &batch[..];
        if self.is_detached {
            self.take_each(rest, &frame, &mut writer);
            return writer.finish();
        }
        let cohort = Arc::clone(&self.cohort);
        let mut blocks = cohort.inner.lock();
        let mut is_stored = false;
        while let Some(first) = rest.first() {
            if first.recipients.is_some() {
                // For this reader alone.
                self.take_each(&rest[..1], &frame, &mut writer);
                rest = &rest[1..];
            } else if first.offset > blocks.upto {
                let taken = blocks.encode(rest, &frame, &cohort.counts);
                is_stored |= self.take_upto(&blocks, blocks.next - 1, &mut writer);
                rest = &rest[taken..];
            } else if let Some((number, len)) = blocks.find(rest) {
                is_stored |= self.take_upto(&blocks, number, &mut writer);
                rest = &rest[len..];
            } else {
                // In the middle of a block, or of one that is gone.
                self.take_each(&rest[..1], &frame, &mut writer);
                rest = &rest[1..];
                is_stored = true;
            }
        }
        if is_stored {
            blocks.encoder.request_full_flush();
        }
        drop(blocks);
        writer.finish()
    }

    /// A heartbeat: the whole cohort gets it, each reader when it is next written to, so that all stay in step.
    pub(crate) fn heartbeat(&mut self, plain: &Bytes) -> Bytes {
        let mut writer = Writer {
            out: self.begin(),
            only: None,
        };
        if self.is_detached {
            self.take_own(plain, &mut writer.out);
            return writer.finish();
        }
        let cohort = Arc::clone(&self.cohort);
        let mut blocks = cohort.inner.lock();
        let newest_is_heartbeat = blocks
            .recent
            .back()
            .is_some_and(|recent| recent.offsets.is_empty());
        if self.next >= blocks.next || !newest_is_heartbeat {
            let block = blocks.encoder.encode(plain.clone());
            blocks.push(Vec::new(), block, &cohort.counts);
        }
        // Events that it has not read come before; it is not told of them here.
        self.next = self.next.max(blocks.next - 1);
        if self.take_upto(&blocks, blocks.next - 1, &mut writer) {
            blocks.encoder.request_full_flush();
        }
        drop(blocks);
        writer.finish()
    }

    /// The clean end of the stream.
    pub(crate) fn finish(mut self) -> Bytes {
        let mut out = self.begin();
        out.extend_from_slice(&self.reader.finish());
        out.into()
    }

    fn begin(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.has_begun, true) {
            Vec::new()
        } else {
            self.reader.head().to_vec()
        }
    }

    fn take_own(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.reader.take_own(plain, out);
    }

    fn take_each<'a>(
        &mut self,
        entries: &'a [Arc<sse_pool::Entry<Arc<EncodedRecord>>>],
        frame: impl Fn(&'a Arc<EncodedRecord>) -> &'a Bytes,
        writer: &mut Writer,
    ) {
        for entry in entries {
            writer.spill();
            self.reader.take_own(frame(&entry.payload), &mut writer.out);
        }
    }

    /// Takes the block `number` and the heartbeats before it that it has not had; whether any was taken as stored bytes.
    fn take_upto(&mut self, blocks: &Blocks, number: u64, writer: &mut Writer) -> bool {
        let base = blocks.next - blocks.recent.len() as u64;
        let mut is_stored = false;
        // It may have been ahead of its events, by a heartbeat.
        for at in self.next.min(number).max(base)..=number {
            let Some(recent) = usize::try_from(at - base)
                .ok()
                .and_then(|at| blocks.recent.get(at))
            else {
                continue;
            };
            if at < number && !recent.offsets.is_empty() {
                continue;
            }
            let form = self.reader.take(&recent.block);
            is_stored |= form == BlockForm::Stored;
            writer.write(recent.block.bytes(form).clone());
        }
        self.next = self.next.max(number + 1);
        is_stored
    }
}

impl Blocks {
    /// Encodes as many events from the front as go into one block; how many that were.
    fn encode<'a>(
        &mut self,
        entries: &'a [Arc<sse_pool::Entry<Arc<EncodedRecord>>>],
        frame: impl Fn(&'a Arc<EncodedRecord>) -> &'a Bytes,
        counts: &Counts,
    ) -> usize {
        let is_never_compressed = entries[0].payload.is_never_compressed();
        let same: Vec<_> = entries
            .iter()
            .take_while(|entry| entry.recipients.is_none())
            .take_while(|entry| entry.payload.is_never_compressed() == is_never_compressed)
            .collect();
        let plain = match &same[..] {
            [only] => frame(&only.payload).clone(),
            many => {
                let mut plain = BytesMut::new();
                for entry in many {
                    plain.extend_from_slice(frame(&entry.payload));
                }
                plain.freeze()
            }
        };
        let offsets: Vec<u64> = same.iter().map(|entry| entry.offset).collect();
        let taken = offsets.len();
        self.upto = offsets.last().copied().unwrap_or(self.upto);
        let block = if is_never_compressed {
            self.encoder.encode_apart(plain)
        } else {
            self.encoder.encode(plain)
        };
        self.push(offsets, block, counts);
        taken
    }

    fn push(&mut self, offsets: Vec<u64>, block: CohortBlock, counts: &Counts) {
        let (plain, packed) = (
            block.plain().len(),
            block.bytes(BlockForm::Compressed).len(),
        );
        counts
            .plain_bytes
            .fetch_add(plain as u64, Ordering::Relaxed);
        counts
            .packed_bytes
            .fetch_add(packed as u64, Ordering::Relaxed);
        self.recent_bytes += plain + packed;
        self.recent.push_back(Recent {
            offsets,
            block: Arc::new(block),
        });
        self.next += 1;
        while self.recent.len() > 1
            && (self.recent.len() > MAX_RECENT || self.recent_bytes > MAX_RECENT_BYTES)
        {
            if let Some(oldest) = self.recent.pop_front() {
                let block = oldest.block;
                self.recent_bytes -= block.plain().len() + block.bytes(BlockForm::Compressed).len();
            }
        }
    }

    /// The block that holds exactly the first of these events, and how many it holds.
    fn find(&self, entries: &[Arc<sse_pool::Entry<Arc<EncodedRecord>>>]) -> Option<(u64, usize)> {
        let first = entries.first()?.offset;
        let base = self.next - self.recent.len() as u64;
        let at = self
            .recent
            .iter()
            .rposition(|recent| recent.offsets.first() == Some(&first))?;
        let offsets = &self.recent[at].offsets;
        let is_same = entries.len() >= offsets.len()
            && std::iter::zip(offsets, entries).all(|(offset, entry)| *offset == entry.offset);
        is_same.then_some((base + at as u64, offsets.len()))
    }
}

/// Bytes for one reader: a single block is passed on as it is, several are put behind each other.
struct Writer {
    out: Vec<u8>,
    only: Option<Bytes>,
}

impl Writer {
    fn write(&mut self, bytes: Bytes) {
        if self.out.is_empty() && self.only.is_none() {
            self.only = Some(bytes);
        } else {
            self.spill();
            self.out.extend_from_slice(&bytes);
        }
    }

    fn spill(&mut self) {
        if let Some(only) = self.only.take() {
            self.out.extend_from_slice(&only);
        }
    }

    fn finish(self) -> Bytes {
        self.only.unwrap_or_else(|| self.out.into())
    }
}

/// Blocks kept for readers that come a little later: the others of the same round.
const MAX_RECENT: usize = 64;
/// The same in bytes, before and after compression. A stated guess.
const MAX_RECENT_BYTES: usize = 128 << 10;
/// What a cohort takes of the budget.
const COHORT_BYTES: usize = CohortEncoder::MEMORY_BYTES + MAX_RECENT_BYTES;
