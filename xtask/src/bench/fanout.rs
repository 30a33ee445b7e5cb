//! `cargo xtask bench fanout`: builds the server and `fanout/`, and hands over to the latter.
//!
//! The tool is a workspace of its own, so that the peers it measures beside and the library that
//! draws its charts are in no other build. `--help` is answered by the tool itself.

use std::ffi::OsString;
use std::path::Path;

use crate::shell::{Cmd, Outcome};
use crate::workspace::Workspace;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the tool; `--help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    tool: Vec<OsString>,
}

/// Builds what is measured and what measures, and runs it.
///
/// # Errors
///
/// When something does not build, or the tool fails.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Outcome {
    let target_dir = workspace.target_dir.join("fanout");
    Cmd::cargo(["build", "--release", "--locked", "--manifest-path"])
        .args([workspace.root.join("fanout/Cargo.toml")])
        .args(["--workspace", "--target-dir"])
        .args([&target_dir])
        .run()?;
    let built = target_dir.join("release");
    let mut tool = Cmd::new(built.join("fanout")).args(&args.tool);
    if !asks_for_help(&args.tool) {
        if !names_a_hub(&args.tool) {
            let package = ["build", "--release", "--locked", "-p", "sse-server"];
            Cmd::cargo(package).dir(&workspace.root).run()?;
            let hub = workspace.target_dir.join("release/sse-server");
            tool = tool.args([Path::new("--hub"), &hub]);
        }
        let axum = built.join("fanout-axum");
        tool = tool.args([Path::new("--axum"), &axum]);
    }
    tool.run()
}

fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h")
}

/// Whether a server was named that is to be measured instead of the one in this checkout.
fn names_a_hub(args: &[OsString]) -> bool {
    let is_it = |arg: &OsString| arg == "--hub" || arg.to_string_lossy().starts_with("--hub=");
    args.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_was_named_is_not_built() {
        let args = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(names_a_hub(&args("--quick --hub ./sse-server")));
        assert!(names_a_hub(&args("--hub=./sse-server")));
        assert!(!names_a_hub(&args("--quick --servers hub")));
    }
}
