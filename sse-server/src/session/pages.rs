//! The pages of a replay: which, how large, and as which bytes.
//!
//! A page is read and written on the log's own threads; whoever writes the session only sends it. The first is a few events,
//! so that they come at once, and the others are each twice as large as the one before: a thread is woken twice for a
//! page, and a socket takes a large one for hardly more. Large pages have a budget in the hub; who gets none of it goes on
//! with small ones.

use std::sync::Arc;

use sse_broker::{Offset, ReadRequest, RecordRef, Render};
use sse_pool::Selector;
use tokio::sync::OwnedSemaphorePermit;

use super::MAX_CHUNK_BYTES;
use crate::access::visibility::Logged;
use crate::clock::Moment;
use crate::hub::Reader;
use crate::wire::{Format, Message};

/// A page that is to be read.
pub(crate) struct PageCall {
    /// Which.
    pub(crate) request: ReadRequest,
    /// What becomes of its records.
    pub(crate) render: Render,
}

/// How far a reader's pages have grown.
#[derive(Default)]
pub(super) struct Pages {
    /// The first has been read.
    has_begun: bool,
    /// The last one held nothing for this reader.
    pub(super) was_empty: bool,
    /// How often the size has doubled since.
    doubled: u8,
    /// This reader has a large page.
    permit: Option<OwnedSemaphorePermit>,
    /// What the reader wanted when the page was called for.
    selector: Option<Arc<Selector>>,
}

impl Pages {
    /// The page after `after`, for a reader that wants its records in this form, where `is_new` says so.
    pub(super) fn call(
        &mut self,
        reader: Reader<'_>,
        after: Offset,
        format: Format,
        is_packed: bool,
        moment: Moment,
        is_new: impl Fn(&RecordRef<'_>) -> bool + Send + 'static,
    ) -> PageCall {
        let hub = reader.hub;
        // The stream's own compression is the writer's work, and others wait for it.
        if self.doubled > 0 && !is_packed {
            self.permit = hub.large_page();
        }
        let doubled = if self.permit.is_some() {
            self.doubled
        } else {
            0
        };
        let max_bytes = if self.has_begun {
            MAX_CHUNK_BYTES << doubled
        } else {
            FIRST_PAGE_BYTES
        };
        let request = reader.page_request(
            after,
            max_bytes / BYTES_PER_RECORD,
            max_bytes,
            moment.unix_millis,
        );
        self.selector = reader.selector();
        let (selector, info) = (self.selector.clone(), reader.info());
        let compressor = hub.message_compressor();
        let render: Render = Box::new(move |record, out| {
            let (Some(selector), Some(info)) = (&selector, &info) else {
                return;
            };
            if selector.wants(&Logged(record), &info.client.visibility, Some(&info.id))
                && !record.is_expired(moment.unix_millis)
                && is_new(record)
            {
                format.write(Message::Event(record), &compressor, out);
            }
        });
        PageCall { request, render }
    }

    /// A page has come; false when it is of no use, because the reader wants something else than when it was called
    /// for.
    pub(super) fn take(&mut self, reader: Reader<'_>) -> bool {
        let selector = reader.selector();
        if self.has_begun {
            self.doubled = (self.doubled + 1).min(MAX_DOUBLED);
        }
        self.has_begun = true;
        match (&self.selector.take(), &selector) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            // It is gone.
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// The bytes of the last page are on their way.
    pub(super) fn are_written(&mut self) {
        self.permit = None;
    }
}

/// A dozen events: who comes back waits for these, and not for [`MAX_CHUNK_BYTES`] to be read and written.
const FIRST_PAGE_BYTES: usize = 2 << 10;
/// Pages grow to four times [`MAX_CHUNK_BYTES`], 128 KiB. Larger ones hardly make a replay faster, and what is sent in one piece
/// is what a live event on the same core may have to wait for.
const MAX_DOUBLED: u8 = 2;
/// What a page expects a record to take: it holds so many less when they are smaller, because reading them takes time, too.
const BYTES_PER_RECORD: usize = 128;
