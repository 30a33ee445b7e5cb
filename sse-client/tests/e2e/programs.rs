//! Programs that are not ours, and `sse`, as readers of compressed streams: each reads to the end and says what it got.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::SSE;
use crate::hub::{Guard, wait_until};
use crate::relay::Relay;

/// A program that reads a stream.
pub(crate) struct Reader {
    name: String,
    process: Guard,
    /// Held by one that waits before it reads.
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    form: Form,
    output: Option<JoinHandle<Vec<u8>>>,
}

/// What a program's output is.
enum Form {
    /// The stream, unpacked.
    Stream,
    /// A line of JSON for each event.
    Json,
    /// Nothing: the stream is in a file as it came.
    File(PathBuf),
}

/// Where the stream is, and in which coding it is to be read.
pub(crate) struct Source<'a> {
    pub(crate) address: &'a str,
    pub(crate) path: &'a str,
    pub(crate) coding: &'a str,
    pub(crate) relay: &'a Relay,
    pub(crate) folder: &'a std::path::Path,
}

/// When a program begins to take what its socket has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    AtOnce,
    /// When it is told to.
    Later,
}

impl Reader {
    /// One of each program. One that stores what it reads cannot be made to wait.
    pub(crate) fn all(source: &Source<'_>, name: &str, start: Start) -> Vec<Self> {
        let mut readers = vec![
            Self::curl(source, name, start),
            Self::sse(source, name, start),
            Self::python(source, name, start),
        ];
        if start == Start::AtOnce {
            readers.push(Self::file(source, name));
        }
        readers
    }

    fn curl(source: &Source<'_>, name: &str, start: Start) -> Self {
        let mut command = curl(source);
        command.arg("--compressed");
        Self::start(format!("{name} curl"), command, Form::Stream, start)
    }

    /// Keeps the stream as it comes, for `gzip` to look at.
    fn file(source: &Source<'_>, name: &str) -> Self {
        let path = source.folder.join(format!("{name}.gz"));
        let mut command = curl(source);
        command.arg("-o").arg(&path);
        let name = format!("{name} {}", source.coding);
        Self::start(name, command, Form::File(path), Start::AtOnce)
    }

    fn python(source: &Source<'_>, name: &str, start: Start) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("gunzip.py")]);
        let waits = if start == Start::Later { "waits" } else { "" };
        command.args([source.address, source.path, waits]);
        Self::start(format!("{name} python"), command, Form::Stream, start)
    }

    fn sse(source: &Source<'_>, name: &str, start: Start) -> Self {
        let mut command = Command::new(SSE);
        let url = format!("http://{}{}", source.relay.address(), source.path);
        command.args(["sub", "--json", "--no-reconnect", "--no-proxy", &url]);
        Self::start(format!("{name} sse"), command, Form::Json, start)
    }

    fn start(name: String, mut command: Command, form: Form, start: Start) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = Guard(child.unwrap_or_else(|error| {
            panic!("{command:?}: {error}; curl, gzip and python3 must be installed")
        }));
        let mut reader = Self {
            name,
            stdin: process.0.stdin.take(),
            stdout: process.0.stdout.take(),
            process,
            form,
            output: None,
        };
        if start == Start::AtOnce {
            reader.go_on();
        }
        reader
    }

    /// Takes what the program prints from now on. Until then a pipe is all that stands between it and its socket.
    pub(crate) fn go_on(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // Only one of them reads it.
            let _ = stdin.write_all(b"\n");
        }
        let mut stdout = self.stdout.take().expect("not yet told");
        self.output = Some(std::thread::spawn(move || {
            let mut output = Vec::new();
            stdout.read_to_end(&mut output).unwrap();
            output
        }));
    }

    /// The data of all events, once the program has ended and found the stream whole.
    pub(crate) fn events(mut self) -> (String, Vec<String>) {
        let output = self.output.take().expect("told to go on").join().unwrap();
        let mut status = None;
        wait_until(&format!("{} ends", self.name), || {
            status = self.process.0.try_wait().unwrap();
            status.is_some()
        });
        let mut complaint = String::new();
        let mut stderr = self.process.0.stderr.take().unwrap();
        stderr.read_to_string(&mut complaint).unwrap();
        assert!(status.unwrap().success(), "{}: {complaint}", self.name);
        let events = match self.form {
            Form::Stream => of_stream(&String::from_utf8(output).unwrap()),
            Form::Json => String::from_utf8(output)
                .unwrap()
                .lines()
                .map(|line| {
                    let event: Value = serde_json::from_str(line).expect("a line of JSON");
                    event["data"].as_str().unwrap().to_owned()
                })
                .collect(),
            Form::File(path) => of_stream(&unpacked(&path)),
        };
        (self.name, events)
    }
}

fn curl(source: &Source<'_>) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "-N", "--fail", "--noproxy", "*"])
        .args(["-H", &format!("Accept-Encoding: {}", source.coding)])
        .arg(format!("http://{}{}", source.address, source.path));
    command
}

/// What `gzip` makes of a file, after it has found nothing wrong with it.
fn unpacked(path: &std::path::Path) -> String {
    let run = |flags: &str| {
        let mut command = Command::new("gzip");
        let output = command.arg(flags).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        output.stdout
    };
    run("-tq");
    String::from_utf8(run("-dcq")).unwrap()
}

/// The data of a stream's own events, without what the hub itself says.
fn of_stream(text: &str) -> Vec<String> {
    let blocks = text.split_terminator("\n\n");
    let own = blocks.filter(|block| !block.lines().any(|line| line.starts_with("event: ")));
    own.filter_map(|block| {
        let data: Vec<&str> = block
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        (!data.is_empty()).then(|| data.join("\n"))
    })
    .collect()
}
