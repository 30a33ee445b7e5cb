//! A committed record on its way to readers: encoded once for each form it is wanted in.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{Audience, AudienceRef, Record, RecordRef, Topic};
use sse_compress::MessageCompressor;
use sse_pool::{ConnectionId, Entry, Selector};
use sse_protocol::encoder::{self, TextEvent};

/// How a reader wants its events written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form {
    /// Job events carry the names `job_progress`, `job_complete`, `job_error`, `job_status`.
    pub job_names: bool,
    /// Data over the threshold comes in the gzip and base64 envelope.
    pub compressed: bool,
}

impl Form {
    const PLAIN: Self = Self {
        job_names: false,
        compressed: false,
    };

    fn slot(self) -> usize {
        usize::from(self.job_names) * 2 + usize::from(self.compressed)
    }
}

/// What the pool hands to readers.
#[derive(Debug)]
pub struct Delivery {
    record: Arc<Record>,
    committed_at: Instant,
    /// Kept out of every compression context.
    is_apart: bool,
    frames: [OnceLock<Bytes>; 4],
}

impl Delivery {
    /// Prepares a record; its plain form is encoded at once, the others when first asked for.
    pub(crate) fn new(
        record: Arc<Record>,
        is_apart: bool,
        compressor: &MessageCompressor,
        now: Instant,
    ) -> Self {
        let delivery = Self {
            record,
            committed_at: now,
            is_apart,
            frames: Default::default(),
        };
        delivery.frame(Form::PLAIN, compressor);
        delivery
    }

    /// The event's bytes in this form.
    pub(crate) fn frame(&self, form: Form, compressor: &MessageCompressor) -> &Bytes {
        self.frames[form.slot()].get_or_init(|| {
            let mut out = Vec::with_capacity(self.record.content.event.data.len() + 128);
            encode(&RecordRef::from(&*self.record), form, compressor, &mut out);
            Bytes::from(out)
        })
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Whether it is kept out of every compression context.
    pub(crate) fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// When it was committed.
    pub(crate) fn committed_at(&self) -> Instant {
        self.committed_at
    }
}

/// Writes a record's bytes; what replay does.
pub(crate) fn encode(
    record: &RecordRef<'_>,
    form: Form,
    compressor: &MessageCompressor,
    out: &mut Vec<u8>,
) {
    let position_id;
    let id = match record.id {
        Some(id) => id,
        None => {
            position_id = record.position.to_string();
            &position_id
        }
    };
    let job_name = form.job_names.then(|| job_event_name(record)).flatten();
    let envelope = form
        .compressed
        .then(|| compressor.compress(record.data))
        .flatten();
    let is_written = encoder::text_event(
        TextEvent {
            id: Some(id),
            event_type: job_name.or(record.event_type),
            data: envelope.as_deref().unwrap_or(record.data),
            retry: record.retry,
        },
        out,
    );
    debug_assert!(is_written, "what the log holds was an event once");
}

/// The longer name of a job's event, for readers that know jobs by it.
fn job_event_name(record: &RecordRef<'_>) -> Option<&'static str> {
    record
        .topics()
        .find_map(|topic| topic.strip_prefix("job/"))?;
    match record.event_type? {
        "progress" => Some("job_progress"),
        "complete" => Some("job_complete"),
        "error" => Some("job_error"),
        "status" => Some("job_status"),
        _ => None,
    }
}

/// What no reader is: a topic is never called so.
const NOBODY: &str = "*";

/// The pool's view of a record: where it goes and who may see it.
pub(crate) fn entry<T>(record: &Record, payload: T, size_bytes: usize) -> Entry<T> {
    let content = &record.content;
    let names = |topics: &[Topic]| topics.iter().map(|topic| topic.as_arc().clone()).collect();
    let recipients: Vec<ConnectionId> = content
        .topics
        .iter()
        .filter_map(|topic| topic.under("connection"))
        .map(recipient)
        .collect();
    let label = content.label.as_ref().or(content.event.event_type.as_ref());
    Entry {
        offset: record.position.offset,
        payload,
        size_bytes,
        topics: names(&content.topics),
        audience: match &content.audience {
            Audience::Granted => [Arc::from(NOBODY)].into(),
            audience => names(audience.owners()),
        },
        recipients: recipients.into(),
        label: Some(label.map_or_else(|| MESSAGE.into(), |label| label.as_str().into())),
        priority: match content.priority {
            sse_broker::Priority::Low => sse_pool::Priority::Low,
            sse_broker::Priority::Normal => sse_pool::Priority::Normal,
            sse_broker::Priority::High => sse_pool::Priority::High,
        },
    }
}

/// Whether a reader gets a record of the log. The same rule as the pool's for an [`entry`] of it, without making one.
pub(crate) fn is_recipient(
    record: &RecordRef<'_>,
    selector: &Selector,
    identities: &[Arc<str>],
    id: &ConnectionId,
) -> bool {
    let owners = match record.audience {
        AudienceRef::Everyone => None,
        AudienceRef::Owners(owners) => Some(owners),
        AudienceRef::Granted => return false,
    };
    let owners = owners.into_iter().flatten();
    let label = record.label.or(record.event_type).unwrap_or(MESSAGE);
    let mut recipients = record
        .topics()
        .filter_map(|topic| topic.strip_prefix("connection/"))
        .map(recipient)
        .peekable();
    if recipients.peek().is_some() {
        return selector.allows_names(owners, Some(label), identities)
            && recipients.any(|recipient| recipient == *id);
    }
    selector.wants_names(record.topics(), owners, Some(label), identities)
}

/// A name that no connection can have still makes the event private: to nobody.
fn recipient(name: &str) -> ConnectionId {
    name.parse().unwrap_or(ConnectionId::from_uuid([0; 16]))
}

/// The type of an event that has none.
const MESSAGE: &str = "message";
