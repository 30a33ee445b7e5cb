//! A server process of the test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, Stream, Wire, curl_request, eventually};

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it printed when it was ready.
    pub(crate) welcome: String,
    stderr: Arc<Mutex<String>>,
    collector: Option<JoinHandle<()>>,
}

/// The server's command, knowing nothing of this process's own settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SSE_") {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Server {
    /// A server that keeps everything in memory.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with more flags.
    #[track_caller]
    pub(crate) fn with(flags: &[&str]) -> Self {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--ephemeral"])
            .args(flags);
        Self::spawn(command)
    }

    /// A server that keeps its events in this folder.
    #[track_caller]
    pub(crate) fn on_disk(folder: &Path, flags: &[&str]) -> Self {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .args(flags);
        Self::spawn(command)
    }

    /// Starts a command that becomes a server, and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let collector = std::thread::spawn({
            let (stderr, pipe) = (Arc::clone(&stderr), child.stderr.take().unwrap());
            move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut text = stderr.lock().unwrap();
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let Some(listening) = first.trim().strip_prefix("listening on ") else {
            let _ = child.wait();
            let _ = collector.join();
            panic!("no server: {first:?} {}", stderr.lock().unwrap());
        };
        let address = match listening.split_once("://") {
            Some((_, address)) => address.parse().unwrap(),
            // A Unix socket.
            None => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let mut welcome = first.clone();
        // The welcome is printed at once and ends with an empty line after the second curl line.
        while !welcome.ends_with("}'\n\n") {
            assert!(
                stdout.read_line(&mut welcome).unwrap() > 0,
                "the welcome broke off: {welcome}"
            );
        }
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Self {
            child,
            address,
            welcome,
            stderr,
            collector: Some(collector),
        }
    }

    /// Where it says that it listens.
    pub(crate) fn listening(&self) -> Vec<&str> {
        let lines = self.welcome.lines();
        lines
            .filter_map(|line| line.strip_prefix("listening on "))
            .collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process's end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the server has ended", || self.child.try_wait().unwrap());
        if let Some(collector) = self.collector.take() {
            collector.join().unwrap();
        }
        status
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut wire = Wire::connect(self.address);
        wire.write(&self.bytes(method, path, headers, Some(body)));
        match wire.reply(method == "HEAD") {
            Some(reply) => reply,
            None => panic!("no answer to {method} {path}"),
        }
    }

    /// The bytes of a request; `Host` and `Connection` are added where they are not given.
    pub(crate) fn bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        let given = |name: &str| {
            headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        if !given("host") {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        if !given("connection") && body.is_some() {
            request.push_str("Connection: close\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = body.unwrap_or_default();
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        request
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    #[track_caller]
    pub(crate) fn post_text(&self, path: &str, body: &str) -> Reply {
        let headers = [("Content-Type", "application/json")];
        self.request("POST", path, &headers, body.as_bytes())
    }

    /// Publishes an event, or an array of them, that must be taken.
    #[track_caller]
    pub(crate) fn publish(&self, event: &Value) -> Value {
        self.post("/events", event).ok()
    }

    /// Runs a curl line that ends with an answer.
    #[track_caller]
    pub(crate) fn curl(&self, line: &str) -> Reply {
        let mut wire = Wire::connect(self.address);
        wire.write(&curl_request(line, self.address));
        wire.reply(false).unwrap()
    }

    /// Runs a curl line that streams.
    #[track_caller]
    pub(crate) fn curl_stream(&self, line: &str) -> Stream {
        let mut wire = Wire::connect(self.address);
        wire.write(&curl_request(line, self.address));
        opened(Stream::read(wire))
    }

    /// Opens a stream that must be granted.
    #[track_caller]
    pub(crate) fn open(&self, path: &str) -> Stream {
        self.open_with(path, &[])
    }

    /// The same with headers.
    #[track_caller]
    pub(crate) fn open_with(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        opened(self.try_open(path, headers))
    }

    /// Opens a stream, or hears why not.
    #[track_caller]
    pub(crate) fn try_open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Stream, Reply> {
        self.try_open_from(path, headers, Ipv4Addr::LOCALHOST.into())
    }

    /// The same from another address of this machine.
    #[track_caller]
    pub(crate) fn try_open_from(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        from: IpAddr,
    ) -> Result<Stream, Reply> {
        let mut wire = Wire::connect_from(self.address, from, None).unwrap();
        wire.write(&self.bytes("GET", path, headers, None));
        Stream::read(wire)
    }

    /// Resumes from an id.
    #[track_caller]
    pub(crate) fn resume(&self, path: &str, last_event_id: &str) -> Stream {
        self.open_with(path, &[("Last-Event-ID", last_event_id)])
    }

    /// Publishes an event for everyone and checks that it is the very next that `streams` get: so nothing else came
    /// to them before.
    #[track_caller]
    pub(crate) fn assert_nothing_came(&self, streams: &mut [&mut Stream], event_type: &str) {
        let marker = format!("marker {}", fastrand::u64(..));
        self.publish(&json!({"event_type": event_type, "data": marker, "topic": ["public", "project/p", "marker"]}));
        for (i, stream) in streams.iter_mut().enumerate() {
            let event = stream.next();
            assert_eq!(event.data, marker, "stream {i} got what it should not");
        }
    }

    /// The position of the newest event.
    #[track_caller]
    pub(crate) fn head(&self) -> String {
        let stats = self.get("/events/stats").ok();
        stats["log"]["head"].as_str().unwrap().to_owned()
    }

    /// How many streams are open.
    #[track_caller]
    pub(crate) fn active(&self) -> u64 {
        let stats = self.get("/events/stats").ok();
        stats["active_connections"].as_u64().unwrap()
    }
}

#[track_caller]
fn opened(stream: Result<Stream, Reply>) -> Stream {
    match stream {
        Ok(stream) => stream,
        Err(refusal) => panic!("{} {}", refusal.status, refusal.text()),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let before = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let ended = before.ok().flatten();
            let ended = ended.map_or("was running".to_owned(), |status| status.to_string());
            eprintln!(
                "the server at {} ({ended}) said:\n{}",
                self.address,
                self.stderr()
            );
        }
    }
}

/// A folder for a server's data.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether a text is a time in UTC as RFC 3339 has it.
pub(crate) fn is_rfc3339(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}
