//! The clients, each with its defaults, as one function that reads until it is told to stop.

use std::ops::ControlFlow;
use std::process::Stdio;

use eventsource_client::{Client as _, ClientBuilder, SSE};
use futures_util::StreamExt as _;
use launchdarkly_sdk_transport::HyperTransport;
use sse_client::{CloseReason, Connector, EventSource, Notice};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What a client tells.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    Event(&'a str),
    Trouble(String),
    /// The client ended by itself.
    End,
}

/// A request all clients can make.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) url: String,
    pub(crate) post: bool,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

pub(crate) async fn ours(ask: Ask, mut tell: impl FnMut(Told<'_>) -> ControlFlow<()>) {
    let mut builder = EventSource::builder(&ask.url)
        .connector(Connector::builder().no_proxy().build())
        .no_compression();
    if ask.post {
        builder = builder.method(sse_client::http::Method::POST).body("{}");
    }
    for (name, value) in ask.headers {
        builder = builder.header(*name, *value);
    }
    let mut source = builder.build().expect("a good request");
    while let Some(notice) = source.next_notice().await {
        let flow = match notice {
            Notice::Event(event) => tell(Told::Event(event.data())),
            Notice::Interrupted(what) => tell(Told::Trouble(what.error().to_string())),
            Notice::Closed(CloseReason::Failed { error, .. }) => {
                tell(Told::Trouble(error.to_string()))
            }
            _ => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return;
        }
    }
    let _ = tell(Told::End);
}

pub(crate) async fn reqwest_eventsource(
    ask: Ask,
    mut tell: impl FnMut(Told<'_>) -> ControlFlow<()>,
) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut request = if ask.post {
        client.post(&ask.url).body("{}")
    } else {
        client.get(&ask.url)
    };
    for (name, value) in ask.headers {
        request = request.header(*name, *value);
    }
    let mut source =
        reqwest_eventsource::EventSource::new(request).expect("a body that can be cloned");
    while let Some(item) = source.next().await {
        let flow = match item {
            Ok(reqwest_eventsource::Event::Message(event)) => tell(Told::Event(&event.data)),
            Ok(reqwest_eventsource::Event::Open) => ControlFlow::Continue(()),
            Err(error) => tell(Told::Trouble(error.to_string())),
        };
        if flow.is_break() {
            return;
        }
    }
    let _ = tell(Told::End);
}

pub(crate) async fn eventsource_client(
    ask: Ask,
    mut tell: impl FnMut(Told<'_>) -> ControlFlow<()>,
) {
    let transport = HyperTransport::builder()
        .disable_proxy()
        .build_http()
        .expect("a transport");
    let mut builder = ClientBuilder::for_url(&ask.url).expect("a good URL");
    if ask.post {
        builder = builder.method("POST".to_owned()).body("{}".to_owned());
    }
    for (name, value) in ask.headers {
        builder = builder.header(name, value).expect("a good header");
    }
    let client = builder.build_with_transport(transport);
    let mut stream = client.stream();
    while let Some(item) = stream.next().await {
        let flow = match item {
            Ok(SSE::Event(event)) => tell(Told::Event(&event.data)),
            Ok(SSE::Connected(_) | SSE::Comment(_)) => ControlFlow::Continue(()),
            Err(error) => tell(Told::Trouble(error.to_string())),
        };
        if flow.is_break() {
            return;
        }
    }
    let _ = tell(Told::End);
}

/// A JavaScript client under Node; see `client.js` beside the JavaScript parsers.
pub(crate) async fn javascript(
    name: &str,
    ask: Ask,
    mut tell: impl FnMut(Told<'_>) -> ControlFlow<()>,
) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../sse-protocol/compare/js/client.js"
    );
    let mut node = tokio::process::Command::new("node")
        .args([
            script,
            name,
            &ask.url,
            if ask.post { "POST" } else { "GET" },
        ])
        .args(
            ask.headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        )
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Node");
    let mut lines = BufReader::new(node.stdout.take().expect("a pipe")).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let flow = match line.split_once(' ') {
            Some(("event", data)) => tell(Told::Event(data)),
            Some(("trouble", what)) => tell(Told::Trouble(what.to_owned())),
            _ => tell(Told::End),
        };
        if flow.is_break() {
            return;
        }
    }
}
