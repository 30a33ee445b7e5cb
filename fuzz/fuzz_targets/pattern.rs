//! Any text is a pattern or refused with a reason, and matching ends, without a panic; an escaped topic means itself alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sse_server::{Pattern, is_pattern};

fuzz_target!(|input: (&str, &str)| {
    let (text, topic) = input;
    let looks_like_one = is_pattern(text);
    if let Ok(pattern) = Pattern::new(text) {
        let is_match = pattern.is_match(topic);
        assert!(!is_match || topic.starts_with(pattern.literal_prefix()));
        let is_plain = !looks_like_one && !text.contains(['\\', '}']);
        assert!(!is_plain || is_match == (text == topic));
    }
    let escaped: String = topic.chars().flat_map(|char| ['\\', char]).collect();
    if let Ok(pattern) = Pattern::new(&escaped) {
        assert!(pattern.is_match(topic));
        assert_eq!(pattern.is_match(text), text == topic);
    }
});
