//! The log on standard error.

use std::io;

use sse_server::config::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts logging.
///
/// # Errors
///
/// When the filter cannot be read.
pub(crate) fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("the log filter {filter:?} cannot be read ({error}): try info or sse_server=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Where standard error is closed, telling of it there would panic.
        .log_internal_errors(false)
        .with_target(false);
    match format {
        LogFormat::Text => builder
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).init(),
    }
    Ok(())
}
