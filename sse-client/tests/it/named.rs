//! The page that names the tests of the rules names no test that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/client-behaviour.md");

/// Every `file::function` of the crate below `folder`, by the name of its file or, for a `mod.rs`, its folder's.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let named = if path.ends_with("mod.rs") {
                folder
            } else {
                &path
            };
            let stem = named.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
            });
            found.extend(names.map(|name| format!("{stem}::{name}")));
        }
    }
}

/// Every `file/case` of the conformance data.
fn cases(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let file: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let lists = file.as_object().unwrap().values();
            let cases = lists.filter_map(serde_json::Value::as_array).flatten();
            found.extend(cases.map(|case| format!("{stem}/{}", case["name"].as_str().unwrap())));
        }
    }
    found
}

#[test]
fn every_test_and_case_on_the_page_of_rules_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    for folder in ["sse-client/src", "sse-client/tests", "sse-protocol/tests"] {
        functions(&root.join(folder), &mut tests);
    }
    let cases = cases(&root.join("conformance"));
    let mut named = (0, 0);
    for word in PAGE.split('`').skip(1).step_by(2) {
        if word.starts_with(|c: char| c.is_lowercase()) && word.contains("::") {
            assert!(tests.contains(word), "there is no test {word}");
            named.0 += 1;
        } else if word.split_once('/').is_some_and(|(file, _)| {
            cases
                .iter()
                .any(|case| case.starts_with(&format!("{file}/")))
        }) {
            assert!(cases.contains(word), "there is no case {word}");
            named.1 += 1;
        }
    }
    assert!(named.0 > 100 && named.1 > 50, "{named:?}");
}
