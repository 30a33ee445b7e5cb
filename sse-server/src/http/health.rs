//! How the hub fares, for people, dashboards and orchestrators.

use http::{HeaderValue, Response, header};
use sse_health::{Exposition, HealthReport, SseHealthReport};

use super::body::Body;
use super::problem::Problem;
use super::{json, text};
use crate::hub::{Hub, REFUSED_RETRY_AFTER};

pub(super) fn health(hub: &Hub) -> Result<Response<Body>, Problem> {
    json(&HealthReport::new(&hub.health()))
}

pub(super) fn stream_health(hub: &Hub) -> Result<Response<Body>, Problem> {
    json(&SseHealthReport::new(&hub.health()))
}

pub(super) fn stats(hub: &Hub) -> Result<Response<Body>, Problem> {
    json(&hub.stats())
}

/// The same for Prometheus.
pub(super) fn metrics(hub: &Hub) -> Response<Body> {
    let mut response = text(hub.metrics());
    let kind = HeaderValue::from_static(Exposition::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// 200 while new connections are welcome.
pub(super) fn ready(hub: &Hub) -> Result<Response<Body>, Problem> {
    if hub.is_serving() {
        Ok(text("ready\n"))
    } else {
        Err(Problem::unavailable(
            "the hub is shutting down",
            REFUSED_RETRY_AFTER,
        ))
    }
}
