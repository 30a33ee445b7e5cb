//! What the hub can say to a reader, and the bytes it says it in.
//!
//! A session decides what is said and when; here stands how. Everything is a `Message`, and a [`Format`] writes it: as
//! an event stream (`sse`) or as WebSocket messages (`websocket`). A further protocol is a further file.

mod about;
mod sse;
mod websocket;

pub(crate) use about::About;

use std::borrow::Cow;

use serde::Serialize;
use sse_broker::{DataKind, Gap, Position, RecordRef, UnixMillis};
use sse_compress::MessageCompressor;
use sse_protocol::Retry;

use crate::json_member::member;

/// How a reader's events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Format {
    /// What the connection speaks.
    pub protocol: Protocol,
    /// Job events carry the names `job_progress`, `job_complete`, `job_error`, `job_status`.
    pub job_names: bool,
    /// Data over the threshold comes in the gzip and base64 envelope.
    pub compressed: bool,
    /// Each event of an event stream is preceded by a comment that tells its topics.
    pub shows_topics: bool,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `text/event-stream`, as the HTML standard has it.
    #[default]
    EventStream,
    /// One JSON text message for each event. In a chunk of a stream each message is a line; an empty line is a ping.
    WebSocket,
}

/// How a heartbeat is written on an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HeartbeatForm {
    /// An event `ping`, which pages can listen for
    Event,
    /// A comment, which pages do not notice
    Comment,
}

/// Everything that a reader can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    /// The first words.
    Greeting(&'a Greeting<'a>),
    /// Something may have been missed; told at this time.
    Gap(&'a Gap, UnixMillis),
    /// A record of the log.
    Event(&'a RecordRef<'a>),
    /// How the work on a topic stands, for a reader that has just come.
    State(State<'a>),
    /// The line is alive.
    Heartbeat(HeartbeatForm),
    /// The last words: when to come back.
    Farewell(Retry),
    /// The last words to a reader that is sent away, or not taken in.
    Unavailable(&'a Unavailable<'a>),
}

/// What the `unavailable` event says: what another client would get as a status.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Unavailable<'a> {
    pub(crate) status: u16,
    pub(crate) title: &'a str,
    pub(crate) detail: &'a str,
    /// The reason as one word, for programs.
    pub(crate) code: &'a str,
    /// When to come back.
    #[serde(skip)]
    pub(crate) retry: Option<Retry>,
}

/// What the `connected` event says, and where the stream begins.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Greeting<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) message: &'static str,
    /// The event types; none means all.
    pub(crate) subscriptions: &'a [String],
    /// The topics; none means all that are public.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) topics: &'a [String],
    /// Whether the stream goes on where the reader left off.
    pub(crate) resumed: bool,
    /// Whether something may have been missed; the `gap` event that follows says what.
    pub(crate) gap: bool,
    /// Whose stream it is, where its reader has shown that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// The named subscription that it reads under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durable: Option<GreetingSubscription<'a>>,
    pub(crate) timestamp: String,
    /// A cursor from the first byte on: a reader cut off before its first event resumes here.
    #[serde(skip)]
    pub(crate) at: Position,
    #[serde(skip)]
    pub(crate) retry: Retry,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct GreetingSubscription<'a> {
    pub(crate) name: &'a str,
    /// Whether nothing was known under this name before.
    pub(crate) created: bool,
}

/// The state of a job, as an event of its topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<'a> {
    pub(crate) topic: &'a str,
    pub(crate) event_type: &'a str,
    /// JSON.
    pub(crate) data: &'a str,
}

impl Format {
    /// An event stream without extras.
    pub(crate) const PLAIN: Self = Self {
        protocol: Protocol::EventStream,
        job_names: false,
        compressed: false,
        shows_topics: false,
    };
    /// How many formats there are.
    pub(crate) const COUNT: usize = 16;

    /// The number of this format, below [`COUNT`](Self::COUNT); [`PLAIN`](Self::PLAIN) is 0.
    pub(crate) fn number(self) -> usize {
        let protocol = match self.protocol {
            Protocol::EventStream => 0,
            Protocol::WebSocket => 4,
        };
        protocol
            + usize::from(self.shows_topics) * 8
            + usize::from(self.job_names) * 2
            + usize::from(self.compressed)
    }

    /// Appends a message's bytes to `out`.
    pub(crate) fn write(
        self,
        message: Message<'_>,
        compressor: &MessageCompressor,
        out: &mut Vec<u8>,
    ) {
        match self.protocol {
            Protocol::EventStream => sse::write(self, message, compressor, out),
            Protocol::WebSocket => websocket::write(self, message, compressor, out),
        }
    }

    /// The name that an event of a job has in this format.
    fn event_type<'a>(
        self,
        mut topics: impl Iterator<Item = &'a str>,
        event_type: Option<&'a str>,
    ) -> Option<&'a str> {
        if self.job_names && topics.any(|topic| topic.starts_with("job/")) {
            event_type.map(|name| {
                JOB_NAMES
                    .iter()
                    .find(|it| it.0 == name)
                    .map_or(name, |it| it.1)
            })
        } else {
            event_type
        }
    }
}

/// The events of a job, and the longer names for readers that know jobs by them.
const JOB_NAMES: [(&str, &str); 4] = [
    ("progress", "job_progress"),
    ("complete", "job_complete"),
    ("error", "job_error"),
    ("status", "job_status"),
];

/// Whether this is the longer name of an event of a job.
pub(crate) fn is_job_event(name: &str) -> bool {
    JOB_NAMES.iter().any(|(_, long)| *long == name)
}

/// Asked for `job_progress`, a reader means the jobs' `progress`: the short names of the long ones among `types`.
pub(crate) fn short_job_names(types: &[String]) -> Vec<String> {
    let short = JOB_NAMES
        .iter()
        .filter(|(_, long)| types.iter().any(|name| name == long));
    short.map(|(short, _)| (*short).to_owned()).collect()
}

/// The data as readers see it: as it was published, and in a `system` event with the time when that was, unless it has one.
pub(crate) fn shown_data<'a>(record: &RecordRef<'a>) -> Cow<'a, str> {
    let data = record.data;
    if record.event_type != Some("system") || record.data_kind != DataKind::Json {
        return Cow::Borrowed(data);
    }
    let inside = data.trim_end().strip_suffix('}').map(str::trim_end);
    match (inside, member(data, "timestamp")) {
        (Some(inside), Ok(None)) => {
            let comma = if inside.ends_with('{') { "" } else { "," };
            let timestamp = crate::clock::rfc3339(record.published_at);
            Cow::Owned(format!(r#"{inside}{comma}"timestamp":"{timestamp}"}}"#))
        }
        _ => Cow::Borrowed(data),
    }
}

/// The id that readers see of a record: its publisher's, or the position.
fn public_id<'a>(record: &RecordRef<'a>, position: &'a str) -> &'a str {
    record.id.unwrap_or(position)
}

/// What a `gap` event says.
#[derive(Serialize)]
struct GapJson {
    from: Option<String>,
    to: String,
    until: String,
    reason: &'static str,
    timestamp: String,
}

impl GapJson {
    fn new(gap: &Gap, at: UnixMillis) -> Self {
        Self {
            from: gap.from.map(|position| position.to_string()),
            to: gap.to.to_string(),
            until: gap.until.to_string(),
            reason: gap.reason.as_str(),
            timestamp: crate::clock::rfc3339(at),
        }
    }
}

/// A stream that says nothing but why there is none.
pub(crate) fn unavailable(unavailable: &Unavailable<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    sse::unavailable(unavailable, &mut bytes);
    bytes
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and booleans are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_number_of_its_own() {
        let mut seen = [false; Format::COUNT];
        for protocol in [Protocol::EventStream, Protocol::WebSocket] {
            for bits in 0..8 {
                let format = Format {
                    protocol,
                    job_names: bits & 1 > 0,
                    compressed: bits & 2 > 0,
                    shows_topics: bits & 4 > 0,
                };
                assert!(!std::mem::replace(&mut seen[format.number()], true));
            }
        }
        assert_eq!(Format::PLAIN.number(), 0);
        assert_eq!(Format::default(), Format::PLAIN);
    }
}
