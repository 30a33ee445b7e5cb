//! Who asks, what they may have, and how much memory is held for them.
//!
//! A [`Caller`] is made once for every request, before any handler. Its [`Visibility`](sse_pool::Visibility) is the one
//! rule that says whether it may have a record; `visibility` shows that rule the records of the log. `authentication` finds out
//! who it is, `grants` say what it may do. Rights come in here and nowhere else. `budget` divides the memory that is held for clients.

pub mod authentication;
pub mod budget;
mod caller;
mod grants;
pub(crate) mod visibility;

pub use authentication::{Authentication, AuthenticationError};
pub use caller::{Caller, Credential, CredentialKind, InvalidIdentity};
pub use grants::{Forbidden, Grants, InvalidGrants};
