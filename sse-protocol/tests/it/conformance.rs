//! The language-neutral cases in `conformance/`, which its README describes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sse_protocol::naive::{self, Item};
use sse_protocol::{
    Decoder, Event, EventId, EventType, Excess, LimitExceeded, Limits, Retry, encoder,
    is_event_stream,
};

use crate::support::{decode, feed};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance")
}

/// Every case of every file, with a label for messages.
fn cases(section: &str) -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder()).expect("the conformance folder is there") {
        let path = entry.expect("a readable entry").path();
        if path.extension().is_some_and(|ext| ext == "json") {
            let file: Value = serde_json::from_slice(&fs::read(&path).expect("a readable file"))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for case in file[section].as_array().into_iter().flatten() {
                let name = case["name"].as_str().expect("a case has a name");
                let stem = path.file_stem().expect("a name").to_string_lossy();
                cases.push((format!("{stem}/{name}"), case.clone()));
            }
        }
    }
    assert!(!cases.is_empty(), "no {section} cases found");
    cases
}

fn bytes(connection: &Value) -> Vec<u8> {
    if let Some(text) = connection["text"].as_str() {
        text.as_bytes().to_vec()
    } else if let Some(text) = connection["latin1"].as_str() {
        text.chars()
            .map(|c| u8::try_from(c).expect("latin1 holds bytes"))
            .collect()
    } else {
        let name = connection["file"].as_str().expect("text, latin1 or file");
        fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

fn expected(connection: &Value, limits: Limits) -> Vec<Item> {
    let text = |item: &Value, key: &str| {
        item[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} in {item}"))
            .to_owned()
    };
    let mut items = Vec::new();
    for item in connection["expect"].as_array().expect("expect is a list") {
        items.push(if item.get("data").is_some() {
            Item::Event {
                event_type: text(item, "type"),
                data: text(item, "data"),
                last_event_id: text(item, "last_event_id"),
                retry: None,
            }
        } else if item.get("comment").is_some() {
            Item::Comment(text(item, "comment"))
        } else if let Some(millis) = item.get("retry") {
            Item::Retry(millis.as_u64().expect("retry is a whole number"))
        } else {
            Item::Dropped(match text(item, "dropped").as_str() {
                "line" => LimitExceeded::Line {
                    limit_bytes: limits.max_line_bytes(),
                },
                "event" => LimitExceeded::Event {
                    limit_bytes: limits.max_event_bytes(),
                },
                other => panic!("unknown limit {other}"),
            })
        });
    }
    items
}

/// The cases do not say which block a `retry` stood in; an event's own is left to other tests.
fn without_own_retry(mut items: Vec<Item>) -> Vec<Item> {
    for item in &mut items {
        if let Item::Event { retry, .. } = item {
            *retry = None;
        }
    }
    items
}

fn limits(case: &Value) -> Limits {
    let mut limits = Limits::new();
    let given = &case["limits"];
    if let Some(bytes) = given["max_line_bytes"].as_u64() {
        limits = limits.with_max_line_bytes(bytes as usize);
    }
    if let Some(bytes) = given["max_event_bytes"].as_u64() {
        limits = limits.with_max_event_bytes(bytes as usize);
    }
    match given["excess"].as_str() {
        None | Some("drop") => limits,
        Some("fail") => limits.with_excess(Excess::Fail),
        Some(other) => panic!("unknown excess {other}"),
    }
}

/// The cuttings under which a stream must mean the same: whole, byte by byte, with empty chunks, at the case's own
/// cuts, at every single place, and in small even chunks. Miri, which takes a thousand times as long, sees two of them.
fn cuttings(connection: &Value, len: usize) -> Vec<Vec<usize>> {
    if cfg!(miri) {
        return match len {
            0..MIRI_MAX_BYTES => vec![vec![], vec![7; len / 7]],
            _ => vec![vec![]],
        };
    }
    let mut all = vec![vec![], vec![1; len], [0, 1].repeat(len)];
    if let Some(cuts) = connection["cuts"].as_array() {
        let mut before = 0;
        let offsets = cuts
            .iter()
            .map(|cut| cut.as_u64().expect("a cut is an offset") as usize);
        all.push(
            offsets
                .map(|cut| cut - std::mem::replace(&mut before, cut))
                .collect(),
        );
    }
    let step = (len / 500).max(1);
    all.extend((0..len).step_by(step).map(|cut| vec![cut]));
    all.extend((2..20).map(|size| vec![size; len / size]));
    all
}

/// Longer streams are read whole under Miri.
const MIRI_MAX_BYTES: usize = 8 << 10;

#[test]
fn every_stream_means_what_its_case_says() {
    for (label, case) in cases("decode") {
        let connections = case["connections"]
            .as_array()
            .expect("connections is a list");
        let mut decoder = Decoder::with_limits(limits(&case));
        if let Some(seed) = case["last_event_id"].as_str() {
            decoder.set_last_event_id(&seed.try_into().unwrap());
        }
        for connection in connections {
            let stream = bytes(connection);
            let expected = expected(connection, limits(&case));
            let after = &connection["after"];
            decoder.reset();
            let start = decoder.clone();
            for cutting in cuttings(connection, stream.len()) {
                decoder = start.clone();
                let items = without_own_retry(decode(&mut decoder, &stream, &cutting));
                assert_eq!(items, expected, "{label}, cut {cutting:?}");
                assert_eq!(
                    decoder.last_event_id(),
                    after["last_event_id"].as_str().unwrap(),
                    "{label}"
                );
                assert_eq!(
                    decoder.retry().map(Retry::as_millis),
                    after["retry"].as_u64(),
                    "{label}"
                );
            }
            if limits(&case).excess() == Excess::Drop {
                let seed = start.last_event_id().to_owned();
                let (items, last) = naive::decode(&stream, limits(&case), seed);
                assert_eq!(without_own_retry(items), expected, "{label}, the oracle");
                assert_eq!(last, decoder.last_event_id(), "{label}, the oracle");
            }
        }
    }
}

#[test]
fn an_event_is_delivered_with_the_byte_that_ends_it() {
    for (label, case) in cases("decode") {
        for connection in case["connections"].as_array().unwrap() {
            let Some(prompt) = connection["delivered_after"].as_array() else {
                continue;
            };
            let mut decoder = Decoder::with_limits(limits(&case));
            let mut at = Vec::new();
            for (offset, byte) in bytes(connection).iter().enumerate() {
                let mut items = Vec::new();
                feed(&mut decoder, std::slice::from_ref(byte), &mut items);
                at.extend(items.iter().map(|_| offset as u64 + 1));
            }
            let prompt: Vec<u64> = prompt.iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(at, prompt, "{label}");
        }
    }
}

#[test]
fn every_event_is_written_as_its_case_says() {
    for (label, case) in cases("encode") {
        let text = |key: &str| case[key].as_str();
        let id = text("id").map(EventId::new).transpose();
        let event_type = text("type").map(EventType::new).transpose();
        if case["refused"] == true {
            assert!(id.is_err() || event_type.is_err(), "{label}");
            continue;
        }
        let (id, event_type) = (id.expect(&label), event_type.expect(&label));
        let mut out = Vec::new();
        let retry = case["retry"].as_u64().map(Retry::from_millis);
        match (text("comment"), text("data")) {
            (Some(comment), _) => encoder::comment(comment, &mut out),
            (None, Some(data)) => {
                let event = Event {
                    id,
                    event_type,
                    data: data.into(),
                    retry,
                };
                encoder::event(event.as_event_ref(), &mut out);
            }
            (None, None) => match (id, retry) {
                (Some(id), None) => encoder::id(&id, &mut out),
                (None, Some(retry)) => encoder::retry(retry, &mut out),
                _ => panic!("{label}: a block without data is an id or a retry"),
            },
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            text("writes").expect("writes"),
            "{label}"
        );
    }
}

#[test]
fn every_content_type_is_taken_or_refused_as_its_case_says() {
    for (label, case) in cases("content_type") {
        let value = case["value"].as_str().expect("value");
        assert_eq!(
            Value::from(is_event_stream(value)),
            case["event_stream"],
            "{label}"
        );
    }
}

#[test]
fn every_rule_of_the_format_has_a_case() {
    let mut missing: BTreeSet<u64> = (1..=22).chain(45..=48).chain([28]).collect();
    for section in ["decode", "encode", "content_type"] {
        for (label, case) in cases(section) {
            let rules = case["rules"]
                .as_array()
                .unwrap_or_else(|| panic!("{label} names its rules"));
            for rule in rules {
                missing.remove(&rule.as_u64().expect("a rule is a number"));
            }
        }
    }
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn no_two_cases_share_a_name() {
    let mut seen = BTreeSet::new();
    for section in ["decode", "encode", "content_type"] {
        for (label, _) in cases(section) {
            assert!(seen.insert(label.clone()), "{label} stands twice");
        }
    }
}
