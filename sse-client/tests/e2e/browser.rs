//! A real browser with its own `EventSource`: headless Chromium on a page that hands over what it hears.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::hub::{Guard, wait_until};

/// A page, served from an origin of its own, and what it has reported.
pub(crate) struct Page {
    origin: String,
    reported: Arc<Mutex<Vec<Value>>>,
}

/// A browser that shows the page.
pub(crate) struct Browser {
    reported: Arc<Mutex<Vec<Value>>>,
    _process: Guard,
    _profile: tempfile::TempDir,
}

/// Reports go one after another, so that they arrive in the order in which the page heard the events.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>reader</title><script>
const heard = [];
let sending = false;
async function send() {
  if (sending || heard.length === 0) return;
  sending = true;
  const batch = heard.splice(0);
  await fetch("/report", { method: "POST", body: JSON.stringify(batch) });
  sending = false;
  send();
}
const source = new EventSource(decodeURIComponent(location.hash.slice(1)));
source.onmessage = e => { heard.push({ id: e.lastEventId, data: e.data }); send(); };
source.addEventListener("gap", e => { heard.push({ id: e.lastEventId, data: "gap: " + e.data }); send(); });
</script>"#;

impl Page {
    pub(crate) fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let reported = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let reported = Arc::clone(&reported);
            move || {
                for socket in listener.incoming().map_while(Result::ok) {
                    let reported = Arc::clone(&reported);
                    std::thread::spawn(move || answer(socket, &reported));
                }
            }
        });
        Self { origin, reported }
    }

    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Opens the page in a browser and has it listen to `events`.
    pub(crate) fn open(&self, events: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(chromium())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-proxy-server",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("{}/#{}", self.origin, encoded(events)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        Browser {
            reported: Arc::clone(&self.reported),
            _process: Guard(process),
            _profile: profile,
        }
    }
}

impl Browser {
    /// Everything the page heard, once it has heard `last`.
    pub(crate) fn events_until(&self, last: &str) -> Vec<Value> {
        let has_last = || {
            self.reported
                .lock()
                .unwrap()
                .iter()
                .any(|event| event["data"] == last)
        };
        wait_until(&format!("the browser has heard {last:?}"), has_last);
        self.reported.lock().unwrap().clone()
    }
}

/// Answers the page's few requests; anything but a report gets the page itself.
fn answer(socket: TcpStream, reported: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let page = if request.starts_with("POST /report") {
            let batch: Vec<Value> = serde_json::from_slice(&body).unwrap();
            reported.lock().unwrap().extend(batch);
            ""
        } else {
            PAGE
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        if socket
            .write_all(format!("{head}{page}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn chromium() -> &'static str {
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let installed = |name: &&&str| {
        let version = Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    };
    known
        .iter()
        .find(installed)
        .expect("no Chromium is installed: apt-get install chromium (`cargo xtask test` does)")
}

fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('#', "%23")
}
