//! Language models' streams, typed events, reading ahead: streams of the shapes that were recorded.

use sse_client::llm::{self, CompletionError, Convention};
use sse_client::{Error, QueueLimit, TypedError};

use crate::rogue::{Rogue, soon, take};

async fn served(text: String) -> Rogue {
    Rogue::start(move |mut peer| {
        let text = text.clone();
        async move { peer.events(&text).await }
    })
    .await
}

fn chat_chunk(content: &str) -> String {
    let delta = serde_json::json!({ "content": content });
    let choice = serde_json::json!({ "index": 0, "delta": delta, "finish_reason": null });
    let chunk = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [choice], "usage": null, "error": null,
    });
    format!("data: {chunk}\n\n")
}

/// All text, and how it ended.
async fn answer<C: Convention>(
    mut completion: llm::Completion<C>,
) -> (String, Option<CompletionError>) {
    let mut text = String::new();
    loop {
        match soon(completion.next()).await {
            Some(Ok(chunk)) => text.push_str(&chunk.text().unwrap_or_default()),
            Some(Err(error)) => {
                assert!(completion.next().await.is_none(), "nothing follows");
                return (text, Some(error));
            }
            None => return (text, None),
        }
    }
}

async fn openai(stream: String) -> (String, Option<CompletionError>) {
    let rogue = served(stream).await;
    let source = rogue
        .source()
        .json(&serde_json::json!({ "stream": true }))
        .build()
        .unwrap();
    let end = answer(llm::openai(source)).await;
    assert_eq!(
        rogue.requests().len(),
        1,
        "a costly request is not repeated"
    );
    end
}

#[tokio::test]
async fn a_chat_completion_ends_with_its_done_and_not_otherwise() {
    let start = [chat_chunk("Hel"), chat_chunk("lo"), chat_chunk("")].concat();
    let (text, end) = openai(format!(
        "{start}data: [DONE]\n\n{}",
        chat_chunk("not any more")
    ))
    .await;
    assert_eq!(text, "Hello");
    assert!(end.is_none(), "{end:?}");
    for broken in [start.clone(), format!("{start}data: {{\"cho")] {
        let (text, end) = openai(broken).await;
        assert_eq!(text, "Hello");
        assert!(matches!(end, Some(CompletionError::Incomplete)), "{end:?}");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_chat_completion_is_an_error() {
    let error =
        r#"data: {"error": {"message": "The server had an error", "type": "server_error"}}"#;
    let (text, end) = openai(format!("{}{error}\n\ndata: [DONE]\n\n", chat_chunk("Hi"))).await;
    assert_eq!(text, "Hi");
    let Some(CompletionError::Api(error)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        (error.kind.as_deref(), error.message.as_str()),
        (Some("server_error"), "The server had an error")
    );
}

#[tokio::test]
async fn a_response_ends_with_its_last_named_event() {
    let stream = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
    );
    let (text, end) = openai(stream.to_owned()).await;
    assert_eq!(text, "Hi");
    assert!(end.is_none());
    let (_, end) =
        openai("event: error\ndata: {\"type\":\"error\",\"message\":\"too long\"}\n\n".into())
            .await;
    assert!(matches!(end, Some(CompletionError::Api(error)) if error.message == "too long"));
}

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":25}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"!\"}}\n\n",
);
const ANTHROPIC_END: &str = concat!(
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[tokio::test]
async fn a_message_ends_with_message_stop_and_fails_with_error() {
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    for (tail, expected) in [
        (ANTHROPIC_END, "whole"),
        (overloaded, "overloaded_error"),
        ("", "broke off"),
    ] {
        let rogue = served(format!("{ANTHROPIC}{tail}")).await;
        let source = rogue.source().json("x").build().unwrap();
        let (text, end) = answer(llm::anthropic(source)).await;
        assert_eq!(text, "Hello!");
        let end = match end {
            None => "whole".to_owned(),
            Some(CompletionError::Api(error)) => error.kind.unwrap(),
            Some(CompletionError::Incomplete) => "broke off".to_owned(),
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!(end, expected);
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_apis_own_words() {
    let rogue = Rogue::start(|mut peer| async move {
        let body = r#"{"error":{"message":"no such model","type":"invalid_request_error"}}"#;
        let head =
            "HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
        peer.write(format!("{head}{body}")).await;
    })
    .await;
    let source = rogue.source().json("x").build().unwrap();
    let (_, end) = answer(llm::openai(source)).await;
    let Some(CompletionError::Source(error)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        error.report(),
        "server answered 400 Bad Request: no such model"
    );
}

#[derive(Debug, serde::Deserialize, PartialEq)]
struct Progress {
    progress: u32,
}

#[tokio::test]
async fn json_events_come_as_values_and_one_that_does_not_fit_is_no_end() {
    let envelope =
        sse_compress_envelope(&format!(r#"{{"progress":3,"pad":"{}"}}"#, "x".repeat(3000)));
    let rogue = served(format!(
        "event: ping\ndata: keep-alive\n\nevent: progress\ndata: {{\"progress\":1}}\n\n\
         event: progress\ndata: oops\n\nevent: progress\ndata: {envelope}\n\n"
    ))
    .await;
    let mut events = rogue.source().build().unwrap();
    let mut steps = events.json::<Progress>().only(["progress"]);
    assert_eq!(
        soon(steps.next()).await.unwrap().unwrap().into_value(),
        Progress { progress: 1 }
    );
    let error = soon(steps.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(error, TypedError::Json { ref event, .. } if event.data() == "oops"),
        "{error:?}"
    );
    let third = soon(steps.next()).await.unwrap().unwrap();
    assert_eq!(third.value().progress, 3);
    assert_eq!(third.event().event_type(), "progress");
}

/// What a hub makes of a large message.
fn sse_compress_envelope(text: &str) -> String {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(text.as_bytes()).unwrap();
    let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, gzip.finish().unwrap());
    let size = text.len();
    format!(r#"{{"compressed":true,"encoding":"gzip","original_size":{size},"data":"{data}"}}"#)
}

#[tokio::test]
async fn standard_envelopes_are_read_and_other_events_passed_over() {
    let rogue = served(
        "event: connected\ndata: {\"connection_id\":\"c\"}\n\n\
         event: progress\ndata: {\"step\":1,\"progress\":10,\"message\":\"Processing...\",\"timestamp\":\"2024-01-01T00:00:00Z\"}\n\n\
         event: complete\ndata: {\"no\":\"timestamp\"}\n\n"
            .to_owned(),
    )
    .await;
    let mut events = rogue.source().build().unwrap();
    let message = soon(events.next_message())
        .await
        .unwrap()
        .unwrap()
        .into_value();
    assert_eq!(message.event, sse_client::MessageEvent::Progress);
    assert_eq!(message.data.message.as_deref(), Some("Processing..."));
    let error = soon(events.next_message()).await.unwrap().unwrap_err();
    assert!(matches!(error, TypedError::Message { .. }), "{error:?}");
}

#[tokio::test]
async fn reading_ahead_is_bounded_in_events_and_in_bytes() {
    for limit in [
        QueueLimit {
            events: 10,
            bytes: usize::MAX,
        },
        QueueLimit {
            events: 10_000,
            bytes: 10_000,
        },
    ] {
        let event = |n: usize| format!("id: {n}\ndata: {}\n\n", "x".repeat(1000));
        let text: String = (0..500).map(event).collect();
        let rogue = served(format!("{text}data: last\n\n")).await;
        let policy = sse_client::ReconnectPolicy::never();
        let mut events = rogue
            .source()
            .reconnect(policy)
            .build()
            .unwrap()
            .buffered(limit);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let waiting = events.waiting();
        assert!((5..=10).contains(&waiting), "{waiting} wait");
        let mut seen = 0;
        while let Some(event) = soon(events.next()).await {
            event.unwrap();
            seen += 1;
        }
        assert_eq!(seen, 501);
        assert!(events.state().is_closed());
    }
}

#[tokio::test]
async fn a_reader_ahead_that_is_dropped_closes_the_connection() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let rogue = Rogue::start(move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.events("data: 1\n\n").await;
            peer.closed().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let mut direct = rogue.source().build().unwrap();
    take(&mut direct, 1).await;
    let mut events = direct.buffered(QueueLimit::default());
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), events.next()).await;
    assert!(waiting.is_err());
    drop(events);
    soon(seen.recv()).await.unwrap();
    let _ = Error::Ended;
}
