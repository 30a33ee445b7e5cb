//! A committed record on its way to readers: encoded once for each format it is wanted in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{Record, RecordRef};
use sse_compress::MessageCompressor;
use sse_pool::Entry;

use super::when_late::Class;
use crate::access::visibility;
use crate::wire::{Format, Message};

/// What the pool hands to readers.
#[derive(Debug)]
pub struct EncodedRecord {
    record: Arc<Record>,
    committed_at: Instant,
    /// Kept out of every compression context.
    is_never_compressed: bool,
    /// What the rules for late readers make of it.
    class: Option<Class>,
    /// As a plain event stream has it, which is what nearly all readers want.
    plain: Bytes,
    /// In the other formats, by number.
    others: OnceLock<Box<Others>>,
    /// What the other formats of all records take.
    others_bytes: Arc<AtomicUsize>,
}

type Others = [OnceLock<Bytes>; Format::COUNT];

impl Drop for EncodedRecord {
    fn drop(&mut self) {
        if let Some(others) = self.others.get() {
            let frames = others.iter().filter_map(OnceLock::get);
            let bytes = size_of::<Others>() + frames.map(frame_bytes).sum::<usize>();
            self.others_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// What a frame takes: its bytes, and their counter once they are shared.
fn frame_bytes(frame: &Bytes) -> usize {
    frame.len() + FRAME_OVERHEAD_BYTES
}

/// The counter of a frame's bytes, and an allocator's own part of both. A stated guess.
const FRAME_OVERHEAD_BYTES: usize = 48;
/// What an encoded record takes beside its frame, record and label.
const ENCODED_BYTES: usize = size_of::<EncodedRecord>() + 32;
/// What an entry counts for in a read beside its frame, so that a batch has a bounded number of small ones. A stated guess.
const READ_OVERHEAD_BYTES: usize = 512;

impl EncodedRecord {
    /// Prepares a record; its plain form is encoded at once, the others when first asked for.
    pub(crate) fn new(
        record: Arc<Record>,
        is_never_compressed: bool,
        class: Option<Class>,
        compressor: &MessageCompressor,
        others_bytes: Arc<AtomicUsize>,
        now: Instant,
    ) -> Self {
        Self {
            others_bytes,
            plain: encode(&record, Format::PLAIN, compressor),
            record,
            committed_at: now,
            is_never_compressed,
            class,
            others: OnceLock::new(),
        }
    }

    /// The event's bytes in this format.
    pub(crate) fn frame(&self, format: Format, compressor: &MessageCompressor) -> &Bytes {
        if format == Format::PLAIN {
            return &self.plain;
        }
        let count = |bytes| self.others_bytes.fetch_add(bytes, Ordering::Relaxed);
        let others = self.others.get_or_init(|| {
            count(size_of::<Others>());
            Box::default()
        });
        others[format.number()].get_or_init(|| {
            let frame = encode(&self.record, format, compressor);
            count(frame_bytes(&frame));
            frame
        })
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Whether it is kept out of every compression context.
    pub(crate) fn is_never_compressed(&self) -> bool {
        self.is_never_compressed
    }

    /// What the rules for late readers make of it; `None` where it is never left out.
    pub(crate) fn class(&self) -> Option<Class> {
        self.class
    }

    /// When it was committed.
    pub(crate) fn committed_at(&self) -> Instant {
        self.committed_at
    }
}

fn encode(record: &Record, format: Format, compressor: &MessageCompressor) -> Bytes {
    let mut out = Vec::with_capacity(record.content.event.data.len() + 128);
    let record = RecordRef::from(record);
    format.write(Message::Event(&record), compressor, &mut out);
    // No larger than they are: they stay as long as the window has the event.
    Bytes::from(out.into_boxed_slice())
}

/// The pool's view of a record: where it goes and who may have it.
pub(crate) fn entry(
    record: &Record,
    payload: Arc<EncodedRecord>,
    label: Arc<str>,
) -> Entry<Arc<EncodedRecord>> {
    let content = &record.content;
    let (audience, recipients) = visibility::audience(content);
    let size_bytes = payload.plain.len() + READ_OVERHEAD_BYTES;
    let shared_bytes = content.memory_bytes();
    let payload_bytes = frame_bytes(&payload.plain) + ENCODED_BYTES + shared_bytes;
    Entry {
        offset: record.position.offset,
        payload,
        size_bytes,
        payload_bytes,
        shared_bytes,
        topics: content
            .topics
            .iter()
            .map(|topic| topic.as_arc().clone())
            .collect(),
        audience,
        recipients,
        label: Some(label),
        priority: match content.priority {
            sse_broker::Priority::Low => sse_pool::Priority::Low,
            sse_broker::Priority::Normal => sse_pool::Priority::Normal,
            sse_broker::Priority::High => sse_pool::Priority::High,
        },
    }
}
