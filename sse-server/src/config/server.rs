//! Where to listen, and how long the end may take.

use std::time::Duration;

use clap::Args;

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::serve::Endpoint;
use crate::units::Span;

/// The server's settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct ServerSettings {
    /// Address to listen on: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` (both loopback addresses), `8080` (as
    /// 127.0.0.1:8080), `:8080` (all addresses of this machine) or `unix:/run/hub.sock`. Port 0 picks a free one.
    /// Repeatable [default: 127.0.0.1:8080]
    #[arg(long, env = "SSE_LISTEN", value_delimiter = ',', value_name = "ADDR")]
    pub listen: Option<Vec<Endpoint>>,
    /// Take management (`/metrics`, `/health`, statistics, the list of connections, `/admin`) off the addresses of --listen, and
    /// serve it here: an address as for --listen, or `unix:/run/hub-admin.sock`, which its owner alone can open. Repeatable
    #[arg(
        long,
        env = "SSE_ADMIN_LISTEN",
        value_delimiter = ',',
        value_name = "ADDR"
    )]
    pub admin_listen: Option<Vec<Endpoint>>,
    /// Without authentication, allow listening on addresses that other machines can reach, and trusted proxies; anyone there may
    /// then publish and read
    #[arg(long, env = "SSE_ALLOW_ANONYMOUS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub allow_anonymous: Option<bool>,
    /// Allow core dumps, as far as the system does. By default there are none, because a dump contains every secret
    #[arg(long, env = "SSE_CORE_DUMPS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub core_dumps: Option<bool>,
    /// How long streams and requests have to end when the server stops; what is left then is cut [default: 10s]
    #[arg(long, env = "SSE_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<Span>,
}

/// What the section comes to.
pub(super) struct Server {
    pub(super) listen: Vec<Endpoint>,
    pub(super) admin_listen: Vec<Endpoint>,
    pub(super) core_dumps: bool,
    pub(super) drain_timeout: Duration,
}

impl ServerSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: listen, admin_listen, allow_anonymous, core_dumps, drain_timeout)
    }

    pub(super) fn build(
        self,
        has_authentication: bool,
        has_certificate: bool,
    ) -> Result<Server, ConfigError> {
        let listen = self
            .listen
            .filter(|endpoints| !endpoints.is_empty())
            .unwrap_or_else(|| vec![Endpoint::Address(([127, 0, 0, 1], 8080).into())]);
        let admin_listen = self.admin_listen.unwrap_or_default();
        let all: Vec<&Endpoint> = listen.iter().chain(&admin_listen).collect();
        if let Some(endpoint) = all.iter().find(|endpoint| !endpoint.is_local())
            && !has_authentication
            && !self.allow_anonymous.unwrap_or(false)
        {
            return Err(invalid(format!(
                "listening on {endpoint} lets other machines publish and read without authentication: {ADD_AUTHENTICATION}"
            )));
        }
        let is_again = |(at, endpoint): &(usize, &&Endpoint)| {
            !endpoint.picks_a_port() && all[..*at].contains(*endpoint)
        };
        if let Some((at, endpoint)) = all.iter().enumerate().find(is_again) {
            let option = match at < listen.len() {
                true => "--listen names",
                false => "--admin-listen and --listen together name",
            };
            return Err(invalid(format!("{option} {endpoint} twice; name it once")));
        }
        let is_unix = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Unix(_));
        if has_certificate && listen.iter().all(is_unix) {
            return Err(invalid(
                "--tls-cert has no use where --listen names only Unix sockets, which speak plain HTTP: \
                 add an address such as --listen 127.0.0.1:8443, or leave the certificate out",
            ));
        }
        Ok(Server {
            listen,
            admin_listen,
            core_dumps: self.core_dumps.unwrap_or(false),
            drain_timeout: self
                .drain_timeout
                .map_or(Duration::from_secs(10), |span| span.0),
        })
    }
}

/// What to do where strangers come and nobody is asked who they are.
pub(super) const ADD_AUTHENTICATION: &str = "add it (--token-file FILE, --jwt-secret FILE, --jwt-key FILE, --jwt-jwks-url URL, \
     --auth-url URL, --tls-client-ca FILE), or --allow-anonymous if that is intended";
