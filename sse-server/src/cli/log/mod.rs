//! `sse-server log …`: the log of a hub that is not running.

mod ndjson;
mod salvage;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sse_broker::{LogImport, LogToolError, Progress, StateChange, StoppedLog, Topic};

use ndjson::{EventLine, FORMAT, Line, LogLine, ValueLine};

/// Look at, check, make small, copy and salvage the log of a hub that is not running
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all is well; 1 a problem was found or something did not work; 2 the command line is wrong."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Say what the log holds
    #[command(after_help = EXIT_CODES)]
    Inspect {
        #[command(flatten)]
        log: Log,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check every page, record and index entry; name what is wrong
    #[command(after_help = EXIT_CODES)]
    Verify {
        #[command(flatten)]
        log: Log,
    },
    /// Give unused space in the file back
    #[command(after_help = EXIT_CODES)]
    Compact {
        #[command(flatten)]
        log: Log,
    },
    /// Copy every event as text, one JSON object a line (NDJSON)
    #[command(after_help = EXIT_CODES)]
    Export {
        #[command(flatten)]
        log: Log,
        /// The file to write, which must not be there yet; standard output when left out
        file: Option<PathBuf>,
    },
    /// Make a log from such a copy: the same events, ids, positions and order
    #[command(after_help = EXIT_CODES)]
    Import {
        #[command(flatten)]
        log: Log,
        /// The file to read; standard input when left out
        file: Option<PathBuf>,
        /// Append the events to an existing log: they get new positions, and ids that it knows are not
        /// stored twice. Named subscriptions and the states of jobs are not imported
        #[arg(long)]
        append: bool,
    },
    /// Save what can be read of a damaged log in a new one, and tell what is missing
    #[command(
        long_about = "Save what can be read of a damaged log in a new one, and tell what is missing.\n\nThe damaged log is only read. Every event that is whole is saved under its offset, wherever in the file it is found, and so are the states of jobs and named subscriptions that can be read. The new log has an epoch of its own: every reader with an old position hears of a gap. Needs as much free space as the log, and the hub must be stopped.",
        after_help = "Exit codes: 0 everything was saved; 1 something is missing, or it did not work; 2 the command line is wrong."
    )]
    Salvage(salvage::Args),
}

const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 a problem was found or something did not work; 2 the command line is wrong.";

#[derive(Debug, clap::Args)]
struct Log {
    /// Folder of the event log
    #[arg(
        long,
        env = "SSE_DATA_DIR",
        value_name = "DIR",
        default_value = "./sse-data"
    )]
    data_dir: PathBuf,
}

impl Log {
    fn open(&self) -> Result<StoppedLog, Failure> {
        StoppedLog::open(&self.data_dir).map_err(|error| failure(error.into()))
    }
}

/// What did not work, in one line.
type Failure = String;

/// Does it; the exit code when it could be done.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.task {
        Task::Inspect { log, json } => inspect(&log.open()?, json),
        Task::Verify { log } => verify(&mut log.open()?),
        Task::Compact { log } => compact(&mut log.open()?),
        Task::Export { log, file } => export(&log.open()?, file.as_deref()),
        Task::Import { log, file, append } => import(&log.data_dir, file.as_deref(), append),
        Task::Salvage(args) => salvage::run(&args),
    }
}

fn inspect(log: &StoppedLog, as_json: bool) -> Result<ExitCode, Failure> {
    let found = log.inspect().map_err(failure)?;
    let time = |at: Option<u64>| at.map(sse_server::clock::rfc3339);
    let bounds = found.bounds;
    if as_json {
        return print(&format!(
            "{}\n",
            serde_json::json!({
                "file_bytes": found.file_bytes,
                "format": found.format,
                "epoch": bounds.epoch.to_string(),
                "floor": bounds.floor,
                "head": bounds.head,
                "events": found.records,
                "weight_bytes": found.weight_bytes,
                "oldest": time(found.oldest),
                "newest": time(found.newest),
                "topics": found.topics,
                "ids": found.ids,
                "snapshots": found.snapshots,
                "states": found.states,
                "was_left_open": found.was_left_open,
            })
        ));
    }
    let or_none = |at| time(at).unwrap_or_else(|| "none".to_owned());
    let end = if found.was_left_open {
        "left open below the level fsync: the next start may begin a new epoch"
    } else {
        "clean, or always synced"
    };
    print(&format!(
        "file      {} (format {})\n\
         epoch     {}\n\
         events    {}, after {} and up to {}, {} as retention counts them\n\
         published {} to {}\n\
         topics    {}\n\
         ids       {}\n\
         beside    {} snapshots, {} other states\n\
         end       {end}\n",
        HumanBytes(found.file_bytes),
        found.format,
        bounds.epoch,
        found.records,
        bounds.floor,
        bounds.head,
        HumanBytes(found.weight_bytes),
        or_none(found.oldest),
        or_none(found.newest),
        found.topics,
        found.ids,
        found.snapshots,
        found.states,
    ))
}

fn verify(log: &mut StoppedLog) -> Result<ExitCode, Failure> {
    let bar = progress("checking", 0);
    let verified = log.verify(&mut |done| show(&bar, done));
    bar.finish_and_clear();
    let verified = verified.map_err(failure)?;
    let mut text = String::new();
    for problem in &verified.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    let untold = verified.problem_count - verified.problems.len() as u64;
    if untold > 0 {
        text.push_str(&format!("and {untold} more\n"));
    }
    text.push_str(&format!(
        "{} events and {} index entries checked, {} problems\n",
        verified.records, verified.index_entries, verified.problem_count
    ));
    let written = print(&text)?;
    Ok(if verified.problem_count == 0 {
        written
    } else {
        ExitCode::FAILURE
    })
}

fn compact(log: &mut StoppedLog) -> Result<ExitCode, Failure> {
    let bar = progress("compacting", 0);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let sizes = log.compact();
    bar.finish_and_clear();
    let (before, after) = sizes.map_err(failure)?;
    let (before, after) = (HumanBytes(before), HumanBytes(after));
    print(&format!("the file had {before} and has {after}\n"))
}

fn export(log: &StoppedLog, file: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(path) = file else {
        let out = io::stdout().lock();
        return match write_export(log, &mut BufWriter::with_capacity(BUFFER_BYTES, out)) {
            Ok(code) => Ok(code),
            // Whoever reads has enough.
            Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(ExitCode::FAILURE)
            }
            Err(stopped) => Err(stopped.tell("standard output")),
        };
    };
    let name = path.display().to_string();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(|error| format!("cannot create {name}: {error}"))?;
    let code = write_export(
        log,
        &mut BufWriter::with_capacity(BUFFER_BYTES, file.try_clone().map_err(|e| e.to_string())?),
    )
    .map_err(|stopped| stopped.tell(&name))?;
    file.sync_all()
        .map_err(|error| format!("cannot write {name}: {error}"))?;
    Ok(code)
}

/// Why an export ended early.
enum Stopped {
    Log(LogToolError),
    Output(io::Error),
}

impl Stopped {
    fn tell(self, output: &str) -> Failure {
        match self {
            Self::Log(error) => failure(error),
            Self::Output(error) => format!("cannot write {output}: {error}"),
        }
    }
}

impl From<LogToolError> for Stopped {
    fn from(error: LogToolError) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn write_export(log: &StoppedLog, out: &mut dyn Write) -> Result<ExitCode, Stopped> {
    let write = |out: &mut dyn Write, line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    };
    write(
        out,
        &Line::Log(LogLine::new(log.bounds(), log.removed_upto())),
    )?;
    let bar = progress("exporting", 0);
    let (mut events, mut damaged) = (0, 0u64);
    let mut written = Ok(());
    let read = log.records(&mut |record, done| {
        show(&bar, done);
        let line = match record {
            Ok(record) => {
                events += 1;
                Line::Event(Box::new(EventLine::new(&record)))
            }
            Err(offset) => {
                damaged += 1;
                Line::Damaged(offset)
            }
        };
        written = write(&mut *out, &line);
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    bar.finish_and_clear();
    written?;
    read?;
    for (topic, upto) in log.tombstones()? {
        let topic = topic.to_string();
        write(out, &Line::Removed { topic, upto })?;
    }
    for (topic, bytes) in log.snapshots()? {
        let value = ValueLine::new(topic.to_string(), &bytes);
        write(out, &Line::Snapshot(value))?;
    }
    for state in log.states()? {
        match state.value {
            Some(bytes) => write(
                out,
                &Line::State(ValueLine::new(state.key.into_string(), &bytes)),
            )?,
            None => damaged += 1,
        }
    }
    write(out, &Line::End { events })?;
    out.flush()?;
    let _ = writeln!(io::stderr(), "{events} events exported");
    if damaged > 0 {
        let _ = writeln!(
            io::stderr(),
            "problem: {damaged} damaged entries were left out"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn import(folder: &Path, file: Option<&Path>, append: bool) -> Result<ExitCode, Failure> {
    let name = file.map_or("standard input".to_owned(), |path| {
        path.display().to_string()
    });
    let (input, size_bytes): (Box<dyn Read>, u64) = match file {
        None => (Box::new(io::stdin().lock()), 0),
        Some(path) => {
            let cannot = |error| format!("cannot read {name}: {error}");
            let file = File::open(path).map_err(cannot)?;
            let size_bytes = file.metadata().map_err(cannot)?.len();
            (Box::new(file), size_bytes)
        }
    };
    let bar = progress("importing", size_bytes);
    let input = BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(input));
    let imported = Import::new(folder, append).read(input);
    bar.finish_and_clear();
    let (imported, line) = match imported {
        Ok(imported) => imported,
        Err((line, reason)) if line > 0 => return Err(format!("{name}, line {line}: {reason}")),
        Err((_, reason)) => return Err(reason),
    };
    let mut text = format!("{} events imported", imported.stored);
    if imported.duplicates > 0 {
        text.push_str(&format!(", {} were there already", imported.duplicates));
    }
    text.push('\n');
    if imported.conflicts > 0 {
        text.push_str(&format!(
            "problem: {} have the id of another event and were left out\n",
            imported.conflicts
        ));
    }
    debug_assert!(line > 0, "a copy has a first line");
    let written = print(&text)?;
    Ok(if imported.conflicts == 0 {
        written
    } else {
        ExitCode::FAILURE
    })
}

/// An import under way: the log begins with the first line.
struct Import<'a> {
    folder: &'a Path,
    append: bool,
    log: Option<LogImport>,
    thinned: u64,
    removed: Vec<(Topic, u64)>,
    snapshots: Vec<(Topic, Vec<u8>)>,
    states: Vec<StateChange>,
    events: u64,
}

impl<'a> Import<'a> {
    fn new(folder: &'a Path, append: bool) -> Self {
        Self {
            folder,
            append,
            log: None,
            thinned: 0,
            removed: Vec::new(),
            snapshots: Vec::new(),
            states: Vec::new(),
            events: 0,
        }
    }

    /// Reads to the last line. A mistake comes with the number of its line, 0 where it is none's.
    fn read(
        mut self,
        mut input: impl BufRead,
    ) -> Result<(sse_broker::Imported, u64), (u64, Failure)> {
        let mut text = Vec::new();
        let mut number = 0;
        loop {
            text.clear();
            number += 1;
            let at = |reason: String| (number, reason);
            let mut limited = (&mut input).take(MAX_LINE_BYTES);
            let len = limited
                .read_until(b'\n', &mut text)
                .map_err(|error| at(error.to_string()))?;
            if len == 0 {
                return Err(at(
                    "the copy is cut short here, nothing says that it ends".into()
                ));
            }
            if len as u64 == MAX_LINE_BYTES {
                return Err(at("the line is too long".into()));
            }
            let line: Line = serde_json::from_slice(text.trim_ascii())
                .map_err(|error| at(format!("no line of a copy: {error}")))?;
            if let Line::End { events } = line {
                if events != self.events {
                    return Err(at(format!(
                        "{events} events were copied and {} are here",
                        self.events
                    )));
                }
                break;
            }
            self.take(line).map_err(at)?;
        }
        let Some(mut log) = self.log else {
            return Err((number, NO_FIRST_LINE.to_owned()));
        };
        let finish = move || {
            if !self.append {
                log.put_removed(self.thinned, &self.removed)?;
                log.put_snapshots(&self.snapshots)?;
                log.put_states(self.states)?;
            }
            log.finish()
        };
        finish()
            .map(|imported| (imported, number))
            .map_err(|error| (0, failure(error)))
    }

    fn take(&mut self, line: Line) -> Result<(), Failure> {
        match (line, &mut self.log) {
            (Line::Log(first), None) => {
                if first.format != FORMAT {
                    return Err(format!(
                        "the copy has the format {}, and {FORMAT} is known here",
                        first.format
                    ));
                }
                let epoch = first.epoch()?;
                self.thinned = first.thinned;
                let log = if self.append {
                    LogImport::append(self.folder)
                } else {
                    LogImport::create(self.folder, epoch, first.floor)
                };
                self.log = Some(log.map_err(failure)?);
            }
            (Line::Log(_), Some(_)) => return Err("a second first line".to_owned()),
            (_, None) => return Err(NO_FIRST_LINE.to_owned()),
            (Line::Event(event), Some(log)) => {
                self.events += 1;
                let offset = event.offset;
                log.push(offset, event.into_record()?).map_err(failure)?;
            }
            (Line::Damaged(_) | Line::End { .. }, Some(_)) => {}
            (Line::Removed { topic, upto }, Some(_)) => {
                let topic = Topic::new(topic).map_err(|error| error.to_string())?;
                self.removed.push((topic, upto));
            }
            (Line::Snapshot(value), Some(_)) => {
                let topic = Topic::new(value.key.as_str()).map_err(|error| error.to_string())?;
                self.snapshots.push((topic, value.into_bytes()));
            }
            (Line::State(value), Some(_)) => self.states.push(StateChange {
                key: value.key.as_str().into(),
                value: Some(value.into_bytes().into()),
            }),
        }
        Ok(())
    }
}

fn failure(error: LogToolError) -> Failure {
    use sse_broker::OpenError;
    match &error {
        LogToolError::Open(OpenError::InUse { .. }) => format!("{error}: stop the hub first"),
        LogToolError::Open(OpenError::NoLog { .. }) => {
            format!("{error}; say where it is with --data-dir")
        }
        LogToolError::Open(OpenError::Damaged { path, .. } | OpenError::NotALog { path }) => {
            format!("{error}; {}", how_to_salvage(path))
        }
        LogToolError::NotEmpty(_) => {
            format!("{error}: import into a new folder, or add to the log there with --append")
        }
        _ => error.to_string(),
    }
}

/// What to do about a log, in this file, that is damaged beyond what a hub can open.
pub(crate) fn how_to_salvage(path: &Path) -> String {
    let folder = path.parent().unwrap_or(path);
    format!(
        "`sse-server log salvage {} NEW_DIR` saves what can be read of a damaged log",
        folder.display()
    )
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| format!("cannot write standard output: {error}"))
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(what: &'static str, of: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(of), target);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}

fn show(bar: &ProgressBar, done: Progress) {
    if done.done.is_multiple_of(SHOW_EVERY) {
        bar.set_length(done.of);
        bar.set_position(done.done);
    }
}

const NO_FIRST_LINE: &str = "a copy begins with {\"log\": …}";
/// What is read and written at once.
const BUFFER_BYTES: usize = 256 << 10;
/// The longest line: the largest event that can be published, escaped at the worst, fits many times.
const MAX_LINE_BYTES: u64 = 1 << 30;
/// So often is progress shown.
const SHOW_EVERY: u64 = 1024;
