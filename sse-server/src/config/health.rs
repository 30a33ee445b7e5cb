//! From when on the hub calls itself unwell, and what it must have to be called ready.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use sse_health::{Limit, Signal};

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::hub::{HubConfig, Need};

/// The settings of health and readiness, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Health")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct HealthSettings {
    /// When a health signal becomes a warning, and when critical: `memory=70%,90%`, `latency_p95_ms=200,1000`, or `cpu=off`. Signals are
    /// connections, queue, memory, cpu and success_rate (shares), errors_per_minute and latency_p95_ms. Repeatable
    /// [default: connections=80%,95%|queue=80%,95%|memory=70%,90%|success_rate=99%,90%|errors_per_minute=5,50|latency_p95_ms=200,1000|cpu=off]
    #[arg(
        long,
        env = "SSE_HEALTH_THRESHOLD",
        value_delimiter = '|',
        value_name = "SIGNAL=WARNING,CRITICAL"
    )]
    pub health_threshold: Option<Vec<ThresholdSetting>>,
    /// What /readyz checks besides that the hub is up: the log takes events (log), its disk or memory has room (storage), streams have
    /// places left (places), or nothing more (none) [default: log,storage,places]
    #[arg(
        long,
        env = "SSE_READY_NEEDS",
        value_delimiter = ',',
        value_name = "NEED",
        ignore_case = true
    )]
    pub ready_needs: Option<Vec<NeedSetting>>,
}

/// The limits of one signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThresholdSetting {
    signal: Signal,
    limit: Option<Limit>,
}

impl FromStr for ThresholdSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, limits) = text
            .split_once('=')
            .ok_or("a threshold is written SIGNAL=WARNING,CRITICAL, as in memory=70%,90%")?;
        let signal: Signal = name.trim().parse().map_err(|_| {
            let known = Signal::ALL.map(Signal::name).join(", ");
            format!("{name:?} is no signal; there are {known}")
        })?;
        let limits = limits.trim();
        if limits.eq_ignore_ascii_case("off") {
            return Ok(Self {
                signal,
                limit: None,
            });
        }
        let mut values = limits.split(',').map(|value| number(value.trim()));
        let warning = values.next().ok_or("a value is missing")??;
        let critical = values.next().transpose()?;
        if values.next().is_some() {
            return Err(format!(
                "{limits:?} has more than a warning and a critical value"
            ));
        }
        Ok(Self {
            signal,
            limit: Some(Limit { warning, critical }),
        })
    }
}

/// A number, or a share in percent.
fn number(text: &str) -> Result<f64, String> {
    let (digits, part) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (text, 1.0),
    };
    let number: Result<f64, _> = digits.trim().parse();
    match number {
        Ok(number) if number.is_finite() => Ok(number / part),
        _ => Err(format!("{text:?} is no number, such as 200 or 70%")),
    }
}

/// What a ready hub has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum NeedSetting {
    Log,
    Storage,
    Places,
    None,
}

impl HealthSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: health_threshold, ready_needs)
    }

    pub(super) fn build(self, hub: HubConfig) -> Result<HubConfig, ConfigError> {
        let mut thresholds = hub.thresholds;
        for setting in self.health_threshold.unwrap_or_default() {
            thresholds = match setting.limit {
                None => thresholds.without(setting.signal),
                Some(limit) => thresholds
                    .with(setting.signal, limit)
                    .map_err(|error| invalid(format!("--health-threshold: {error}")))?,
            };
        }
        let ready_needs = match self.ready_needs {
            None => hub.ready_needs,
            Some(needs) if needs == [NeedSetting::None] => Vec::new(),
            Some(needs) if needs.contains(&NeedSetting::None) => {
                return Err(invalid("--ready-needs none stands alone"));
            }
            Some(needs) => needs.into_iter().filter_map(need).collect(),
        };
        Ok(HubConfig {
            thresholds,
            ready_needs,
            ..hub
        })
    }
}

fn need(setting: NeedSetting) -> Option<Need> {
    match setting {
        NeedSetting::Log => Some(Need::Log),
        NeedSetting::Storage => Some(Need::Storage),
        NeedSetting::Places => Some(Need::Places),
        NeedSetting::None => None,
    }
}
