//! The pages of a replay: which, how large, and as which bytes.
//!
//! A page is read and written on the log's own threads; whoever writes the session only sends it. The first is a few events,
//! so that they come at once, and the others are each twice as large as the one before: a thread is woken twice for a
//! page, and a socket takes a large one for hardly more. Every page has a permit for its bytes until they are written; where
//! there is none for a large page, the reader goes on with small ones.

use std::net::IpAddr;
use std::sync::Arc;

use super::MAX_CHUNK_BYTES;
use crate::access::budget::Permit;
use crate::access::visibility::Logged;
use crate::clock::Moment;
use crate::hub::{HeldPage, Hub, LeftOut, LeftOutReason as Reason, Reader, RenderRecord};
use crate::wire::{Format, Message};
use parking_lot::Mutex;
use sse_broker::{BoxFuture, Offset, Position, ReadError, ReadRequest, RecordRef};
use sse_pool::Selector;

/// A page that is to be read.
pub(crate) struct PageCall {
    /// Which.
    request: ReadRequest,
    /// What becomes of its records.
    render: RenderRecord,
    /// Where its reader is.
    address: IpAddr,
    /// The right to its bytes, where that was to be had at once.
    permit: Option<Permit>,
}

impl PageCall {
    /// Reads it, as soon as there is memory for it.
    pub(crate) fn read(self, hub: &Hub) -> BoxFuture<'static, Result<HeldPage, ReadError>> {
        hub.render_page(self.request, self.render, self.address, self.permit)
    }
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
    /// The right to the bytes of the page that is being written.
    permit: Option<Permit>,
    /// What was left out of the page that was called for.
    left_out: Arc<Mutex<LeftOutOfPage>>,
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
        is_new: impl Fn(&RecordRef<'_>) -> bool + Send + Sync + 'static,
    ) -> PageCall {
        let hub = reader.hub;
        let address = reader.address();
        // The stream's own compression is the writer's work, and others wait for it.
        let permit = if self.doubled > 0 && !is_packed {
            hub.large_page(address, MAX_CHUNK_BYTES << self.doubled)
        } else {
            None
        };
        let max_bytes = match &permit {
            Some(permit) => permit.bytes(),
            None if self.has_begun => MAX_CHUNK_BYTES,
            None => FIRST_PAGE_BYTES,
        };
        let request = reader.page_request(after, max_bytes / BYTES_PER_RECORD, max_bytes);
        self.selector = reader.selector();
        let (selector, info) = (self.selector.clone(), reader.info());
        let compressor = hub.message_compressor();
        let left_out = Arc::<Mutex<LeftOutOfPage>>::default();
        self.left_out = Arc::clone(&left_out);
        let hub = hub.clone();
        let render: RenderRecord = Arc::new(move |record: &RecordRef<'_>, out: &mut Vec<u8>| {
            let (Some(selector), Some(info)) = (&selector, &info) else {
                return;
            };
            if selector.wants(&Logged(record), &info.client.visibility, Some(&info.id))
                && !record.is_expired(moment.unix_millis)
                && is_new(record)
            {
                if let Some(reason) = hub.leaves_out(record, moment) {
                    left_out.lock().count(reason, record.position);
                    return;
                }
                format.write(Message::Event(record), &compressor, out);
            }
        });
        PageCall {
            request,
            render,
            address,
            permit,
        }
    }

    /// A page has come; false when it is of no use, because the reader wants something else than when it was called
    /// for.
    pub(super) fn take(&mut self, reader: Reader<'_>, permit: Permit) -> bool {
        self.permit = Some(permit);
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

    /// What was left out of the page that has come, which ends here.
    pub(super) fn take_left_out(&mut self, end: Position) -> LeftOut {
        let mut left_out = std::mem::take(&mut *self.left_out.lock()).left_out;
        left_out.reached(end);
        left_out
    }

    /// The bytes of the last page are on their way.
    pub(super) fn are_written(&mut self) {
        self.permit = None;
    }
}

/// What was left out of a page. The page may be rendered more than once, each time from its beginning.
#[derive(Default)]
struct LeftOutOfPage {
    left_out: LeftOut,
    upto: Offset,
}

impl LeftOutOfPage {
    fn count(&mut self, reason: Reason, at: Position) {
        if at.offset > self.upto {
            self.upto = at.offset;
            self.left_out.count(reason, at);
        }
    }
}

/// A dozen events: who comes back waits for these, and not for [`MAX_CHUNK_BYTES`] to be read and written.
const FIRST_PAGE_BYTES: usize = 2 << 10;
/// Pages grow to four times [`MAX_CHUNK_BYTES`], 128 KiB. Larger ones hardly make a replay faster, and what is sent in one piece
/// is what a live event on the same core may have to wait for.
const MAX_DOUBLED: u8 = 2;
/// What a page expects a record to take: it holds so many less when they are smaller, because reading them takes time, too.
const BYTES_PER_RECORD: usize = 128;
