//! A client at work, and what it has told of its stream.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::SSE;
use crate::clients::{MARK, now_micros};
use crate::hub::Guard;
use crate::recipes;

/// A client that reads a stream.
pub(crate) struct Reading {
    heard: Arc<Mutex<Heard>>,
    _process: Option<Guard>,
}

/// What a client has handed on.
#[derive(Default)]
pub(crate) struct Heard {
    /// The data of each event, and when it was handed on in microseconds of the clock.
    pub(crate) events: Vec<(String, u64)>,
    /// How the stream ended, each time that it did.
    pub(crate) ends: Vec<String>,
}

impl Heard {
    /// Adds an event, unless it is the hub's own word.
    fn event(&mut self, at: u64, data: &str) {
        if data.starts_with(MARK) {
            self.events.push((data.to_owned(), at));
        }
    }

    /// A line of what one of the scripts prints.
    fn told(&mut self, line: &str) {
        let event = line
            .strip_prefix("event ")
            .and_then(|event| event.split_once(' '));
        match event {
            Some((at, data)) => self.event(at.parse().unwrap(), data),
            None => self.ends.push(line.to_owned()),
        }
    }

    /// A line of a stream, or its end.
    fn line(&mut self, line: Option<&str>) {
        match line {
            Some(line) => {
                if let Some(data) = line.strip_prefix("data: ") {
                    self.event(now_micros(), data);
                }
            }
            None => self.ends.push("end".to_owned()),
        }
    }
}

impl Reading {
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Starts a program that prints the stream as it is.
    pub(crate) fn program(command: &[&str], url: &str) -> Self {
        let mut program = Command::new(command[0]);
        program.args(&command[1..]).arg(url);
        Self::start(program, Heard::line)
    }

    /// Reads in this process, with or without the feature `gzip`.
    pub(crate) fn reqwest(gzip: bool, url: &str) -> Self {
        let heard = Arc::<Mutex<Heard>>::default();
        let (telling, url) = (Arc::clone(&heard), url.to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let ended = runtime.block_on(read_with_reqwest(gzip, &url, &telling));
            let end = ended.map_or_else(|error| format!("error {error:?}"), |()| "end".to_owned());
            telling.lock().unwrap().ends.push(end);
        });
        Self {
            heard,
            _process: None,
        }
    }

    fn start(mut command: Command, hear: fn(&mut Heard, Option<&str>)) -> Self {
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?}: {error}; `cargo xtask setup` installs it")
            });
        let mut process = Guard(child);
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let heard = Arc::<Mutex<Heard>>::default();
        let telling = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                hear(&mut telling.lock().unwrap(), Some(&line));
            }
            hear(&mut telling.lock().unwrap(), None);
        });
        Self {
            heard,
            _process: Some(process),
        }
    }
}

async fn read_with_reqwest(
    gzip: bool,
    url: &str,
    telling: &Mutex<Heard>,
) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder().gzip(gzip).build()?;
    let mut response = client.get(url).send().await?;
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = str::from_utf8(&line[..end]).unwrap();
            telling.lock().unwrap().line(Some(line));
        }
    }
    Ok(())
}

/// The scripts of `clients/`, laid where they find what they import.
pub(crate) struct Scripts {
    installed: PathBuf,
    folder: tempfile::TempDir,
}

impl Scripts {
    pub(crate) fn lay_out() -> Self {
        // Where `cargo xtask setup` installs them: below the target folder.
        let target = Path::new(SSE).ancestors().nth(2).unwrap();
        let installed = target.join("tools/clients");
        assert!(
            installed.join("installed").is_file(),
            "the clients are missing in {}: `cargo xtask setup` installs them",
            installed.display()
        );
        let folder = tempfile::tempdir_in(&installed).unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients");
        for from in [ours, recipes::folder()] {
            for file in from.read_dir().unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        Self { installed, folder }
    }

    pub(crate) fn node(&self, script: &str, url: &str) -> Reading {
        let mut command = Command::new("node");
        command.arg(self.folder.path().join(script)).arg(url);
        Reading::start(command, told)
    }

    pub(crate) fn python(&self, script: &str, url: &str) -> Reading {
        let mut command = Command::new(self.installed.join("venv/bin/python"));
        command.arg(self.folder.path().join(script)).arg(url);
        if script == SSECLIENT_PY {
            // It has the same name as `sseclient`, and so a folder of its own.
            command.env("PYTHONPATH", self.installed.join("sseclient-py"));
        }
        Reading::start(command, told)
    }

    /// The command that runs a script, as one that talks with it needs it.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = if script.ends_with(".py") {
            Command::new(self.installed.join("venv/bin/python"))
        } else {
            Command::new("node")
        };
        command.arg(self.folder.path().join(script));
        command
    }

    pub(crate) fn go(&self, url: &str) -> Reading {
        let mut command = Command::new(self.installed.join("go-reader"));
        command.arg(url);
        Reading::start(command, told)
    }
}

/// The scripts say themselves how their streams end.
fn told(heard: &mut Heard, line: Option<&str>) {
    if let Some(line) = line {
        heard.told(line);
    }
}

const SSECLIENT_PY: &str = "sseclient_py.py";
