//! The settings of retention: how long events are kept.

use std::time::Duration;

use clap::Args;
use sse_broker::Retention;

use super::check::some_time;
use super::settings::or_fields;
use super::topic_rule::TopicRule;
use super::{ConfigError, invalid};
use crate::units::{Size, Span};

/// The settings of retention, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Retention")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct RetentionSettings {
    /// Keep events for this long [default: 7d]
    #[arg(long, env = "SSE_RETENTION_AGE", value_name = "DURATION")]
    pub retention_age: Option<Span>,
    /// Keep at most this much event data; with --ephemeral the log takes this much of --memory [default: 1GiB; with
    /// --ephemeral 64MiB, and no more than a tenth of --memory]
    #[arg(long, env = "SSE_RETENTION_SIZE", value_name = "SIZE")]
    pub retention_size: Option<Size>,
    /// Keep at most this many events [default: no limit]
    #[arg(long, env = "SSE_RETENTION_EVENTS", value_name = "N")]
    pub retention_events: Option<u64>,
    /// Forget a named subscription that nobody has used for this long; 0 for never [default: the same as
    /// --retention-age]
    #[arg(long, env = "SSE_NAMED_SUBSCRIPTION_EXPIRY", value_name = "DURATION")]
    pub named_subscription_expiry: Option<Span>,
    /// Keep less of some topics: patterns separated by commas, then max-age, max-count, max-bytes (of all
    /// these topics together) or keep-latest (of each), as in `progress/*;keep-latest=1` or
    /// `chat/*,room/:id;max-age=1h;max-count=1000`. Repeatable; the first rule that matches a topic applies.
    /// In the file also as tables: `[[retain]]` with `topics`, `max-age` and so on
    #[arg(long, env = "SSE_RETAIN", value_delimiter = '|', value_name = "RULE")]
    pub retain: Option<Vec<TopicRule>>,
}

impl RetentionSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            retention_age, retention_size, retention_events, named_subscription_expiry, retain,
        )
    }

    /// How long events are kept, and named subscriptions.
    pub(super) fn build(
        self,
        default_bytes: u64,
    ) -> Result<(Retention, Option<Duration>), ConfigError> {
        let max_age = some_time("--retention-age", self.retention_age, SEVEN_DAYS)?;
        let max_bytes = match self.retention_size {
            Some(Size(0)) => {
                return Err(invalid(
                    "--retention-size must be at least 1 byte, for example 1GiB",
                ));
            }
            Some(Size(bytes)) => bytes,
            None => default_bytes,
        };
        if self.retention_events == Some(0) {
            return Err(invalid("--retention-events must be at least 1"));
        }
        let rules = self.retain.unwrap_or_default().into_iter().enumerate();
        let retention = Retention {
            max_age: Some(max_age),
            max_bytes: Some(max_bytes),
            max_records: self.retention_events,
            topics: rules
                .map(|(n, rule)| rule.build(n + 1).map_err(invalid))
                .collect::<Result<_, _>>()?,
        };
        let expiry = match self.named_subscription_expiry.map(|span| span.0) {
            None => Some(max_age),
            Some(Duration::ZERO) => None,
            given => given,
        };
        Ok((retention, expiry))
    }
}

const SEVEN_DAYS: Duration = Duration::from_secs(7 * 24 * 3600);
