//! Topics: the names of where events go.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::record::allocated_bytes;

/// The name of a place that events are published to and read from.
///
/// A topic is 1 to [`Topic::MAX_BYTES`] bytes of text without control characters, and never `*`,
/// which means "every topic" where topics are selected. Two topics are equal when their bytes are;
/// nothing is normalised. Cloning shares the text.
///
/// Session, user, project, job and connection are topics by convention: `session/…`, `user/…`,
/// `project/…`, `job/…`, `connection/…`.
///
/// ```
/// # use sse_broker::Topic;
/// assert_eq!(Topic::new("job/42").unwrap().as_str(), "job/42");
/// assert!(Topic::new("two\nlines").is_err());
/// assert!(Topic::new("*").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest topic, in bytes. A stated guess: long enough for a URL.
    pub const MAX_BYTES: usize = 1024;

    /// Checks `name` and makes a topic of it.
    ///
    /// # Errors
    ///
    /// When `name` is empty, too long, `*`, or holds a control character.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidTopic> {
        let name = name.into();
        if name.is_empty() {
            return Err(InvalidTopic::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidTopic::TooLong { bytes: name.len() });
        }
        if &*name == "*" {
            return Err(InvalidTopic::Star);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidTopic::ControlCharacter);
        }
        Ok(Self(name))
    }

    /// The topic's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic's text, shared.
    #[must_use]
    pub fn as_arc(&self) -> &Arc<str> {
        &self.0
    }

    /// What its text takes in memory, once for all of its clones.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        allocated_bytes(2 * size_of::<usize>() + self.0.len())
    }

    /// Takes an equal text for its own, so that both are held once; another one changes nothing.
    pub fn share_text(&mut self, text: &Arc<str>) {
        if self.0 == *text {
            self.0 = Arc::clone(text);
        }
    }

    /// What follows `prefix/`, when the topic begins so: the `42` of `job/42`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Option<&str> {
        self.0.strip_prefix(prefix)?.strip_prefix('/')
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`Topic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// It is empty.
    #[error("a topic must not be empty")]
    Empty,
    /// It is longer than [`Topic::MAX_BYTES`].
    #[error("a topic may have {max} bytes at most, this one has {bytes}", max = Topic::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is `*`.
    #[error("`*` selects every topic and cannot be one")]
    Star,
    /// It holds a control character, such as a line break.
    #[error("a topic must not hold control characters")]
    ControlCharacter,
}
