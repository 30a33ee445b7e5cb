//! The messages of a client: what stands in them.

use serde_json::Value;

use crate::http::problem::Problem;
use crate::http::publication::{self, Fields};
use crate::hub::Interest;

/// The type of a message and its other fields; `reference` becomes its `ref`, as soon as that is known.
pub(super) fn parse<'a>(
    message: &'a [u8],
    reference: &mut Value,
) -> Result<(String, Fields<'a>), Problem> {
    let mut fields: Fields<'a> = serde_json::from_slice(message).map_err(|error| {
        Problem::bad_request(format!("a message must be a JSON object: {error}"))
    })?;
    let mut take = |name: &str| {
        let at = fields.0.iter().position(|(known, _)| known == name)?;
        Some(fields.0.remove(at).1)
    };
    let (given, kind) = (take("ref"), take("type"));
    if let Some(given) = given {
        if given.get().len() > MAX_REF_BYTES {
            return Err(Problem::bad_field(
                "ref",
                format!("may have {MAX_REF_BYTES} bytes at most"),
            ));
        }
        *reference = serde_json::from_str(given.get()).unwrap_or(Value::Null);
    }
    let kind = kind.and_then(|kind| serde_json::from_str(kind.get()).ok());
    let kind = kind.ok_or_else(|| {
        Problem::bad_field("type", "is missing: subscribe, unsubscribe, ack or publish")
    })?;
    Ok((kind, fields))
}

/// What a `subscribe` or `unsubscribe` names.
pub(super) fn interest(fields: &Fields<'_>) -> Result<Interest, Problem> {
    const KNOWN: [&str; 5] = ["topic", "topics", "topic_exact", "event_types", "subscribe"];
    if let Some((name, _)) = fields.0.iter().find(|(name, _)| !KNOWN.contains(&&**name)) {
        let known = KNOWN.join(", ");
        return Err(Problem::bad_field(
            &**name,
            format!("no such field; there are {known}"),
        ));
    }
    let mut names = Vec::with_capacity(KNOWN.len());
    for name in KNOWN {
        names.push(names_in(fields, name)?);
    }
    let [topic, topics, topic_exact, event_types, subscribe] = names
        .try_into()
        .map_err(|_| Problem::bad_request("a message must name topics or event types"))?;
    let types = [event_types, subscribe]
        .into_iter()
        .flatten()
        .flatten()
        .collect::<Vec<_>>();
    for name in &types {
        publication::check_event_type("event_types", name)?;
    }
    let interest = Interest {
        topics: [topic, topics].into_iter().flatten().flatten().collect(),
        exact_topics: topic_exact.unwrap_or_default(),
        event_types: (!types.is_empty()).then_some(types),
    };
    if interest == Interest::default() {
        return Err(Problem::bad_field(
            "topics",
            "is missing: name topics or event_types",
        ));
    }
    Ok(interest)
}

/// The name or the names in a field.
fn names_in(fields: &Fields<'_>, name: &str) -> Result<Option<Vec<String>>, Problem> {
    let is_list = |raw: &str| raw.starts_with('[');
    match fields.0.iter().find(|(known, _)| known == name) {
        Some((_, raw)) if is_list(raw.get()) => field(fields, name),
        Some(_) => Ok(field(fields, name)?.map(|one: String| vec![one])),
        None => Ok(None),
    }
}

pub(super) fn field<T: serde::de::DeserializeOwned>(
    fields: &Fields<'_>,
    name: &str,
) -> Result<Option<T>, Problem> {
    let Some((_, raw)) = fields.0.iter().find(|(known, _)| known == name) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| {
        Problem::bad_field(
            name,
            "must be text, or an array of texts where several are possible",
        )
    })
}

/// As long as a `ref` may be. A stated guess: a UUID, with room.
const MAX_REF_BYTES: usize = 256;
