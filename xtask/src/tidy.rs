//! What two places must agree on, and no compiler checks.
//!
//! Every check is a function from the files and the crates to a list of [`Problem`]s: it opens
//! nothing itself, so each is tested on a few lines of text. All checks run, and all problems are
//! shown, before the task fails.
//!
//! | file | checks |
//! |---|---|
//! | [`code`] | no `unsafe`, no `todo!`, no `dbg!`; files stay short |
//! | [`crates`] | each crate says what it is, under which licence, and takes the workspace's lints and versions |
//! | [`docs`] | the code map names what is there and nothing else; links lead somewhere; the changelog is open |
//! | [`layers`] | the server's folders use only those below them; one file reads clock and chance |
//! | [`words`] | no text speaks of one machine; dependencies come from the default registry |

mod code;
mod crates;
mod docs;
mod layers;
mod tree;
mod words;

use std::fmt;

use crate::shell::{Failure, Outcome};
use crate::workspace::Workspace;
use tree::Tree;

/// `cargo xtask tidy`
pub(crate) fn run() -> Outcome {
    let workspace = Workspace::load()?;
    let tree = Tree::read(&workspace.root)?;
    let mut problems = code::check(&tree);
    problems.extend(crates::check(&tree, &workspace));
    problems.extend(docs::check(&tree, &workspace));
    problems.extend(layers::check(&tree));
    problems.extend(words::check(&tree));
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new("tidy found 1 problem")),
        count => Err(Failure::new(format!("tidy found {count} problems"))),
    }
}

/// Something to put right, and where.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    /// Counted from one; `None` when the whole file is meant.
    line: Option<usize>,
    what: String,
}

impl Problem {
    fn in_file(path: &str, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            what: what.into(),
        }
    }

    fn in_line(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: Some(line),
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}
