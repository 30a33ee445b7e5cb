//! Running other programs: what is run is said first, and what it prints is passed on.
//!
//! Every program runs without a standard input, so that none can stop to ask, and without the
//! variables that `cargo run` leaves behind for this one: a build script that watches
//! `CARGO_PKG_*` would otherwise run again whenever the same build is started by hand.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Why a task did not succeed, in one line for the person who started it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that `reason` describes in one line.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a task answers.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A program to run, its arguments and its surroundings.
pub(crate) struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
}

impl Cmd {
    /// The program `program`, looked up in `PATH`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
        }
    }

    /// The cargo that started us.
    pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::new("cargo").args(args)
    }

    /// Cargo of the nightly toolchain, for what stable Rust does not have: fuzzing and Miri.
    pub(crate) fn nightly_cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::new("rustup")
            .args(["run", "nightly", "cargo"])
            .args(args)
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable for this program alone.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs the program in `dir`.
    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().into());
        self
    }

    /// Runs the program and shows what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not exit with zero.
    pub(crate) fn run(self) -> Outcome {
        self.announce();
        let status = self
            .command()
            .status()
            .map_err(|error| self.not_started(&error))?;
        self.judge(status)
    }

    /// Runs the program, shows what it prints, and hands each line of its standard output to
    /// `on_line`.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not exit with zero.
    pub(crate) fn run_lines(self, mut on_line: impl FnMut(&str)) -> Outcome {
        self.announce();
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let stdout = child
            .stdout
            .take()
            .expect("standard output was piped two lines above");
        let (said, heard) = mpsc::channel();
        let printer = said.clone();
        thread::spawn(move || pass_on(stdout, &printer));
        thread::spawn(move || said.send(Said::Ended(child.wait())));
        let status = loop {
            match heard
                .recv()
                .expect("the thread that waits for the child always answers")
            {
                Said::Line(line) => on_line(&line),
                Said::Ended(status) => break status,
            }
        };
        // A process that outlives its parent may hold the pipe open; it is not waited for.
        while let Ok(Said::Line(line)) = heard.recv_timeout(LAST_WORDS) {
            on_line(&line);
        }
        self.judge(status.map_err(|error| self.not_started(&error))?)
    }

    /// Runs the program silently and returns its standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not exit with zero; the reason is the last line it wrote
    /// to standard error.
    pub(crate) fn output(self) -> Outcome<String> {
        let output = self
            .command()
            .output()
            .map_err(|error| self.not_started(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or("it gave no reason");
        Err(Failure::new(format!("`{self}` failed: {last}")))
    }

    /// Whether the program can be run and exits with zero; shows nothing.
    pub(crate) fn succeeds(self) -> bool {
        let quiet = self
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        quiet.is_ok_and(|status| status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if LEFT_BY_CARGO
                .iter()
                .any(|prefix| name_text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn announce(&self) {
        println!("$ {self}");
        // Nothing can be done when our own output is closed; the program will notice by itself.
        let _ = io::stdout().flush();
    }

    fn judge(&self, status: ExitStatus) -> Outcome {
        if status.success() {
            return Ok(());
        }
        let how = match status.code() {
            Some(code) => format!("exited with {code}"),
            None => "was ended by a signal".to_owned(),
        };
        Err(Failure::new(format!("`{self}` {how}")))
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        Failure::new(format!(
            "`{}` could not be run: {error}",
            self.program.to_string_lossy()
        ))
    }
}

impl fmt::Display for Cmd {
    /// The command as one would type it, good enough to copy for the arguments we use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{}={} ", name.to_string_lossy(), quoted(value))?;
        }
        f.write_str(&self.program.to_string_lossy())?;
        for arg in &self.args {
            write!(f, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

/// The full path of `program` in `PATH`, if it is there.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn quoted(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    if text.contains('\'') {
        format!("\"{text}\"")
    } else if text.is_empty() || text.contains([' ', '"', '*', '$']) {
        format!("'{text}'")
    } else {
        text.into_owned()
    }
}

/// What a running program lets us know.
enum Said {
    Line(String),
    Ended(io::Result<ExitStatus>),
}

/// Copies `from` to our standard output, and hands on each of its lines.
fn pass_on(from: impl io::Read, listener: &mpsc::Sender<Said>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
        let mut stdout = io::stdout().lock();
        // A closed output must not stop the reading, or the child would block on a full pipe.
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        drop(stdout);
        let _ = listener.send(Said::Line(
            String::from_utf8_lossy(&line).trim_end().to_owned(),
        ));
        line.clear();
    }
}

/// Variables that `cargo run` sets for the program it runs.
const LEFT_BY_CARGO: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// How long the pipe of a program that has ended may stay silent before we stop listening.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let cmd = Cmd::cargo(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            cmd.to_string(),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps"
        );
        let cmd = Cmd::cargo(["--config", "profile.release.lto='off'"]);
        assert_eq!(
            cmd.to_string(),
            "cargo --config \"profile.release.lto='off'\""
        );
    }

    #[test]
    fn every_line_is_handed_on_before_the_command_returns() {
        let mut lines = Vec::new();
        let outcome = Cmd::new("printf")
            .args(["%s\\n", "one", "two"])
            .run_lines(|line| {
                lines.push(line.to_owned());
            });
        assert!(outcome.is_ok());
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_failure_names_the_command_and_its_exit_code() {
        let failure = Cmd::new("sh").args(["-c", "exit 3"]).run().unwrap_err();
        assert_eq!(failure.to_string(), "`sh -c 'exit 3'` exited with 3");
    }

    #[test]
    fn a_missing_program_is_a_failure_and_not_a_panic() {
        let failure = Cmd::new("no-such-program-anywhere").run().unwrap_err();
        assert!(
            failure
                .to_string()
                .starts_with("`no-such-program-anywhere` could not be run")
        );
    }
}
