//! What is told of an event beside what it says: its topics.

use serde::Serialize;

use crate::access::visibility::PRIVATE_PREFIXES;

/// The topics of an event, and the type for which subscriptions get it where that is another than its own.
///
/// Whose it is stays private: of topics such as `user/ann` only the prefix is shown.
#[derive(Debug, Serialize)]
pub(crate) struct About<'a> {
    topics: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
}

impl<'a> About<'a> {
    pub(crate) fn new(topics: impl Iterator<Item = &'a str>, label: Option<&'a str>) -> Self {
        let mut shown: Vec<&str> = Vec::new();
        for topic in topics {
            let topic = public(topic);
            if !shown.contains(&topic) {
                shown.push(topic);
            }
        }
        Self {
            topics: shown,
            label,
        }
    }
}

/// A topic, or no more than the prefix of one that is somebody's own.
fn public(topic: &str) -> &str {
    let is_own = |prefix: &&str| {
        topic
            .strip_prefix(*prefix)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    match PRIVATE_PREFIXES.iter().find(|prefix| is_own(prefix)) {
        Some(prefix) => &topic[..=prefix.len()],
        None => topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_event_is_is_not_told() {
        let topics = [
            "job/7",
            "user/ann",
            "users",
            "user/bob",
            "session/s",
            "a\nb",
        ];
        let about = About::new(topics.into_iter(), Some("x"));
        assert_eq!(
            serde_json::to_string(&about).unwrap(),
            r#"{"topics":["job/7","user/","users","session/","a\nb"],"label":"x"}"#
        );
    }
}
