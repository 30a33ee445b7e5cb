//! The body of a publish: one JSON object, an array of them, or one after another (NDJSON).
//!
//! JSON `data` reaches readers byte for byte, so it is never parsed into a tree: the fields are taken
//! as raw text. A field that nobody knows is an error, for a misspelt `session_filter` would
//! otherwise send a private event to everyone.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;
use sse_broker::{DataKind, Priority, Topic};
use sse_protocol::{EventId, EventType, Retry};

use super::problem::Problem;
use crate::hub::Publication;
use crate::units::Quoted;

/// The fields of one JSON object, in their order, values unparsed.
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(no_text(&self))
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(key) = map.next_key::<BorrowedKey<'de>>()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(de::Error::custom("too many fields"));
                    }
                    if fields.iter().any(|(known, _)| *known == key.0) {
                        return Err(de::Error::custom(format_args!(
                            "the field `{}` stands there twice",
                            key.0
                        )));
                    }
                    fields.push((key.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        // Asked for a map, the library would make the error itself.
        deserializer.deserialize_any(Visitor)
    }
}

/// A key, borrowed where it has no escapes.
struct BorrowedKey<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedKey<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = BorrowedKey<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(BorrowedKey(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(BorrowedKey(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A text stands where something else is expected. The library's own error has the text in it, each character in up to six.
pub(super) fn no_text<E: de::Error>(expected: &dyn de::Expected) -> E {
    de::Error::invalid_type(de::Unexpected::Other("string"), expected)
}

/// Refuses a text in place of an object, before the library's error repeats it.
pub(super) fn check_is_object(body: &[u8]) -> Result<(), Problem> {
    match body.trim_ascii_start().first() {
        Some(b'"') => Err(Problem::bad_request(
            "the body must be a JSON object, and is a string",
        )),
        _ => Ok(()),
    }
}

/// More fields than any object of the API has, and few enough to search one by one.
const MAX_FIELDS: usize = 64;

/// What a publish body held.
#[derive(Debug, PartialEq, Eq)]
pub enum Publications {
    /// One object.
    One(Publication),
    /// An array or several objects, in order.
    Many(Vec<Publication>),
}

/// Reads the body of a publish.
///
/// # Errors
///
/// A 400 that names the first thing that is wrong, or a 413 for too many events; nothing of the body is to be published then.
pub fn parse(body: &[u8]) -> Result<Publications, Problem> {
    parse_within(body, |_| Ok(()))
}

/// The same, asking for the memory of each event before it is read.
pub(super) fn parse_within(
    body: &[u8],
    mut reserve: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Publications, Problem> {
    let mut more_topics = 0;
    let mut element = |raw: &RawValue| {
        reserve(raw.get().len() + PUBLICATION_OVERHEAD_BYTES)?;
        let publication = element(raw)?;
        more_topics += publication.topics.len().saturating_sub(1);
        if more_topics > MAX_EVENTS_PER_REQUEST {
            return Err(too_many());
        }
        Ok(publication)
    };
    let text =
        std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let first = text.trim_start().bytes().next();
    if first.is_none() {
        return Err(Problem::bad_request(
            "the body is empty: send a JSON object such as {\"data\": \"hello\"}",
        ));
    }
    if first == Some(b'[') {
        let Elements(elements, rest) =
            serde_json::from_str(text).map_err(|error| malformed(&error))?;
        if rest > 0 {
            return Err(too_many());
        }
        if elements.is_empty() {
            return Err(Problem::bad_request(
                "the array is empty: there is nothing to publish",
            ));
        }
        let publications = elements
            .iter()
            .enumerate()
            .map(|(i, raw)| element(raw).map_err(|problem| problem.in_element(i)));
        return publications
            .collect::<Result<_, _>>()
            .map(Publications::Many);
    }
    let mut publications = Vec::new();
    for (i, raw) in serde_json::Deserializer::from_str(text)
        .into_iter::<&RawValue>()
        .enumerate()
    {
        if i == MAX_EVENTS_PER_REQUEST {
            return Err(too_many());
        }
        let raw = raw.map_err(|error| malformed(&error))?;
        publications.push(element(raw).map_err(|problem| {
            if i == 0 {
                problem
            } else {
                problem.in_element(i)
            }
        })?);
    }
    if publications.len() == 1 {
        Ok(Publications::One(publications.swap_remove(0)))
    } else {
        Ok(Publications::Many(publications))
    }
}

/// The first elements of an array, and how many there are beside them.
struct Elements<'a>(Vec<&'a RawValue>, usize);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<Self::Value, S::Error> {
                let mut elements = Elements(Vec::new(), 0);
                while elements.0.len() < MAX_EVENTS_PER_REQUEST {
                    let Some(element) = array.next_element()? else {
                        return Ok(elements);
                    };
                    elements.0.push(element);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {
                    elements.1 += 1;
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body is not valid JSON: {error}"))
}

fn element(raw: &RawValue) -> Result<Publication, Problem> {
    let fields: Fields<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        Problem::bad_request(format!("an event must be a JSON object: {}", plain(&error)))
    })?;
    publication(fields)
}

/// Reads one event from the fields of its object.
pub(super) fn publication(fields: Fields<'_>) -> Result<Publication, Problem> {
    let mut publication = Publication::default();
    let mut type_given_as: Option<String> = None;
    let mut has_data = false;
    for (name, raw) in fields.0 {
        if raw.get() == "null" && name != "data" {
            if AUDIENCE_FIELDS.contains(&&*name) {
                return Err(Problem::bad_field(
                    name,
                    "must not be null; leave it out for an event that everyone gets",
                ));
            }
            continue;
        }
        match &*name {
            "event_type" | "event" | "type" => {
                if let Some(other) = &type_given_as {
                    return Err(Problem::bad_field(
                        name,
                        format!("the type was given as `{other}` already"),
                    ));
                }
                publication.event_type = Some(event_type(&name, raw)?);
                type_given_as = Some(name.into_owned());
            }
            "data" => {
                (publication.data, publication.data_kind) = data(raw)?;
                has_data = true;
            }
            "topic" | "topics" => publication.topics.append(&mut topics(&name, raw)?),
            "project_id" => publication.topics.push(topic_under("project", &name, raw)?),
            "session_filter" | "session_id" => publication
                .audience
                .push(topic_under("session", &name, raw)?),
            "user_id" => publication.audience.push(topic_under("user", &name, raw)?),
            "subscription_filter" => {
                publication.subscription_filter = Some(event_type(&name, raw)?)
            }
            "id" => publication.id = Some(event_id(&name, raw)?),
            "retry" => {
                let millis = number(&name, raw, "a number of milliseconds")?;
                if millis > MAX_RETRY_MILLIS {
                    let problem = format!("may be {MAX_RETRY_MILLIS} at most, a day");
                    return Err(Problem::bad_field(&*name, problem));
                }
                publication.retry = Some(Retry::from_millis(millis));
            }
            "priority" => {
                publication.priority =
                    match value::<Cow<'_, str>>(&name, raw, "low, normal or high")?.as_ref() {
                        "low" => Priority::Low,
                        "normal" => Priority::Normal,
                        "high" => Priority::High,
                        other => {
                            return Err(Problem::bad_field(
                                name,
                                format!("{} is not low, normal or high", Quoted(other)),
                            ));
                        }
                    }
            }
            "ttl_seconds" => {
                let seconds: f64 = number(&name, raw, "a number of seconds, 0 or more")?;
                publication.time_to_live =
                    Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
                        Problem::bad_field(name, "must be a number of seconds, 0 or more")
                    })?);
            }
            _ => {
                return Err(Problem::bad_field(
                    name.into_owned(),
                    "no such field; there are event_type, data, topic, session_filter, user_id, project_id, \
                     subscription_filter, id, retry, priority, ttl_seconds",
                ));
            }
        }
    }
    if !has_data {
        return Err(Problem::bad_field(
            "data",
            "is missing: every event has data, if only an empty string",
        ));
    }
    check_owners(&publication)?;
    Ok(publication)
}

/// Refuses an event that nobody could ever get: no reader is two sessions, or two users.
fn check_owners(publication: &Publication) -> Result<(), Problem> {
    for (prefix, field) in [("session", "session_filter"), ("user", "user_id")] {
        let topics = publication.audience.iter().chain(&publication.topics);
        let mut owners = topics.filter(|topic| topic.under(prefix).is_some());
        let Some(first) = owners.next() else { continue };
        if let Some(other) = owners.find(|owner| *owner != first) {
            let problem = format!(
                "makes this event private to {first} and to {other}, and no reader is both; publish it once for each"
            );
            return Err(Problem::bad_field(field, problem));
        }
    }
    Ok(())
}

/// A string's content as it is; any other JSON as it was written.
fn data(raw: &RawValue) -> Result<(Box<str>, DataKind), Problem> {
    if raw.get().starts_with('"') {
        let text: String = value("data", raw, "valid text")?;
        Ok((text.into(), DataKind::Text))
    } else {
        Ok((raw.get().into(), DataKind::Json))
    }
}

fn event_type(field: &str, raw: &RawValue) -> Result<EventType, Problem> {
    let text: String = value(field, raw, "text")?;
    check_event_type(field, &text)
}

/// Checks the type of an event from outside.
pub(super) fn check_event_type(field: &str, text: &str) -> Result<EventType, Problem> {
    if text.is_empty() {
        return Err(Problem::bad_field(
            field,
            "must not be empty; leave it out instead",
        ));
    }
    check_text(field, text)?;
    if text.len() > MAX_EVENT_TYPE_BYTES {
        return Err(Problem::bad_field(
            field,
            format!("may have {MAX_EVENT_TYPE_BYTES} bytes at most"),
        ));
    }
    EventType::new(text).map_err(|error| Problem::bad_field(field, error.to_string()))
}

fn event_id(field: &str, raw: &RawValue) -> Result<EventId, Problem> {
    let text: String = value(field, raw, "text")?;
    if text.is_empty() {
        return Err(Problem::bad_field(
            field,
            "must not be empty; leave it out for an id of the hub's own",
        ));
    }
    if text.len() > MAX_EVENT_ID_BYTES {
        return Err(Problem::bad_field(
            field,
            format!("may have {MAX_EVENT_ID_BYTES} bytes at most"),
        ));
    }
    check_text(field, &text)?;
    if text == "earliest" || text.parse::<sse_broker::Position>().is_ok() {
        return Err(Problem::bad_field(
            field,
            "must not be `earliest`, or look like a position of the hub",
        ));
    }
    EventId::new(text).map_err(|error| Problem::bad_field(field, error.to_string()))
}

fn topics(field: &str, raw: &RawValue) -> Result<Vec<Topic>, Problem> {
    let names = if raw.get().starts_with('[') {
        value::<Vec<String>>(field, raw, "a topic or an array of them")?
    } else {
        vec![value::<String>(field, raw, "a topic or an array of them")?]
    };
    if names.is_empty() {
        return Err(Problem::bad_field(
            field,
            "must not be empty; leave it out for an event that everyone gets",
        ));
    }
    if names.len() > MAX_TOPICS {
        return Err(Problem::bad_field(
            field,
            format!("may name {MAX_TOPICS} topics at most"),
        ));
    }
    names
        .into_iter()
        .map(|name| check_topic(field, name))
        .collect()
}

/// Refuses text that a reader could not send back: it comes again in headers and queries.
fn check_text(field: &str, text: &str) -> Result<(), Problem> {
    if text.chars().any(char::is_control) {
        return Err(Problem::bad_field(
            field,
            "must not hold control characters",
        ));
    }
    if text.trim() != text {
        return Err(Problem::bad_field(
            field,
            "must not begin or end with a blank",
        ));
    }
    Ok(())
}

/// Checks a topic from outside.
pub(super) fn check_topic(field: &str, name: String) -> Result<Topic, Problem> {
    check_text(field, &name)?;
    Topic::new(name).map_err(|error| Problem::bad_field(field, error.to_string()))
}

fn topic_under(prefix: &str, field: &str, raw: &RawValue) -> Result<Topic, Problem> {
    let name: String = value(field, raw, "text")?;
    if name.is_empty() {
        return Err(Problem::bad_field(field, "must not be empty"));
    }
    check_text(field, &name)?;
    check_topic(field, format!("{prefix}/{name}"))
}

/// A number; a text is not even looked at, because the library's error would have it in it.
fn number<'a, T: Deserialize<'a>>(
    field: &str,
    raw: &'a RawValue,
    expected: &str,
) -> Result<T, Problem> {
    if raw.get().starts_with('"') {
        let problem = format!("expected {expected}: invalid type: string");
        return Err(Problem::bad_field(field, problem));
    }
    value(field, raw, expected)
}

fn value<'a, T: Deserialize<'a>>(
    field: &str,
    raw: &'a RawValue,
    expected: &str,
) -> Result<T, Problem> {
    serde_json::from_str(raw.get()).map_err(|error| {
        Problem::bad_field(field, format!("expected {expected}: {}", plain(&error)))
    })
}

/// The error's text without "at line 1 column 9", which counts from the value's own start.
pub(super) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(message, _)| message.to_owned())
}

/// Fields that say whom an event is for: who names an audience gets it, or an error.
const AUDIENCE_FIELDS: [&str; 7] = [
    "topic",
    "topics",
    "project_id",
    "session_filter",
    "session_id",
    "user_id",
    "subscription_filter",
];
/// A client that waits longer before it connects again is one that was sent away.
const MAX_RETRY_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// As many events as one request may publish: what a million small ones in a body take is many times the body.
const MAX_EVENTS_PER_REQUEST: usize = 10_000;
/// What an event takes beside its text, from when it is read until it is in the log. A stated guess on the safe side.
pub const PUBLICATION_OVERHEAD_BYTES: usize = 512;

fn too_many() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "a request may publish {MAX_EVENTS_PER_REQUEST} events at most, with as many topics beside the first ones; send them in several"
        ),
    )
}

/// As many bytes as an id may have: it comes back in a header with every reconnect.
const MAX_EVENT_ID_BYTES: usize = 128;
/// As many bytes as an event type may have. A stated guess.
const MAX_EVENT_TYPE_BYTES: usize = 256;
/// As many topics as one event may go to. A stated guess; each costs an index entry.
const MAX_TOPICS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Result<Publication, Problem> {
        match parse(body.as_bytes())? {
            Publications::One(publication) => Ok(publication),
            Publications::Many(_) => panic!("many"),
        }
    }

    #[test]
    fn json_data_stays_as_it_was_written_and_a_string_is_its_content() {
        let data = |body: &str| one(body).unwrap().data.into_string();
        assert_eq!(
            data(r#"{"data": {"b": 1,  "a": 1.50} }"#),
            r#"{"b": 1,  "a": 1.50}"#
        );
        assert_eq!(data(r#"{"data": "a\nb \u00e9"}"#), "a\nb é");
        assert_eq!(data(r#"{"data": null}"#), "null");
    }

    #[test]
    fn an_array_and_lines_are_many_in_order() {
        let lines = "{\"data\":1}\n{\"data\":2}\r\n\n{\"data\":3}";
        for body in ["[{\"data\":1},{\"data\":2},{\"data\":3}]", lines] {
            let Ok(Publications::Many(many)) = parse(body.as_bytes()) else {
                panic!("{body}")
            };
            assert_eq!(
                many.iter().map(|p| &*p.data).collect::<Vec<_>>(),
                ["1", "2", "3"]
            );
        }
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (body, field) in [
            (r#"{"event_type": "a\nb", "data": 1}"#, "event_type"),
            (r#"{"event_type": "a\u0000b", "data": 1}"#, "event_type"),
            (r#"{"id": "a\rb", "data": 1}"#, "id"),
            (r#"{"id": "a\u0000b", "data": 1}"#, "id"),
            (r#"{"id": 7, "data": 1}"#, "id"),
            (r#"{"topic": "", "data": 1}"#, "topic"),
            (r#"{"topic": "*", "data": 1}"#, "topic"),
            (r#"{"topic": {"a": 1}, "data": 1}"#, "topic"),
            (r#"{"session_filter": "", "data": 1}"#, "session_filter"),
            (r#"{"retry": -1, "data": 1}"#, "retry"),
            (r#"{"retry": 86400001, "data": 1}"#, "retry"),
            (r#"{"retry": 18446744073709551615, "data": 1}"#, "retry"),
            (r#"{"retry": "soon", "data": 1}"#, "retry"),
            (r#"{"priority": "urgent", "data": 1}"#, "priority"),
            (r#"{"ttl_seconds": -1, "data": 1}"#, "ttl_seconds"),
            (r#"{"sesion_filter": "s", "data": 1}"#, "sesion_filter"),
            (r#"{"event": "a", "type": "b", "data": 1}"#, "type"),
            (r#"{"data": "\ud800"}"#, "data"),
            (r#"{"event_type": "a"}"#, "data"),
        ] {
            let problem = one(body).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.field.as_deref()),
                (400, Some(field)),
                "{body}: {problem:?}"
            );
        }
        let problem = parse(br#"[{"data":1},{"data":1,"topic":7}]"#).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("[1].topic"));
    }

    #[test]
    fn what_is_not_json_is_told_so() {
        for body in [
            &b""[..],
            b"  ",
            b"{",
            b"[]",
            b"[1]",
            b"7",
            b"{\"data\":1}x",
            b"\xff",
            b"{\"data\":1,\"data\":2}",
        ] {
            assert_eq!(
                parse(body).unwrap_err().status.as_u16(),
                400,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let body = format!(
            "{{\"data\":{}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(one(&body).is_ok());
    }
}
