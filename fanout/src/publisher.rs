//! One publisher: a connection that stays, with one request at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::wire::whole_response;
use crate::{Failure, Outcome};

pub(crate) struct Publisher {
    stream: TcpStream,
    is_idle: bool,
    /// The beginning of an answer.
    answer: Vec<u8>,
}

impl Publisher {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            is_idle: true,
            answer: Vec::new(),
        }
    }

    /// Whether its last request was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &[u8]) -> Outcome {
        self.is_idle = false;
        // A few kilobytes always fit: what was sent before has been answered.
        match self.stream.write(request) {
            Ok(len) if len == request.len() => Ok(()),
            Ok(_) => Err(Failure::new("the server takes no whole request")),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there of an answer; false when the server has closed the connection between
    /// two requests, as it may after a while.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Outcome<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.is_idle => return Ok(false),
                Ok(0) => return Err(Failure::new("the server does not answer a publish")),
                Ok(len) => self.answer.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((status, len)) = whole_response(&self.answer) {
            if !(200..300).contains(&status) {
                let text = String::from_utf8_lossy(&self.answer).into_owned();
                return Err(Failure::new(format!("a publish was refused: {text}")));
            }
            self.answer.drain(..len);
            self.is_idle = true;
        }
        Ok(true)
    }
}
