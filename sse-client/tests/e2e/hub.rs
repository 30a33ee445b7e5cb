//! The real server, as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::{PATIENCE, SSE};

/// A child process that does not outlive the test.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running hub, on a folder of its own.
pub(crate) struct Hub {
    process: Guard,
    address: String,
    arguments: Vec<String>,
    data: tempfile::TempDir,
    /// What a hub behind a certificate is spoken to with.
    trusted: Option<Arc<ClientConfig>>,
}

impl Hub {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (process, address) = spawn(&arguments, &data, "127.0.0.1:0");
        Self {
            process,
            address,
            arguments,
            data,
            trusted: None,
        }
    }

    /// One that speaks TLS only, with this certificate among the arguments.
    pub(crate) fn start_secure(arguments: &[&str], certificate: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let made = CertificateDer::from_pem_file(certificate).unwrap();
        roots.add(made).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            trusted: Some(Arc::new(config)),
            ..Self::start(arguments)
        }
    }

    /// Ends the process without a word, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Starts again at the same address, on the same folder.
    pub(crate) fn start_again(&mut self) {
        (self.process, self.address) = spawn(&self.arguments, &self.data, &self.address);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn events(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub(crate) fn publish(&self, data: &str) {
        let status = Command::new(SSE)
            .args(["pub", "--quiet", &self.events(), data])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(crate) fn connections(&self) -> u64 {
        self.get("/events/stats")["active_connections"]
            .as_u64()
            .unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Publishes an event, or an array of them.
    pub(crate) fn post(&self, event: &Value) -> Value {
        let body = event.to_string();
        self.ask(&format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn ask(&self, request: &str) -> Value {
        let socket = TcpStream::connect(&self.address).unwrap();
        let mut answer = String::new();
        match &self.trusted {
            None => exchange(socket, request, &mut answer),
            Some(config) => {
                let name = "localhost".try_into().unwrap();
                let session = ClientConnection::new(Arc::clone(config), name).unwrap();
                exchange(StreamOwned::new(session, socket), request, &mut answer);
            }
        }
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Asks the process to end, and says whether it did in good order.
    pub(crate) fn ends_well(mut self) -> bool {
        let id = self.process.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.unwrap().success());
        let mut status = None;
        wait_until("the hub ends", || {
            status = self.process.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }
}

fn exchange(mut connection: impl Read + Write, request: &str, answer: &mut String) {
    connection.write_all(request.as_bytes()).unwrap();
    connection.read_to_string(answer).unwrap();
}

fn spawn(arguments: &[String], data: &tempfile::TempDir, listen: &str) -> (Guard, String) {
    let mut command = Command::new(server());
    command.args(["--listen", listen, "--log", "warn"]);
    if !arguments.iter().any(|argument| argument == "--ephemeral") {
        command.arg("--data-dir").arg(data.path());
    }
    let mut process = command
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut first)
        .unwrap();
    let address = first
        .trim()
        .strip_prefix("listening on ")
        .and_then(|url| url.split_once("://"))
        .expect("the address comes first")
        .1
        .to_owned();
    (Guard(process), address)
}

/// The server's binary, which a build of the workspace puts beside ours.
pub(crate) fn server() -> PathBuf {
    let path = PathBuf::from(SSE).with_file_name("sse-server");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p sse-server` first",
        path.display()
    );
    path
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A certificate for `localhost` and its key, as files in `folder`.
pub(crate) fn self_signed(folder: &Path) -> (String, String) {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (
        file("hub.pem", &made.cert.pem()),
        file("hub-key.pem", &made.signing_key.serialize_pem()),
    )
}
