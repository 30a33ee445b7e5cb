//! The query of a request.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderMap;

use super::problem::Problem;
use super::publication::check_event_type;
use crate::units::Span;

/// Names and values, decoded. Unknown names are left alone: pages add their own.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(
            pairs
                .take(MAX_PARAMETERS)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The first value of a name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named
            .map(|(_, value)| value.as_str())
            .find(|value| !value.is_empty())
    }

    /// Every value of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a name, read as something.
    pub(super) fn read<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Problem::bad_field(name, format!("{text:?} is not {expected}")))
    }

    /// A duration in seconds, `max` at most.
    pub(super) fn seconds(&self, name: &str, max: Duration) -> Result<Duration, Problem> {
        let span: Option<Span> = self.read(name, "a number of seconds")?;
        Ok(span.map_or(Duration::ZERO, |span| span.0.min(max)))
    }

    /// The topics: `topic`, however often, and `project_id`.
    pub(super) fn topics(&self) -> Vec<String> {
        let topics = self
            .all("topic")
            .filter(|topic| !topic.is_empty())
            .map(str::to_owned);
        topics
            .chain(self.get("project_id").map(|id| format!("project/{id}")))
            .collect()
    }

    /// The event types: `subscribe` or `event_types`, separated by commas. None given means all.
    pub(super) fn event_types(&self) -> Result<Option<Vec<String>>, Problem> {
        let mut types = Vec::new();
        for name in ["subscribe", "event_types"] {
            for event_type in self
                .all(name)
                .flat_map(|value| value.split(','))
                .map(str::trim)
            {
                if !event_type.is_empty() && event_type != "*" {
                    check_event_type(name, event_type)?;
                    types.push(event_type.to_owned());
                }
            }
        }
        Ok(if types.is_empty() { None } else { Some(types) })
    }

    /// From where a reader goes on: the header wins over the query.
    pub(super) fn last_event_id<'a>(&'a self, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
        match headers.get("last-event-id").filter(|id| !id.is_empty()) {
            // Bytes that are no UTF-8 were never an id of this hub's; they lead to a gap, not to an error.
            Some(id) => Some(String::from_utf8_lossy(id.as_bytes())),
            None => self.last_event_id_parameter().map(Cow::Borrowed),
        }
    }

    /// The same from the query alone: what the page's author wrote, not what its reader has seen.
    pub(super) fn last_event_id_parameter(&self) -> Option<&str> {
        ["last_event_id", "lastEventId"]
            .iter()
            .find_map(|name| self.get(name))
    }
}

/// More parameters than any request needs.
const MAX_PARAMETERS: usize = 256;
