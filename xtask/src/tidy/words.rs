//! No text speaks of one machine, and dependencies come from the default registry alone.

use super::Problem;
use super::tree::Tree;

/// Looks through every text file, documentation and data included.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.iter() {
        for (number, line) in text.lines().enumerate() {
            let line = if is_lock_file(path) {
                without_default_registry(line)
            } else {
                line
            };
            for (word, why) in FORBIDDEN {
                if line.contains(word) {
                    problems.push(Problem::in_line(
                        path,
                        number + 1,
                        format!("`{word}`: {why}"),
                    ));
                }
            }
            if is_lock_file(path) && line.starts_with("source = ") {
                let what = format!("{line}: not the default registry");
                problems.push(Problem::in_line(path, number + 1, what));
            }
        }
    }
    problems
}

/// The workspace's own lock file, or that of a package apart from it.
fn is_lock_file(path: &str) -> bool {
    path == "Cargo.lock" || path.ends_with("/Cargo.lock")
}

/// An empty line in place of the one that every lock file has for a package of the registry.
fn without_default_registry(line: &str) -> &str {
    if line
        == concat!(
            "source = \"registry+https://github.com/rust-lang/crates.io",
            "-index\""
        )
    {
        ""
    } else {
        line
    }
}

/// Written in two parts each, so that this file does not hold what it forbids.
const FORBIDDEN: [(&str, &str); 7] = [
    (concat!("/wo", "rk/"), MACHINE),
    (concat!("/tmp/", "target-"), MACHINE),
    (concat!("/root/", ".cargo"), MACHINE),
    (concat!("/ho", "me/"), MACHINE),
    (concat!("../", "shared"), MACHINE),
    (concat!("crates.io", "-index"), REGISTRY),
    (concat!("index.", "crates.io"), REGISTRY),
];

const MACHINE: &str = "a path of one machine";
const REGISTRY: &str = "the default registry needs no naming";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_in_any_text() {
        let text = format!("# Title\n\nSee {}main.\n", FORBIDDEN[0].0);
        let problems = check(&Tree::of(&[("docs/a.md", &text)]));
        assert_eq!(problems.len(), 1);
        assert_eq!(
            (problems[0].path.as_str(), problems[0].line),
            ("docs/a.md", Some(3))
        );
    }

    #[test]
    fn the_lock_file_may_name_the_default_registry_and_no_other_source() {
        let registry = format!("registry+https://github.com/rust-lang/{}", FORBIDDEN[5].0);
        let lock = format!("source = \"{registry}\"\nsource = \"git+https://example.org/a\"\n");
        for path in ["Cargo.lock", "fuzz/Cargo.lock"] {
            let problems = check(&Tree::of(&[(path, &lock)]));
            let lines: Vec<_> = problems.iter().map(|p| p.line).collect();
            assert_eq!(lines, [Some(2)], "{path}");
        }
    }
}
