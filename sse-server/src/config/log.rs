//! The settings of the log on standard error.

use clap::{Args, ValueEnum};

use super::settings::or_fields;

/// The log's settings, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct LogSettings {
    /// Log level or filter, such as info or sse_server=debug [default: info]
    #[arg(long, env = "SSE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Format of the log on standard error [default: text]
    #[arg(long, env = "SSE_LOG_FORMAT", value_name = "FORM")]
    pub log_format: Option<LogFormat>,
}

/// How the log on standard error looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: log, log_format)
    }

    pub(super) fn build(self) -> (String, LogFormat) {
        (
            self.log.unwrap_or_else(|| "info".to_owned()),
            self.log_format.unwrap_or(LogFormat::Text),
        )
    }
}
