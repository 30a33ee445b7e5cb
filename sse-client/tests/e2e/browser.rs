//! A real browser with its own `EventSource` and `WebSocket`: headless Chromium on a page that hands over what it hears.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::hub::{Guard, wait_until};

/// A page, served from an origin of its own, and what it has reported.
pub(crate) struct Page {
    origin: String,
    desk: Arc<Desk>,
}

/// What passes between the test and the page.
#[derive(Default)]
struct Desk {
    reported: Mutex<Vec<Value>>,
    /// The path under which the page asks, and what it is answered once it is there: each once.
    commands: Mutex<Vec<(&'static str, String)>>,
    has_commands: Condvar,
}

impl Desk {
    fn say(&self, path: &'static str, command: &str) {
        let mut commands = self.commands.lock().unwrap();
        commands.push((path, command.to_owned()));
        self.has_commands.notify_all();
    }

    fn next(&self, path: &str) -> String {
        let mut commands = self.commands.lock().unwrap();
        loop {
            if let Some(n) = commands.iter().position(|(asked, _)| *asked == path) {
                return commands.remove(n).1;
            }
            commands = self.has_commands.wait(commands).unwrap();
        }
    }
}

/// A browser that shows the page.
pub(crate) struct Browser {
    desk: Arc<Desk>,
    _shown: Shown,
}

/// Reports go one after another, so that they arrive in the order in which the page heard the events.
///
/// With a URL behind its `#` the page listens to that; without, it does what it is told. Then it reports each
/// event's moment and its hash, and the data too unless it is large.
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
function tell(what) { heard.push(what); send(); }
function hash(text) {
  let hash = 2166136261;
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 16777619) >>> 0;
  return hash;
}
function event(data) {
  const at = performance.timeOrigin + performance.now();
  return data.length < 1000 ? { data, hash: hash(data), at } : { hash: hash(data), at };
}
function listen(name, url) {
  const source = new EventSource(url);
  source.onmessage = e => tell({ name, ...event(e.data) });
  source.onerror = () => source.close();
}
async function readWhole(name, url) {
  try {
    const response = await fetch(url);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.filter(line => line.startsWith("data: ")).map(line => line.slice(6));
        if (!lines.some(line => line.startsWith("event: ")) && data.length > 0)
          tell({ name, ...event(data.join("\n")) });
      }
    }
    tell({ name, end: "clean" });
  } catch (error) {
    tell({ name, end: String(error) });
  }
}
const sockets = {};
function connect(name, url) {
  const socket = sockets[name] = new WebSocket(url);
  socket.onmessage = e => tell({ name, line: "message " + e.data });
  socket.onclose = e => tell({ name, line: `close ${e.code} ${e.reason}` });
}
async function obey() {
  for (;;) {
    const command = await (await fetch("/command")).json();
    if (command.connect) connect(command.name, command.connect);
    if (command.send) sockets[command.name].send(command.send);
    if (command.close) sockets[command.name].close();
    if (command.listen) listen(command.name, command.listen);
    if (command.fetch) readWhole(command.name, command.fetch);
    if (command.stop) {
      // The page does nothing at all until it is answered.
      const request = new XMLHttpRequest();
      request.open("GET", "/hold", false);
      request.send();
    }
  }
}
const url = decodeURIComponent(location.hash.slice(1));
if (url) {
  const source = new EventSource(url);
  source.onmessage = e => tell({ id: e.lastEventId, data: e.data });
  source.addEventListener("gap", e => tell({ id: e.lastEventId, data: "gap: " + e.data }));
} else {
  obey();
}
</script>"#;

impl Page {
    pub(crate) fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let desk = Arc::<Desk>::default();
        std::thread::spawn({
            let desk = Arc::clone(&desk);
            move || {
                for socket in listener.incoming().map_while(Result::ok) {
                    let desk = Arc::clone(&desk);
                    std::thread::spawn(move || answer(socket, &desk));
                }
            }
        });
        Self { origin, desk }
    }

    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Opens the page in a browser and has it listen to `events`.
    pub(crate) fn open(&self, events: &str) -> Browser {
        self.open_with(&format!("#{}", encoded(events)))
    }

    /// Opens the page in a browser that takes any certificate, and has it wait for what it is told.
    pub(crate) fn open_and_wait(&self) -> Browser {
        self.open_with("")
    }

    fn open_with(&self, behind: &str) -> Browser {
        let shown = show(&format!("{}/{behind}", self.origin));
        Browser {
            desk: Arc::clone(&self.desk),
            _shown: shown,
        }
    }
}

/// A browser that shows a page, for as long as this is held.
pub(crate) struct Shown {
    _process: Guard,
    _profile: tempfile::TempDir,
}

/// Shows the page at a URL in a browser that takes any certificate.
pub(crate) fn show(url: &str) -> Shown {
    let profile = tempfile::tempdir().unwrap();
    // Cookies of other sites go along, as they do in browsers of many people.
    let preferences =
        json!({"profile": {"block_third_party_cookies": false, "cookie_controls_mode": 0}});
    std::fs::create_dir(profile.path().join("Default")).unwrap();
    let file = profile.path().join("Default/Preferences");
    std::fs::write(file, preferences.to_string()).unwrap();
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
            "--ignore-certificate-errors",
        ])
        // Names that lead to this machine, as any name does whose owner wants it to.
        .arg("--host-resolver-rules=MAP *.test 127.0.0.1")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the browser starts");
    Shown {
        _process: Guard(process),
        _profile: profile,
    }
}

impl Browser {
    /// Everything the page heard, once it has heard `last`.
    pub(crate) fn events_until(&self, last: &str) -> Vec<Value> {
        let has_last = || {
            let reported = self.desk.reported.lock().unwrap();
            reported.iter().any(|event| event["data"] == last)
        };
        wait_until(&format!("the browser has heard {last:?}"), has_last);
        self.desk.reported.lock().unwrap().clone()
    }

    /// Has the page read `url` with an `EventSource`.
    pub(crate) fn listen(&self, name: &str, url: &str) {
        self.command(&json!({"name": name, "listen": url}));
    }

    /// Has the page read `url` with `fetch`, which tells a whole answer from one that broke off.
    pub(crate) fn fetch(&self, name: &str, url: &str) {
        self.command(&json!({"name": name, "fetch": url}));
    }

    /// Has the page open a WebSocket.
    pub(crate) fn connect(&self, name: &str, url: &str) {
        self.command(&json!({"name": name, "connect": url}));
    }

    /// Has the page send a message by a WebSocket that is open.
    pub(crate) fn send(&self, name: &str, message: &str) {
        self.command(&json!({"name": name, "send": message}));
    }

    /// Has the page close a WebSocket.
    pub(crate) fn close(&self, name: &str) {
        self.command(&json!({"name": name, "close": true}));
    }

    /// What has come by a WebSocket, from the `n`th on: `message …`, and at its end `close CODE REASON`.
    pub(crate) fn line(&self, name: &str, n: usize) -> String {
        let mut line = None;
        wait_until(&format!("{name} has told {n} more things"), || {
            let reported = self.desk.reported.lock().unwrap();
            let mut of_it = reported.iter().filter(|report| report["name"] == name);
            line = of_it
                .nth(n)
                .map(|it| it["line"].as_str().unwrap().to_owned());
            line.is_some()
        });
        line.unwrap()
    }

    /// Has the page do nothing until [`go_on`](Self::go_on), while the browser goes on receiving for it as far as it likes.
    pub(crate) fn stop(&self) {
        self.command(&json!({"stop": true}));
    }

    pub(crate) fn go_on(&self) {
        self.desk.say("/hold", "");
    }

    fn command(&self, command: &Value) {
        self.desk.say("/command", &command.to_string());
    }

    /// What the page has told of one of its readers: the hashes of its events, and how it ended.
    pub(crate) fn heard(&self, name: &str) -> (Vec<u32>, Option<String>) {
        let reported = self.desk.reported.lock().unwrap();
        let of_it = || reported.iter().filter(|report| report["name"] == name);
        let hashes = of_it().filter_map(|report| report["hash"].as_u64());
        let end = of_it().find_map(|report| report["end"].as_str());
        (
            hashes.map(|hash| u32::try_from(hash).unwrap()).collect(),
            end.map(str::to_owned),
        )
    }

    /// The same with small events as they are, each with its moment in microseconds of the clock; the end is empty for none.
    pub(crate) fn heard_at(&self, name: &str) -> (Vec<(String, u64)>, String) {
        let reported = self.desk.reported.lock().unwrap();
        let of_it = || reported.iter().filter(|report| report["name"] == name);
        let event = |report: &Value| {
            let data = report["data"].as_str()?.to_owned();
            Some((data, (report["at"].as_f64()? * 1000.0) as u64))
        };
        let end = of_it().find_map(|report| report["end"].as_str());
        (
            of_it().filter_map(event).collect(),
            end.unwrap_or_default().to_owned(),
        )
    }
}

/// Answers the page's few requests; anything but a report gets the page itself.
fn answer(socket: TcpStream, desk: &Desk) {
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
            desk.reported.lock().unwrap().extend(batch);
            String::new()
        } else if let Some(path) = ["/command", "/hold"]
            .into_iter()
            .find(|path| request.starts_with(&format!("GET {path} ")))
        {
            desk.next(path)
        } else {
            PAGE.to_owned()
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
