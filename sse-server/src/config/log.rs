//! The settings of the log on standard error.

use std::path::PathBuf;

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
    /// Write who did what into this file, one JSON object a line: events published (never what they say), streams begun and
    /// ended, refusals, administration. `-` is standard output. A file that was renamed or deleted is created again
    #[arg(long, env = "SSE_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
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
        or_fields!(self, other: log, log_format, audit_log)
    }

    pub(super) fn build(self) -> (String, LogFormat, Option<PathBuf>) {
        (
            self.log.unwrap_or_else(|| "info".to_owned()),
            self.log_format.unwrap_or(LogFormat::Text),
            self.audit_log,
        )
    }
}
