//! Topics by pattern: the URL Pattern standard, on topics.
//!
//! A topic that is a URL is matched as one; any other is matched as the path below a base, so `job/*`
//! matches `job/42` and `room/:id/chat` matches `room/7/chat`. The engine takes time linear in the topic.

use std::fmt;
use std::sync::LazyLock;

use sse_broker::Topic;
use sse_pool::TopicPattern;
use url::Url;
use urlpattern::{UrlPatternInit, UrlPatternMatchInput, UrlPatternOptions};

/// A pattern of topics.
pub struct UrlPattern {
    text: Box<str>,
    compiled: urlpattern::UrlPattern,
}

/// A text is not a valid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid URL pattern: {0}")]
pub struct InvalidPattern(String);

/// Whether a selected topic is meant as a pattern: it holds `*`, `{`, `(`, or a `:name` that begins
/// a segment.
#[must_use]
pub fn is_pattern(topic: &str) -> bool {
    let names = |segment: &str| {
        segment
            .strip_prefix(':')
            .is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    };
    topic.contains(['*', '{', '(']) || topic.split('/').any(names)
}

impl UrlPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// When the text is longer than a topic may be, or is not a valid URL pattern.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > Topic::MAX_BYTES {
            return Err(InvalidPattern(format!(
                "it has more than {} bytes",
                Topic::MAX_BYTES
            )));
        }
        let invalid = |error: urlpattern::Error| InvalidPattern(error.to_string());
        let init =
            UrlPatternInit::parse_constructor_string::<regex::Regex>(text, Some(BASE.clone()))
                .map_err(invalid)?;
        let compiled =
            urlpattern::UrlPattern::parse(init, UrlPatternOptions::default()).map_err(invalid)?;
        Ok(Self {
            text: text.into(),
            compiled,
        })
    }
}

impl UrlPattern {
    /// Whether it means a topic.
    #[must_use]
    pub fn is_match(&self, topic: &str) -> bool {
        let Ok(url) = BASE.join(topic) else {
            return false;
        };
        self.compiled
            .test(UrlPatternMatchInput::Url(url))
            .unwrap_or(false)
    }
}

impl TopicPattern for UrlPattern {
    fn matches(&self, topic: &str) -> bool {
        self.is_match(topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }
}

/// The log's rules and scopes speak of topics in the same patterns as readers do.
impl sse_broker::TopicPattern for UrlPattern {
    fn matches(&self, topic: &str) -> bool {
        self.is_match(topic)
    }

    fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UrlPattern").field(&self.text).finish()
    }
}

/// What topics that are no URLs are taken to be relative to; a name that no real topic has.
static BASE: LazyLock<Url> =
    LazyLock::new(|| Url::parse("https://topic.invalid/").expect("a valid URL"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_topics_as_paths_and_urls() {
        for (pattern, topic, expected) in [
            ("job/*", "job/42", true),
            ("job/*", "job/42/log", true),
            ("job/*", "jobs/42", false),
            ("room/:id/chat", "room/7/chat", true),
            ("room/:id/chat", "room/7/8/chat", false),
            ("room/(\\d+)", "room/7", true),
            ("room/(\\d+)", "room/x", false),
            (
                "https://example.com/books/:id",
                "https://example.com/books/1",
                true,
            ),
            (
                "https://example.com/books/:id",
                "https://evil.example/books/1",
                false,
            ),
            ("*", "anything", true),
        ] {
            assert!(is_pattern(pattern), "{pattern}");
            assert_eq!(
                UrlPattern::new(pattern).unwrap().is_match(topic),
                expected,
                "{pattern} {topic}"
            );
        }
    }

    #[test]
    fn plain_topics_are_no_patterns() {
        for topic in [
            "job/42",
            "https://example.com:8080/x",
            "urn:uuid:1234",
            "a:b",
        ] {
            assert!(!is_pattern(topic), "{topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["room/(", "{", &"a*".repeat(600)] {
            assert!(UrlPattern::new(text).is_err(), "{text}");
        }
    }
}
