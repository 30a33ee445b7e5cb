//! A copy of a log as text: one JSON object a line, for people, `jq`, and `log import`.
//!
//! ```text
//! {"log":{"format":1,"epoch":"253abb824396174e","floor":0,"head":2}}
//! {"event":{"offset":1,"topics":["job/42"],"event":"progress","published_at":1768473000000,"data":"{\"n\":1}"}}
//! {"event":{"offset":2,"topics":["job/42"],"id":"order-7","published_at":1768473001000,"data":"done"}}
//! {"snapshot":{"key":"job/42","text":"{…}"}}
//! {"state":{"key":"durable/mailer","text":"{…}"}}
//! {"removed":{"topic":"job/41","upto":7}}
//! {"end":{"events":2}}
//! ```
//!
//! The first line has `thinned` when rules of topics have taken events from the middle, up to there; `removed` says
//! of which topics readers are to hear it.
//!
//! What is left out of an event is empty, none, false, or normal. `audience` is a list of topics, or `"granted"`. A copy
//! without its last line is cut short.

use serde::{Deserialize, Serialize};
use sse_broker::{
    Audience, Bounds, DataKind, Epoch, NewRecord, Offset, Position, Priority, Record, Topic,
    UnixMillis,
};
use sse_protocol::{Event, EventId, EventType, Retry};

/// A line.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Line {
    /// The first.
    Log(LogLine),
    /// An event.
    Event(Box<EventLine>),
    /// The event that stood here could not be read.
    Damaged(Offset),
    /// What stands beside a topic.
    Snapshot(ValueLine),
    /// What else stands beside the log.
    State(ValueLine),
    /// Up to where the retention of a topic has removed something.
    Removed {
        /// Of which topic.
        topic: String,
        /// Up to here.
        upto: Offset,
    },
    /// The last.
    End {
        /// How many events there were.
        events: u64,
    },
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLine {
    /// The version of these lines.
    pub(super) format: u32,
    epoch: String,
    pub(super) floor: Offset,
    head: Offset,
    /// The newest event that the rule of a topic has taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) thinned: Offset,
}

fn is_zero(offset: &Offset) -> bool {
    *offset == 0
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine {
    pub(super) offset: Offset,
    topics: Vec<String>,
    #[serde(default, skip_serializing_if = "AudienceLine::is_everyone")]
    audience: AudienceLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<PriorityName>,
    published_at: UnixMillis,
    /// What its age counts from, when the clock had jumped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ages_from: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<UnixMillis>,
    /// Whether the data was JSON, and not the content of a string.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    json: bool,
    data: String,
}

/// Who may see an event: those who are these topics, or `"granted"`, those it is granted to.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
enum AudienceLine {
    Owners(Vec<String>),
    Named(AudienceName),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum AudienceName {
    Granted,
}

impl Default for AudienceLine {
    fn default() -> Self {
        Self::Owners(Vec::new())
    }
}

impl AudienceLine {
    fn is_everyone(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum PriorityName {
    Low,
    Normal,
    High,
}

/// Bytes under a name: as text where they are one.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueLine {
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
}

impl LogLine {
    pub(super) fn new(bounds: Bounds, thinned: Offset) -> Self {
        Self {
            thinned,
            format: FORMAT,
            epoch: bounds.epoch.to_string(),
            floor: bounds.floor,
            head: bounds.head,
        }
    }

    /// Which log it was.
    pub(super) fn epoch(&self) -> Result<Epoch, String> {
        // A position's text is the one way an epoch is written.
        format!("{}-0", self.epoch)
            .parse()
            .map(|position: Position| position.epoch)
            .map_err(|_| format!("{:?} is not a valid epoch", self.epoch))
    }
}

impl EventLine {
    pub(super) fn new(record: &Record) -> Self {
        let content = &record.content;
        let names = |topics: &[Topic]| topics.iter().map(ToString::to_string).collect();
        let text = |event_type: &Option<EventType>| {
            event_type.as_ref().map(|text| text.as_str().to_owned())
        };
        Self {
            offset: record.position.offset,
            topics: names(&content.topics),
            audience: match &content.audience {
                Audience::Granted => AudienceLine::Named(AudienceName::Granted),
                audience => AudienceLine::Owners(names(audience.owners())),
            },
            id: content.event.id.as_ref().map(|id| id.as_str().to_owned()),
            event: text(&content.event.event_type),
            label: text(&content.label),
            retry: content.event.retry.map(Retry::as_millis),
            json: content.data_kind == DataKind::Json,
            priority: match content.priority {
                Priority::Low => Some(PriorityName::Low),
                Priority::Normal => None,
                Priority::High => Some(PriorityName::High),
            },
            published_at: content.published_at,
            ages_from: content.ages_from,
            expires_at: content.expires_at,
            data: content.event.data.to_string(),
        }
    }

    pub(super) fn into_record(self) -> Result<NewRecord, String> {
        let topics = |names: Vec<String>| -> Result<Vec<Topic>, String> {
            let topics = names.into_iter().map(|name| {
                Topic::new(name.as_str()).map_err(|error| format!("topic {name:?}: {error}"))
            });
            topics.collect()
        };
        let event_type = |text: Option<String>| {
            text.map(|text| EventType::new(text).map_err(|error| format!("event type: {error}")))
                .transpose()
        };
        let id = self
            .id
            .map(|id| EventId::new(id).map_err(|error| format!("id: {error}")))
            .transpose()?;
        Ok(NewRecord {
            topics: topics(self.topics)?,
            audience: match self.audience {
                AudienceLine::Named(AudienceName::Granted) => Audience::Granted,
                AudienceLine::Owners(names) if names.is_empty() => Audience::Everyone,
                AudienceLine::Owners(names) => Audience::Owners(topics(names)?),
            },
            label: event_type(self.label)?,
            event: Event {
                id,
                event_type: event_type(self.event)?,
                data: self.data.into(),
                retry: self.retry.map(Retry::from_millis),
            },
            data_kind: match self.json {
                true => DataKind::Json,
                false => DataKind::Text,
            },
            priority: match self.priority {
                Some(PriorityName::Low) => Priority::Low,
                Some(PriorityName::Normal) | None => Priority::Normal,
                Some(PriorityName::High) => Priority::High,
            },
            published_at: self.published_at,
            ages_from: self.ages_from,
            expires_at: self.expires_at,
            snapshot: None,
            expects: None,
        })
    }
}

impl ValueLine {
    pub(super) fn new(key: String, value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).ok().map(str::to_owned);
        let bytes = text.is_none().then(|| value.to_owned());
        Self { key, text, bytes }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text
            .map(String::into_bytes)
            .or(self.bytes)
            .unwrap_or_default()
    }
}

/// The version of these lines; the only one so far.
pub(super) const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_about_an_event_is_in_its_line() {
        let mut record = Record {
            position: Position {
                epoch: Epoch(7),
                offset: 3,
            },
            content: NewRecord {
                topics: vec![Topic::new("a").unwrap(), Topic::new("b \" c").unwrap()],
                audience: Audience::Everyone,
                label: Some(EventType::new("label").unwrap()),
                event: Event {
                    id: Some(EventId::new("id").unwrap()),
                    event_type: Some(EventType::new("type").unwrap()),
                    data: "two\nlines \u{1f980}\u{0}".into(),
                    retry: Some(Retry::from_millis(5)),
                },
                data_kind: DataKind::Json,
                priority: Priority::High,
                published_at: 1,
                ages_from: Some(3),
                expires_at: Some(u64::MAX),
                snapshot: None,
                expects: None,
            },
        };
        let audiences = [
            Audience::Owners(vec![Topic::new("user/u").unwrap()]),
            Audience::Everyone,
            Audience::Granted,
        ];
        for audience in audiences {
            record.content.audience = audience;
            let line = Line::Event(Box::new(EventLine::new(&record)));
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'));
            let Line::Event(read) = serde_json::from_str(&text).unwrap() else {
                panic!("not an event: {text}");
            };
            assert_eq!(read.offset, 3);
            assert_eq!(read.into_record().unwrap(), record.content);
        }
    }

    #[test]
    fn values_are_text_where_they_are_one() {
        for value in [&b"{\"a\":1}"[..], &[0xff, 0], b""] {
            let line = ValueLine::new("key".into(), value);
            let text = serde_json::to_string(&line).unwrap();
            let read: ValueLine = serde_json::from_str(&text).unwrap();
            assert_eq!(read.into_bytes(), value, "{text}");
        }
    }

    #[test]
    fn the_first_line_says_which_log_it_was() {
        let bounds = Bounds {
            epoch: Epoch(0xfeed),
            floor: 1,
            head: 2,
        };
        let line = LogLine::new(bounds, 0);
        assert_eq!(line.epoch(), Ok(Epoch(0xfeed)));
        let wrong = LogLine {
            epoch: "x".into(),
            ..line
        };
        assert!(wrong.epoch().is_err());
    }
}
