//! Each crate says what it is and under which licence, and takes the workspace's lints.

use super::Problem;
use super::tree::Tree;
use crate::workspace::{Crate, Workspace};

/// Compares the crates with what every one of them must have.
pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Problem> {
    let mut problems: Vec<_> = workspace
        .crates
        .iter()
        .flat_map(|krate| check_crate(tree, krate))
        .collect();
    match tree.lock_is_tracked {
        Some(false) => problems.push(Problem::in_file("Cargo.lock", "not committed")),
        None if tree.get("Cargo.lock").is_none() => {
            problems.push(Problem::in_file("Cargo.lock", "missing"));
        }
        _ => {}
    }
    problems
}

fn check_crate(tree: &Tree, krate: &Crate) -> Vec<Problem> {
    let manifest = format!("{}/Cargo.toml", krate.dir);
    let mut problems = Vec::new();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            problems.push(Problem::in_file(&manifest, what));
        }
    };
    require(krate.description.is_some(), "no `description`");
    require(krate.license.is_some(), "no `license`");
    require(
        krate.has_readme || has_module_docs(tree, krate),
        "neither a README nor module docs",
    );
    require(
        tree.get(&manifest).is_none_or(takes_workspace_lints),
        "no `[lints] workspace = true`, without which `unsafe` is not forbidden",
    );
    problems
}

/// Whether the library, or without one a binary, begins with `//!`.
fn has_module_docs(tree: &Tree, krate: &Crate) -> bool {
    let roots = krate
        .targets
        .iter()
        .filter(|t| ["lib", "bin"].contains(&t.kind.as_str()));
    let mut roots = roots.filter_map(|target| tree.get(&target.file));
    roots.any(|text| text.trim_start().starts_with("//!"))
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1);
    lines
        .find(|line| !line.is_empty())
        .is_some_and(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    fn a_crate() -> Crate {
        Crate {
            name: "a".to_owned(),
            dir: "a".to_owned(),
            description: Some("what it is".to_owned()),
            license: Some("MIT".to_owned()),
            has_readme: false,
            features: Vec::new(),
            targets: vec![Target {
                name: "a".to_owned(),
                kind: "lib".to_owned(),
                file: "a/src/lib.rs".to_owned(),
            }],
        }
    }

    const MANIFEST: &str = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";

    #[test]
    fn a_crate_that_says_all_it_must_has_no_problem() {
        let tree = Tree::of(&[("a/Cargo.toml", MANIFEST), ("a/src/lib.rs", "//! A.\n")]);
        assert_eq!(check_crate(&tree, &a_crate()), []);
    }

    #[test]
    fn each_thing_that_is_missing_is_one_problem() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[package]\n"),
            ("a/src/lib.rs", "fn a() {}\n"),
        ]);
        let silent = Crate {
            description: None,
            license: None,
            ..a_crate()
        };
        assert_eq!(check_crate(&tree, &silent).len(), 4);
        let with_readme = Crate {
            has_readme: true,
            ..silent
        };
        assert_eq!(check_crate(&tree, &with_readme).len(), 3);
    }

    #[test]
    fn a_lock_file_that_git_does_not_know_is_a_problem() {
        let workspace = Workspace {
            root: "".into(),
            target_dir: "".into(),
            crates: Vec::new(),
        };
        let mut tree = Tree::of(&[("Cargo.lock", "")]);
        assert_eq!(check(&tree, &workspace), []);
        tree.lock_is_tracked = Some(false);
        assert_eq!(check(&tree, &workspace).len(), 1);
        tree.lock_is_tracked = None;
        assert_eq!(check(&tree, &workspace), []);
    }
}
