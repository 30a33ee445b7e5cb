//! The project's own tasks, run as `cargo xtask <task>`.
//!
//! A task is anything a contributor or a build machine would otherwise have to remember: which
//! checks there are and in what order, which packages a test needs, which two places must agree.
//! It is written in Rust so that the only thing a fresh machine needs is Rust itself.
//!
//! | task | what it does | file |
//! |---|---|---|
//! | `test` | every check there is, in order, with the time each took | [`mod@test`] |
//! | `bench` | the criterion benchmarks; `--save` keeps their figures with the machine's name | [`mod@bench`] |
//! | `tidy` | what two places must agree on and no compiler checks | [`tidy`] |
//! | `torture` | kills the hub again and again under load, and checks that nothing is lost | [`torture`] |
//! | `siege` | attacks a small hub in every way at once, and checks that its readers do not notice | [`siege`] |
//! | `setup` | installs what `test` needs and does nothing else | [`setup`] |
//!
//! [`shell`] runs other programs and [`workspace`] knows the crates. Nothing imports this crate.

mod bench;
mod setup;
mod shell;
mod siege;
mod test;
mod tidy;
mod torture;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's own tasks"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything: style, lints, docs, tests, loom models, licences
    Test(test::Args),
    /// Run the criterion benchmarks
    Bench(bench::Args),
    /// Check what two places must agree on
    Tidy,
    /// Kill the hub again and again under load: nothing acknowledged may be lost
    Torture(torture::Args),
    /// Attack a small hub in every way at once: its readers must not notice
    Siege(siege::Args),
    /// Install what the tests need
    Setup(setup::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test(args) => return test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Tidy => tidy::run(),
        Task::Torture(args) => torture::run(&args),
        Task::Siege(args) => siege::run(&args),
        Task::Setup(args) => setup::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
