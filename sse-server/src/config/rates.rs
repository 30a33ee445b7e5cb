//! How fast one caller may connect and publish.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::{Rate, RateLimits};
use crate::hub::HubConfig;
use crate::units::{Quoted, Size};

/// The rates, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct RateSettings {
    /// How many streams and WebSockets one caller may open: `10` for 10 a second, `30/m` or `100/h` for fewer, and behind a colon how
    /// many at once: `10:50` [default: no limit; at once: what 10 seconds allow]. A caller is a user, or a session or token that
    /// names no user, or else an address. 0 for no limit
    #[arg(long, env = "SSE_CONNECT_RATE", value_name = "N[/UNIT][:BURST]")]
    pub connect_rate: Option<RateSetting>,
    /// How many events one caller may publish; each change of a job is one. A request with more events than BURST is refused
    /// for good [default: no limit]
    #[arg(long, env = "SSE_PUBLISH_RATE", value_name = "N[/UNIT][:BURST]")]
    pub publish_rate: Option<RateSetting>,
    /// How many bytes one caller may publish, counted as bodies and WebSocket messages: `1MiB:16MiB` [default: no limit; at once: what
    /// 10 seconds allow, and at least --max-body]
    #[arg(
        long,
        env = "SSE_PUBLISH_BYTES_RATE",
        value_name = "SIZE[/UNIT][:BURST]"
    )]
    pub publish_bytes_rate: Option<RateSetting<Size>>,
    /// How many invalid credentials one address may present. Beyond that, only credentials that were verified before and API tokens
    /// are accepted from it; others get 429 unchecked. 0 for no limit [default: 10/s:200]
    #[arg(
        long,
        env = "SSE_FAILED_CREDENTIAL_RATE",
        value_name = "N[/UNIT][:BURST]"
    )]
    pub failed_credential_rate: Option<RateSetting>,
}

/// A rate in configuration: `10`, `10/s:50`, `30/m`, and for sizes `1MiB:16MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSetting<N = u64> {
    count: N,
    per: Duration,
    burst: Option<N>,
}

impl<N: FromStr> FromStr for RateSetting<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{} is not a valid rate; write it like 10, 10:50 or 30/m, and sizes like 1MiB:16MiB",
                Quoted(text)
            )
        };
        let number = |text: &str| text.trim().parse::<N>().map_err(|_| wrong());
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(number(burst)?)),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/').unwrap_or((rate, "s"));
        let per = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        Ok(Self {
            count: number(count)?,
            per,
            burst,
        })
    }
}

impl RateSetting {
    /// The rate, or none for zero. Without a burst it is what ten seconds allow, and no less than `least`.
    fn build(self, option: &str, least: u64) -> Result<Option<Rate>, ConfigError> {
        if self.count == 0 {
            return Ok(None);
        }
        let allowed = u128::from(self.count) * DEFAULT_BURST.as_nanos() / self.per.as_nanos();
        let default = u64::try_from(allowed).unwrap_or(u64::MAX).max(least);
        let rate = Rate::new(self.count, self.per, self.burst.unwrap_or(default));
        rate.map(Some)
            .map_err(|error| invalid(format!("{option} {error}")))
    }
}

impl From<RateSetting<Size>> for RateSetting {
    fn from(of_bytes: RateSetting<Size>) -> Self {
        Self {
            count: of_bytes.count.0,
            per: of_bytes.per,
            burst: of_bytes.burst.map(|size| size.0),
        }
    }
}

impl RateSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: connect_rate, publish_rate, publish_bytes_rate, failed_credential_rate)
    }

    pub(super) fn build(
        self,
        hub: HubConfig,
        max_body_bytes: usize,
        memory_bytes: usize,
    ) -> Result<HubConfig, ConfigError> {
        let build = |option, given: Option<RateSetting>, least| match given {
            None => Ok(None),
            Some(given) => given.build(option, least),
        };
        let bytes = self.publish_bytes_rate.map(RateSetting::from);
        let rates = RateLimits {
            connect: build("--connect-rate", self.connect_rate, 1)?,
            publish: build("--publish-rate", self.publish_rate, 1)?,
            publish_bytes: build("--publish-bytes-rate", bytes, max_body_bytes as u64)?,
            failed_credentials: build(
                "--failed-credential-rate",
                Some(self.failed_credential_rate.unwrap_or(FAILED_CREDENTIALS)),
                1,
            )?,
        };
        if let Some(rate) = rates.publish_bytes
            && rate.burst() < hub.max_event_bytes as u64
        {
            return Err(invalid(format!(
                "--publish-bytes-rate takes {} at once, so an event of --max-event ({}) could never be published: write a larger number \
                 behind the colon, or lower --max-event",
                Size(rate.burst()),
                Size(hub.max_event_bytes as u64)
            )));
        }
        Ok(HubConfig {
            rates,
            rates_bytes: hub.rates_bytes.min(memory_bytes / PART_OF_MEMORY),
            ..hub
        })
    }
}

/// A stated guess: an office whose tokens have all expired comes back within this, and whoever tries them at random gets nowhere.
const FAILED_CREDENTIALS: RateSetting = RateSetting {
    count: 10,
    per: Duration::from_secs(1),
    burst: Some(200),
};
/// What is let through at once where nobody says: as much as the rate allows in this time. A stated guess: a page that is opened
/// in a few tabs, or a publisher that has waited for its database.
const DEFAULT_BURST: Duration = Duration::from_secs(10);
/// A sixteenth of the memory is as much as may be taken for remembering callers.
const PART_OF_MEMORY: usize = 16;
