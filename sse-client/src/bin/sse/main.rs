//! `sse`: subscribe, publish, measure and watch, from a terminal or a script.
//!
//! Data goes to standard output, everything about the connection to standard error. Exit codes: 0 when it
//! did what was asked, 1 when it failed, 2 for a wrong command line, 3 when events may be missing and
//! `--fail-on-gap` was given, 4 when `sse pub --stdin` skipped lines, 130 after Ctrl-C.

mod bench;
mod common;
mod docs;
mod explain;
mod interrupt;
mod output;
mod publish;
mod subscribe;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Server-Sent Events: subscribe, publish, measure, watch
#[derive(Parser)]
#[command(name = "sse", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Exit codes:
  0    success
  1    failure; one line on standard error says why
  2    the command line is wrong
  3    events may be missing, and --fail-on-gap was given
  4    sse pub --stdin: some lines could not be published and were skipped; the others are published
  130  interrupted")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print events as they come; reconnect and resume when the connection is lost
    #[command(visible_alias = "subscribe")]
    Sub(subscribe::Args),
    /// Publish an argument, a file, or each line of standard input
    #[command(visible_alias = "publish")]
    Pub(publish::Args),
    /// Measure a hub: subscribers, rate, latency, losses
    Bench(bench::Args),
    /// Watch a hub's statistics
    Top(top::Args),
    /// Print completions for a shell
    Completions(docs::Completions),
    /// Print the manual page
    Man(docs::Man),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    /// As clap says it itself.
    Usage,
    Gap,
    /// Lines were skipped.
    Skipped,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0u8,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Gap => 3,
            Exit::Skipped => 4,
            Exit::Interrupted => 130,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(format_args!("cannot start: {error}"));
            return Exit::Failed.into();
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Sub(args) => subscribe::run(args).await,
            Command::Pub(args) => publish::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Completions(args) => docs::completions(&args, Cli::command()),
            Command::Man(args) => docs::man(&args, Cli::command()),
        }
    });
    // A thread may still wait for standard input; it is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(output::Stop::Gone) => Exit::Done.into(),
        Err(output::Stop::Because(reason)) => {
            output::complain(format_args!("{reason}"));
            Exit::Failed.into()
        }
        Err(output::Stop::Usage(reason)) => {
            output::complain(format_args!("{reason}"));
            Exit::Usage.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
