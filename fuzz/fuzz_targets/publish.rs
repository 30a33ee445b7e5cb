//! A publish body from anywhere is refused or understood, never a panic; and what is understood is, once written,
//! one event with the same data.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sse_protocol::{Decoded, Decoder, EventRef, EventType, encoder};
use sse_server::http::{Publications, parse_publications};
use sse_server::hub::Publication;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    /// What a publisher could have meant, so that not every input fails at its first brace.
    Events {
        events: Vec<Vec<(u8, Value<'a>)>>,
        form: Form,
    },
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    /// A string, its content escaped.
    Text(&'a str),
    Texts(Vec<&'a str>),
    Number(f64),
    Whole(i64),
    /// Whatever stands there.
    Raw(&'a str),
    Deep(u16),
}

#[derive(Arbitrary, Debug)]
enum Form {
    Array,
    Lines,
}

fuzz_target!(|input: Input<'_>| {
    let body = match input {
        Input::Bytes(bytes) => bytes.to_vec(),
        Input::Events { events, form } => body(&events, &form).into_bytes(),
    };
    let publications = match parse_publications(&body) {
        Ok(Publications::One(publication)) => vec![publication],
        Ok(Publications::Many(publications)) => publications,
        Err(problem) => {
            assert_eq!(problem.status.as_u16(), 400);
            assert!(!problem.detail.is_empty());
            return;
        }
    };
    assert!(!publications.is_empty());
    assert!(
        std::str::from_utf8(&body).is_ok(),
        "what is no text was understood"
    );
    publications.iter().for_each(check);
});

fn check(publication: &Publication) {
    let event = EventRef {
        id: publication.id.as_ref(),
        event_type: publication.event_type.as_ref(),
        data: &publication.data,
        retry: publication.retry,
    };
    let mut written = Vec::new();
    encoder::event(event, &mut written);
    let mut decoder = Decoder::new();
    let mut feed = decoder.feed(&written);
    let mut events = Vec::new();
    while let Some(decoded) = feed.next() {
        match decoded {
            Decoded::Event(event) => events.push(event.to_event()),
            Decoded::Retry(retry) => assert_eq!(Some(retry), publication.retry),
            other => panic!("{other:?} was forged"),
        }
    }
    let [read] = &events[..] else {
        panic!("{} events were forged", events.len())
    };
    // A line's end has three forms on the way and one at its end.
    assert_eq!(
        *read.data,
        *publication.data.replace("\r\n", "\n").replace('\r', "\n")
    );
    assert_eq!(read.id, publication.id);
    let event_type = publication
        .event_type
        .as_ref()
        .filter(|name| name.as_str() != EventType::MESSAGE);
    assert_eq!(read.event_type.as_ref(), event_type);
    assert_eq!(read.retry, publication.retry);
}

const FIELDS: [&str; 15] = [
    "data",
    "event_type",
    "event",
    "type",
    "topic",
    "topics",
    "id",
    "session_filter",
    "session_id",
    "user_id",
    "project_id",
    "subscription_filter",
    "retry",
    "priority",
    "ttl_seconds",
];

fn body(events: &[Vec<(u8, Value<'_>)>], form: &Form) -> String {
    let events: Vec<String> = events
        .iter()
        .map(|fields| {
            let fields: Vec<String> = fields
                .iter()
                .map(|(field, value)| {
                    format!(
                        "\"{}\":{}",
                        FIELDS[usize::from(*field) % FIELDS.len()],
                        json(value)
                    )
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        })
        .collect();
    match form {
        Form::Array => format!("[{}]", events.join(",")),
        Form::Lines => events.join("\n"),
    }
}

fn json(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => string(text),
        Value::Texts(texts) => format!(
            "[{}]",
            texts
                .iter()
                .map(|text| string(text))
                .collect::<Vec<_>>()
                .join(",")
        ),
        Value::Number(number) => number.to_string(),
        Value::Whole(number) => number.to_string(),
        Value::Raw(raw) => (*raw).to_owned(),
        Value::Deep(depth) => {
            // Rarely as deep as would overflow a stack: such an input takes a hundred times as long.
            let depth = usize::from(if depth % 16 == 0 { *depth } else { depth % 256 });
            format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
        }
    }
}

fn string(text: &str) -> String {
    let mut string = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => string.extend(['\\', c]),
            c if c.is_ascii_control() => string.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => string.push(c),
        }
    }
    string.push('"');
    string
}
