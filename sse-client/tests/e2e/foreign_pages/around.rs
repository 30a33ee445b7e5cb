//! What stands around the hub: servers for pages and logins, the application that knows who is logged in, and a relay that
//! looks at what the browser really sends.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that the browser sent to the hub, and its answer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) line: String,
    pub(super) origin: Option<String>,
    pub(super) cookie: Option<String>,
    /// None as long as there is no answer.
    pub(super) status: Option<u16>,
}

/// What all of them know.
#[derive(Default)]
pub(super) struct Around {
    /// The page that is shown now.
    pub(super) page: Mutex<String>,
    /// What it saw, once it has told.
    pub(super) told: Mutex<Option<Vec<String>>>,
    /// How often the application was asked about a cookie.
    pub(super) cookies_asked: Mutex<usize>,
    /// What the hub was asked.
    pub(super) sent: Mutex<Vec<Sent>>,
}

/// Serves pages and logins, and says to a hub who is logged in. The port is the answer.
pub(super) fn serve(around: &Arc<Around>) -> u16 {
    each_connection(around, |around, mut socket| {
        let mut requests = Requests::default();
        while let Some(request) = requests.read(&mut socket) {
            let answer = answer(around, &request);
            if socket.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Passes on what comes to the hub, but for a page that is served in the hub's place: so does the DNS of an attacker, who
/// points a name at his own server first and then at the hub.
pub(super) fn relay(around: &Arc<Around>, hub: &str) -> u16 {
    let hub = hub.to_owned();
    each_connection(around, move |around, mut socket| {
        let mut requests = Requests::default();
        let Some(first) = requests.read(&mut socket) else {
            return;
        };
        if first.line.starts_with("GET /page") {
            let _ = socket.write_all(answer(around, &first).as_bytes());
            return;
        }
        let mut to_hub = TcpStream::connect(&hub).unwrap();
        // The place among all that was sent of what waits for its answer.
        let latest = Arc::new(Mutex::new(0));
        let (from_hub, to_browser) = (to_hub.try_clone().unwrap(), socket.try_clone().unwrap());
        std::thread::spawn({
            let (around, latest) = (Arc::clone(around), Arc::clone(&latest));
            move || pass_back(&around, &latest, from_hub, to_browser)
        });
        let mut next = Some(first);
        while let Some(request) = next {
            {
                let mut sent = around.sent.lock().unwrap();
                *latest.lock().unwrap() = sent.len();
                sent.push(Sent {
                    line: request.line.clone(),
                    origin: request.headers.get("origin").cloned(),
                    cookie: request.headers.get("cookie").cloned(),
                    status: None,
                });
            }
            if to_hub.write_all(&request.bytes).is_err() {
                break;
            }
            if request.headers.contains_key("upgrade") {
                let _ = std::io::copy(&mut socket, &mut to_hub);
                break;
            }
            next = requests.read(&mut socket);
        }
        let _ = to_hub.shutdown(Shutdown::Both);
    })
}

/// Nobody sends a request before the answer to the one before is there, so each answer begins a piece of what is read.
fn pass_back(around: &Around, latest: &Mutex<usize>, mut hub: TcpStream, mut browser: TcpStream) {
    let mut space = vec![0; 1 << 16];
    while let Some(count) = hub.read(&mut space).ok().filter(|count| *count > 0) {
        let piece = &space[..count];
        if let Some(behind) = piece.strip_prefix(b"HTTP/1.1 ") {
            let status = std::str::from_utf8(&behind[..3]).unwrap().parse().unwrap();
            let mut sent = around.sent.lock().unwrap();
            sent[*latest.lock().unwrap()].status = Some(status);
        }
        if browser.write_all(piece).is_err() {
            break;
        }
    }
    let _ = browser.shutdown(Shutdown::Both);
    let _ = hub.shutdown(Shutdown::Both);
}

fn each_connection(
    around: &Arc<Around>,
    serve: impl Fn(&Arc<Around>, TcpStream) + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (around, serve) = (Arc::clone(around), Arc::new(serve));
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (around, serve) = (Arc::clone(&around), Arc::clone(&serve));
            std::thread::spawn(move || serve(&around, socket));
        }
    });
    port
}

fn answer(around: &Around, request: &Request) -> String {
    let path = request.line.split(' ').nth(1).unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (status, headers, body) = match path {
        "/login" => (
            "302 Found",
            format!("Location: {query}\r\n{COOKIES}"),
            String::new(),
        ),
        "/page" => {
            let page = around.page.lock().unwrap().clone();
            let sandbox = match query {
                "sandbox" => "Content-Security-Policy: sandbox allow-scripts allow-forms\r\n",
                _ => "",
            };
            // A page can keep its browser from saying which it is.
            let headers = format!(
                "Content-Type: text/html\r\nReferrer-Policy: no-referrer\r\n{sandbox}{COOKIES}"
            );
            ("200 OK", headers, page)
        }
        "/told" => {
            *around.told.lock().unwrap() = Some(serde_json::from_slice(&request.body).unwrap());
            ("200 OK", String::new(), String::new())
        }
        "/access" => {
            let shows = |name| request.headers.get(name).map(String::as_str);
            let cookie = shows("cookie");
            if cookie.is_some() {
                *around.cookies_asked.lock().unwrap() += 1;
            }
            let is_known = cookie.is_some_and(|it| it.contains("=ann"));
            match is_known || shows("authorization") == Some("Bearer ann") {
                true => ("200 OK", String::new(), ANN.to_owned()),
                false => ("401 Unauthorized", String::new(), String::new()),
            }
        }
        _ => ("404 Not Found", String::new(), String::new()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// A whole request.
struct Request {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    bytes: Vec<u8>,
}

/// Reads one request after another.
#[derive(Default)]
struct Requests {
    unread: Vec<u8>,
}

impl Requests {
    fn read(&mut self, socket: &mut TcpStream) -> Option<Request> {
        let head_end = loop {
            if let Some(end) = self.unread.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill(socket)?;
        };
        let head = String::from_utf8(self.unread[..head_end].to_vec()).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length");
        let end = head_end + length.map_or(0, |it| it.parse::<usize>().unwrap());
        while self.unread.len() < end {
            self.fill(socket)?;
        }
        let bytes: Vec<u8> = self.unread.drain(..end).collect();
        Some(Request {
            line,
            headers,
            body: bytes[head_end..].to_vec(),
            bytes,
        })
    }

    fn fill(&mut self, socket: &mut TcpStream) -> Option<()> {
        let mut space = [0; 4096];
        let count = socket.read(&mut space).ok().filter(|count| *count > 0)?;
        self.unread.extend_from_slice(&space[..count]);
        Some(())
    }
}

/// One that goes to every port of the host from pages of the same site, and one that goes with every request; that one a
/// browser takes by plain HTTP from its own machine alone.
const COOKIES: &str = "Set-Cookie: lax=ann; Path=/; SameSite=Lax\r\n\
    Set-Cookie: any=ann; Path=/; SameSite=None; Secure\r\n";

const ANN: &str = r#"{"user": "ann", "grants": {"publish": ["*"], "subscribe": ["*"], "issue": true, "admin": true}}"#;
