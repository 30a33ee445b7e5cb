//! Which copy of each record is saved: the blocks that were found come in order, and each offset has one record at most.
//!
//! A file has several copies of a block: pages are written anew and not changed, and the old ones stay until they are
//! used again. Copies that are the same count as one. Where whole copies of a record differ, because a commit was taken
//! back or the log once went on from an older state, the one is saved that
//!
//! 1. the database reaches, or else
//! 2. follows the record before it, by the running weight that each record has, or else
//! 3. was published last.

use std::sync::Arc;

use super::super::block::{MAX_HEAD_BYTES, RecordBlock};
use super::super::codec::{RecordView, TopicCache};
use super::super::error::LogToolError;
use super::sorted::{Find, Sorted};
use super::source::Source;
use crate::{NewRecord, Offset, UnixMillis};

/// What is known of an offset.
pub(super) enum Choice {
    /// Its record, and whether other whole records were found there.
    Record(Box<NewRecord>, bool),
    /// There was one, and no copy of it is whole. The largest copy had so many bytes.
    Damaged(u64),
    /// The rule of a topic has removed it.
    Removed,
}

/// Goes through the finds offset by offset.
pub(super) struct Choices {
    source: Arc<Source>,
    finds: Sorted,
    /// The blocks that the next offset may be in.
    open: Vec<OpenBlock>,
    next: Offset,
    /// The weight of all up to the record before, when that was the offset before.
    weight: Option<(Offset, u64)>,
    /// What the database does not have up to here was removed.
    trusted_upto: Offset,
    topics: TopicCache,
    taken: u64,
}

struct OpenBlock {
    find: Find,
    is_reached: bool,
    bytes: Vec<u8>,
}

impl Choices {
    /// Of these finds after `floor`. Up to `trusted_upto` the database is known to have every record that is left.
    pub(super) fn new(
        source: Arc<Source>,
        finds: Sorted,
        floor: Offset,
        trusted_upto: Offset,
    ) -> Self {
        Self {
            source,
            finds,
            open: Vec::new(),
            next: floor.saturating_add(1),
            weight: None,
            trusted_upto,
            topics: TopicCache::default(),
            taken: 0,
        }
    }

    /// The next offset of which anything is known.
    pub(super) fn next(&mut self) -> Result<Option<(Offset, Choice)>, LogToolError> {
        loop {
            self.open.retain(|block| block.find.last >= self.next);
            let Some(at) = self.next_offset() else {
                return Ok(None);
            };
            self.open_blocks(at)?;
            if !self.open.iter().any(|block| block.has(at)) {
                // The blocks that begin here are passed already, or cannot be read.
                self.next = self.next.max(at.saturating_add(1));
                continue;
            }
            self.next = at.saturating_add(1);
            return Ok(Some((at, self.choose(at))));
        }
    }

    fn next_offset(&self) -> Option<Offset> {
        let is_within = self.open.iter().any(|block| block.has(self.next));
        if is_within {
            return Some(self.next);
        }
        let opened = self.open.iter().map(|block| block.find.first);
        let found = self.finds.peek().map(|find| find.first);
        opened.chain(found).min().map(|at| at.max(self.next))
    }

    /// Reads the blocks that begin at or before an offset.
    fn open_blocks(&mut self, at: Offset) -> Result<(), LogToolError> {
        let cannot = |error: std::io::Error| LogToolError::Storage(error.to_string());
        while self.finds.peek().is_some_and(|find| find.first <= at) {
            let Some(find) = self.finds.pop().map_err(cannot)? else {
                break;
            };
            self.taken += 1;
            let same = self.open.iter_mut().rev().find(|open| {
                let open = open.find;
                (open.first, open.last, open.digest) == (find.first, find.last, find.digest)
            });
            if let Some(same) = same {
                same.is_reached |= find.at == Find::REACHED;
                continue;
            }
            if find.at == Find::REACHED || find.last < self.next {
                continue;
            }
            if let Some(bytes) = self.read_block(&find)? {
                self.open.push(OpenBlock {
                    find,
                    is_reached: false,
                    bytes,
                });
            }
        }
        Ok(())
    }

    fn read_block(&self, find: &Find) -> Result<Option<Vec<u8>>, LogToolError> {
        let there = self.source.len().saturating_sub(find.at);
        let mut head = vec![0; there.min(MAX_HEAD_BYTES as u64) as usize];
        self.source.read_what_is_readable(find.at, &mut head);
        let extent = RecordBlock::extent(&head)
            .filter(|extent| (extent.first, extent.last) == (find.first, find.last));
        let Some(extent) = extent else {
            // The file has changed, or a sector has gone, since it was looked at.
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(extent.bytes.min(there)).unwrap_or(0)];
        self.source.read_what_is_readable(find.at, &mut bytes);
        Ok(Some(bytes))
    }

    fn choose(&mut self, at: Offset) -> Choice {
        let mut best: Option<Candidate<'_>> = None;
        let (mut has_others, mut damaged) = (false, 0);
        let (mut is_reached, mut is_removed, mut is_removal_reached) = (false, false, false);
        let follows = self.weight.filter(|(before, _)| before + 1 == at);
        for open in &self.open {
            let Ok((block, _)) = RecordBlock::parse(open.find.last, &open.bytes) else {
                continue;
            };
            let Some(bytes) = block.record(at) else {
                continue;
            };
            is_reached |= open.is_reached;
            if bytes.is_empty() {
                is_removed = true;
                is_removal_reached |= open.is_reached;
                continue;
            }
            let Ok(view) = RecordView::decode(at, bytes) else {
                damaged = damaged.max(bytes.len() as u64);
                continue;
            };
            let weight_before = view.running_weight.wrapping_sub(view.weight_bytes());
            let candidate = Candidate {
                rank: (
                    open.is_reached,
                    follows.is_some_and(|(_, weight)| weight == weight_before),
                    view.published_at,
                    open.find.at,
                ),
                view,
                bytes,
            };
            match &best {
                None => best = Some(candidate),
                Some(other) => {
                    has_others |= other.bytes != candidate.bytes;
                    if candidate.rank > other.rank {
                        best = Some(candidate);
                    }
                }
            }
        }
        // A removal is newer than what it removed, unless it was of a state that the log did not stay in.
        let is_undone = best.as_ref().is_some_and(|best| best.rank.0) && !is_removal_reached;
        if is_removed && !is_undone || at <= self.trusted_upto && !is_reached {
            return Choice::Removed;
        }
        let Some(best) = best else {
            return Choice::Damaged(damaged);
        };
        if self.taken >= MAX_CACHED_FINDS {
            (self.topics, self.taken) = (TopicCache::default(), 0);
        }
        self.weight = Some((at, best.view.running_weight));
        let len = best.bytes.len() as u64;
        match best.view.to_record(&mut self.topics) {
            Ok(record) => Choice::Record(Box::new(record), has_others),
            Err(_) => Choice::Damaged(len),
        }
    }
}

impl OpenBlock {
    fn has(&self, offset: Offset) -> bool {
        (self.find.first..=self.find.last).contains(&offset)
    }
}

struct Candidate<'a> {
    /// Reached by the database, following the record before, when it was published, and where it lies.
    rank: (bool, bool, UnixMillis, u64),
    view: RecordView<'a>,
    bytes: &'a [u8],
}

/// The texts of topics are shared by the records of so many blocks.
const MAX_CACHED_FINDS: u64 = 4096;
