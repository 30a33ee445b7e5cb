//! A minimal HTTP client, with nothing between the test and the socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// One request on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    let (status, _) = head(&mut stream)?;
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    Ok(Reply { status, body })
}

/// A connection for one request after the other.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = BufReader::new(connect(address)?);
        Ok(Self { address, stream })
    }

    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Reply> {
        let address = self.address;
        let len = body.len();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let (status, len) = head(&mut self.stream)?;
        let len = len.ok_or_else(|| io::Error::other("an answer without a length"))?;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, body })
    }
}

/// Asks for a stream; its bytes follow as they are, without chunks, as HTTP/1.0 has it.
pub(crate) fn stream(
    address: SocketAddr,
    path: &str,
    last_event_id: &str,
) -> io::Result<(u16, BufReader<TcpStream>)> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nLast-Event-ID: {last_event_id}\r\n\r\n"
    )?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let (status, _) = head(&mut stream)?;
    Ok((status, stream))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Reads an answer's head: its status, and how long its body is where that is said.
fn head(stream: &mut impl BufRead) -> io::Result<(u16, Option<usize>)> {
    let mut line = String::new();
    let mut next = |stream: &mut dyn BufRead| -> io::Result<String> {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_ascii_lowercase())
    };
    let status = next(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status line"))?;
    let mut length = None;
    loop {
        let header = next(stream)?;
        if header.is_empty() {
            return Ok((status, length));
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
}

/// Longer than anything takes but a hub that hangs; and as often a reader looks whether it is over.
const TIMEOUT: Duration = Duration::from_secs(5);
