//! What the hub takes: how many, how large, of which types.

use std::collections::BTreeSet;

use clap::Args;

use super::ConfigError;
use super::check::{at_least_one, some_bytes};
use super::settings::or_fields;
use crate::hub::{HubConfig, RESERVED_EVENT_TYPES};
use crate::units::Size;

/// The limits, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct LimitSettings {
    /// Most connections at once [default: 10000, or fewer with little --memory]
    #[arg(long, env = "SSE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Most connections at once from one address (IPv6: one /64) [default: 100]
    #[arg(long, env = "SSE_MAX_CONNECTIONS_PER_IP", value_name = "N")]
    pub max_connections_per_ip: Option<usize>,
    /// Most connections at once of one user, wherever it connects from; a session or token that names no user counts as one [default: 100]
    #[arg(long, env = "SSE_MAX_CONNECTIONS_PER_USER", value_name = "N")]
    pub max_connections_per_user: Option<usize>,
    /// Most requests answered at once, without streams and requests that wait: those count as connections [default: 2000]
    #[arg(long, env = "SSE_MAX_REQUESTS", value_name = "N")]
    pub max_requests: Option<usize>,
    /// Most requests answered at once from one address (IPv6: one /64) [default: 500]
    #[arg(long, env = "SSE_MAX_REQUESTS_PER_IP", value_name = "N")]
    pub max_requests_per_ip: Option<usize>,
    /// Most topics and event types that one connection may subscribe to [default: 64]
    #[arg(long, env = "SSE_MAX_SUBSCRIPTIONS", value_name = "N")]
    pub max_subscriptions: Option<usize>,
    /// Largest data of one event [default: 1MiB, and no more than --max-body or a 128th of --memory]
    #[arg(long, env = "SSE_MAX_EVENT", value_name = "SIZE")]
    pub max_event: Option<Size>,
    /// Only these event types may be published [default: any]
    #[arg(
        long,
        env = "SSE_ALLOWED_EVENT_TYPE",
        value_delimiter = ',',
        value_name = "TYPE",
        value_parser = event_type
    )]
    pub allowed_event_type: Option<Vec<String>>,
    /// Most jobs remembered; the oldest ended ones are forgotten first [default: 10000]
    #[arg(long, env = "SSE_MAX_JOBS", value_name = "N")]
    pub max_jobs: Option<usize>,
    /// Most named subscriptions remembered; 0 for none [default: 10000]
    #[arg(long, env = "SSE_MAX_NAMED_SUBSCRIPTIONS", value_name = "N")]
    pub max_named_subscriptions: Option<usize>,
}

impl LimitSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            max_connections, max_connections_per_ip, max_connections_per_user, max_requests, max_requests_per_ip, max_subscriptions, max_event, allowed_event_type, max_jobs,
            max_named_subscriptions,
        )
    }

    pub(super) fn build(self, hub: HubConfig) -> Result<HubConfig, ConfigError> {
        Ok(HubConfig {
            max_connections: at_least_one(
                "--max-connections",
                self.max_connections,
                hub.max_connections,
            )?,
            max_connections_per_ip: at_least_one(
                "--max-connections-per-ip",
                self.max_connections_per_ip,
                hub.max_connections_per_ip,
            )?,
            max_connections_per_user: at_least_one(
                "--max-connections-per-user",
                self.max_connections_per_user,
                hub.max_connections_per_user,
            )?,
            max_requests: at_least_one("--max-requests", self.max_requests, hub.max_requests)?,
            max_requests_per_ip: at_least_one(
                "--max-requests-per-ip",
                self.max_requests_per_ip,
                hub.max_requests_per_ip,
            )?,
            max_subscriptions: at_least_one(
                "--max-subscriptions",
                self.max_subscriptions,
                hub.max_subscriptions,
            )?,
            max_event_bytes: some_bytes("--max-event", self.max_event, hub.max_event_bytes)?,
            allowed_event_types: self.allowed_event_type.map(BTreeSet::from_iter),
            max_jobs: at_least_one("--max-jobs", self.max_jobs, hub.max_jobs)?,
            max_named_subscriptions: self
                .max_named_subscriptions
                .unwrap_or(hub.max_named_subscriptions),
            ..hub
        })
    }
}

/// The name of an event type that can be published, and subscribed to in a list with commas.
fn event_type(given: &str) -> Result<String, String> {
    let text = given.trim();
    let wrong = |problem: String| {
        Err(format!(
            "{given:?} {problem}; write the name of an event type, for example progress"
        ))
    };
    if text.is_empty() {
        return wrong("is empty".to_owned());
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        return wrong("has a blank, comma or control character in it".to_owned());
    }
    if text.len() > MAX_EVENT_TYPE_BYTES {
        return wrong(format!("has more than {MAX_EVENT_TYPE_BYTES} bytes"));
    }
    if RESERVED_EVENT_TYPES.contains(&text) {
        return wrong("is the hub's own and cannot be published".to_owned());
    }
    Ok(text.to_owned())
}

/// As many as a publisher may send.
const MAX_EVENT_TYPE_BYTES: usize = 256;
