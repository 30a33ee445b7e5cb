//! The contract itself: `docs/http-api.md`.

use super::{Dialect, Operation, Route};

/// Every operation of the hub at its own path, each event as it was published.
pub(super) const CANONICAL: Dialect = Dialect {
    wraps_large_messages: false,
    has_short_job_names: false,
    routes: &[
        Route::new("GET", "/", Operation::Index),
        Route::new("GET", "/sse-test", Operation::TestPage),
        Route::new("GET", "/console", Operation::Console),
        Route::new("GET", "/client/{*id}", Operation::Asset("client/src")),
        Route::new("GET", "/elements/{*id}", Operation::Asset("elements")),
        Route::new("GET", "/react/{*id}", Operation::Asset("react/src")),
        Route::new("GET", "/static/{*id}", Operation::Asset("static")),
        Route::new("GET", "/events", Operation::Stream),
        Route::new("GET", "/events/ws", Operation::WebSocket),
        Route::new("POST", "/events", Operation::Publish),
        Route::new("DELETE", "/events", Operation::Erase),
        Route::new("GET", "/events/poll", Operation::Poll),
        Route::new("POST", "/events/subscriptions", Operation::Subscribe),
        Route::new(
            "GET",
            "/events/subscriptions",
            Operation::NamedSubscriptions,
        ),
        Route::new(
            "GET",
            "/events/subscriptions/{id}",
            Operation::NamedSubscription,
        ),
        Route::new(
            "DELETE",
            "/events/subscriptions/{id}",
            Operation::DeleteNamedSubscription,
        ),
        Route::new(
            "POST",
            "/events/subscriptions/{id}/ack",
            Operation::AckNamedSubscription,
        ),
        Route::new(
            "POST",
            "/events/subscriptions/{id}/reset",
            Operation::ResetNamedSubscription,
        ),
        Route::new("GET", "/events/connections", Operation::Connections),
        Route::new("GET", "/events/connections/{id}", Operation::Connection),
        Route::new(
            "DELETE",
            "/events/connections/{id}",
            Operation::CloseConnection,
        ),
        Route::new(
            "POST",
            "/events/connections/{id}/token",
            Operation::RenewConnection,
        ),
        Route::new("POST", "/events/cleanup", Operation::Cleanup),
        Route::new("POST", "/events/tickets", Operation::MakeTicket),
        Route::new("POST", "/admin/revocations", Operation::Revoke),
        Route::new("GET", "/events/stats", Operation::Stats),
        Route::new("GET", "/health", Operation::Health),
        Route::new("GET", "/metrics", Operation::Metrics),
        Route::new("GET", "/livez", Operation::Live),
        Route::new("GET", "/readyz", Operation::Ready),
        Route::new("GET", "/jobs", Operation::Jobs),
        Route::new("POST", "/jobs", Operation::CreateJob),
        Route::new("GET", "/jobs/{id}", Operation::Job),
        Route::new("POST", "/jobs/{id}/progress", Operation::JobProgress),
        Route::new("POST", "/jobs/{id}/complete", Operation::JobComplete),
        Route::new("POST", "/jobs/{id}/error", Operation::JobError),
        Route::new("POST", "/jobs/{id}/cancel", Operation::JobCancel),
    ],
};
