//! What a reader's selector means for the log.

use std::sync::Arc;

use sse_broker::{Scope, Topic, TopicPattern};
use sse_pool::TopicFilter;

use super::PRIVATE_PREFIXES;

/// The scope of a reader's pages: its topics where they can be listed, and else what it wants of all.
///
/// `own` are the private topics that the reader is.
pub(crate) fn scope(filter: &TopicFilter, own: Vec<Arc<str>>) -> Scope {
    match filter {
        TopicFilter::Topics { exact, patterns } if patterns.is_empty() => {
            let names = exact.iter().chain(&own);
            let topics = names.filter_map(|name| Topic::new(Arc::clone(name)).ok());
            Scope::Topics(topics.collect())
        }
        filter => Scope::Matching(Arc::new(Selected {
            filter: filter.clone(),
            own,
        })),
    }
}

/// The topics that a reader of patterns, or of all that is public, wants.
#[derive(Debug)]
struct Selected {
    filter: TopicFilter,
    own: Vec<Arc<str>>,
}

impl TopicPattern for Selected {
    fn matches(&self, topic: &str) -> bool {
        if self.own.iter().any(|own| &**own == topic) {
            return true;
        }
        let is_private = |prefix: &&str| {
            let rest = topic.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if PRIVATE_PREFIXES.iter().any(is_private) {
            return false;
        }
        match &self.filter {
            TopicFilter::All => true,
            TopicFilter::Topics { exact, patterns } => {
                exact.iter().any(|name| &**name == topic)
                    || patterns.iter().any(|pattern| pattern.matches(topic))
            }
        }
    }

    fn as_str(&self) -> &str {
        "what a reader selects"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_all_that_is_public_and_what_the_reader_is() {
        let Scope::Matching(all) = scope(&TopicFilter::All, vec!["user/me".into()]) else {
            panic!("all cannot be listed");
        };
        for (topic, is_meant) in [
            ("news", true),
            ("user/me", true),
            ("user/you", false),
            ("session/s", false),
            ("connection/c", false),
            ("users/all", true),
            ("user", true),
        ] {
            assert_eq!(all.matches(topic), is_meant, "{topic}");
        }
    }
}
