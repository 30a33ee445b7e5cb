//! What each section runs, and what it needs to run it.

use super::Section;
use super::tally::Tally;
use crate::setup::{Tool, installed_program, tools_dir};
use crate::shell::{Cmd, Failure, Outcome};
use crate::siege;
use crate::tidy;
use crate::torture;
use crate::workspace::Workspace;

/// What `section` needs beyond Rust itself.
pub(super) fn tools(section: Section) -> &'static [Tool] {
    match section {
        Section::Fmt => &[Tool::Rustfmt],
        Section::Tidy
        | Section::Doc
        | Section::Loom
        | Section::Crash
        | Section::Torture
        | Section::Siege => &[],
        Section::Clippy | Section::Features | Section::Fanout => &[Tool::Clippy],
        Section::Test => &[Tool::Browser, Tool::Readers, Tool::Clients, Tool::Proxies],
        Section::Web => &[Tool::Browser, Tool::Firefox, Tool::Web, Tool::Clients],
        Section::Deny | Section::Advisories => &[Tool::CargoDeny],
        Section::Miri => &[Tool::Nightly, Tool::Miri],
        Section::Fuzz => &[Tool::Nightly, Tool::CargoFuzz],
    }
}

/// Runs `section` and counts its tests.
pub(super) fn run(section: Section, workspace: &Workspace, tally: &mut Tally) -> Outcome {
    match section {
        Section::Fmt => fmt(workspace),
        Section::Tidy => tidy::run(),
        Section::Clippy => clippy(&["--workspace", "--all-targets"]),
        Section::Features => features(workspace),
        Section::Doc => Cmd::cargo(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run(),
        Section::Deny => deny(workspace, &["bans", "licenses", "sources"]),
        Section::Advisories => deny(workspace, &["advisories"]),
        Section::Test => test(
            tally,
            // What is off by default is tested too.
            Cmd::cargo(["test", "--workspace", "--no-fail-fast"])
                .args(["--features", "sse-client/brotli,sse-client/zstd"]),
        ),
        Section::Web => web(workspace, tally),
        Section::Fanout => fanout(workspace, tally),
        Section::Loom => loom(workspace, tally),
        Section::Crash => crash(tally),
        Section::Torture => torture::long(),
        Section::Siege => siege::long(),
        Section::Miri => miri(tally),
        Section::Fuzz => fuzz(workspace),
    }
}

/// The workspace, and the two beside it: the fuzz targets and the fan-out benchmark.
fn fmt(workspace: &Workspace) -> Outcome {
    Cmd::cargo(["fmt", "--all", "--check"]).run()?;
    for beside in ["fuzz/Cargo.toml", "fanout/Cargo.toml"] {
        Cmd::cargo(["fmt", "--all", "--check", "--manifest-path"])
            .args([workspace.root.join(beside)])
            .run()?;
    }
    Ok(())
}

fn clippy(what: &[&str]) -> Outcome {
    Cmd::cargo(["clippy", "--quiet"])
        .args(what)
        .args(["--", "-D", "warnings"])
        .run()
}

/// Features only add, so the crates must build with all of them, and each library with none.
///
/// Each library by itself: in a build of several, one crate gets the features another asks for.
fn features(workspace: &Workspace) -> Outcome {
    clippy(&["--workspace", "--all-targets", "--all-features"])?;
    let has_features = workspace
        .crates
        .iter()
        .filter(|krate| !krate.features.is_empty());
    for krate in has_features.filter(|krate| krate.targets_of("lib").next().is_some()) {
        clippy(&["-p", &krate.name, "--lib", "--no-default-features"])?;
    }
    Ok(())
}

fn deny(workspace: &Workspace, checks: &[&str]) -> Outcome {
    let program = installed_program(workspace, "cargo-deny")
        .ok_or_else(|| Failure::new("cargo-deny is missing"))?;
    Cmd::new(program)
        .args(["--all-features", "check", "--hide-inclusion-graph"])
        .args(checks)
        .dir(&workspace.root)
        .run()
}

/// Runs `cmd` and counts the tests it reports; none at all is a failure.
fn test(tally: &mut Tally, cmd: Cmd) -> Outcome {
    let before = tally.passed();
    let shown = cmd.to_string();
    cmd.run_lines(|line| tally.read(line))?;
    if tally.passed() == before {
        return Err(Failure::new(format!("`{shown}` ran no test")));
    }
    Ok(())
}

/// The types that the comments in `web/` declare, its tests and those of `examples/`, against the real server.
fn web(workspace: &Workspace, tally: &mut Tally) -> Outcome {
    let folder = workspace.root.join("web");
    Cmd::cargo(["build", "-p", "sse-server", "--bin", "sse-server"]).run()?;
    Cmd::new("npm").args(["run", "check"]).dir(&folder).run()?;
    let server = workspace.target_dir.join("debug/sse-server");
    for folder in [folder, workspace.root.join("examples/test")] {
        let tests = Cmd::new("node")
            .args(["--test", "--test-reporter=tap", "--test-concurrency=2"])
            .dir(&folder)
            .env("SSE_SERVER_PROGRAM", &server)
            .env("EXAMPLE_TOOLS", tools_dir(workspace).join("clients"));
        test(tally, tests)?;
    }
    Ok(())
}

/// The workspace beside this one that `cargo xtask bench fanout` runs, in its own target folder.
///
/// It measures through epoll and `/proc`, and so only where Linux is.
fn fanout(workspace: &Workspace, tally: &mut Tally) -> Outcome {
    if !cfg!(target_os = "linux") {
        println!("left out: the fan-out benchmark is for Linux");
        return Ok(());
    }
    let cargo = |command: &str| {
        Cmd::cargo([command, "--workspace", "--all-targets", "--locked"])
            .args(["--manifest-path"])
            .args([workspace.root.join("fanout/Cargo.toml")])
            .args(["--target-dir"])
            .args([workspace.target_dir.join("fanout")])
    };
    cargo("clippy").args(["--", "-D", "warnings"]).run()?;
    test(tally, cargo("test"))
}

/// The tests named `loom…`, wherever they are, in a target folder of their own: `--cfg loom` is
/// seen by every dependency and would otherwise make each later build start again.
fn loom(workspace: &Workspace, tally: &mut Tally) -> Outcome {
    let mut found = false;
    for krate in &workspace.crates {
        for name in krate
            .targets_of("test")
            .filter(|name| name.starts_with("loom"))
        {
            found = true;
            let cmd = Cmd::cargo(["test", "--release", "-p", &krate.name, "--test", name])
                .args(
                    LOOM_PROFILE
                        .iter()
                        .flat_map(|setting| ["--config", *setting]),
                )
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", workspace.target_dir.join("loom"));
            test(tally, cmd)?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(Failure::new("no crate has a test named `loom…`"))
    }
}

/// The log's tests of power cuts and bad disks, with more seeds than they take by themselves.
fn crash(tally: &mut Tally) -> Outcome {
    let ideas = [
        "faults::",
        "topic_retention::",
        "disk_trouble::",
        "tools::a_flipped",
        "crash::",
    ];
    let cmd = Cmd::cargo([
        "test",
        "--release",
        "-p",
        "sse-broker",
        "--test",
        "it",
        "--",
    ])
    .args(ideas)
    .args(["--nocapture"])
    .env("SSE_BROKER_SEEDS", CRASH_SEEDS)
    .env("SSE_BROKER_KILLS", KILLS);
    test(tally, cmd)?;
    // What takes too long for an ordinary run; the others that are marked so need root or a program.
    let cmd = Cmd::cargo([
        "test",
        "--release",
        "-p",
        "sse-broker",
        "--test",
        "it",
        "--",
    ])
    .args(["topic_retention::", "--ignored", "--nocapture"]);
    test(tally, cmd)?;
    if !Cmd::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .succeeds()
    {
        println!("left out: a full disk over HTTP needs Linux, and the right to mount one");
        return Ok(());
    }
    // The same right makes the network in which a peer vanishes.
    let cmd = Cmd::cargo(["test", "-p", "sse-server", "--test", "it", "--"]).args([
        "full_disk",
        "idle::",
        "--ignored",
        "--nocapture",
    ]);
    test(tally, cmd)
}

/// The unit tests of the codec, and of its behaviour what is quick enough. There is no `unsafe` of ours to look at: what
/// is checked is how we use the crates that have some, with a few cases of each property because Miri is slow.
fn miri(tally: &mut Tally) -> Outcome {
    let miri = |what: &[&str]| {
        Cmd::nightly_cargo(["miri", "test", "-p", "sse-protocol"])
            .args(what)
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", "8")
    };
    test(tally, miri(&["--lib"]))?;
    // A single case of random cuttings takes eight minutes.
    let quick = [
        "allocations::",
        "limits::a_raw",
        "limits::exactly",
        "limits::failing",
        "reconnecting::",
        "roundtrip::",
    ];
    test(
        tally,
        miri(&[["--test", "it", "--"].as_slice(), &quick].concat()),
    )
}

/// Each target of `fuzz/` for [`FUZZ_SECONDS`].
fn fuzz(workspace: &Workspace) -> Outcome {
    let program = installed_program(workspace, "cargo-fuzz")
        .ok_or_else(|| Failure::new("cargo-fuzz is missing"))?;
    let cargo_fuzz = |args: &[&str]| {
        let nightly = Cmd::new("rustup").args(["run", "nightly"]);
        nightly
            .args([&program])
            .args(["fuzz"])
            .args(args)
            .dir(&workspace.root)
    };
    let targets = cargo_fuzz(&["list"]).output()?;
    if targets.trim().is_empty() {
        return Err(Failure::new("`fuzz/` has no target"));
    }
    for target in targets.lines() {
        let limit = format!("-max_total_time={FUZZ_SECONDS}");
        cargo_fuzz(&["run", target, "--", &limit, "-dict=fuzz/sse.dict"]).run()?;
    }
    Ok(())
}

/// Optimises what the models run in and leaves the rest, which is only built to be linked, as it is.
const LOOM_PROFILE: &[&str] = &[
    "profile.release.lto='off'",
    "profile.release.debug=0",
    "profile.release.package.'*'.opt-level=0",
    "profile.release.package.generator.opt-level=3",
    "profile.release.package.hashbrown.opt-level=3",
    "profile.release.package.loom.opt-level=3",
];

/// How many crashes a long run tries; a guess, some minutes of them.
const CRASH_SEEDS: &str = "10000";

/// And how often a process of nothing but the log is killed.
const KILLS: &str = "100";

/// Long enough to get past what a target finds in its first seconds; found by nothing better.
const FUZZ_SECONDS: u32 = 60;
