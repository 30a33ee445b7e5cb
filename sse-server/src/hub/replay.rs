//! Pages of the log on their way to readers, each with a permit for its bytes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sse_broker::{BoxFuture, ReadError, ReadRequest, RecordRef, Rendered};

use super::Hub;
use crate::access::budget::{Account, Permit};

/// Appends a record's bytes, or nothing if the reader does not get it.
pub(crate) type RenderRecord = Arc<dyn Fn(&RecordRef<'_>, &mut Vec<u8>) + Send + Sync>;

/// A page as bytes, and the right to hold them.
pub(crate) struct HeldPage {
    pub(crate) rendered: Rendered,
    pub(crate) permit: Permit,
}

impl Hub {
    /// A permit for a large page, if there is memory for one at once. A reader that gets none goes on with small pages.
    pub(crate) fn large_page(&self, address: IpAddr, bytes: usize) -> Option<Permit> {
        self.inner
            .budget
            .try_take(Account::Replay, address, bytes)
            .ok()
    }

    /// Reads a page of the log as bytes. Without a permit it waits until there is memory for the page: whoever is behind can
    /// always wait.
    pub(crate) fn render_page(
        &self,
        request: ReadRequest,
        render: RenderRecord,
        address: IpAddr,
        permit: Option<Permit>,
    ) -> BoxFuture<'static, Result<HeldPage, ReadError>> {
        let hub = self.clone();
        Box::pin(async move {
            let budget = &hub.inner.budget;
            let most = budget.max_bytes(Account::Replay) / 2;
            let mut permit = match permit {
                Some(permit) => permit,
                None => {
                    let bytes = request.max_bytes;
                    budget.take_in_turn(Account::Replay, address, bytes).await
                }
            };
            loop {
                let (rendered, needed) = hub
                    .render_within(request.clone(), &render, permit.bytes())
                    .await?;
                if needed <= permit.bytes() || permit.bytes() >= most {
                    permit.shrink_to(rendered.bytes.len());
                    return Ok(HeldPage { rendered, permit });
                }
                // One record alone takes more. What was rendered is given back first, or readers could wait for each other.
                drop(rendered);
                drop(permit);
                permit = budget.take_in_turn(Account::Replay, address, needed).await;
            }
        })
    }

    /// Renders a page of at most `max_bytes`. Where more are needed, says how many; then the page is of no use.
    async fn render_within(
        &self,
        request: ReadRequest,
        render: &RenderRecord,
        max_bytes: usize,
    ) -> Result<(Rendered, usize), ReadError> {
        let needed = Arc::new(AtomicUsize::new(0));
        let bounded = {
            let (render, needed) = (Arc::clone(render), Arc::clone(&needed));
            let most = self.inner.budget.max_bytes(Account::Replay) / 2;
            move |record: &RecordRef<'_>, out: &mut Vec<u8>| {
                if needed.load(Ordering::Relaxed) > max_bytes {
                    return;
                }
                let before = out.len();
                render(record, out);
                if out.len() > max_bytes && max_bytes < most {
                    needed.store(out.len(), Ordering::Relaxed);
                    out.truncate(before);
                    out.shrink_to_fit();
                }
            }
        };
        let rendered = self.inner.broker.render(request, Box::new(bounded)).await?;
        Ok((rendered, needed.load(Ordering::Relaxed)))
    }
}
