//! A damaged file may make redb panic. That is the file's fault, and no reason to stop.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what reads or writes the file; a panic becomes the error that `failed` makes of what it said.
pub(super) fn caught<T, E>(
    act: impl FnOnce() -> Result<T, E>,
    failed: impl FnOnce(String) -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(failed(panic_message(&*panic))))
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // On one line, as errors are.
    let text = text.unwrap_or("for no stated reason").replace('\n', ",");
    format!("the storage engine panicked: {text}")
}
