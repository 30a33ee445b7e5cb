//! What stands between a reader and the hub: it passes everything on, may ask for one coding alone, and looks which one comes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A relay to one hub, for as many connections as come.
pub(crate) struct Relay {
    address: String,
    passed: Arc<Mutex<Vec<Passed>>>,
}

/// A request that was passed on, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// Its first line.
    line: String,
    /// The reader's own `Accept-Encoding`; empty for none.
    pub(crate) asked_for: String,
    /// The answer's `Content-Encoding`; empty for none.
    pub(crate) coding: String,
    /// The head of the answer.
    pub(crate) answer: String,
}

impl Relay {
    /// Begins to pass on; what is asked for is `coding` instead of what the reader would take.
    pub(crate) fn start(hub: &str, coding: &str) -> Self {
        Self::between(hub, Some(coding))
    }

    /// Begins to pass on, and changes nothing.
    pub(crate) fn watch(hub: &str) -> Self {
        Self::between(hub, None)
    }

    fn between(hub: &str, coding: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = Arc::<Mutex<Vec<Passed>>>::default();
        let (hub, coding) = (hub.to_owned(), coding.map(str::to_owned));
        let seen = Arc::clone(&passed);
        std::thread::spawn(move || {
            for reader in listener.incoming().map_while(Result::ok) {
                let (hub, coding, seen) = (hub.clone(), coding.clone(), Arc::clone(&seen));
                std::thread::spawn(move || pass_on(&reader, &hub, coding.as_deref(), &seen));
            }
        });
        Self { address, passed }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The `Content-Encoding` of each answer so far; empty for none.
    pub(crate) fn codings(&self) -> Vec<String> {
        let passed = self.passed.lock().unwrap();
        passed.iter().map(|it| it.coding.clone()).collect()
    }

    /// The request whose first line has this in it.
    pub(crate) fn passed(&self, part: &str) -> Passed {
        let passed = self.passed.lock().unwrap();
        let found = passed.iter().find(|it| it.line.contains(part));
        found.expect("such a request came").clone()
    }
}

/// One connection, which carries one request.
fn pass_on(mut reader: &TcpStream, hub: &str, coding: Option<&str>, seen: &Mutex<Vec<Passed>>) {
    let Some((mut request, behind)) = head(reader) else {
        return;
    };
    let asked_for = header(&request, "accept-encoding").unwrap_or_default();
    if let Some(coding) = coding {
        let offered = asked_for
            .split(',')
            .any(|it| it.split(';').next().unwrap().trim() == coding);
        assert!(offered, "the reader takes only {asked_for:?}");
        request = request.replace(&asked_for, coding);
    }
    let mut socket = TcpStream::connect(hub).unwrap();
    reader.set_nodelay(true).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket.write_all(&behind).unwrap();
    let Some((answer, behind)) = head(&socket) else {
        return;
    };
    seen.lock().unwrap().push(Passed {
        line: request.lines().next().unwrap().to_owned(),
        asked_for,
        coding: header(&answer, "content-encoding").unwrap_or_default(),
        answer: answer.clone(),
    });
    let passed_on = reader.write_all(answer.as_bytes()).is_ok()
        && reader.write_all(&behind).is_ok()
        && std::io::copy(&mut &socket, &mut reader).is_ok();
    // The reader sends nothing more: what it may say is that it has left, which the next write notices.
    let _ = socket.shutdown(Shutdown::Both);
    if passed_on {
        let _ = reader.shutdown(Shutdown::Both);
    }
}

/// The head of a request or an answer, and what came behind it.
fn head(mut socket: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut space = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let behind = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), behind));
        }
        let count = socket.read(&mut space).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&space[..count]);
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
}
