//! The dialect of clients that unpack the compressed envelope themselves.

use super::{Dialect, Operation, Route};

/// Large messages come in the compressed envelope, and jobs' events are `job_progress` and so on.
pub(super) const ENHANCED: Dialect = Dialect {
    wraps_large_messages: true,
    has_short_job_names: true,
    routes: &[
        Route::new("GET", "/sse", Operation::Stream),
        Route::new("GET", "/sse/health", Operation::StreamHealth),
    ],
};
