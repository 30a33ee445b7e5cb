//! Each crate says what it is and under which licence, and takes the workspace's lints and versions.

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
    let own_versions = tree.get(&manifest).map(own_versions).unwrap_or_default();
    problems.extend(own_versions.into_iter().map(|(line, name)| {
        let what = format!(
            "`{name}` has not `workspace = true`; its version belongs into the root's [workspace.dependencies]"
        );
        Problem::in_line(&manifest, line, what)
    }));
    problems
}

/// The dependencies of a manifest that are not taken from the workspace's table, and their lines.
fn own_versions(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut section = Section::Other;
    for (number, line) in manifest.lines().enumerate() {
        let number = number + 1;
        if let Some(header) = line.trim().strip_prefix('[') {
            found.extend(section.end());
            section = Section::of(header.trim_end_matches(']'), number);
            continue;
        }
        let entry = line.split('#').next().unwrap_or(line).replace(' ', "");
        match &mut section {
            Section::Other => {}
            // A value's further lines are indented, or close it.
            Section::Dependencies => {
                let Some((key, value)) = entry.split_once('=') else {
                    continue;
                };
                let name = key.split('.').next().unwrap_or(key).to_owned();
                let is_taken = (key.ends_with(".workspace") && value == "true")
                    || value.starts_with("{workspace=true")
                    || value.contains(",workspace=true")
                    // Itself, with more features for its tests: it has no version before it is published.
                    || value.starts_with("{path=\".\"");
                if !is_taken && !line.starts_with([' ', '\t']) {
                    found.push((number, name));
                }
            }
            Section::One { is_taken, .. } => *is_taken |= entry == "workspace=true",
        }
    }
    found.extend(section.end());
    found
}

/// What a part of a manifest says of dependencies.
enum Section {
    Other,
    /// `[dependencies]`, `[target.'…'.dev-dependencies]` and their like: one a line.
    Dependencies,
    /// `[dependencies.name]`: one alone.
    One {
        name: String,
        line: usize,
        is_taken: bool,
    },
}

impl Section {
    fn of(header: &str, line: usize) -> Self {
        let is_kind = |part: &str| part == "dependencies" || part.ends_with("-dependencies");
        match header.rsplit_once('.') {
            _ if header.starts_with("workspace") => Self::Other,
            None if is_kind(header) => Self::Dependencies,
            Some((_, last)) if is_kind(last) => Self::Dependencies,
            Some((before, name)) if is_kind(before.rsplit('.').next().unwrap_or(before)) => {
                Self::One {
                    name: name.to_owned(),
                    line,
                    is_taken: false,
                }
            }
            _ => Self::Other,
        }
    }

    fn end(self) -> Option<(usize, String)> {
        match self {
            Self::One {
                name,
                line,
                is_taken: false,
            } => Some((line, name)),
            _ => None,
        }
    }
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
    fn a_version_of_its_own_is_a_problem_however_it_is_written() {
        let names = |manifest: &str| {
            let names = own_versions(manifest).into_iter();
            names.map(|(_, name)| name).collect::<Vec<_>>()
        };
        let taken = "[package]\nname = \"a\"\n[dependencies]\nb = { workspace = true }\nc.workspace = true\n\
                     d = { optional = true, workspace = true }\n# why\n\
                     e = { workspace = true, features = [\n    \"x\",\n] }\n\
                     [target.'cfg(unix)'.dev-dependencies]\nf = { workspace = true } # unix\n\
                     [build-dependencies.g]\nfeatures = []\nworkspace = true\n[features]\nh = [\"dep:b\"]\n[dev-dependencies]\na = { path = \".\" }\n";
        assert_eq!(names(taken), [""; 0]);
        let own = "[dependencies]\nb = \"1\"\nc = { version = \"1\", features = [\"workspace\"] }\n\
                   d = { path = \"../d\" }\n[target.'cfg(unix)'.dependencies]\ne = \"1\" # workspace = true\n\
                   [dev-dependencies.f]\nversion = \"1\"\n";
        assert_eq!(names(own), ["b", "c", "d", "e", "f"]);
        assert_eq!(own_versions(own)[0].0, 2);
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
