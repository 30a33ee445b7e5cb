//! What a reader wants: topics, patterns of topics and event types, checked once.

use std::any::Any;
use std::sync::Arc;

use sse_broker::Topic;
use sse_pool::{Held, Selector, TopicFilter};

use sse_protocol::message::MessageEvent;

use super::{Hub, RESERVED_EVENT_TYPES};
use crate::access::budget::{Account, NoMemory, Permit};
use crate::access::{Caller, Forbidden};
use crate::topic_pattern::{Pattern, is_pattern};
use crate::units::Quoted;

/// What a reader wants, as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interest {
    /// Topics, patterns of topics, or `*`; none here and in [`exact_topics`](Self::exact_topics) means every public topic.
    pub topics: Vec<String>,
    /// Topics whose names are taken as they are, whatever they look like.
    pub exact_topics: Vec<String>,
    /// The event types; `None` for all.
    pub event_types: Option<Vec<String>>,
}

impl Interest {
    /// Whether it says anything of topics.
    pub(crate) fn names_topics(&self) -> bool {
        !self.topics.is_empty() || !self.exact_topics.is_empty()
    }

    /// The same wishes in one form: interests that get the same events are equal in it, in whatever order and form they
    /// were said.
    pub(crate) fn canonical(&self) -> Self {
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names.dedup();
            names
        };
        let types = self.event_types.clone().filter(|types| !types.is_empty());
        let event_types = types.map(sorted);
        if self.topics.iter().any(|topic| topic == "*") {
            return Self {
                event_types,
                ..Self::default()
            };
        }
        let (patterns, names): (Vec<_>, Vec<_>) = self
            .topics
            .iter()
            .cloned()
            .partition(|topic| is_pattern(topic));
        Self {
            topics: sorted(patterns),
            exact_topics: sorted([names, self.exact_topics.clone()].concat()),
            event_types,
        }
    }

    /// What it takes in memory, more or less.
    pub(super) fn bytes(&self) -> usize {
        let types = self.event_types.iter().flatten();
        let names = self.topics.iter().chain(&self.exact_topics).chain(types);
        size_of::<Self>() + names.map(|name| name.len() + NAME_BYTES).sum::<usize>()
    }

    /// The topics and patterns, as they were asked for.
    pub(crate) fn topic_names(&self) -> Vec<&str> {
        let all = self.topics.iter().chain(&self.exact_topics);
        all.map(String::as_str).collect()
    }

    pub(crate) fn all_topics(&self) -> Vec<String> {
        self.topics
            .iter()
            .chain(&self.exact_topics)
            .cloned()
            .collect()
    }
}

/// Why nobody can want that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidInterest {
    /// It is too much.
    #[error("{wanted} topics and event types are wanted, and a connection may have {max}")]
    TooMany {
        /// How many topics and types are named.
        wanted: usize,
        /// How many of them are topics.
        topics: usize,
        /// How many may be.
        max: usize,
    },
    /// There is no memory left for it.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// It is not granted.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The hub takes only certain event types, and this is none of them.
    #[error("no event can have the type `{event_type}` here; allowed are {allowed}")]
    EventTypeNotAllowed {
        /// The type.
        event_type: String,
        /// Those that are.
        allowed: String,
    },
    /// A topic or pattern is not a valid one.
    #[error("{} is not a valid topic: {reason}", Quoted(.topic))]
    Topic {
        /// What was given.
        topic: String,
        /// Whether its name was to be taken as it is.
        is_exact: bool,
        /// What is wrong with it.
        reason: String,
    },
}

impl Hub {
    /// A reader that waits for a type that nobody may publish would wait for ever. The hub's own events need not be allowed.
    fn check_event_types(&self, interest: &Interest) -> Result<(), InvalidInterest> {
        let Some(allowed) = &self.inner.config.allowed_event_types else {
            return Ok(());
        };
        let is_own = |name: &str| {
            RESERVED_EVENT_TYPES.contains(&name)
                || crate::wire::is_job_event(name)
                || MessageEvent::ALL.iter().any(|event| event.as_str() == name)
        };
        let types = interest.event_types.iter().flatten();
        let mut wrong = types.filter(|name| !allowed.contains(*name) && !is_own(name));
        match wrong.next() {
            None => Ok(()),
            Some(event_type) => Err(InvalidInterest::EventTypeNotAllowed {
                event_type: event_type.clone(),
                allowed: allowed
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// What a caller gets of an interest; equal ones of callers that have the same rights share one.
    pub(crate) fn selector(
        &self,
        interest: &Interest,
        caller: &Caller,
    ) -> Result<Arc<Selector>, InvalidInterest> {
        let inner = &self.inner;
        self.check_event_types(interest)?;
        let max = inner.config.max_subscriptions;
        let key = (interest.clone(), caller.visibility().clone());
        inner.selectors.get(key, |(interest, _)| {
            let asked = compile(interest, max)?;
            // Those that are only remembered make room.
            match self.narrowed(&asked, caller) {
                Err(InvalidInterest::NoMemory(_)) => {
                    inner.selectors.forget_unused();
                    self.narrowed(&asked, caller)
                }
                narrowed => narrowed,
            }
        })
    }

    /// What a caller gets of what is asked for. It remembers what that was, so that it can be asked again by other rights, and has
    /// the right to the memory of both; a small one is among what every connection takes.
    pub(super) fn narrowed(
        &self,
        asked: &Selector,
        caller: &Caller,
    ) -> Result<Selector, InvalidInterest> {
        let narrowed = caller.narrow(asked)?;
        let asked = (!caller.grants().is_everything()).then(|| asked.clone());
        let bytes = memory_bytes(&narrowed) + asked.as_ref().map_or(0, memory_bytes);
        let permit = match bytes < SMALL_BYTES {
            true => None,
            false => {
                let budget = &self.inner.budget;
                Some(budget.try_take(Account::Selectors, caller.address(), bytes)?)
            }
        };
        let is_kept = permit.is_some() || asked.is_some();
        let held = is_kept.then(|| {
            Arc::new(Kept {
                asked: asked.map(|asked| asked.topics),
                _permit: permit,
            }) as Arc<dyn Held>
        });
        Ok(Selector { held, ..narrowed })
    }
}

/// What lives as long as a selector.
#[derive(Debug)]
struct Kept {
    /// What was asked for, where rights may have narrowed it.
    asked: Option<TopicFilter>,
    _permit: Option<Permit>,
}

/// What was asked for when a selector was made.
pub(super) fn asked(selector: &Selector) -> Selector {
    let held = selector.held.as_deref().map(|held| held as &dyn Any);
    let kept = held.and_then(|held| held.downcast_ref::<Kept>());
    let asked = kept.and_then(|kept| kept.asked.as_ref());
    Selector {
        topics: asked.unwrap_or(&selector.topics).clone(),
        labels: selector.labels.clone(),
        held: None,
    }
}

/// What a selector takes, more or less: texts, and what surrounds them.
fn memory_bytes(selector: &Selector) -> usize {
    let labels = selector.labels.iter().flat_map(|labels| &**labels);
    let labels = labels.map(|label| label.len() + NAME_BYTES);
    let topics: usize = match &selector.topics {
        TopicFilter::All => 0,
        TopicFilter::Topics { exact, patterns } => {
            let exact = exact.iter().map(|name| name.len() + NAME_BYTES);
            let patterns = patterns
                .iter()
                .map(|pattern| PATTERN_FACTOR * pattern.as_str().len() + NAME_BYTES);
            exact.chain(patterns).sum()
        }
    };
    topics + labels.sum::<usize>()
}

fn compile(interest: &Interest, max: usize) -> Result<Selector, InvalidInterest> {
    let Interest {
        topics,
        exact_topics,
        event_types,
    } = interest;
    let types = event_types.as_deref().unwrap_or_default();
    let wanted = topics.len() + exact_topics.len() + types.len();
    if wanted > max {
        let topics = topics.len() + exact_topics.len();
        return Err(InvalidInterest::TooMany {
            wanted,
            topics,
            max,
        });
    }
    let labels =
        (!types.is_empty()).then(|| types.iter().map(|name| Arc::from(name.as_str())).collect());
    let is_all = topics.is_empty() && exact_topics.is_empty();
    if is_all || topics.iter().any(|topic| topic == "*") {
        return Ok(Selector {
            topics: TopicFilter::All,
            labels,
            held: None,
        });
    }
    let mut exact: Vec<Arc<str>> = Vec::new();
    let mut patterns: Vec<Arc<dyn sse_pool::TopicPattern>> = Vec::new();
    let mut add_exact = |topic: &str, is_exact| -> Result<(), InvalidInterest> {
        let checked = Topic::new(topic).map_err(|error| invalid(topic, is_exact, &error))?;
        if !exact.contains(checked.as_arc()) {
            exact.push(Arc::clone(checked.as_arc()));
        }
        Ok(())
    };
    for topic in topics {
        if is_pattern(topic) {
            let pattern = Pattern::new(topic).map_err(|error| invalid(topic, false, &error))?;
            patterns.push(Arc::new(pattern));
        } else {
            add_exact(topic, false)?;
        }
    }
    for topic in exact_topics {
        add_exact(topic, true)?;
    }
    Ok(Selector {
        topics: TopicFilter::Topics {
            exact: exact.into(),
            patterns: patterns.into(),
        },
        labels,
        held: None,
    })
}

fn invalid(topic: &str, is_exact: bool, reason: &dyn std::fmt::Display) -> InvalidInterest {
    InvalidInterest::Topic {
        topic: topic.to_owned(),
        is_exact,
        reason: reason.to_string(),
    }
}

/// A selector smaller than this needs no permit: it is among what a connection takes.
const SMALL_BYTES: usize = 1024;
/// What a name takes beside its text, in a selector and in the pool's index. A stated guess.
const NAME_BYTES: usize = 192;
/// What a pattern takes for each byte of its text, once it is compiled and stands in the indexes of its reader and of the pool,
/// which keep its text, its literals and its parts.
const PATTERN_FACTOR: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_wishes_have_one_form() {
        let interest = |topics: &[&str], exact: &[&str], types: Option<&[&str]>| {
            let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            Interest {
                topics: texts(topics),
                exact_topics: texts(exact),
                event_types: types.map(texts),
            }
        };
        let is_same = |a: Interest, b: Interest| a.canonical() == b.canonical();
        let some = || interest(&["a", "b/*"], &["c*"], Some(&["x", "y"]));
        for same in [
            interest(&["b/*", "a", "a"], &["c*"], Some(&["y", "x"])),
            interest(&["b/*"], &["c*", "a"], Some(&["x", "y", "y"])),
        ] {
            assert!(is_same(some(), same.clone()), "{same:?}");
        }
        for other in [
            interest(&["a", "b/*", "c*"], &[], Some(&["x", "y"])),
            interest(&["a"], &["b/*", "c*"], Some(&["x", "y"])),
            interest(&["a", "b/*"], &["c*"], Some(&["x"])),
            interest(&["a", "b/*"], &["c*"], None),
        ] {
            assert!(!is_same(some(), other.clone()), "{other:?}");
        }
        let all = || interest(&[], &[], None);
        assert!(is_same(all(), interest(&["a", "*"], &["b"], Some(&[]))));
        assert!(!is_same(all(), interest(&[], &["*"], None)));
    }
}
