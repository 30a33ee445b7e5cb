//! The recipes of `docs/security.md`: what the page shows is what [`logins`](crate::logins) runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/security.md");

/// Where the files are that the page shows.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes")
}

/// A file that the page shows.
pub(crate) fn text(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A part of the page in a fence.
struct Block<'a> {
    /// The heading that it stands under.
    heading: &'a str,
    /// What stands behind the fence: a language, and the file that it is.
    info: Vec<&'a str>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut heading = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            heading = line;
        } else if let Some(info) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(Block {
                heading,
                info: info.split(' ').collect(),
                text: inside.flat_map(|line| [line, "\n"]).collect(),
            });
        }
    }
    blocks
}

#[test]
fn what_the_page_shows_is_what_is_run() {
    let mut shown = BTreeSet::new();
    for block in blocks(PAGE) {
        match block.info[..] {
            [_, file] => {
                let name = file.strip_prefix("recipes/").expect("a file of ours");
                assert_eq!(block.text, text(name), "{name} is another one on the page");
                shown.insert(name.to_owned());
            }
            ["text"] => {}
            _ => assert_eq!(block.heading, NOT_RUN, "nothing runs {}", block.text),
        }
    }
    let files = folder().read_dir().unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        shown,
        files.collect(),
        "the page shows every file, and no other"
    );
}

/// The part of the page whose code nothing runs, and which says so.
const NOT_RUN: &str = "## Others, not executed by our tests";
