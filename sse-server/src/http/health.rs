//! Health, statistics, metrics and readiness over HTTP.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Response, header};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use sse_health::{Exposition, HealthReport, SseHealthReport};

use super::Reloads;
use super::body::Body;
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::request::Request;
use super::{json, text};

pub(super) fn health(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    json(&HealthReport::new(&request.hub.health()))
}

pub(super) fn stream_health(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    json(&SseHealthReport::new(&request.hub.health()))
}

pub(super) fn stats(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    json(&request.hub.stats())
}

/// The same for Prometheus.
pub(super) fn metrics(request: &Request<'_>) -> Response<Body> {
    let mut response = text(request.hub.exposition_with(|registry| {
        register_reloads(request.reloads, registry);
        if let Some(set) = request.authentication.jwk_set() {
            let status = set.status();
            for (name, help, count) in [
                (
                    "jwks_fetches",
                    "How often the keys at --jwt-jwks-url were fetched",
                    status.fetches,
                ),
                (
                    "jwks_fetch_failures",
                    "How often that failed",
                    status.failures,
                ),
            ] {
                let counter = Counter::<u64>::default();
                counter.inc_by(count);
                registry.register(name, help, counter);
            }
        }
    }));
    let kind = HeaderValue::from_static(Exposition::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn register_reloads(reloads: &Reloads, registry: &mut Registry) {
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    for (name, help, of) in [
        (
            "config_reloads",
            "How often the configuration was read again and used",
            &reloads.done,
        ),
        (
            "config_reloads_refused",
            "How often it was read again and could not be used",
            &reloads.refused,
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count(of));
        registry.register(name, help, counter);
    }
    let last = Gauge::<i64>::default();
    last.set(i64::try_from(count(&reloads.last) / 1000).unwrap_or(i64::MAX));
    registry.register_with_unit(
        "config_last_reload_timestamp",
        "When the configuration was last exchanged, in Unix time; 0 for never",
        Unit::Seconds,
        last,
    );
}

/// 200 while new clients are welcome; otherwise 503, which says why.
pub(super) fn ready(request: &Request<'_>) -> Result<Response<Body>, Problem> {
    let lacks = request.hub.not_ready();
    match lacks.is_empty() {
        true => Ok(text("ready\n")),
        false => Err(Problem::unavailable(lacks.join("; "), REFUSED_RETRY_AFTER)),
    }
}
