//! Standard output and standard error.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use crate::explain::explain;

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads our output any more, as after `| head`. That is not a failure.
    Gone,
    /// Something failed; one line that says what.
    Because(String),
    /// The command line is wrong; one line that says why.
    Usage(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Gone
        } else {
            Self::Because(format!("cannot write: {error}"))
        }
    }
}

impl From<sse_client::Error> for Stop {
    fn from(error: sse_client::Error) -> Self {
        match error {
            sse_client::Error::Config { reason } => Self::Usage(reason),
            error => Self::Because(explain(&error)),
        }
    }
}

/// Writes whole pieces to standard output, flushed.
pub(crate) struct Output {
    stdout: io::Stdout,
    colours: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let colours = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { stdout, colours }
    }

    /// Whether colours may be used: on a terminal, and not when `NO_COLOR` is set.
    pub(crate) fn has_colours(&self) -> bool {
        self.colours
    }

    /// Writes and flushes.
    pub(crate) fn write(&mut self, text: &[u8]) -> Result<(), Stop> {
        let mut lock = self.stdout.lock();
        lock.write_all(text)?;
        lock.flush()?;
        Ok(())
    }
}

/// Writes a line to standard error. It is not a failure when nobody reads it.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "sse: {line}");
}

/// `text`, fit for a terminal: control characters but tab and newline are shown as escapes, so that an event
/// cannot steer it.
pub(crate) fn tame(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_control() && c != '\t' && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}
