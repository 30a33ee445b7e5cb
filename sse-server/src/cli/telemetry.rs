//! The log on standard error.
//!
//! A thread of its own writes it. When nobody reads standard error, lines wait for a while and are dropped then: the hub never
//! waits for its log.

use std::io;

use sse_server::config::LogFormat;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

/// The thread that writes the log. Dropping it writes what waits, for a second at most.
pub(crate) struct Log {
    pub(crate) filter: Filter,
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            tracing::warn!(
                lines,
                "the log was not read fast enough, and lines of it were dropped"
            );
        }
    }
}

/// Starts logging.
///
/// # Errors
///
/// When the filter cannot be read.
pub(crate) fn init(filter: &str, format: LogFormat) -> Result<Log, String> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(read(filter)?);
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let log = Log {
        filter: Filter(handle),
        dropped: writer.error_counter(),
        _worker: worker,
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // Where standard error is closed, telling of it there would panic.
        .log_internal_errors(false)
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry
            .with(layer.with_ansi(io::IsTerminal::is_terminal(&io::stderr())))
            .init(),
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_ansi(false))
            .init(),
    }
    Ok(log)
}

/// What is logged; it can be exchanged. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Filter(Handle<EnvFilter, Registry>);

impl Filter {
    /// Whether this is a filter.
    pub(crate) fn check(&self, filter: &str) -> Result<(), String> {
        read(filter).map(drop)
    }

    /// Logs what this one lets through, from now on.
    pub(crate) fn set(&self, filter: &str) -> Result<(), String> {
        let filter = read(filter)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

fn read(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| {
        format!("the log filter {filter:?} cannot be read ({error}): try info or sse_server=debug")
    })
}

/// A line has some hundred bytes; so these take a MiB or two.
const MAX_WAITING_LINES: usize = 8192;
