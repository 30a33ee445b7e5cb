//! The files of the project: those git tracks or would add.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::shell::{Cmd, Failure, Outcome};

/// Every text file of the project, by its path from the root with `/` between the parts.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, String>,
    /// Files that are not UTF-8 text: only their names are known.
    binaries: Vec<String>,
    /// Whether git knows `Cargo.lock`; `None` when this is not a git checkout.
    pub(super) lock_is_tracked: Option<bool>,
}

impl Tree {
    /// Reads the project at `root`. Outside of a git checkout, all that does not look built.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub(super) fn read(root: &Path) -> Outcome<Self> {
        let mut tree = Self::default();
        let paths = match Self::listed_by_git(root) {
            Some((tracked, untracked)) => {
                tree.lock_is_tracked = Some(tracked.iter().any(|path| path == "Cargo.lock"));
                [tracked, untracked].concat()
            }
            None => {
                let mut found = Vec::new();
                walk(root, "", &mut found).map_err(|error| {
                    Failure::new(format!("{} cannot be read: {error}", root.display()))
                })?;
                found
            }
        };
        for path in paths {
            let file = root.join(&path);
            if !file.is_file() {
                continue; // tracked and deleted, or a link to a folder
            }
            let bytes = fs::read(file)
                .map_err(|error| Failure::new(format!("{path} cannot be read: {error}")))?;
            match String::from_utf8(bytes) {
                Ok(text) => drop(tree.files.insert(path, text)),
                Err(_) => tree.binaries.push(path),
            }
        }
        Ok(tree)
    }

    /// The text of the file at `path`.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// All text files, by path.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The text files whose name ends with one of `endings`.
    pub(super) fn ending<'a>(
        &'a self,
        endings: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter()
            .filter(|(path, _)| endings.iter().any(|ending| path.ends_with(ending)))
    }

    /// Whether there is a file at `path`, or a folder with a file in it.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let is_or_holds = |file: &str| {
            file.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.is_empty()
            || self.files.keys().any(|file| is_or_holds(file))
            || self.binaries.iter().any(|file| is_or_holds(file))
    }

    fn listed_by_git(root: &Path) -> Option<(Vec<String>, Vec<String>)> {
        let list = |what: &[&str]| {
            // A checkout that another user owns is still ours to read.
            let trusted = format!("safe.directory={}", root.display());
            let output = Cmd::new("git")
                .args(["-c", &trusted, "ls-files", "-z"])
                .args(what)
                .dir(root)
                .output()
                .ok()?;
            Some(
                output
                    .split_terminator('\0')
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
        };
        Some((
            list(&["--cached"])?,
            list(&["--others", "--exclude-standard"])?,
        ))
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self {
            files: files.collect(),
            binaries: Vec::new(),
            lock_is_tracked: Some(true),
        }
    }
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if !NOT_OURS.contains(&name.as_str()) {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

/// Folders that hold what was built or fetched, for the checkout without git.
const NOT_OURS: [&str; 5] = [".git", "target", "node_modules", "corpus", "artifacts"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_files_are_found_and_what_was_built_is_left_out() {
        let root = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        for (path, text) in [
            ("a/b.rs", "fn b() {}"),
            ("target/c.rs", "built"),
            ("d.md", "# d"),
        ] {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::read(&root).unwrap();
        assert_eq!(
            tree.iter().collect::<Vec<_>>(),
            [("a/b.rs", "fn b() {}"), ("d.md", "# d")]
        );
        assert_eq!(tree.lock_is_tracked, None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_folder_is_there_when_a_file_is_in_it() {
        let tree = Tree::of(&[("sse-pool/src/window.rs", "")]);
        assert!(tree.has("sse-pool/src/window.rs"));
        assert!(tree.has("sse-pool/src/"));
        assert!(tree.has("sse-pool"));
        assert!(!tree.has("sse-po"));
    }
}
