//! What the audit log says, and how.

use std::net::IpAddr;

use serde::{Serialize, Serializer};
use sse_broker::UnixMillis;

use crate::access::{Caller, CredentialKind};
use crate::clock;

/// Something that happened. Its fields are the lines' own; texts of others are [cut](Cut).
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Fact<'a> {
    /// The hub began to serve.
    Started { version: &'static str, process: u32 },
    /// The hub has ended in order.
    Stopped,
    /// An event was stored, or was there already.
    Published {
        #[serde(flatten)]
        who: Who<'a>,
        topics: Topics<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_type: Option<Cut<'a>>,
        id: Cut<'a>,
        position: String,
        /// The size of its data.
        bytes: usize,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    /// A stream was opened.
    Connected {
        #[serde(flatten)]
        who: Who<'a>,
        connection: String,
        topics: Topics<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_agent: Option<Cut<'a>>,
    },
    /// A stream has ended.
    Disconnected {
        #[serde(flatten)]
        who: Who<'a>,
        connection: String,
        reason: &'static str,
        milliseconds: u64,
    },
    /// A request was refused for what its sender may do, or how much.
    Refused {
        #[serde(flatten)]
        who: Who<'a>,
        method: Cut<'a>,
        path: Cut<'a>,
        status: u16,
        detail: Cut<'a>,
    },
    /// So many more were refused, and not written.
    RefusalsLeftOut { count: u64 },
    /// A request was obeyed that changes what is there: a job, a subscription, a connection, a ticket, a right.
    Done {
        #[serde(flatten)]
        who: Who<'a>,
        action: &'static str,
        method: Cut<'a>,
        path: Cut<'a>,
        status: u16,
        /// What the path does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        what: Option<Cut<'a>>,
    },
    /// The configuration was read again.
    Reloaded {
        changed: Vec<Cut<'a>>,
        needs_restart: Vec<Cut<'a>>,
    },
    /// The file of API tokens has changed: the ids of those that are new, and of those that are not good any more.
    TokensChanged {
        added: Vec<Cut<'a>>,
        revoked: Vec<Cut<'a>>,
    },
    /// So many facts were dropped.
    Dropped { count: u64 },
}

/// Who did it.
#[derive(Debug, Serialize)]
pub(crate) struct Who<'a> {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Cut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Cut<'a>>,
    /// How it has shown who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_id: Option<Cut<'a>>,
}

impl<'a> Who<'a> {
    /// Somebody of whom only the address is known.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self {
            address,
            user: None,
            session: None,
            credential: None,
            credential_id: None,
        }
    }
}

impl<'a> From<&'a Caller> for Who<'a> {
    fn from(caller: &'a Caller) -> Self {
        let credential = caller.credential();
        Self {
            address: caller.address(),
            user: caller.user().map(Cut),
            session: caller.session().map(Cut),
            credential: credential.map(|credential| match credential.kind {
                CredentialKind::Jwt => "jwt",
                CredentialKind::ApiToken => "api_token",
                CredentialKind::Application => "application",
                CredentialKind::Ticket => "ticket",
                CredentialKind::Certificate => "certificate",
            }),
            credential_id: credential.and_then(|it| it.id.as_deref()).map(Cut),
        }
    }
}

/// A text of somebody else's, of which so much is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'a>(pub(crate) &'a str);

impl Serialize for Cut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= MAX_TEXT_BYTES {
            return serializer.serialize_str(self.0);
        }
        let end = self.0.floor_char_boundary(MAX_TEXT_BYTES);
        serializer.collect_str(&format_args!("{}…", &self.0[..end]))
    }
}

/// Topics, of which so many are written.
#[derive(Debug)]
pub(crate) struct Topics<'a>(pub(crate) Vec<&'a str>);

impl Serialize for Topics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let left_out = self.0.len().saturating_sub(MAX_TOPICS);
        let more = (left_out > 0).then(|| format!("… {left_out} more"));
        let some = self.0.iter().copied().take(MAX_TOPICS);
        serializer.collect_seq(some.chain(more.as_deref()).map(Cut))
    }
}

/// A fact as one line.
pub(super) fn line(now: UnixMillis, fact: &Fact<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        #[serde(flatten)]
        fact: &'a Fact<'a>,
    }
    let time = clock::rfc3339(now);
    // There is no map with other keys than texts in it, and nothing else can fail.
    let mut line = serde_json::to_vec(&Line { time, fact }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The longest text and list of others that is written whole.
const MAX_TEXT_BYTES: usize = 256;
const MAX_TOPICS: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn whatever_bytes_a_text_has_a_fact_is_one_line_of_bounded_length() {
        let long = "ä".repeat(10_000);
        for text in ["a", "", "a\nb\r\u{2028}\0\"\\\u{7f}", "\u{1b}[31m", &long] {
            let line = line(
                1_000,
                &Fact::Refused {
                    who: Who::at([127, 0, 0, 1].into()),
                    method: Cut("GET"),
                    path: Cut(text),
                    status: 403,
                    detail: Cut(text),
                },
            );
            let body = line.strip_suffix(b"\n").unwrap();
            assert!(!body.contains(&b'\n') && body.len() < 4096);
            let said: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(said["event"], "refused");
            assert_eq!(said["time"], "1970-01-01T00:00:01Z");
            let path = said["path"].as_str().unwrap();
            assert!(text.starts_with(path.trim_end_matches('…')));
        }
    }

    #[test]
    fn of_many_topics_some_are_named_and_the_others_counted() {
        let many = vec!["t"; 20];
        let said = serde_json::to_value(Topics(many)).unwrap();
        assert_eq!(said.as_array().unwrap().len(), 17);
        assert_eq!(said[16], "… 4 more");
    }
}
