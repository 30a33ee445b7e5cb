//! Whose word counts for a client's address.

use clap::Args;

use super::server::ADD_AUTHENTICATION;
use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::{ProxyHeader, TrustedProxies, TrustedProxy};
use crate::serve::Endpoint;

/// The proxies' settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct ProxySettings {
    /// Proxies in front of the hub, which tell their clients' addresses: a network (`10.1.0.0/16`), an address, `private`
    /// (every private, loopback, link-local and unique local address) or `unix` (peers on a Unix socket). Repeatable
    /// [default: none]
    #[arg(
        long,
        env = "SSE_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "NETWORK"
    )]
    pub trusted_proxy: Option<Vec<TrustedProxy>>,
    /// The one header in which they tell them: X-Forwarded-For, Forwarded, X-Real-IP or another name, or PROXY for the PROXY
    /// protocol at the beginning of each connection. Every other one is ignored [default: X-Forwarded-For]
    #[arg(long, env = "SSE_TRUSTED_PROXY_HEADER", value_name = "NAME")]
    pub trusted_proxy_header: Option<ProxyHeader>,
}

impl ProxySettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: trusted_proxy, trusted_proxy_header)
    }

    /// `may_be_open` where callers show who they are, or need not by intent: a proxy brings clients from other machines.
    pub(super) fn build(
        self,
        listen: &[Endpoint],
        may_be_open: bool,
    ) -> Result<TrustedProxies, ConfigError> {
        let peers = self.trusted_proxy.unwrap_or_default();
        if let Some(header) = &self.trusted_proxy_header
            && peers.is_empty()
        {
            return Err(invalid(format!(
                "--trusted-proxy-header {header} is given, but --trusted-proxy is not: name the proxies' networks, \
                 for example --trusted-proxy private"
            )));
        }
        let is_unix = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Unix(_));
        if peers.contains(&TrustedProxy::Unix) && !listen.iter().any(is_unix) {
            return Err(invalid(
                "--trusted-proxy unix has no use where --listen names no Unix socket: add one such as \
                 --listen unix:/run/hub.sock, or name the proxies' networks",
            ));
        }
        if let Some(proxy) = peers.first()
            && !may_be_open
        {
            return Err(invalid(format!(
                "--trusted-proxy {proxy} lets the clients of a proxy publish and read without authentication: {ADD_AUTHENTICATION}"
            )));
        }
        Ok(TrustedProxies {
            peers,
            header: self.trusted_proxy_header.unwrap_or_default(),
        })
    }
}
