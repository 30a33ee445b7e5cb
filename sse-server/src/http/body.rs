//! The body of an answer: all of it at once, or a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sse_pool::ConnectionId;

use super::websocket::WebSocket;
use crate::session::EventStream;

/// The body of every answer of the hub.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Events(Box<EventStream>),
    /// Nothing that is sent; the server finds it here.
    WebSocket(Option<Box<WebSocket>>),
}

impl Body {
    /// A body of these bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Full(Some(bytes.into())))
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// A stream of events.
    #[must_use]
    pub fn events(stream: EventStream) -> Self {
        Self(Kind::Events(Box::new(stream)))
    }

    /// No bytes, and a WebSocket for the server that serves the connection.
    pub(super) fn websocket(websocket: WebSocket) -> Self {
        Self(Kind::WebSocket(Some(Box::new(websocket))))
    }

    /// The WebSocket, if there is one.
    pub(crate) fn take_websocket(&mut self) -> Option<Box<WebSocket>> {
        match &mut self.0 {
            Kind::WebSocket(websocket) => websocket.take(),
            Kind::Full(_) | Kind::Events(_) => None,
        }
    }

    /// The stream, if it is one.
    pub(crate) fn into_events(self) -> Result<EventStream, Self> {
        match self.0 {
            Kind::Events(stream) => Ok(*stream),
            other => Err(Self(other)),
        }
    }

    /// The connection whose stream this is, if it is one.
    #[must_use]
    pub fn connection_id(&self) -> Option<ConnectionId> {
        match &self.0 {
            Kind::Events(stream) => Some(stream.id()),
            Kind::Full(_) | Kind::WebSocket(_) => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Events(stream) => stream
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::WebSocket(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Events(_) => false,
            Kind::WebSocket(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Events(_) => SizeHint::default(),
            Kind::WebSocket(_) => SizeHint::with_exact(0),
        }
    }
}
