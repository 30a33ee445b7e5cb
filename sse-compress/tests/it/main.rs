//! The behaviour of the crate, through its public interface.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod cohort;
mod decompress;
mod envelope;
mod flush;
mod go_inflater;
mod governor;
mod happening;
mod negotiate;
mod payload;

#[test]
fn everything_can_go_to_another_thread() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<sse_compress::CohortEncoder>();
    is_send::<sse_compress::Decompressor>();
    is_shared::<sse_compress::CohortReader>();
    is_shared::<sse_compress::CohortBlock>();
    is_shared::<sse_compress::MessageCompressor>();
}
