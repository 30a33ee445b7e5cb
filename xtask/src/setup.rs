//! What the tests need beyond Rust itself, and how a machine gets it.
//!
//! Each [`Tool`] knows whether it is there and how to install it. What is there is left alone;
//! what can neither be found nor installed fails in one line that names it. Nothing is skipped:
//! a test that cannot run is a test that failed.
//!
//! Programs we install ourselves go below the target folder, so `cargo clean` takes them away again
//! and the machine keeps its own.

mod clients;
mod web;

use std::path::{Path, PathBuf};

use crate::shell::{Cmd, Failure, Outcome, which};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what `test --long` needs: a nightly toolchain, Miri, cargo-fuzz
    #[arg(long)]
    long: bool,
}

/// `cargo xtask setup`
pub(crate) fn run(args: &Args) -> Outcome {
    let workspace = Workspace::load()?;
    for tool in Tool::ALL
        .into_iter()
        .filter(|tool| args.long || !tool.is_for_long_runs())
    {
        tool.ensure(&workspace)?;
        println!("{}: ready", tool.name());
    }
    Ok(())
}

/// Something a section of `cargo xtask test` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    /// The browser that the page's tests drive.
    Browser,
    /// The other browser, in which the client and the pages are met once.
    Firefox,
    /// The programs that read compressed streams to their end.
    Readers,
    /// The clients whose streams must not hang.
    Clients,
    /// The proxies that the hub is put behind.
    Proxies,
    /// What `web/` is checked and tested with.
    Web,
    CargoDeny,
    Nightly,
    Miri,
    CargoFuzz,
}

impl Tool {
    const ALL: [Self; 12] = [
        Self::Rustfmt,
        Self::Clippy,
        Self::Browser,
        Self::Firefox,
        Self::Readers,
        Self::Clients,
        Self::Proxies,
        Self::Web,
        Self::CargoDeny,
        Self::Nightly,
        Self::Miri,
        Self::CargoFuzz,
    ];

    /// Installs the tool unless it is there.
    ///
    /// # Errors
    ///
    /// When it is missing and cannot be installed. The message names the tool and what to do.
    pub(crate) fn ensure(self, workspace: &Workspace) -> Outcome {
        if self.is_present(workspace) {
            return Ok(());
        }
        println!("{} is missing and will be installed", self.name());
        let installed = match self {
            Self::Rustfmt => rustup(&["component", "add", "rustfmt"]),
            Self::Clippy => rustup(&["component", "add", "clippy"]),
            Self::Browser => apt_install(&["chromium"]),
            Self::Firefox => apt_install(&["firefox-esr"]),
            Self::Readers => apt_install(&READERS),
            Self::Clients => clients::install(workspace),
            Self::Proxies => apt_install(&PROXIES),
            Self::Web => web::install(workspace),
            Self::CargoDeny => cargo_install(workspace, "cargo-deny", CARGO_DENY_VERSION),
            Self::CargoFuzz => cargo_install(workspace, "cargo-fuzz", CARGO_FUZZ_VERSION),
            Self::Nightly => rustup(&["toolchain", "install", "nightly", "--profile=minimal"]),
            Self::Miri => rustup(&[
                "component",
                "add",
                "--toolchain=nightly",
                "miri",
                "rust-src",
            ]),
        };
        match installed {
            Ok(()) if self.is_present(workspace) => Ok(()),
            Ok(()) => Err(Failure::new(format!(
                "{} is missing: it was installed and is still not found",
                self.name()
            ))),
            Err(failure) => Err(Failure::new(format!(
                "{} is missing: {failure}",
                self.name()
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::Browser => "chromium",
            Self::Firefox => "firefox",
            Self::Readers => "one of curl, wget, gzip and python3",
            Self::Clients => "one of the clients of npm, PyPI and Go",
            Self::Proxies => "nginx or haproxy",
            Self::Web => "a package that web/package.json names",
            Self::CargoDeny => "cargo-deny",
            Self::Nightly => "the nightly toolchain",
            Self::Miri => "miri",
            Self::CargoFuzz => "cargo-fuzz",
        }
    }

    fn is_for_long_runs(self) -> bool {
        matches!(self, Self::Nightly | Self::Miri | Self::CargoFuzz)
    }

    fn is_present(self, workspace: &Workspace) -> bool {
        match self {
            Self::Rustfmt => Cmd::cargo(["fmt", "--version"]).succeeds(),
            Self::Clippy => Cmd::cargo(["clippy", "--version"]).succeeds(),
            Self::Browser => BROWSERS.iter().any(|name| which(name).is_some()),
            Self::Firefox => FIREFOXES.iter().any(|name| which(name).is_some()),
            Self::Readers => READERS.iter().all(|name| which(name).is_some()),
            Self::Clients => clients::are_installed(workspace),
            Self::Proxies => PROXIES.iter().all(|name| installed_server(name).is_some()),
            Self::Web => web::is_installed(workspace),
            Self::CargoDeny => installed_program(workspace, "cargo-deny").is_some(),
            Self::CargoFuzz => installed_program(workspace, "cargo-fuzz").is_some(),
            Self::Nightly => Cmd::nightly_cargo(["--version"]).succeeds(),
            Self::Miri => Cmd::nightly_cargo(["miri", "--version"]).succeeds(),
        }
    }
}

/// Where `name` is: the machine's own or the one below the target folder.
pub(crate) fn installed_program(workspace: &Workspace, name: &str) -> Option<PathBuf> {
    let ours = tools_dir(workspace).join("bin").join(name);
    which(name).or_else(|| ours.is_file().then_some(ours))
}

/// Where a program is that administrators run, whose folder is not in everybody's path.
fn installed_server(name: &str) -> Option<PathBuf> {
    let system = Path::new("/usr/sbin").join(name);
    which(name).or_else(|| system.is_file().then_some(system))
}

fn rustup(args: &[&str]) -> Outcome {
    if which("rustup").is_none() {
        return Err(Failure::new(format!(
            "there is no rustup here to `{}`",
            args.join(" ")
        )));
    }
    Cmd::new("rustup").args(args).run()
}

/// Builds `name` without optimisation, which is quick, and runs once per target folder.
fn cargo_install(workspace: &Workspace, name: &str, version: &str) -> Outcome {
    Cmd::cargo([
        "install",
        name,
        "--version",
        version,
        "--locked",
        "--debug",
        "--root",
    ])
    .args([tools_dir(workspace)])
    .env("CARGO_TARGET_DIR", workspace.target_dir.join("tools-build"))
    .env("CARGO_PROFILE_DEV_DEBUG", "0")
    .run()
}

/// Installs Debian packages, as root or through a `sudo` that asks nothing.
fn apt_install(packages: &[&str]) -> Outcome {
    let names = packages.join(" ");
    if which("apt-get").is_none() {
        return Err(Failure::new(format!(
            "there is no apt-get here; please install {names}"
        )));
    }
    let as_root = || {
        let cmd = if is_root() {
            Cmd::new("env")
        } else {
            Cmd::new("sudo").args(["-n", "env"])
        };
        cmd.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"])
    };
    if !is_root() && !Cmd::new("sudo").args(["-n", "true"]).succeeds() {
        return Err(Failure::new(format!(
            "we are neither root nor allowed to sudo; please run `apt-get install {names}`"
        )));
    }
    as_root().args(["update"]).run()?;
    as_root()
        .args(["install", "--no-install-recommends"])
        .args(packages)
        .run()
}

fn is_root() -> bool {
    Cmd::new("id")
        .args(["-u"])
        .output()
        .is_ok_and(|id| id.trim() == "0")
}

/// Where everything is that is not the machine's own.
pub(crate) fn tools_dir(workspace: &Workspace) -> PathBuf {
    Path::new(&workspace.target_dir).join("tools")
}

/// Names under which the browser tests look for a Chromium, the one that Debian installs first.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The same of Firefox.
const FIREFOXES: [&str; 2] = ["firefox-esr", "firefox"];

/// Programs, and Debian's packages with them.
const READERS: [&str; 4] = ["curl", "wget", "gzip", "python3"];

/// The same of the proxies.
const PROXIES: [&str; 2] = ["nginx", "haproxy"];

/// The cargo-deny that `deny.toml` is written for.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// The cargo-fuzz that `fuzz/` is written for.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_there_is_not_installed_again() {
        // Whoever runs this test has a cargo that formats: the section before it did so.
        let workspace = Workspace::load().unwrap();
        assert!(Tool::Rustfmt.is_present(&workspace));
        assert!(Tool::Rustfmt.ensure(&workspace).is_ok());
    }

    #[test]
    fn a_program_below_the_target_folder_is_found_when_the_machine_has_none() {
        let target_dir = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        let workspace = Workspace {
            root: target_dir.clone(),
            target_dir: target_dir.clone(),
            crates: vec![],
        };
        assert_eq!(installed_program(&workspace, "no-such-tool"), None);
        let program = target_dir.join("tools/bin/no-such-tool");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "").unwrap();
        assert_eq!(installed_program(&workspace, "no-such-tool"), Some(program));
        std::fs::remove_dir_all(target_dir).unwrap();
    }
}
