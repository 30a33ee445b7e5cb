//! [`Audience`]: who may see a record.

use crate::Topic;
#[cfg(feature = "disk")]
use crate::encoding::Texts;

/// Who may see a record, among the readers of its topics.
///
/// ```
/// # use sse_broker::{Audience, Topic};
/// let mine = Audience::Owners(vec![Topic::new("user/7").unwrap()]);
/// assert_ne!(mine, Audience::Everyone);
/// assert_eq!(Audience::Owners(Vec::new()), Audience::Everyone);
/// ```
#[derive(Clone, Debug, Default)]
pub enum Audience {
    /// Every reader of one of its topics.
    #[default]
    Everyone,
    /// Readers that *are* each of these topics (`session/…`, `user/…`). With no topic this is
    /// [`Everyone`](Self::Everyone), and comes back as that.
    Owners(Vec<Topic>),
    /// Readers that were granted one of the record's own topics.
    Granted,
}

impl Audience {
    /// The topics that a reader must be; none unless there are [`Owners`](Self::Owners).
    #[must_use]
    pub fn owners(&self) -> &[Topic] {
        match self {
            Self::Owners(owners) => owners,
            Self::Everyone | Self::Granted => &[],
        }
    }

    /// The same, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> AudienceRef<'_> {
        match self {
            Self::Granted => AudienceRef::Granted,
            Self::Owners(owners) if !owners.is_empty() => {
                AudienceRef::Owners(TopicNames::of(owners))
            }
            Self::Owners(_) | Self::Everyone => AudienceRef::Everyone,
        }
    }

    pub(crate) fn is_granted(&self) -> bool {
        matches!(self, Self::Granted)
    }
}

impl PartialEq for Audience {
    fn eq(&self, other: &Self) -> bool {
        self.is_granted() == other.is_granted() && self.owners() == other.owners()
    }
}

impl Eq for Audience {}

/// An [`Audience`] that the log lends: nothing of it is copied or allocated.
#[derive(Clone, Copy, Debug)]
pub enum AudienceRef<'a> {
    /// See [`Audience::Everyone`].
    Everyone,
    /// See [`Audience::Owners`]; one name at least.
    Owners(TopicNames<'a>),
    /// See [`Audience::Granted`].
    Granted,
}

/// The names of topics, as a record has them in memory or on disk.
#[derive(Clone, Copy, Debug)]
pub struct TopicNames<'a>(Names<'a>);

#[derive(Clone, Copy, Debug)]
enum Names<'a> {
    Topics(&'a [Topic]),
    #[cfg(feature = "disk")]
    Texts(Texts<'a>),
}

impl<'a> TopicNames<'a> {
    pub(crate) fn of(topics: &'a [Topic]) -> Self {
        Self(Names::Topics(topics))
    }

    #[cfg(feature = "disk")]
    pub(crate) fn of_texts(texts: Texts<'a>) -> Self {
        Self(Names::Texts(texts))
    }
}

impl<'a> Iterator for TopicNames<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Names::Topics(topics) => {
                let (first, rest) = topics.split_first()?;
                *topics = rest;
                Some(first.as_str())
            }
            #[cfg(feature = "disk")]
            Names::Texts(texts) => texts.next(),
        }
    }
}
