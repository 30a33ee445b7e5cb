//! How streams are kept alive, slowed down and ended.

use std::time::Duration;

use clap::Args;

use super::check::{some_bytes, some_time};
use super::late_rule::LateRuleSetting;
use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::hub::{HubConfig, LateConfig, Overflow};
use crate::units::{Size, Span};
use crate::wire::HeartbeatForm;

/// The streams' settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Streams")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct StreamSettings {
    /// Silence after which a heartbeat is sent; 0 for none [default: 30s]
    #[arg(long, env = "SSE_HEARTBEAT", value_name = "DURATION")]
    pub heartbeat: Option<Span>,
    /// Longest silence between heartbeats under lasting load, when they become rarer [default: the same as
    /// --heartbeat: never rarer]
    #[arg(long, env = "SSE_MAX_HEARTBEAT", value_name = "DURATION")]
    pub max_heartbeat: Option<Span>,
    /// Longest time that a busy hub waits for more events to write together; an idle hub never waits; 0 turns it off
    /// [default: 5ms]
    #[arg(long, env = "SSE_MAX_LINGER", value_name = "DURATION")]
    pub max_linger: Option<Span>,
    /// How a heartbeat is written [default: event]
    #[arg(long, env = "SSE_HEARTBEAT_FORM", value_name = "FORM")]
    pub heartbeat_form: Option<HeartbeatForm>,
    /// Reconnection time sent to clients, lengthened by up to half of it at random [default: 2s]
    #[arg(long, env = "SSE_RETRY", value_name = "DURATION")]
    pub retry: Option<Span>,
    /// Disconnect a reader that takes nothing for this long while events wait for it [default: 5s]
    #[arg(long, env = "SSE_SEND_TIMEOUT", value_name = "DURATION")]
    pub send_timeout: Option<Span>,
    /// Close a connection that has taken nothing for this long, neither an event nor a heartbeat. A quiet reader takes heartbeats and
    /// stays, unless --heartbeat is 0 [default: 5m]
    #[arg(long, env = "SSE_IDLE_TIMEOUT", value_name = "DURATION")]
    pub idle_timeout: Option<Span>,
    /// How often to look for idle connections and old events [default: 60s]
    #[arg(long, env = "SSE_SWEEP_INTERVAL", value_name = "DURATION")]
    pub sweep_interval: Option<Span>,
    /// What happens to a reader whose next event is no longer kept: disconnect, or drop-oldest
    /// (announce the gap and go on) [default: disconnect]
    #[arg(long, env = "SSE_OVERFLOW", value_name = "POLICY")]
    pub overflow: Option<Overflow>,
    /// What a reader that is late is spared: patterns separated by commas, then latest (events that a newer one of the same topic and
    /// type replaces), latest=FIELD (the same, for each value of a field of the data), sample=DURATION (all but the newest of
    /// each interval) or drop-low (events of low priority), as in `price/*;latest=symbol`. Events of high priority are always
    /// delivered. Repeatable; the first rule that matches a topic applies [default: nothing is left out]
    #[arg(
        long,
        env = "SSE_WHEN_LATE",
        value_delimiter = '|',
        value_name = "RULE"
    )]
    pub when_late: Option<Vec<LateRuleSetting>>,
    /// A reader is late when its next event has waited for this long, or for a quarter of it where the event is of low priority
    /// [default: 1s]
    #[arg(long, env = "SSE_LATE_AFTER", value_name = "DURATION")]
    pub late_after: Option<Span>,
    /// Memory for the newest events, shared by all readers; it is taken off --memory [default: 16MiB, and no more than a tenth of
    /// --memory]
    #[arg(long, env = "SSE_WINDOW", value_name = "SIZE")]
    pub window: Option<Size>,
}

impl StreamSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            heartbeat, max_heartbeat, max_linger, heartbeat_form, retry, send_timeout, idle_timeout, sweep_interval,
            overflow, when_late, late_after, window,
        )
    }

    pub(super) fn build(self, hub: HubConfig) -> Result<HubConfig, ConfigError> {
        let hub = HubConfig {
            heartbeat: match self.heartbeat.map(|span| span.0) {
                None => hub.heartbeat,
                Some(Duration::ZERO) => None,
                given => given,
            },
            max_heartbeat: self.max_heartbeat.map(|span| span.0),
            heartbeat_form: self.heartbeat_form.unwrap_or(hub.heartbeat_form),
            max_linger: self.max_linger.map_or(hub.max_linger, |span| span.0),
            retry: some_time("--retry", self.retry, hub.retry)?,
            send_timeout: some_time("--send-timeout", self.send_timeout, hub.send_timeout)?,
            idle_timeout: some_time("--idle-timeout", self.idle_timeout, hub.idle_timeout)?,
            sweep_interval: some_time("--sweep-interval", self.sweep_interval, hub.sweep_interval)?,
            overflow: self.overflow.unwrap_or(hub.overflow),
            late: LateConfig {
                late_after: some_time("--late-after", self.late_after, hub.late.late_after)?,
                rules: match self.when_late {
                    None => hub.late.rules,
                    Some(rules) => rules.into_iter().map(LateRuleSetting::build).collect(),
                },
            },
            window_bytes: some_bytes("--window", self.window, hub.window_bytes)?,
            ..hub
        };
        check_heartbeats(&hub)?;
        if hub.max_linger > MAX_LINGER {
            return Err(invalid(format!(
                "--max-linger ({:?}) must be at most {MAX_LINGER:?}: more would only delay events",
                hub.max_linger
            )));
        }
        Ok(hub)
    }
}

fn check_heartbeats(hub: &HubConfig) -> Result<(), ConfigError> {
    match (hub.heartbeat, hub.max_heartbeat) {
        (None, Some(_)) => {
            return Err(invalid(
                "--max-heartbeat is given, but --heartbeat is 0: there are no heartbeats to become rarer",
            ));
        }
        (Some(least), Some(most)) if most < least => {
            return Err(invalid(format!(
                "--max-heartbeat ({most:?}) must be at least --heartbeat ({least:?})"
            )));
        }
        _ => {}
    }
    if let Some(interval) = hub.heartbeat.max(hub.max_heartbeat)
        && interval >= hub.idle_timeout
    {
        let option = if hub.max_heartbeat.is_some() {
            "--max-heartbeat"
        } else {
            "--heartbeat"
        };
        return Err(invalid(format!(
            "{option} ({interval:?}) must be shorter than --idle-timeout ({:?}), or every quiet connection is closed",
            hub.idle_timeout
        )));
    }
    Ok(())
}

/// A longer delay would be felt.
const MAX_LINGER: Duration = Duration::from_secs(1);
