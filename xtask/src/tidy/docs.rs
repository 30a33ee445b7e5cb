//! The documents say what is there: the code map, the links, the changelog.

use std::collections::BTreeSet;

use super::Problem;
use super::tree::Tree;
use crate::workspace::Workspace;

/// Compares what the documents name with the files.
pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Problem> {
    let names: Vec<_> = workspace
        .crates
        .iter()
        .map(|k| (k.name.as_str(), k.dir.as_str()))
        .collect();
    let mut problems = code_map(tree, &names);
    problems.extend(links(tree));
    problems.extend(changelog(tree));
    problems
}

/// Each crate and each top-level module must be named in the map, in backticks or in a drawing;
/// each path to a Rust file that the map names must exist.
fn code_map(tree: &Tree, crates: &[(&str, &str)]) -> Vec<Problem> {
    let Some(map) = tree.get(CODE_MAP) else {
        return Vec::new(); // Nothing is claimed yet, so nothing is wrong.
    };
    let code = code_in_markdown(map);
    let in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let named: BTreeSet<&str> = code
        .iter()
        .flat_map(|(_, text)| text.split(|c| !in_name(c)))
        .collect();
    let mut problems = Vec::new();
    for (name, dir) in crates {
        if !named.contains(name) {
            problems.push(Problem::in_file(
                CODE_MAP,
                format!("does not name the crate `{name}`"),
            ));
        }
        for module in top_level_modules(tree, dir) {
            if !named.contains(module) {
                let what = format!("does not name the module `{module}` of `{name}`");
                problems.push(Problem::in_file(CODE_MAP, what));
            }
        }
    }
    for (line, text) in &code {
        let is_path = |word: &&str| word.contains('/') && word.ends_with(".rs");
        let in_path = |c: char| in_name(c) || c == '/' || c == '.';
        for path in text.split(|c| !in_path(c)).filter(is_path) {
            if !tree.has(path.trim_start_matches("./")) {
                problems.push(Problem::in_line(
                    CODE_MAP,
                    *line,
                    format!("`{path}` is not there"),
                ));
            }
        }
    }
    problems
}

/// The names of the files and folders right below `src`, save the crate's own roots.
fn top_level_modules<'a>(tree: &'a Tree, dir: &str) -> BTreeSet<&'a str> {
    let src = format!("{dir}/src/");
    let below = tree
        .ending(&[".rs"])
        .filter_map(move |(path, _)| path.strip_prefix(&src));
    let first = below.filter_map(|path| path.split('/').next());
    first
        .map(|name| name.trim_end_matches(".rs"))
        .filter(|name| !["lib", "main", "bin"].contains(name))
        .collect()
}

/// The code of a Markdown text: fenced blocks line by line, and what stands in backticks.
fn code_in_markdown(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push((number + 1, line));
        } else {
            code.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(|span| (number + 1, span)),
            );
        }
    }
    code
}

/// Every link of a document to a file of the project must lead to one.
fn links(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(&[".md"]) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in link_targets(line) {
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = file.is_empty() || file.contains(':');
                if !elsewhere && !resolve(folder, file).is_some_and(|file| tree.has(&file)) {
                    let what = format!("the link to `{target}` leads nowhere");
                    problems.push(Problem::in_line(path, number + 1, what));
                }
            }
        }
    }
    problems
}

/// What stands in the round brackets of `[text](target)`, outside of backticks.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    // A link whose text is code is cut before its `](`, which then begins the next piece.
    let prose = line.split('`').step_by(2);
    let targets = prose.flat_map(|piece| piece.split("](").skip(1));
    targets.filter_map(|rest| rest.split([')', ' ']).next())
}

/// `file` as seen from `folder`, as a path from the root; `None` when it leaves the project.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The changelog is there and has a place for what the next version brings.
fn changelog(tree: &Tree) -> Option<Problem> {
    match tree.get(CHANGELOG) {
        None => Some(Problem::in_file(CHANGELOG, "missing")),
        Some(text)
            if !text.lines().any(|line| {
                line.starts_with("## ") && line.to_lowercase().contains("unreleased")
            }) =>
        {
            Some(Problem::in_file(
                CHANGELOG,
                "has no section `## Unreleased`",
            ))
        }
        Some(_) => None,
    }
}

const CODE_MAP: &str = "ARCHITECTURE.md";
const CHANGELOG: &str = "CHANGELOG.md";

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_code_map_names_every_crate_and_module_or_is_not_there() {
        let files = [
            ("pool/src/lib.rs", ""),
            ("pool/src/window.rs", ""),
            ("pool/src/topics/a.rs", ""),
        ];
        let crates = [("sse-pool", "pool")];
        assert_eq!(code_map(&Tree::of(&files), &crates), []);

        let with_map = |map| Tree::of(&[&files[..], &[(CODE_MAP, map)]].concat());
        let whole = with_map("`sse-pool` has:\n```text\nwindow  topics/\n```\n");
        assert_eq!(code_map(&whole, &crates), []);

        let prose = with_map("sse-pool has a `window` and topics.\n");
        assert_eq!(
            lines(&code_map(&prose, &crates)),
            [
                "ARCHITECTURE.md: does not name the crate `sse-pool`",
                "ARCHITECTURE.md: does not name the module `topics` of `sse-pool`",
            ]
        );
    }

    #[test]
    fn a_path_in_the_code_map_exists() {
        let tree = Tree::of(&[
            (CODE_MAP, "`a`: `a/src/lib.rs` and\n`a/src/gone.rs`\n"),
            ("a/src/lib.rs", ""),
        ]);
        let problems = code_map(&tree, &[("a", "a")]);
        assert_eq!(
            lines(&problems),
            ["ARCHITECTURE.md:2: `a/src/gone.rs` is not there"]
        );
    }

    #[test]
    fn a_link_to_a_missing_file_is_a_problem_and_other_links_are_not() {
        let text = "[a](../a.md), [b](#b), [c](https://example.org/c), [`d`](d.md#part)\n\
                    [e](e.md) and `[f](f.md)`\n```\n[g](g.md)\n```\n[up](../../up.md)\n";
        let tree = Tree::of(&[("docs/x.md", text), ("a.md", ""), ("docs/d.md", "")]);
        assert_eq!(
            lines(&links(&tree)),
            [
                "docs/x.md:2: the link to `e.md` leads nowhere",
                "docs/x.md:6: the link to `../../up.md` leads nowhere",
            ]
        );
    }

    #[test]
    fn the_target_of_a_link_with_code_as_text_is_found() {
        assert_eq!(
            link_targets("[`a`](a.md) [b](b.md \"t\")").collect::<Vec<_>>(),
            ["a.md", "b.md"]
        );
    }

    #[test]
    fn the_changelog_has_a_place_for_what_comes_next() {
        assert!(changelog(&Tree::of(&[])).is_some());
        assert!(changelog(&Tree::of(&[(CHANGELOG, "# Changelog\n\n## 0.1.0\n")])).is_some());
        assert!(changelog(&Tree::of(&[(CHANGELOG, "## [Unreleased]\n")])).is_none());
    }
}
