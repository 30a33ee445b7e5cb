use proptest::prelude::*;

use super::*;

#[test]
fn patterns_mean_topics() {
    for (pattern, meant, not_meant) in [
        ("*", &["anything", "a/b"][..], &[][..]),
        (
            "job/*",
            &["job/42", "job/42/log", "job/"],
            &["jobs/42", "job"],
        ),
        ("job/**", &["job", "job/42/log"], &["jobs"]),
        ("*/log", &["job/log", "/log", "a/b/log"], &["log", "a/logs"]),
        (
            "room/:id/chat",
            &["room/7/chat"],
            &["room/7/8/chat", "room//chat", "room/7"],
        ),
        (
            "books/:id?",
            &["books", "books/1"],
            &["books/", "books/1/2"],
        ),
        (
            "books/{:id}?",
            &["books/", "books/1"],
            &["books", "books/1/2"],
        ),
        (
            "files/:path+",
            &["files/a", "files/a/b"],
            &["files", "files/", "files/a//b"],
        ),
        (
            "files/:path*",
            &["files", "files/a/b"],
            &["files/", "filesa"],
        ),
        ("a{b}?c", &["ac", "abc"], &["abbc", "a"]),
        ("log{-:day}?.txt", &["log.txt", "log-1.txt"], &["log1.txt"]),
        (":major.:minor", &["1.2", "1.2.3"], &["1", "1.", "1/.2"]),
        ("v{:major}", &["v1"], &["v", "v1/"]),
        ("user-:id", &["user-7"], &["user-", "user-7/"]),
        ("urn:uuid:*", &["urn:uuid:1"], &["urn:oid:1"]),
        ("Foo::bar*", &["Foo::bar"], &["Foo:x"]),
        ("a\\*\\{b\\}\\:c\\(", &["a*{b}:c("], &["aa{b}:c("]),
        ("phone/+49*", &["phone/+491"], &["phone/49"]),
        ("grüße/:ü/x", &["grüße/é/x"], &["grüße//x"]),
        (":a{:b}", &["xy", "éé"], &["x", "é"]),
        (
            "https://example.com/books/*",
            &["https://example.com/books/1?x=1"],
            &["https://evil.example/books/1", "https://example.com/books"],
        ),
        (
            "http://localhost:8080/:id",
            &["http://localhost:8080/1"],
            &["http://localhost:80/1"],
        ),
        ("http://]*", &["http://]x"], &["http://x"]),
    ] {
        assert!(is_pattern(pattern), "{pattern}");
        let compiled = Pattern::new(pattern).unwrap();
        for topic in meant {
            assert!(compiled.is_match(topic), "{pattern} {topic}");
        }
        for topic in not_meant {
            assert!(!compiled.is_match(topic), "{pattern} {topic}");
        }
    }
}

#[test]
fn plain_topics_are_no_patterns() {
    for topic in [
        "job/42",
        "https://example.com:8080/x",
        "urn:uuid:1234",
        "a:b",
        "Foo::bar",
        "a\\b?+",
    ] {
        assert!(!is_pattern(topic), "{topic}");
    }
}

#[test]
fn what_is_not_a_pattern_is_refused_and_the_reason_says_what_to_write() {
    for (text, reason) in [
        ("room/(\\d+)", "write `:name` for one segment"),
        ("{(a)}", "write `:name` for one segment"),
        ("{", "write `\\{`"),
        ("{a*", "write `\\{`"),
        ("a}*", "write `\\}`"),
        ("{a{b}}", "a group stands in a group"),
        ("{*:a}", "more than one wildcard"),
        ("{ab}+", "write `/:name+`"),
        ("{:a-}*", "write `/:name+`"),
        ("*\\", "write `\\\\`"),
        (&"a*".repeat(33), "more than 32 wildcards"),
        (&"a".repeat(1_025), "more than 1024 bytes"),
    ] {
        let error = Pattern::new(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_prefix_and_the_suffix_end_where_something_may_differ() {
    for (text, prefix, suffix) in [
        ("job/*", "job/", ""),
        ("job/:id?", "job", ""),
        ("a\\*b", "a*b", "a*b"),
        ("*x", "", "x"),
        ("a{b}c*", "abc", ""),
        ("*a{b}?", "", ""),
        ("*a{b}?c", "", "c"),
        ("{a}?", "", ""),
        ("{*a}+b", "", "ab"),
    ] {
        let pattern = Pattern::new(text).unwrap();
        assert_eq!(pattern.literal_prefix(), prefix, "{text}");
        let suffix_start = pattern.literals.len() - usize::from(pattern.suffix_len);
        assert_eq!(&pattern.literals[suffix_start..], suffix, "{text}");
    }
}

#[test]
fn the_slowest_pattern_takes_one_pass_for_each_of_its_parts() {
    let topic = "a".repeat(Topic::MAX_BYTES - 1) + "b";
    for text in [
        "*a".repeat(31) + "c*",
        ":a{a}".repeat(16) + "c",
        format!("*{}c*", "a".repeat(1_000)),
        "{*a}?".repeat(16) + "c",
        "{a}?".repeat(30) + "*c*",
    ] {
        let pattern = Pattern::new(&text).unwrap();
        // With a way back this would take years.
        assert!(!pattern.is_match(&topic), "{text}");
    }
}

/// What patterns mean, straight from the grammar: one character after the other, and back where that was wrong.
mod naive {
    #[derive(Clone, Debug)]
    pub(super) enum Token {
        Char(char),
        Any,
        Segment,
        Group(Vec<Token>, Times),
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(super) enum Times {
        Once,
        Maybe,
        Many,
        MaybeMany,
    }

    pub(super) fn is_match(tokens: &[Token], topic: &[char]) -> bool {
        let Some((first, rest)) = tokens.split_first() else {
            return topic.is_empty();
        };
        match first {
            Token::Char(char) => topic.first() == Some(char) && is_match(rest, &topic[1..]),
            Token::Any => (0..=topic.len()).any(|at| is_match(rest, &topic[at..])),
            Token::Segment => {
                let len = topic.iter().position(|c| *c == '/').unwrap_or(topic.len());
                (1..=len).any(|at| is_match(rest, &topic[at..]))
            }
            Token::Group(tokens, times) => {
                let is_left_out = matches!(times, Times::Maybe | Times::MaybeMany);
                if is_left_out && is_match(rest, topic) {
                    return true;
                }
                (0..=topic.len()).any(|at| {
                    is_match(tokens, &topic[..at])
                        && (is_match(rest, &topic[at..])
                            || matches!(times, Times::Many | Times::MaybeMany)
                                && at > 0
                                && is_match(
                                    &[std::slice::from_ref(first), rest].concat(),
                                    &topic[at..],
                                ))
                })
            }
        }
    }

    pub(super) fn write(tokens: &[Token], out: &mut String) {
        for token in tokens {
            match token {
                // Escaped, it is never part of a name, and no `/` of a wildcard.
                Token::Char(char) => out.extend(['\\', *char]),
                Token::Any => out.push_str("{*}"),
                Token::Segment => out.push_str("{:n}"),
                Token::Group(tokens, times) => {
                    out.push('{');
                    for token in tokens {
                        match token {
                            Token::Char(char) => out.extend(['\\', *char]),
                            Token::Any => out.push('*'),
                            Token::Segment => out.push_str(":n"),
                            Token::Group(..) => unreachable!("groups hold no groups"),
                        }
                    }
                    out.push('}');
                    out.push_str(match times {
                        Times::Once => "",
                        Times::Maybe => "?",
                        Times::Many => "+",
                        Times::MaybeMany => "*",
                    });
                }
            }
        }
    }
}

fn any_char() -> impl Strategy<Value = naive::Token> {
    prop::sample::select(&['a', 'b', '/', 'é'][..]).prop_map(naive::Token::Char)
}

fn any_wildcard() -> impl Strategy<Value = naive::Token> {
    prop_oneof![Just(naive::Token::Any), Just(naive::Token::Segment)]
}

fn any_group() -> impl Strategy<Value = naive::Token> {
    use naive::{Times, Token};
    const TIMES: [Times; 4] = [Times::Once, Times::Maybe, Times::Many, Times::MaybeMany];
    let chars = || prop::collection::vec(any_char(), 0..3);
    let with_text = (chars(), prop::option::of(any_wildcard()), chars());
    (with_text, prop::sample::select(&TIMES[..])).prop_map(|((before, wildcard, after), times)| {
        Token::Group(
            before.into_iter().chain(wildcard).chain(after).collect(),
            times,
        )
    })
}

fn any_tokens() -> impl Strategy<Value = Vec<naive::Token>> {
    let token = prop_oneof![4 => any_char(), 2 => any_wildcard(), 2 => any_group()];
    prop::collection::vec(token, 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_means_what_the_naive_matcher_says(tokens in any_tokens(), topics in prop::collection::vec("[ab/é]{0,7}", 8)) {
        let mut text = String::new();
        naive::write(&tokens, &mut text);
        // Some that repeat are refused.
        if let Ok(pattern) = Pattern::new(&text) {
            for topic in &topics {
                let chars: Vec<char> = topic.chars().collect();
                let expected = naive::is_match(&tokens, &chars);
                prop_assert_eq!(pattern.is_match(topic), expected, "{} {}", text, topic);
                if expected {
                    prop_assert!(topic.starts_with(pattern.literal_prefix()));
                }
            }
        } else {
            let repeats = |token: &naive::Token| {
                matches!(token, naive::Token::Group(_, naive::Times::Many | naive::Times::MaybeMany))
            };
            prop_assert!(tokens.iter().any(repeats), "{}", text);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_refused_and_takes_few_bytes(
        text in prop_oneof!["[a:/*{}?+(\\\\é]{0,40}", "\\PC{0,40}", any::<String>()],
        topic in prop_oneof!["[a:/*{}?+(\\\\é]{0,40}", any::<String>()],
    ) {
        let _ = is_pattern(&text);
        if let Ok(pattern) = Pattern::new(&text) {
            let _ = pattern.is_match(&topic);
            let bytes = pattern.text.len() + pattern.literals.len() + size_of_val(&*pattern.parts);
            prop_assert!(bytes <= 6 * text.len());
            if !is_pattern(&text) && !text.contains(['\\', '}']) {
                prop_assert!(pattern.is_match(&text), "a plain text means itself");
            }
        }
    }

    #[test]
    fn an_escaped_topic_means_itself(topic in "\\PC{1,20}", other in "\\PC{1,20}") {
        let text: String = topic.chars().flat_map(|char| ['\\', char]).collect();
        let pattern = Pattern::new(&text).unwrap();
        prop_assert!(pattern.is_match(&topic));
        prop_assert_eq!(pattern.is_match(&other), topic == other);
    }
}

/// The pool asks many patterns in one walk; a few are asked one by one.
#[test]
fn many_patterns_at_once_mean_what_each_alone_does() {
    let texts = [
        "*/x",
        "*/é",
        ":a/x",
        ":a/:b",
        "*",
        "{/:p}?/x",
        "*/:p+",
        ":p+/x",
        "a/**",
        "a/:p*",
        "b{-:n}?/x",
        "*x*",
        "x*",
        "{:a}-{:b}",
        "*/x/*",
        "a/:b/x",
        "a/*/x",
        "a/x",
        "a/:b?",
        "a/{x}?y",
        "é*/x",
        "*é",
        "*/",
        ":a/:b/:c",
        "*:d",
        "a/*",
        "\\*/x",
    ];
    let patterns: Vec<Pattern> = texts
        .iter()
        .map(|text| Pattern::new(text).unwrap())
        .collect();
    let topics = [
        "x",
        "a/x",
        "a/b/x",
        "a/é",
        "é",
        "é/x",
        "éa/x",
        "a",
        "a/",
        "/x",
        "//x",
        "a/b",
        "a/b/c",
        "b/x",
        "b-1/x",
        "b-/x",
        "1-2",
        "-",
        "a-b/x",
        "a/y",
        "a/xy",
        "a/x/b",
        "*/x",
        "",
        "a//x",
        "a/b/c/d/x",
    ];
    for topic in topics {
        for (n, text) in texts.iter().enumerate() {
            // Alone among many that mean nothing here, with the same prefixes.
            let others = ["*/never", "a/*/never", "b*/never", "é*/never", "x*/never"];
            let others = others
                .iter()
                .flat_map(|other| (0..9).map(move |n| format!("{other}{n}")));
            let one = Pattern::new(text).unwrap();
            let set: sse_pool::PatternSet = others
                .map(|other| Pattern::new(&other).unwrap())
                .chain([one])
                .map(|pattern| {
                    std::sync::Arc::new(pattern) as std::sync::Arc<dyn sse_pool::TopicPattern>
                })
                .collect();
            assert_eq!(
                set.matches(topic),
                patterns[n].is_match(topic),
                "{text} {topic}"
            );
        }
    }
}
