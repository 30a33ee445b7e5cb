//! What no source file holds: `unsafe`, unfinished code, and too many lines.

use super::Problem;
use super::tree::Tree;

/// Looks at the code proper: comments and strings may say what they like.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(&[".rs"]) {
        for (number, line) in without_comments_and_strings(text).lines().enumerate() {
            for (found, why) in NEVER {
                if contains_token(line, found) {
                    problems.push(Problem::in_line(
                        path,
                        number + 1,
                        format!("`{found}`: {why}"),
                    ));
                }
            }
        }
    }
    problems.extend(long_files(tree, LONG_FILES));
    problems
}

fn long_files(tree: &Tree, allowed: &[(&str, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(&[".rs", ".js", ".mjs", ".ts", ".tsx", ".css"]) {
        let lines = text.lines().count();
        if lines > MAX_LINES && !allowed.iter().any(|(file, _)| *file == path) {
            let what = format!("{lines} lines, over {MAX_LINES}: two ideas are two files");
            problems.push(Problem::in_file(path, what));
        }
    }
    for (path, _) in allowed {
        if tree
            .get(path)
            .is_none_or(|text| text.lines().count() <= MAX_LINES)
        {
            problems.push(Problem::in_file(
                path,
                "allowed to be long, and no longer is",
            ));
        }
    }
    problems
}

/// Whether `token` stands in `line` by itself, not as a part of a longer name.
fn contains_token(line: &str, token: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(token).any(|(at, _)| {
        let begins = !line[..at].ends_with(in_name);
        let ends = !token.ends_with(in_name) || !line[at + token.len()..].starts_with(in_name);
        begins && ends
    })
}

/// `source` with comments and the contents of strings replaced by spaces; lines stay lines.
///
/// A small scanner and no parser: it knows just enough of Rust to tell code from text.
pub(super) fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let in_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let text_len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_len(rest),
            '"' => string_len(rest),
            'r' | 'b' | 'c' if !in_name => prefixed_string_len(rest),
            '\'' => char_literal_len(rest),
            _ => 0,
        };
        if text_len == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(
                rest[..text_len]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[text_len..];
        }
    }
    code
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a literal such as `r#"…"#`, `b"…"` or `br"…"`, zero when `text` begins otherwise.
fn prefixed_string_len(text: &str) -> usize {
    let prefix = text.len() - text.trim_start_matches(['r', 'b', 'c']).len();
    let is_raw = text[..prefix].contains('r');
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    let body = prefix + hashes;
    if prefix > 2 || !text[body..].starts_with('"') || (hashes > 0 && !is_raw) {
        return 0;
    }
    if !is_raw {
        return body + string_len(&text[body..]);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    text[body + 1..]
        .find(&end)
        .map_or(text.len(), |at| body + 1 + at + end.len())
}

/// The length of the character literal that `text` begins with, zero when it is a lifetime.
fn char_literal_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next(); // the escaped character, which may be a quote
            chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => chars
            .next()
            .filter(|(_, c)| *c == '\'')
            .map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// What code never holds, and why.
const NEVER: [(&str, &str); 4] = [
    ("unsafe", "no measurement has asked for it yet"),
    ("todo!", "what is not done is not committed"),
    ("unimplemented!", "what is not done is not committed"),
    ("dbg!", "use tracing, or nothing"),
];

/// Longer than this, a file is no longer read from top to bottom.
const MAX_LINES: usize = 700;

/// Files that may be longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(source: &str) -> Vec<usize> {
        check(&Tree::of(&[("a.rs", source)]))
            .into_iter()
            .filter_map(|p| p.line)
            .collect()
    }

    #[test]
    fn a_forbidden_word_is_found_in_code_and_only_there() {
        assert_eq!(problems("fn a() {}\nunsafe fn b() {}\n"), [2]);
        assert!(problems("// unsafe\n/* dbg!(1) /* nested */ todo!() */\n").is_empty());
        assert!(problems("const A: &str = \"unsafe \\\" dbg!\";\n").is_empty());
        assert_eq!(
            problems("const A: &str = r#\"a \" unsafe\"#; dbg!(A);\n"),
            [1]
        );
        assert!(
            problems("const A: &[u8] = b\"unsafe\"; const B: &[u8] = br\"unsafe\";\n").is_empty()
        );
    }

    #[test]
    fn a_longer_name_is_not_the_word() {
        assert!(problems("#![forbid(unsafe_code)]\n").is_empty());
        assert!(problems("fn not_unsafe() {}\n").is_empty());
        assert!(problems("my_dbg!(1);\n").is_empty());
    }

    #[test]
    fn a_quote_character_does_not_begin_a_string() {
        assert_eq!(problems("let a = '\"'; todo!();\n"), [1]);
        assert_eq!(problems("let a = '\\''; todo!(); let b = '\\\\';\n"), [1]);
        assert_eq!(problems("fn a<'a>(b: &'a str) { dbg!(b) }\n"), [1]);
        assert_eq!(problems("let a = b'\"'; todo!();\n"), [1]);
    }

    #[test]
    fn lines_are_counted_through_text_that_spans_them() {
        assert_eq!(
            problems("/* one\ntwo */\nlet a = \"three\nfour\";\ndbg!(a);\n"),
            [5]
        );
    }

    #[test]
    fn source_that_ends_in_the_middle_of_a_literal_is_still_read() {
        for source in ["\"", "'", "'\\", "/*", "r#\"", "b", "/* é"] {
            assert!(problems(source).is_empty(), "{source}");
        }
    }

    #[test]
    fn a_long_file_is_a_problem_unless_it_is_allowed() {
        let long = "x\n".repeat(MAX_LINES + 1);
        let tree = Tree::of(&[("a.rs", &long), ("b.rs", "x\n"), ("c.md", &long)]);
        let paths = |allowed| {
            let problems = long_files(&tree, allowed);
            problems
                .into_iter()
                .map(|problem| problem.path)
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(&[]), ["a.rs"]);
        assert!(paths(&[("a.rs", "a reason")]).is_empty());
        assert_eq!(
            paths(&[("a.rs", "a reason"), ("b.rs", "an old reason")]),
            ["b.rs"]
        );
    }
}
