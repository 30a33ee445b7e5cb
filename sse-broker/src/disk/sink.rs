//! What becomes of the records of a page: copies, or the bytes that the caller makes of them.

use std::sync::Arc;

use super::codec::{RecordView, TopicCache};
use crate::{Position, Record, Render, Rendered};

/// What becomes of the records of a page.
pub(super) trait Sink {
    /// Takes a record if it fits; the first always does.
    fn take(&mut self, position: Position, view: RecordView<'_>, is_first: bool) -> Added;

    fn clear(&mut self);
}

/// What became of a record.
pub(super) enum Added {
    Yes,
    /// The page is full.
    Full,
    /// The record is not what was written.
    Damaged,
}

/// They are copied.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) records: Vec<Arc<Record>>,
    topics: TopicCache,
}

impl Sink for Copies {
    fn take(&mut self, position: Position, view: RecordView<'_>, _is_first: bool) -> Added {
        let Ok(content) = view.to_record(&mut self.topics) else {
            return Added::Damaged;
        };
        self.records.push(Arc::new(Record { position, content }));
        Added::Yes
    }

    fn clear(&mut self) {
        self.records.clear();
    }
}

/// The caller writes them.
pub(super) struct Renders {
    pub(super) render: Render,
    pub(super) rendered: Rendered,
    pub(super) max_bytes: usize,
}

impl Sink for Renders {
    fn take(&mut self, position: Position, view: RecordView<'_>, is_first: bool) -> Added {
        let (len, events) = (self.rendered.bytes.len(), self.rendered.events);
        self.rendered.add(&view.to_ref(position), &mut self.render);
        if self.rendered.bytes.len() > self.max_bytes && !is_first {
            self.rendered.bytes.truncate(len);
            self.rendered.events = events;
            return Added::Full;
        }
        Added::Yes
    }

    fn clear(&mut self) {
        self.rendered = Rendered::default();
    }
}
