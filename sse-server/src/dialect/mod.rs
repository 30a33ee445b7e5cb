//! Who speaks how: the paths of a family of clients, the operation that each means, and how those clients want it
//! said.
//!
//! A dialect decides nothing that a right, a bound or an order depends on. It is data and translation; the operations
//! behind it are the same for all.

mod aliases;
mod canonical;
mod enhanced;
mod operation;

pub(crate) use operation::Operation;

/// Every dialect that the hub speaks. Their paths differ.
pub(crate) static DIALECTS: [Dialect; 3] =
    [canonical::CANONICAL, aliases::ALIASES, enhanced::ENHANCED];

/// The paths of a family of clients, and how they want a stream said.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// Large messages come in the compressed envelope, unless the request says otherwise.
    pub(crate) wraps_large_messages: bool,
    /// The events of jobs have the short names, such as `job_progress`.
    pub(crate) has_short_job_names: bool,
    pub(crate) routes: &'static [Route],
}

/// One row of a dialect: what a method means at a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// As `matchit` writes it; `{id}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) operation: Operation,
}

impl Route {
    const fn new(method: &'static str, path: &'static str, operation: Operation) -> Self {
        Self {
            method,
            path,
            operation,
        }
    }
}
