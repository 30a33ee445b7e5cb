//! Any text is a pattern or refused with a reason, and matching ends, without a panic; an escaped topic means itself alone; many
//! patterns that are asked at once mean what each of them does.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sse_pool::{PatternSet, TopicPattern};
use sse_server::{Pattern, is_pattern};

fuzz_target!(|input: (Vec<&str>, &str)| {
    let (texts, topic) = input;
    let mut patterns = Vec::new();
    for text in texts {
        let looks_like_one = is_pattern(text);
        let Ok(pattern) = Pattern::new(text) else {
            continue;
        };
        let is_match = pattern.is_match(topic);
        assert!(!is_match || topic.starts_with(pattern.literal_prefix()));
        let is_plain = !looks_like_one && !text.contains(['\\', '}']);
        assert!(!is_plain || is_match == (text == topic));
        if topic.len() <= 1024 {
            // Of one literal prefix there are enough to be put together.
            let others = (0..8).map(|n| Pattern::new(&format!("{text}\u{10ffff}{n}")));
            let alone = others.filter_map(Result::ok).chain([pattern]);
            let alone: Vec<Arc<dyn TopicPattern>> =
                alone.map(|it| Arc::new(it) as Arc<dyn TopicPattern>).collect();
            let expected = alone.iter().any(|it| it.matches(topic));
            patterns.extend(alone.iter().cloned());
            assert_eq!(PatternSet::from(alone).matches(topic), expected, "{text:?}");
        }
        let escaped: String = topic.chars().flat_map(|char| ['\\', char]).collect();
        if let Ok(pattern) = Pattern::new(&escaped) {
            assert!(pattern.is_match(topic));
            assert_eq!(pattern.is_match(text), text == topic);
        }
    }
    let expected = patterns.iter().any(|it| it.matches(topic));
    assert_eq!(PatternSet::from(patterns).matches(topic), expected);
});
