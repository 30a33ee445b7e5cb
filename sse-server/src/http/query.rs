//! The query of a request.

use std::str::FromStr;
use std::time::Duration;

use super::problem::Problem;
use super::publication::check_event_type;
use crate::hub::Interest;
use crate::units::{Quoted, Span};

/// Names and values, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// When it has more parameters than any request needs: those behind them would not be looked at.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let pairs = query.unwrap_or_default().split('&');
        let mut read = Vec::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            if read.len() == MAX_PARAMETERS {
                return Err(Problem::bad_request(format!(
                    "the query has more than {MAX_PARAMETERS} parameters"
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| decode(&text.replace('+', " "));
            let name = decoded(name).map_err(|problem| {
                Problem::bad_request(format!("the name of a query parameter {problem}"))
            })?;
            let value = match decoded(value) {
                Ok(value) => value,
                // Nobody reads it.
                Err(_) if is_extra(&name) => String::new(),
                Err(problem) => return Err(Problem::bad_field(name, problem)),
            };
            read.push((name, value));
        }
        let query = Self(read);
        query.check_repeated()?;
        Ok(query)
    }

    /// Refuses different values for what can have one: a proxy in front, or the next version, may look at the other one.
    fn check_repeated(&self) -> Result<(), Problem> {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let before = self.0[..at].iter().find(|(known, _)| known == name);
            let is_other = before.is_some_and(|(_, first)| first != value);
            if is_other && !REPEATED_PARAMETERS.contains(&&**name) && !is_extra(name) {
                return Err(Problem::bad_field(
                    &**name,
                    "is given more than once, with different values",
                ));
            }
        }
        Ok(())
    }

    /// Refuses parameters that nobody knows: a mistyped `topic` must not read everything. What pages and their libraries add
    /// by themselves is left alone.
    pub(super) fn check_names(&self, known: &[&str]) -> Result<(), Problem> {
        let is_unknown = |name: &&str| !known.contains(name) && !is_extra(name);
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        let Some(name) = names.find(is_unknown) else {
            return Ok(());
        };
        let hint = match closest(name, known) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("there are {}", known.join(", ")),
        };
        Err(Problem::bad_field(
            name,
            format!("no such parameter; {hint}"),
        ))
    }

    /// The first value of a name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named
            .map(|(_, value)| value.as_str())
            .find(|value| !value.is_empty())
    }

    /// Whether a name was given without a value.
    pub(super) fn is_left_empty(&self, name: &str) -> bool {
        self.all(name).any(str::is_empty)
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
            .map_err(|_| Problem::bad_field(name, format!("{} is not {expected}", Quoted(text))))
    }

    /// A duration in seconds, `max` at most.
    pub(super) fn seconds(&self, name: &str, max: Duration) -> Result<Duration, Problem> {
        let expected = format!(
            "a number of seconds; write 0 to {seconds}",
            seconds = max.as_secs()
        );
        let span: Option<Span> = self.read(name, &expected)?;
        Ok(span.map_or(Duration::ZERO, |span| span.0.min(max)))
    }

    /// What a reader wants: `topic` and `topic_exact`, however often, `project_id`, and the event types in `subscribe` or
    /// `event_types`, separated by commas.
    pub(super) fn interest(&self) -> Result<Interest, Problem> {
        let named = |name| {
            let values = self.all(name).filter(|topic| !topic.is_empty());
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut interest = Interest {
            topics: named("topic"),
            exact_topics: named("topic_exact"),
            event_types: self.event_types()?,
        };
        if let Some(project) = self.get("project_id") {
            interest.exact_topics.push(format!("project/{project}"));
        }
        // Whoever names an audience gets it or an error: an empty name must not read everything.
        for name in ["topic", "topic_exact", "project_id"] {
            if self.all(name).any(str::is_empty) {
                return Err(Problem::bad_field(name, "must not be empty"));
            }
        }
        Ok(interest)
    }

    fn event_types(&self) -> Result<Option<Vec<String>>, Problem> {
        let mut types = Vec::new();
        for name in ["subscribe", "event_types"] {
            let values = self
                .all(name)
                .flat_map(|value| value.split(','))
                .map(str::trim);
            for event_type in values.filter(|value| !value.is_empty() && *value != "*") {
                check_event_type(name, event_type)?;
                types.push(event_type.to_owned());
            }
        }
        Ok(if types.is_empty() { None } else { Some(types) })
    }

    /// From where a reader goes on, as the page's author or a polyfill wrote it.
    pub(super) fn last_event_id(&self) -> Option<&str> {
        LAST_EVENT_ID.iter().find_map(|name| self.get(name))
    }
}

/// Text as it was before it was percent-encoded, or what is wrong with it: what was replaced would be other text than the
/// client's.
pub(super) fn decode(text: &str) -> Result<String, &'static str> {
    let is_digit = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let mut signs = text.match_indices('%');
    if !signs.all(|(at, _)| is_digit(bytes.get(at + 1)) && is_digit(bytes.get(at + 2))) {
        return Err(
            "has a % that two hexadecimal digits do not follow; write %25 for the character itself",
        );
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "is not UTF-8 once it is percent-decoded")?;
    Ok(decoded.into_owned())
}

/// Whether it is what pages and their libraries add by themselves.
fn is_extra(name: &str) -> bool {
    EXTRA_PARAMETERS.contains(&name)
        || EXTRA_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !LAST_EVENT_ID.contains(&name)
}

/// The known name that a mistyped one is most like.
fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    // The distance is at least that of the lengths. Measuring takes memory of both lengths, multiplied.
    let alike = known
        .iter()
        .filter(|known| known.len().abs_diff(name.len()) <= MAX_TYPOS * 4);
    let closest = alike.min_by_key(|known| distance(known))?;
    (distance(closest) <= MAX_TYPOS.min(closest.len() / 2)).then_some(*closest)
}

/// What every request may say of its caller, and what a reader may say it wants.
pub(super) const READER_PARAMETERS: [&str; 13] = [
    "topic",
    "topic_exact",
    "subscribe",
    "event_types",
    "project_id",
    "last_event_id",
    "lastEventId",
    "evs_last_event_id",
    "lastEventID",
    "session_id",
    "user_id",
    "ticket",
    "show",
];
/// The names under which pages and polyfills send the last id.
const LAST_EVENT_ID: [&str; 4] = [
    "last_event_id",
    "lastEventId",
    "lastEventID",
    "evs_last_event_id",
];
/// Parameters that may have several values. All others may be repeated, but with the same one.
const REPEATED_PARAMETERS: [&str; 4] = ["topic", "topic_exact", "subscribe", "event_types"];
/// What caches and polyfills are kept busy with.
const EXTRA_PARAMETERS: [&str; 2] = ["_", "r"];
/// And what marketing tools and polyfills add.
const EXTRA_PREFIXES: [&str; 2] = ["utm_", "evs_"];
/// So many letters may be wrong for a suggestion.
const MAX_TYPOS: usize = 2;
/// More parameters than any request needs.
const MAX_PARAMETERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_parameter_is_refused_with_a_suggestion_and_what_pages_add_is_not() {
        let check = |text: &str| {
            Query::parse(Some(text))
                .unwrap()
                .check_names(&READER_PARAMETERS)
        };
        for (text, hint) in [
            ("topics=a", "did you mean topic?"),
            ("topc=a", "did you mean topic?"),
            ("subscibe=a", "did you mean subscribe?"),
            ("Topic=a", "did you mean topic?"),
            ("channel=a", "there are topic, topic_exact"),
        ] {
            let problem = check(text).unwrap_err();
            assert!(problem.detail.contains(hint), "{text}: {}", problem.detail);
        }
        for text in [
            "topic=a&_=17&utm_source=x&evs_preamble=2048&r=1&lastEventId=3",
            "",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_stands_behind_too_many_parameters_is_not_passed_over() {
        let text = "_=1&".repeat(MAX_PARAMETERS) + "topic=private-room";
        assert!(Query::parse(Some(&text)).is_err());
        assert!(Query::parse(Some(&"_=1&".repeat(MAX_PARAMETERS))).is_ok());
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_and_not_replaced() {
        for (text, field) in [
            ("topic=%ff", Some("topic")),
            ("topic=%zz", Some("topic")),
            ("topic=100%", Some("topic")),
            ("a=1&last_event_id=%e9", Some("last_event_id")),
            ("%ff=1", None),
            ("%=1", None),
        ] {
            let problem = Query::parse(Some(text)).err().unwrap();
            assert_eq!(problem.field.as_deref(), field, "{text}");
        }
        let query = Query::parse(Some("topic=gr%C3%B6%C3%9Fe+x%2By%25&utm_campaign=100%")).unwrap();
        assert_eq!(query.get("topic"), Some("größe x+y%"));
    }

    #[test]
    fn two_values_are_refused_where_there_can_be_one() {
        for text in [
            "durable=a&durable=b",
            "user_id=a&user_id=b",
            "session_id=a&topic=t&session_id=",
            "last_event_id=1&last_event_id=2",
            "wait=1&wait=2",
            "evs_last_event_id=1&evs_last_event_id=2",
        ] {
            assert!(Query::parse(Some(text)).is_err(), "{text}");
        }
        for text in ["durable=a&durable=a", "topic=a&topic=b", "_=1&_=2", "a&&b"] {
            assert!(Query::parse(Some(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_empty_topic_does_not_mean_every_topic() {
        for text in ["topic=", "topic=a&topic=", "topic_exact=", "project_id="] {
            let query = Query::parse(Some(text)).unwrap();
            assert!(query.interest().is_err(), "{text}");
        }
    }
}
