//! Node and the packages that `web/` is checked and tested with. They go into `web/node_modules`, where an editor looks for them.

use std::path::{Path, PathBuf};

use super::apt_install;
use crate::shell::{Cmd, Failure, Outcome, which};
use crate::workspace::Workspace;

/// Whether what the lock file names is installed.
pub(super) fn is_installed(workspace: &Workspace) -> bool {
    let read = |path: PathBuf| std::fs::read(path).ok();
    let wanted = read(folder(workspace).join(LOCK));
    which("npm").is_some() && wanted.is_some() && wanted == read(stamp(workspace))
}

/// Installs it.
///
/// # Errors
///
/// When Node is too old, or the registry does not give a package.
pub(super) fn install(workspace: &Workspace) -> Outcome {
    ensure_node()?;
    let folder = folder(workspace);
    Cmd::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .dir(&folder)
        .run()?;
    let copied = std::fs::copy(folder.join(LOCK), stamp(workspace));
    copied
        .map(drop)
        .map_err(|error| Failure::new(format!("web/node_modules: {error}")))
}

/// Installs Node, unless one is there that is new enough.
pub(super) fn ensure_node() -> Outcome {
    if which("node").is_none() || which("npm").is_none() {
        apt_install(&["nodejs", "npm"])?;
    }
    let version = Cmd::new("node").args(["--version"]).output()?;
    let major = version.trim_start_matches('v').split('.').next();
    let is_new_enough = major
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= NODE_VERSION);
    if !is_new_enough {
        let version = version.trim();
        return Err(Failure::new(format!(
            "node {version} is too old; please install node {NODE_VERSION} or later"
        )));
    }
    Ok(())
}

fn folder(workspace: &Workspace) -> PathBuf {
    Path::new(&workspace.root).join("web")
}

/// Holds the lock file of what is installed.
fn stamp(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("node_modules/.installed-lock.json")
}

const LOCK: &str = "package-lock.json";

/// The oldest Node that all of the clients run on.
const NODE_VERSION: u32 = 20;
