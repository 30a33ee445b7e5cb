//! The crates of this workspace, as cargo knows them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{Cmd, Failure, Outcome};

/// The workspace: where it is, where it is built, and its crates.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target_dir: PathBuf,
    /// The members, in the order of their names.
    pub(crate) crates: Vec<Crate>,
}

/// One member of the workspace.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// The folder of its `Cargo.toml`, relative to the root, with `/` between the parts.
    pub(crate) dir: String,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) has_readme: bool,
    pub(crate) features: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// Something of a crate that is built by itself: its library, a binary, a test, a bench.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Its first file, relative to the root.
    pub(crate) file: String,
}

impl Workspace {
    /// Asks cargo. Reads manifests only: nothing is resolved, fetched or built.
    ///
    /// # Errors
    ///
    /// When cargo cannot read the workspace.
    pub(crate) fn load() -> Outcome<Self> {
        let json = Cmd::cargo(["metadata", "--no-deps", "--format-version=1"]).output()?;
        let json: Value = serde_json::from_str(&json)
            .map_err(|error| Failure::new(format!("cargo metadata is not JSON: {error}")))?;
        Self::from_metadata(&json)
            .ok_or_else(|| Failure::new("cargo metadata has not the form we know"))
    }

    /// The crate called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<&Crate> {
        self.crates.iter().find(|krate| krate.name == name)
    }

    fn from_metadata(json: &Value) -> Option<Self> {
        let root = PathBuf::from(json["workspace_root"].as_str()?);
        let mut crates = json["packages"]
            .as_array()?
            .iter()
            .map(|package| Crate::from_metadata(package, &root))
            .collect::<Option<Vec<_>>>()?;
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self {
            target_dir: PathBuf::from(json["target_directory"].as_str()?),
            root,
            crates,
        })
    }
}

impl Crate {
    /// The names of its targets of one kind, such as `bench` or `test`.
    pub(crate) fn targets_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.targets
            .iter()
            .filter(move |t| t.kind == kind)
            .map(|t| t.name.as_str())
    }

    fn from_metadata(json: &Value, root: &Path) -> Option<Self> {
        let text = |field: &str| json[field].as_str().map(str::to_owned);
        let dir = Path::new(json["manifest_path"].as_str()?).parent()?;
        let targets = json["targets"].as_array()?.iter().map(|target| {
            Some(Target {
                name: target["name"].as_str()?.to_owned(),
                kind: target["kind"][0].as_str()?.to_owned(),
                file: relative(Path::new(target["src_path"].as_str()?), root)?,
            })
        });
        Some(Self {
            name: text("name")?,
            description: text("description"),
            license: text("license").or_else(|| text("license_file")),
            has_readme: dir.join("README.md").is_file(),
            features: json["features"].as_object()?.keys().cloned().collect(),
            targets: targets.collect::<Option<Vec<_>>>()?,
            dir: relative(dir, root)?,
        })
    }
}

fn relative(path: &Path, root: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.components();
    Some(
        parts
            .map(|part| part.as_os_str().to_string_lossy())
            .collect::<Vec<_>>()
            .join("/"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_found_with_its_own_crate_in_it() {
        let workspace = Workspace::load().unwrap();
        let xtask = workspace.find("xtask").unwrap();
        assert_eq!(xtask.dir, "xtask");
        assert_eq!(xtask.targets_of("bin").collect::<Vec<_>>(), ["xtask"]);
        assert_eq!(xtask.targets[0].file, "xtask/src/main.rs");
    }
}
