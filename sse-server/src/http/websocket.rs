//! The stream over WebSocket (RFC 6455): the handshake, what the client may say, and how it ends.
//!
//! It is the same session as any stream's, in another wire format. Each line of its chunks is sent as a text message, an
//! empty line as a ping. The client may send JSON objects with a `type` of `subscribe`, `unsubscribe`, `ack` or
//! `publish`; each is answered, and the answer repeats its `ref`.

mod frame_bounds;
mod message;
mod socket;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sse_broker::BoxFuture;
use sse_pool::CloseReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::body::{Body, TakenSocket, Takeover};
use super::problem::{Problem, REFUSED_RETRY_AFTER};
use super::publication::{self, Fields};
use super::request::{Request, Upgrade};
use super::request_body::BODY_TIMEOUT;
use super::subscription_change::change_problem;
use super::{named_subscriptions, publish, stream};
use crate::access::Caller;
use crate::access::budget::{Account, Permit};
use crate::hub::{Hub, SubscriptionPlace};
use crate::session::{EventStream, Farewell};
use crate::units::Quoted;
use message::{field, interest, parse};
use socket::{Counted, Counts};

/// Answers a handshake.
pub(super) async fn open(mut request: Request<'_>) -> Result<Response<Body>, Problem> {
    let accept = accept_key(&request.headers)?;
    if request.method != Method::GET {
        return Err(no_websocket("a WebSocket begins with GET"));
    }
    // What stood in a body would be read as the first messages.
    let has_length = |length: &HeaderValue| length != "0";
    if request.headers.contains_key(header::TRANSFER_ENCODING)
        || request
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(has_length)
    {
        return Err(Problem::bad_request(
            "a WebSocket's handshake has no body; send messages once it is answered",
        ));
    }
    let Some(upgrade) = request.upgrade.take() else {
        return Err(no_websocket(
            "a WebSocket begins on a connection of its own, over HTTP/1.1",
        ));
    };
    let (account, address) = (Account::Connections, request.caller.address());
    let budget = request.hub.budget();
    let websocket = WebSocket {
        _held: budget.try_take(account, address, WEBSOCKET_BYTES)?,
        stream: stream::open_for_websocket(&request).await?,
        hub: request.hub.clone(),
        caller: request.caller.clone(),
        subscription: request.query.get("durable").map(str::to_owned),
        max_message_bytes: request.max_body_bytes,
        counts: Counts::default(),
    };
    let body = match upgrade {
        Upgrade::ByServer => Body::takeover(websocket),
        Upgrade::ByHyper(upgrade) => {
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(socket) => websocket.serve(TokioIo::new(socket)).await,
                    Err(error) => tracing::debug!(%error, "no WebSocket came of a handshake"),
                }
            });
            Body::empty()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Checks a handshake (RFC 6455, section 4.2.1) and makes the key that accepts it.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let has_token = |name, token: &str| {
        let lines = headers.get_all(name).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .any(|it| it.trim().eq_ignore_ascii_case(token))
    };
    if !has_token(header::CONNECTION, "upgrade") || !has_token(header::UPGRADE, "websocket") {
        return Err(no_websocket(
            "this is for WebSockets; as an event stream it is at /events",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(no_websocket(
            "only version 13 of the WebSocket protocol is spoken",
        ));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == KEY_BYTES)
        .ok_or_else(|| Problem::bad_request("Sec-WebSocket-Key is missing or not a valid one"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|error| Problem::bad_request(error.to_string()))
}

fn no_websocket(detail: &str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
}

/// A WebSocket that is ready to begin.
struct WebSocket {
    stream: EventStream,
    hub: Hub,
    caller: Caller,
    /// The named subscription that it reads under.
    subscription: Option<String>,
    max_message_bytes: usize,
    /// What has passed through the socket.
    counts: Counts,
    /// The right to hold what the connection takes.
    _held: Permit,
}

impl std::fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Takeover for WebSocket {
    fn run(self: Box<Self>, socket: Box<dyn TakenSocket>) -> BoxFuture<'static, ()> {
        Box::pin(self.serve(socket))
    }
}

/// Why the WebSocket ends.
enum Stop {
    /// The socket is gone, or takes nothing.
    Broken,
    /// This is to be said last.
    Close(CloseCode, String),
}

impl WebSocket {
    /// Serves it on a socket whose handshake has been answered, until either side ends it.
    async fn serve<S>(mut self, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = WebSocketConfig::default()
            .max_message_size(Some(self.max_message_bytes))
            .max_frame_size(Some(self.max_message_bytes))
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0);
        let budget = self.hub.budget();
        let Ok(permit) = budget.try_take(Account::Bodies, self.caller.address(), 0) else {
            return;
        };
        let socket = Counted::new(socket, self.counts.clone(), permit);
        let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        let mut look = tokio::time::interval(BODY_TIMEOUT);
        // What the client sent right behind its handshake is answered after the greeting.
        let greeting = self.stream.next_chunk().await;
        let mut step = self.handle_chunk(&mut socket, greeting).await;
        let stop = loop {
            if let Err(stop) = step {
                break stop;
            }
            step = tokio::select! {
                chunk = self.stream.next_chunk() => self.handle_chunk(&mut socket, chunk).await,
                message = socket.next() => self.handle_message(&mut socket, message).await,
                _ = look.tick() => self.check_unfinished(),
            };
            if step.is_ok() && socket.get_ref().has_spare_memory() {
                socket = without_spare_memory(socket).await;
            }
        };
        // Its place is free while the last words are said.
        drop(self);
        let _ = tokio::time::timeout(LAST_WORDS, end(socket, stop)).await;
    }

    async fn handle_chunk<S>(
        &mut self,
        socket: &mut WebSocketStream<Counted<S>>,
        chunk: Option<Bytes>,
    ) -> Result<(), Stop>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(chunk) = chunk else {
            let (code, reason) = close_reason(self.stream.farewell());
            return Err(Stop::Close(code, reason));
        };
        self.send(write_lines(socket, &chunk)).await
    }

    /// Waits until the socket has taken everything, as long as it takes something within each send timeout. It looks several
    /// times in each: the sweep lets go who has given no sign of life for as long, and would be first.
    async fn send(&mut self, sent: impl Future<Output = Result<(), Error>>) -> Result<(), Stop> {
        let mut sent = pin!(sent);
        // Often enough that the sweep never takes a slow client for one that has stalled.
        let pause = self.send_timeout() / LOOKS_PER_TIMEOUT;
        let mut looks_in_vain = 0;
        while looks_in_vain < LOOKS_PER_TIMEOUT {
            let before = self.counts.written();
            match tokio::time::timeout(pause, &mut sent).await {
                Ok(Ok(())) => {
                    self.stream.progressed();
                    return Ok(());
                }
                Ok(Err(error)) => {
                    self.hub.metrics().record_broken(&error, true);
                    return Err(Stop::Broken);
                }
                Err(_) if self.counts.written() != before => {
                    self.stream.progressed();
                    looks_in_vain = 0;
                }
                Err(_) => looks_in_vain += 1,
            }
        }
        self.stream.stalled();
        Err(Stop::Broken)
    }

    /// Ends it when a message has been on its way for longer than a request's body may be: until it is whole, the hub
    /// holds what there is of it.
    fn check_unfinished(&mut self) -> Result<(), Stop> {
        if self.counts.is_message_late() {
            let seconds = BODY_TIMEOUT.as_secs();
            return Err(Stop::Close(
                CloseCode::Policy,
                format!("a message did not arrive within {seconds} seconds"),
            ));
        }
        Ok(())
    }

    fn send_timeout(&self) -> Duration {
        self.hub.config().send_timeout
    }

    async fn handle_message<S>(
        &mut self,
        socket: &mut WebSocketStream<Counted<S>>,
        message: Option<Result<Message, Error>>,
    ) -> Result<(), Stop>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                self.hub.metrics().record_broken(&error, false);
                return Err(stop(&error));
            }
            None => return Err(Stop::Broken),
        };
        match message {
            Message::Text(text) => {
                self.counts.message_is_whole();
                let answer = self.answer(text.as_bytes()).await;
                // Whoever asks faster than it reads waits, and the hub holds one answer.
                drop(text);
                let answer = answer.to_string();
                self.send(write_lines(socket, answer.as_bytes())).await
            }
            Message::Binary(_) => Err(Stop::Close(
                CloseCode::Unsupported,
                "send JSON in text messages".to_owned(),
            )),
            // The library answers pings and closes; this sends its answer.
            Message::Ping(payload) => {
                self.counts.control_frame(payload.len());
                self.send(socket.flush()).await
            }
            Message::Close(_) => self.send(socket.flush()).await,
            Message::Pong(payload) => {
                self.counts.control_frame(payload.len());
                Ok(())
            }
            Message::Frame(_) => Ok(()),
        }
    }

    async fn answer(&mut self, message: &[u8]) -> Value {
        let mut reference = Value::Null;
        let answered = match parse(message, &mut reference) {
            Ok((kind, fields)) => self.handle_request(&kind, fields, message.len()).await,
            Err(problem) => Err(problem),
        };
        let mut answer = answered.unwrap_or_else(|problem| {
            let mut answer = serde_json::from_slice(&problem.to_json()).unwrap_or(Value::Null);
            // The name of this field in the answer is that of every message.
            answer["type"] = "error".into();
            answer
        });
        if !reference.is_null() {
            answer["ref"] = reference;
        }
        answer
    }

    async fn handle_request(
        &mut self,
        kind: &str,
        fields: Fields<'_>,
        bytes: usize,
    ) -> Result<Value, Problem> {
        // Its rights may be others than when it was opened.
        if let Ok(caller) = self.hub.caller_of(&self.stream.id()) {
            self.caller = caller;
        }
        match kind {
            "publish" => {
                publish::take_bytes(&self.hub, &self.caller, bytes)?;
                let publication = publication::publication(fields)?;
                publish::check_grant(&self.caller, &publication)?;
                publish::take_events(&self.hub, &self.caller, 1, bytes)?;
                let published = publish::publish_one(&self.hub, &self.caller, publication).await?;
                let mut answer = serde_json::to_value(published).unwrap_or(Value::Null);
                answer["type"] = "published".into();
                Ok(answer)
            }
            "subscribe" | "unsubscribe" => {
                let interest = interest(&fields)?;
                let id = self.stream.id();
                let changed = match kind {
                    "subscribe" => self.hub.subscribe(&id, &interest),
                    _ => self.hub.unsubscribe(&id, &interest),
                };
                let selector = changed.map_err(|error| change_problem(&error))?;
                Ok(json!({
                    "type": "subscribed",
                    "topics": super::subscription_change::topics_of(&selector),
                    "event_types": super::subscription_change::labels(&selector),
                }))
            }
            "ack" => {
                let name = self.subscription.as_deref().ok_or_else(|| {
                    Problem::bad_request("there is nothing to acknowledge: the stream was opened without durable=NAME")
                })?;
                let id: String = field(&fields, "id")?.ok_or_else(|| {
                    Problem::bad_field(
                        "id",
                        "is missing: give the id of the last event that is done",
                    )
                })?;
                let place = SubscriptionPlace::Event(id);
                let acked = self
                    .hub
                    .ack_named_subscription(name, &self.caller, place)
                    .await;
                let status = acked.map_err(|error| named_subscriptions::problem(&error))?;
                Ok(
                    json!({"type": "acked", "name": status.name, "position": status.acked.to_string()}),
                )
            }
            other => Err(Problem::bad_field(
                "type",
                format!(
                    "{} is not subscribe, unsubscribe, ack or publish",
                    Quoted(other)
                ),
            )),
        }
    }
}

/// Gives back what the last message took. The library is between two messages and has read nothing ahead, so that nothing is lost
/// when it begins anew.
async fn without_spare_memory<S>(
    mut socket: WebSocketStream<Counted<S>>,
) -> WebSocketStream<Counted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if socket.get_ref().is_buffer_large() {
        let config = *socket.get_config();
        let counted = socket.into_inner();
        socket = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
    }
    socket.get_mut().give_back();
    socket
}

/// Writes each line as a text message, and an empty one as a ping.
///
/// The library would keep a buffer as large as the largest message for as long as the connection lives, and write message by
/// message. It writes what it has itself first: that may be a pong.
async fn write_lines<S>(socket: &mut WebSocketStream<Counted<S>>, lines: &[u8]) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.flush().await?;
    if lines.is_empty() {
        return Ok(());
    }
    let socket = socket.get_mut();
    let mut frames = Vec::with_capacity(lines.len().min(LARGE_BYTES));
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    for line in lines.split(|byte| *byte == b'\n') {
        head_of_frame(line.len(), &mut frames);
        if line.len() < LARGE_BYTES {
            frames.extend_from_slice(line);
        }
        if frames.len() + line.len() >= LARGE_BYTES {
            socket.write_all(&frames).await?;
            frames.clear();
        }
        if line.len() >= LARGE_BYTES {
            socket.write_all(line).await?;
        }
    }
    socket.write_all(&frames).await?;
    socket.flush().await?;
    Ok(())
}

/// The head of an unmasked frame that is a message of its own (RFC 6455, section 5.2): a text, or without bytes a ping.
fn head_of_frame(length: usize, out: &mut Vec<u8>) {
    const LAST: u8 = 0x80;
    let opcode = if length == 0 { 9 } else { 1 };
    out.push(LAST | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=125), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Says why it ends, and waits until the client has heard it: a socket that is closed over bytes that nobody has read takes
/// back what was written last (RFC 6455, section 7.1.1).
async fn end<S>(mut socket: WebSocketStream<Counted<S>>, stop: Stop) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Stop::Close(code, reason) = stop {
        let reason = Utf8Bytes::from(reason);
        socket.close(Some(CloseFrame { code, reason })).await?;
    }
    let socket = socket.get_mut();
    socket.shutdown().await?;
    let mut unread = [0; 4 << 10];
    while socket.read(&mut unread).await? > 0 {}
    Ok(())
}

/// What is said last to a client whose messages cannot be read.
fn stop(error: &Error) -> Stop {
    match error {
        Error::Capacity(error) => Stop::Close(CloseCode::Size, error.to_string()),
        Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            let said = json!({"reason": error.to_string(), "retry": REFUSED_RETRY_AFTER.as_millis() as u64});
            Stop::Close(CloseCode::Again, said.to_string())
        }
        Error::Utf8(_) => Stop::Close(CloseCode::Invalid, "text messages are UTF-8".to_owned()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Stop::Broken,
        Error::Protocol(error) => Stop::Close(CloseCode::Protocol, error.to_string()),
        _ => Stop::Broken,
    }
}

/// Why the hub ends it, and when to come back: as a code and as JSON.
fn close_reason(farewell: Option<Farewell>) -> (CloseCode, String) {
    let Some(Farewell { reason, retry }) = farewell else {
        return (
            CloseCode::Error,
            json!({"reason": "unreadable"}).to_string(),
        );
    };
    let code = match reason {
        CloseReason::Draining | CloseReason::Shutdown => CloseCode::Restart,
        CloseReason::Idle | CloseReason::Stalled | CloseReason::Lagged => CloseCode::Again,
        _ => CloseCode::Policy,
    };
    let mut said = json!({"reason": reason.as_str()});
    if let Some(retry) = retry {
        said["retry"] = retry.as_millis().into();
    }
    (code, said.to_string())
}

/// The length of a key: 16 bytes in base64.
const KEY_BYTES: usize = 24;
/// What a client reads and is read ahead of its messages: requests are small.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// From here on a message is written without a copy. A stated guess: what one TLS record takes.
const LARGE_BYTES: usize = 16 << 10;
/// How often it is looked whether a client takes something, within the time that it may take nothing.
const LOOKS_PER_TIMEOUT: u32 = 8;
/// What a WebSocket takes in memory, its stream's place not counted: measured by the memory test.
const WEBSOCKET_BYTES: usize = 15 << 10;
/// How long the last words may take, with the client's answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use sse_broker::Topic;

    use super::*;
    use crate::clock;
    use crate::hub::{HubConfig, Publication};
    use crate::session::ConnectionRequest;
    use crate::wire::{Format, Protocol};

    /// Its signs of life were a send timeout apart, so that a sweep at the wrong moment took it for stalled.
    #[tokio::test]
    async fn a_reader_that_is_slow_with_a_large_message_is_not_taken_for_stalled() {
        let send_timeout = Duration::from_secs(2);
        let hub = Hub::in_memory(HubConfig {
            send_timeout,
            ..HubConfig::default()
        });
        let hub = hub.await.unwrap();
        let request = ConnectionRequest {
            format: Format {
                protocol: Protocol::WebSocket,
                ..Format::default()
            },
            ..ConnectionRequest::from(Caller::default())
        };
        let held = hub
            .budget()
            .try_take(Account::Bodies, Caller::default().address(), 0)
            .unwrap();
        let websocket = WebSocket {
            _held: held,
            stream: hub.connect(request).await.unwrap(),
            hub: hub.clone(),
            caller: Caller::default(),
            subscription: None,
            max_message_bytes: 1 << 20,
            counts: Counts::default(),
        };
        let (ours, mut client) = tokio::io::duplex(1 << 10);
        tokio::spawn(websocket.serve(ours));
        let large = Publication::new("x".repeat(48 << 10));
        hub.publish(large.to_topic(Topic::new("t").unwrap()))
            .await
            .unwrap();
        let begun = clock::now();
        let (mut taken, mut part) = (0, [0; 1 << 10]);
        while taken < 48 << 10 {
            taken += client.read(&mut part).await.unwrap();
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                // As a sweep sees it whose clock is ahead by a machine's being busy.
                hub.housekeep(clock::now() + send_timeout / 8).await;
            }
        }
        assert!(begun.elapsed() > 2 * send_timeout, "that was not slow");
        assert_eq!(hub.connections(10).len(), 1, "it is still there");
    }

    #[test]
    fn the_key_of_the_standard_is_accepted_as_the_standard_says() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(
            accept_key(&headers).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        for (name, value, status) in [
            ("sec-websocket-key", "short", 400),
            ("sec-websocket-version", "8", 426),
            ("upgrade", "h2c", 426),
        ] {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_static(value));
            let problem = accept_key(&headers).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{name}");
        }
    }

    #[test]
    fn a_close_frame_says_why_and_when_to_come_back() {
        let retry = Some(sse_protocol::Retry::from_millis(2500));
        let said = |reason, retry| close_reason(Some(Farewell { reason, retry }));
        assert_eq!(
            said(CloseReason::Draining, retry),
            (
                CloseCode::Restart,
                r#"{"reason":"draining","retry":2500}"#.to_owned()
            )
        );
        assert_eq!(said(CloseReason::Lagged, None).0, CloseCode::Again);
        for reason in CloseReason::ALL {
            assert!(
                said(reason, retry).1.len() <= 123,
                "{reason} fits into a close frame"
            );
        }
    }
}
