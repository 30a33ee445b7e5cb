//! Other paths that applications already have, for the same requests and answers.

use super::{Dialect, Operation, Route};

/// What the contract says, at the paths of other hubs and clients.
pub(super) const ALIASES: Dialect = Dialect {
    wraps_large_messages: false,
    has_short_job_names: false,
    routes: &[
        Route::new("GET", "/sse/events", Operation::Stream),
        Route::new("GET", "/stream", Operation::Stream),
        Route::new("POST", "/events/broadcast", Operation::Publish),
        Route::new("POST", "/sse/test-event", Operation::TestEvent),
        Route::new("POST", "/sse/subscribe", Operation::Subscribe),
        Route::new("GET", "/events/status", Operation::Connections),
        Route::new("GET", "/sse/connections", Operation::Connections),
        Route::new("GET", "/sse/stats", Operation::Stats),
    ],
};
