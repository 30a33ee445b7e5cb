//! The folders of the server are layers: each uses only those below it. And one file reads clock and chance.

use super::Problem;
use super::code::without_comments_and_strings;
use super::tree::Tree;

/// Looks at what each file of the server imports and calls, its tests left out.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(&[".rs"]) {
        let Some(inside) = path.strip_prefix(SERVER) else {
            continue;
        };
        let own = inside.split('/').next().unwrap_or_default();
        let own = own.trim_end_matches(".rs");
        let code = without_comments_and_strings(text);
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let mut problem =
                |what: String| problems.push(Problem::in_line(path, number + 1, what));
            for used in used_modules(line) {
                if let (Some(from), Some(to)) = (layer(own), layer(used))
                    && to < from
                {
                    problem(format!("`{own}` uses `{used}`, which is above it"));
                }
            }
            if own != "clock"
                && let Some(found) = OUTSIDE.iter().find(|found| line.contains(**found))
            {
                problem(format!(
                    "`{found}…`: only `clock.rs` reads clock and chance"
                ));
            }
        }
    }
    problems
}

/// The modules of the crate that a line names.
fn used_modules(line: &str) -> impl Iterator<Item = &str> {
    let paths = line.split("crate::").skip(1);
    paths.map(|path| {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
        &path[..end.unwrap_or(path.len())]
    })
}

/// The place of a module, counted from the top; `None` for what is no layer.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

const SERVER: &str = "sse-server/src/";

/// From the top down. Modules in one row do not use each other.
const LAYERS: [&[&str]; 10] = [
    &["cli"],
    &["config"],
    &["serve"],
    &["http"],
    &["dialect"],
    &["session"],
    &["hub"],
    &["wire", "audit"],
    &["access"],
    &["clock", "units", "topic_pattern"],
];

/// How the outside is read.
const OUTSIDE: [&str; 3] = ["Instant::now(", "SystemTime::now(", "fastrand::"];

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[(path, text)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_only_point_down() {
        assert_eq!(
            problems("sse-server/src/http/poll.rs", "use crate::hub::Hub;\n"),
            [""; 0]
        );
        assert_eq!(
            problems(
                "sse-server/src/hub/mod.rs",
                "// crate::http\nuse crate::session::Session;\n"
            ),
            ["sse-server/src/hub/mod.rs:2: `hub` uses `session`, which is above it"]
        );
        assert_eq!(
            problems("sse-pool/src/lib.rs", "use crate::http::A;"),
            [""; 0]
        );
    }

    #[test]
    fn one_file_reads_clock_and_chance() {
        let reads = "let now = Instant::now();\n";
        assert_eq!(problems("sse-server/src/clock.rs", reads), [""; 0]);
        assert_eq!(problems("sse-server/src/session/mod.rs", reads).len(), 1);
        let in_test = format!("#[cfg(test)]\nmod tests {{\n{reads}}}\n");
        assert_eq!(problems("sse-server/src/session/mod.rs", &in_test), [""; 0]);
    }
}
