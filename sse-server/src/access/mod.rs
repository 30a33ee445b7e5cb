//! Who asks, what they may have, and how much memory is held for them.
//!
//! A [`Caller`] is made once for every request, before any handler. Its [`Visibility`](sse_pool::Visibility) is the one
//! rule that says whether it may have a record; `visibility` shows that rule the records of the log. Rights come in here
//! and nowhere else. `budget` divides the memory that is held for clients.

pub mod budget;
mod caller;
pub(crate) mod visibility;

pub use caller::{Caller, InvalidIdentity};
