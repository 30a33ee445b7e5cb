//! The body of an answer: all of it at once, a stream of events, or a socket that a WebSocket takes over.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sse_broker::BoxFuture;
use sse_pool::{ConnectionId, ReaderKey};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::access::Place;
use crate::access::budget::Permit;
use crate::session::EventStream;

/// The body of every answer of the hub.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// The place of its request, until the last byte has been taken.
    _place: Option<Place>,
}

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    /// The same, with a permit for its memory.
    Held(Option<Bytes>),
    Events(Box<EventStream>),
    /// Nothing that is sent; the server finds it here.
    Takeover(Option<Box<dyn Takeover>>),
}

/// A protocol that takes a connection over once the answer's head has been written.
pub(crate) trait Takeover: std::fmt::Debug + Send + 'static {
    /// Speaks it until either side ends it.
    fn run(self: Box<Self>, socket: Box<dyn TakenSocket>) -> BoxFuture<'static, ()>;
}

/// The socket of such a connection.
pub(crate) trait TakenSocket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> TakenSocket for S {}

impl Body {
    /// A body of these bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Kind::Full(Some(bytes.into())).into()
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Kind::Full(None).into()
    }

    /// A stream of events.
    #[must_use]
    pub fn events(stream: EventStream) -> Self {
        Kind::Events(Box::new(stream)).into()
    }

    /// No bytes, and what is spoken on the connection from then on, for the server that serves it.
    pub(super) fn takeover(next: impl Takeover) -> Self {
        Kind::Takeover(Some(Box::new(next))).into()
    }

    /// What is spoken on the connection from then on, if that is not HTTP.
    pub(crate) fn take_takeover(&mut self) -> Option<Box<dyn Takeover>> {
        match &mut self.kind {
            Kind::Takeover(next) => next.take(),
            Kind::Full(_) | Kind::Held(_) | Kind::Events(_) => None,
        }
    }

    /// The stream, if it is one.
    pub(crate) fn into_events(self) -> Result<EventStream, Self> {
        match self.kind {
            Kind::Events(stream) => Ok(*stream),
            kind => Err(Self { kind, ..self }),
        }
    }

    /// How many bytes it has that hold no permit yet.
    pub(super) fn unheld_bytes(&self) -> usize {
        match &self.kind {
            Kind::Full(Some(bytes)) => bytes.len(),
            Kind::Full(None) | Kind::Held(_) | Kind::Events(_) | Kind::Takeover(_) => 0,
        }
    }

    /// The same, holding a permit until the last byte is gone.
    pub(super) fn held_by(self, permit: Permit) -> Self {
        let kind = match self.kind {
            Kind::Full(Some(bytes)) => Kind::Held(Some(permit.attach(bytes))),
            other => other,
        };
        Self { kind, ..self }
    }

    /// The same, in the place of its request. A stream, and what is spoken on a connection that was taken over, has one of its own.
    pub(super) fn in_place(self, place: Option<Place>) -> Self {
        let _place = match self.kind {
            Kind::Full(_) | Kind::Held(_) => place,
            Kind::Events(_) | Kind::Takeover(_) => None,
        };
        Self { _place, ..self }
    }

    /// The reader of the stream that this is, if it is one.
    pub(crate) fn reader_key(&self) -> Option<ReaderKey> {
        match &self.kind {
            Kind::Events(stream) => Some(stream.key()),
            Kind::Full(_) | Kind::Held(_) | Kind::Takeover(_) => None,
        }
    }

    /// The connection whose stream this is, if it is one.
    #[must_use]
    pub fn connection_id(&self) -> Option<ConnectionId> {
        match &self.kind {
            Kind::Events(stream) => Some(stream.id()),
            Kind::Full(_) | Kind::Held(_) | Kind::Takeover(_) => None,
        }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, _place: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.kind {
            Kind::Full(bytes) | Kind::Held(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Events(stream) => stream
                .poll_chunk(cx)
                .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Takeover(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) | Kind::Held(bytes) => bytes.is_none(),
            Kind::Events(_) => false,
            Kind::Takeover(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) | Kind::Held(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Events(_) => SizeHint::default(),
            Kind::Takeover(_) => SizeHint::with_exact(0),
        }
    }
}
