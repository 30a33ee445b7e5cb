//! SIGHUP: the configuration is read again, and what can be exchanged while the hub runs is.

use clap::ArgMatches;
use sse_server::config::{Config, Effective, Settings, effective, read_file};
use sse_server::http::HubService;
use sse_server::serve::Tls;

use super::telemetry::Filter;
use crate::Serve;

/// Reads the configuration again.
pub(crate) struct Reloader {
    serve: Serve,
    matches: ArgMatches,
    service: HubService,
    tls: Option<Tls>,
    filter: Filter,
    /// What holds.
    current: Vec<Effective>,
}

impl Reloader {
    pub(crate) fn new(
        (serve, matches): (Serve, ArgMatches),
        service: HubService,
        tls: Option<Tls>,
        filter: Filter,
    ) -> Result<Self, String> {
        Ok(Self {
            current: read(&serve, &matches)?,
            serve,
            matches,
            service,
            tls,
            filter,
        })
    }

    /// All of it, or nothing where anything is wrong. Says in one line what has become of it.
    pub(crate) fn reload(&mut self) {
        let outcome = self.exchange();
        self.service.record_reload(outcome.is_ok());
        match outcome {
            Ok(Exchanged {
                used,
                needs_restart,
                streams_ended,
            }) => {
                let names = |names: &[String]| match names.is_empty() {
                    true => "nothing".to_owned(),
                    false => names.join(", "),
                };
                self.service.hub().audit().reloaded(&used, &needs_restart);
                tracing::info!(
                    changed = names(&used),
                    needs_restart = names(&needs_restart),
                    streams_ended,
                    "SIGHUP: the configuration and what it names were read again"
                );
            }
            Err(reason) => {
                tracing::error!(%reason, "SIGHUP: nothing was changed, as the configuration cannot be used");
            }
        }
    }

    fn exchange(&mut self) -> Result<Exchanged, String> {
        let file = match &self.serve.config {
            Some(path) => read_file(path).map_err(|error| error.to_string())?,
            None => Settings::default(),
        };
        let next = read(&self.serve, &self.matches)?;
        // What was used lately is written down, so that the tokens that are read now have it.
        self.service.close_authentication();
        let settings = self.serve.settings.clone().or(file);
        let config = Config::new(settings).map_err(|error| error.to_string())?;
        self.filter.check(&config.log)?;
        let ended = self.service.reconfigure(config.http);
        let streams_ended = ended.map_err(|error| error.to_string())?;
        let tls = self.tls.as_ref().zip(config.tls.as_ref());
        if let Some((running, read)) = tls {
            running.replace_with(read);
        }
        self.service.hub().rates().set_limits(config.hub.rates);
        self.filter.set(&config.log)?;
        let changed = |one: &&Effective| {
            let before = self.current.iter().find(|it| it.name == one.name);
            before.is_none_or(|before| before.value != one.value)
        };
        let names = next.iter().filter(changed).map(|one| one.name.clone());
        let (used, needs_restart): (Vec<_>, Vec<_>) =
            names.partition(|name| is_exchanged(name, tls.is_some()));
        // What needs a restart is told again, until there is one.
        for one in &mut self.current {
            let now = next.iter().find(|it| it.name == one.name);
            if let Some(now) = now.filter(|_| is_exchanged(&one.name, tls.is_some())) {
                *one = now.clone();
            }
        }
        Ok(Exchanged {
            used,
            needs_restart,
            streams_ended,
        })
    }
}

struct Exchanged {
    used: Vec<String>,
    needs_restart: Vec<String>,
    streams_ended: usize,
}

fn read(serve: &Serve, matches: &ArgMatches) -> Result<Vec<Effective>, String> {
    effective(matches, serve.config.as_deref()).map_err(|error| error.to_string())
}

/// HTTPS cannot begin or end while the hub runs.
fn is_exchanged(name: &str, is_https: bool) -> bool {
    EXCHANGED.contains(&name) || is_https && name.starts_with("tls-")
}

/// What a running hub takes over. Everything else belongs to what was shared out or opened at the start.
const EXCHANGED: [&str; 23] = [
    "allowed-host",
    "allowed-origin",
    "refusals",
    "jwt-key",
    "jwt-secret",
    "jwt-jwks-url",
    "jwt-issuer",
    "jwt-audience",
    "jwt-session-claim",
    "token-file",
    "auth-url",
    "auth-cookie",
    "auth-timeout",
    "auth-cache",
    "anonymous",
    "authenticated",
    "trusted-proxy",
    "trusted-proxy-header",
    "log",
    "connect-rate",
    "publish-rate",
    "publish-bytes-rate",
    "failed-credential-rate",
];
