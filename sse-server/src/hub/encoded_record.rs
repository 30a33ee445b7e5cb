//! A committed record on its way to readers: encoded once for each format it is wanted in.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{Record, RecordRef};
use sse_compress::MessageCompressor;
use sse_pool::Entry;

use crate::access::visibility;
use crate::wire::{Format, Message};

/// What the pool hands to readers.
#[derive(Debug)]
pub struct EncodedRecord {
    record: Arc<Record>,
    committed_at: Instant,
    /// Kept out of every compression context.
    is_never_compressed: bool,
    /// As a plain event stream has it, which is what nearly all readers want.
    plain: Bytes,
    /// In the other formats, by number.
    others: OnceLock<Box<[OnceLock<Bytes>; Format::COUNT]>>,
}

impl EncodedRecord {
    /// Prepares a record; its plain form is encoded at once, the others when first asked for.
    pub(crate) fn new(
        record: Arc<Record>,
        is_never_compressed: bool,
        compressor: &MessageCompressor,
        now: Instant,
    ) -> Self {
        Self {
            plain: encode(&record, Format::PLAIN, compressor),
            record,
            committed_at: now,
            is_never_compressed,
            others: OnceLock::new(),
        }
    }

    /// The event's bytes in this format.
    pub(crate) fn frame(&self, format: Format, compressor: &MessageCompressor) -> &Bytes {
        if format == Format::PLAIN {
            return &self.plain;
        }
        let others = self.others.get_or_init(Box::default);
        others[format.number()].get_or_init(|| encode(&self.record, format, compressor))
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

    /// When it was committed.
    pub(crate) fn committed_at(&self) -> Instant {
        self.committed_at
    }
}

fn encode(record: &Record, format: Format, compressor: &MessageCompressor) -> Bytes {
    let mut out = Vec::with_capacity(record.content.event.data.len() + 128);
    let record = RecordRef::from(record);
    format.write(Message::Event(&record), compressor, &mut out);
    Bytes::from(out)
}

/// The pool's view of a record: where it goes and who may have it.
pub(crate) fn entry(
    record: &Record,
    payload: Arc<EncodedRecord>,
    size_bytes: usize,
) -> Entry<Arc<EncodedRecord>> {
    let content = &record.content;
    let (audience, recipients) = visibility::audience(content);
    Entry {
        offset: record.position.offset,
        payload,
        size_bytes,
        topics: content
            .topics
            .iter()
            .map(|topic| topic.as_arc().clone())
            .collect(),
        audience,
        recipients,
        label: Some(visibility::label(content).into()),
        priority: match content.priority {
            sse_broker::Priority::Low => sse_pool::Priority::Low,
            sse_broker::Priority::Normal => sse_pool::Priority::Normal,
            sse_broker::Priority::High => sse_pool::Priority::High,
        },
    }
}
