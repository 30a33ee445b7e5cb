//! The thread that writes the audit log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::fact::{self, Fact};
use super::{Message, Shared};
use crate::clock;

/// Where lines go.
pub(super) enum Target {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Target {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
        }
    }

    /// Makes the file anew if it was renamed or removed.
    fn look(&mut self) -> io::Result<()> {
        let Self::File { path, file } = self else {
            return Ok(());
        };
        if !is_same(path, file) {
            *file = append_to(path)?;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(unix)]
fn is_same(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |it: std::fs::Metadata| (it.dev(), it.ino());
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => identity(there) == identity(open),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same(_path: &Path, _file: &File) -> bool {
    true
}

pub(super) struct Writer {
    target: Target,
    shared: Arc<Shared>,
    looked_at: Instant,
    /// What is to be written with the next call of the system.
    batch: Vec<u8>,
    lines: u64,
    /// The last write failed, perhaps in the midst of a line.
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(target: Target, shared: Arc<Shared>) -> Self {
        Self {
            target,
            shared,
            looked_at: clock::now(),
            batch: Vec::new(),
            lines: 0,
            is_failing: false,
        }
    }

    /// Writes until all who could say something are gone.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(LOOK_INTERVAL) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while self.batch.len() < MAX_BATCH_BYTES
                && let Ok(message) = messages.try_recv()
            {
                self.take(message);
            }
            self.write();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                self.shared
                    .waiting_bytes
                    .fetch_sub(line.len(), Ordering::AcqRel);
                self.batch.extend_from_slice(&line);
                self.lines += 1;
            }
            Message::Flush(done) => {
                self.write();
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self) {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = fact::line(clock::unix_millis(), &Fact::Dropped { count: dropped });
            self.batch.extend_from_slice(&line);
            self.lines += 1;
        }
        if self.batch.is_empty() {
            return;
        }
        if self.is_failing {
            // What came before may have no end.
            self.batch.insert(0, b'\n');
        }
        let lines = std::mem::take(&mut self.lines);
        let written = self.look().and_then(|()| self.target.write(&self.batch));
        self.batch.clear();
        self.batch.shrink_to(MAX_BATCH_BYTES);
        match written {
            Ok(()) => {
                self.shared.written.fetch_add(lines, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the audit log is written again");
                }
            }
            Err(error) => {
                self.shared.failed_total.fetch_add(lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "the audit log cannot be written; what should be in it is lost until it can");
                }
            }
        }
    }

    /// Looks, about once a second, whether the file is still where it was.
    fn look(&mut self) -> io::Result<()> {
        let now = clock::now();
        if !self.is_failing && now.saturating_duration_since(self.looked_at) < LOOK_INTERVAL {
            return Ok(());
        }
        self.looked_at = now;
        self.target.look()
    }
}

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// So much is written at once.
const MAX_BATCH_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::super::AuditLog;
    use super::*;

    fn said(count: u64) -> Fact<'static> {
        Fact::RefusalsLeftOut { count }
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let audit = AuditLog::to_file(&path).unwrap();
        let flush = || audit.flush(Duration::from_secs(60));
        audit.write(&said(1));
        flush();
        std::fs::rename(&path, &moved).unwrap();
        let mut count = 1;
        while !path.exists() {
            count += 1;
            audit.write(&said(count));
            flush();
        }
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count() as u64;
        assert_eq!(lines(&moved) + lines(&path), count);
        assert_eq!(audit.status().written, count);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let audit = AuditLog::to_file(Path::new("/dev/full")).unwrap();
        audit.write(&said(1));
        audit.flush(Duration::from_secs(60));
        audit.write(&said(2));
        audit.flush(Duration::from_secs(60));
        let status = audit.status();
        assert_eq!((status.written, status.failed), (0, 2));
    }
}
