//! Who may ask over HTTP, and how much at once.

use clap::Args;

use super::ConfigError;
use super::check::some_bytes;
use super::settings::or_fields;
use crate::http::{AllowedHost, AllowedOrigin, HttpConfig, Refusals};
use crate::units::Size;

/// The HTTP side's settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct HttpSettings {
    /// Host names to answer to, besides localhost and IP addresses: `hub.example`, `hub.example:8443` (only on that
    /// port), `*.example.com` (every subdomain), `*` (all)
    #[arg(
        long,
        env = "SSE_ALLOWED_HOST",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub allowed_host: Option<Vec<AllowedHost>>,
    /// Web origins that may read and publish from a browser, such as `https://app.example`; `*` for any, without cookies
    #[arg(
        long,
        env = "SSE_ALLOWED_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub allowed_origin: Option<Vec<AllowedOrigin>>,
    /// How a browser's EventSource is told that the hub is full, draining or short of memory: `event` answers 200 with an event
    /// `unavailable`, because an EventSource gives up for good on any other status; `status` answers 503 [default: event]
    #[arg(long, env = "SSE_REFUSALS", value_name = "FORM")]
    pub refusals: Option<Refusals>,
    /// Largest request body, or WebSocket message [default: 4MiB]
    #[arg(
        long,
        env = "SSE_MAX_BODY",
        value_name = "SIZE",
        help_heading = "Limits"
    )]
    pub max_body: Option<Size>,
}

impl HttpSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: allowed_host, allowed_origin, refusals, max_body)
    }

    pub(super) fn build(self, defaults: HttpConfig) -> Result<HttpConfig, ConfigError> {
        Ok(HttpConfig {
            max_body_bytes: some_bytes("--max-body", self.max_body, defaults.max_body_bytes)?,
            allowed_hosts: self.allowed_host.unwrap_or_default(),
            allowed_origins: self.allowed_origin.unwrap_or_default(),
            refusals: self.refusals.unwrap_or_default(),
            ..defaults
        })
    }
}
