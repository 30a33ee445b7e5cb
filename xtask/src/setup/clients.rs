//! The clients that `sse-client/tests/e2e/clients.rs` runs: those of npm, of PyPI, and a program in Go, whose compiler comes
//! from PyPI too. Flask, FastAPI and Express, for `logins.rs`, come the same way. All are below the target folder, at the versions that the lists beside the scripts fix.

use std::path::{Path, PathBuf};

use super::{apt_install, tools_dir};
use crate::shell::{Cmd, Failure, Outcome};
use crate::workspace::Workspace;

/// Whether what the lists name is installed.
pub(super) fn are_installed(workspace: &Workspace) -> bool {
    let clients = Clients::of(workspace);
    let lists = clients.lists().ok();
    lists.is_some() && lists == std::fs::read_to_string(clients.stamp()).ok()
}

/// Installs what the lists name.
///
/// # Errors
///
/// When a program is missing, or a registry does not give a package.
pub(super) fn install(workspace: &Workspace) -> Outcome {
    let clients = Clients::of(workspace);
    let lists = clients.lists()?;
    // What an older list named goes: nothing is left that a script could find by mistake.
    let _ = std::fs::remove_dir_all(&clients.folder);
    std::fs::create_dir_all(&clients.folder).map_err(|error| in_folder(&clients, &error))?;
    clients.npm()?;
    clients.python()?;
    clients.go()?;
    std::fs::write(clients.stamp(), lists).map_err(|error| in_folder(&clients, &error))
}

struct Clients {
    /// Where the scripts and lists are.
    source: PathBuf,
    /// Where they are installed.
    folder: PathBuf,
}

impl Clients {
    fn of(workspace: &Workspace) -> Self {
        Self {
            source: Path::new(&workspace.root).join("sse-client/tests/e2e/clients"),
            folder: tools_dir(workspace).join("clients"),
        }
    }

    /// Holds the lists that are installed, once all are.
    fn stamp(&self) -> PathBuf {
        self.folder.join("installed")
    }

    /// All that decides what is installed.
    fn lists(&self) -> Outcome<String> {
        let read = |name: &&str| {
            std::fs::read_to_string(self.source.join(name))
                .map_err(|error| Failure::new(format!("{name} of the clients: {error}")))
        };
        LISTS.iter().map(read).collect()
    }

    fn npm(&self) -> Outcome {
        super::web::ensure_node()?;
        for list in ["package.json", "package-lock.json"] {
            std::fs::copy(self.source.join(list), self.folder.join(list))
                .map_err(|error| in_folder(self, &error))?;
        }
        Cmd::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .dir(&self.folder)
            .run()
    }

    fn python(&self) -> Outcome {
        let venv = || {
            Cmd::new("python3")
                .args(["-m", "venv"])
                .args([self.folder.join("venv")])
        };
        if venv().run().is_err() {
            apt_install(&["python3-venv"])?;
            venv().run()?;
        }
        // The lists are whole, so nothing else is looked for.
        let pip = |list: &str| {
            Cmd::new(self.program("pip"))
                .args([
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                ])
                .args(["--requirement"])
                .args([self.source.join(list)])
        };
        pip("requirements.txt").run()?;
        // It has the module's name in common with `sseclient`.
        pip("requirements-sseclient-py.txt")
            .args(["--target"])
            .args([self.folder.join("sseclient-py")])
            .run()
    }

    fn go(&self) -> Outcome {
        Cmd::new(self.program("go"))
            .args(["build", "-o"])
            .args([self.folder.join("go-reader"), self.source.join("reader.go")])
            .env("GOCACHE", self.folder.with_file_name("go-cache"))
            .run()
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("venv/bin").join(name)
    }
}

fn in_folder(clients: &Clients, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", clients.folder.display()))
}

const LISTS: [&str; 4] = [
    "package-lock.json",
    "requirements.txt",
    "requirements-sseclient-py.txt",
    "reader.go",
];
