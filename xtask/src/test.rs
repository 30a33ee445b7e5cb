//! `cargo xtask test`: every check there is, in order, on a machine that has only Rust.
//!
//! A section is one check with a name of its own. The run installs what its sections need, then
//! goes through them and stops at the first that fails, or with `--keep-going` at the end. The
//! order is from quick to slow, so that a missing comma is heard of in seconds.
//!
//! The last line is `N passed, M failed` and nothing else, for whoever reads only that. It counts
//! tests, doc tests and loom models; a section that fails before or without counting any, as one
//! that does not compile, counts as one failure, so a run that failed never ends in `0 failed`.
//!
//! What takes minutes by itself waits for `--long`: fuzzing, Miri, crashes by the hundred, and the
//! advisories, which must be fetched from outside. Licences, bans and sources need no such fetch
//! and are checked always: building cargo-deny for it without optimisation takes 71 seconds of a
//! 2-core machine, once per target folder (154 seconds optimised; both with another build beside).

mod sections;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::shell::Outcome;
use crate::workspace::Workspace;
use tally::Tally;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what takes minutes by itself: fuzzing, Miri, more crashes, advisories
    #[arg(long)]
    long: bool,
    /// Go on after a section failed
    #[arg(long)]
    keep_going: bool,
    /// Run only this section; may be given several times
    #[arg(long, value_name = "SECTION")]
    only: Vec<Section>,
}

/// One check, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// rustfmt has nothing to change
    Fmt,
    /// What two places must agree on
    Tidy,
    /// Clippy has nothing to say, tests and benches included
    Clippy,
    /// Each crate's features, none of them and all of them
    Features,
    /// The documentation builds without a warning
    Doc,
    /// Licences, banned crates and sources of the dependencies
    Deny,
    /// All tests, doc tests and examples
    Test,
    /// What runs in the browser: its types, and its tests in Node and in Chromium
    Web,
    /// The fan-out benchmark: clippy has nothing to say, its tests pass
    Fanout,
    /// The pool's concurrency, every interleaving of small cases
    Loom,
    /// Known vulnerabilities of the dependencies (long)
    Advisories,
    /// More crashes of the log on disk than the tests try (long)
    Crash,
    /// The real hub killed, crashed at its system calls, and stopped under load (long)
    Torture,
    /// A small hub attacked in every way at once for ten minutes (long)
    Siege,
    /// The pure crates' own tests under Miri (long)
    Miri,
    /// Each fuzz target for a minute (long)
    Fuzz,
}

impl Section {
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::Advisories | Self::Crash | Self::Torture | Self::Siege | Self::Miri | Self::Fuzz
        )
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs the sections that `args` ask for.
pub(crate) fn run(args: &Args) -> ExitCode {
    let started = Instant::now();
    let chosen = choose(args);
    let mut tally = Tally::default();
    println!("=== setup");
    let prepared = prepare(&chosen);
    println!("=== setup: done in {}", seconds(started.elapsed()));
    let results = match prepared {
        Ok(workspace) => run_sections(&workspace, &chosen, args.keep_going, &mut tally),
        Err(failure) => {
            eprintln!("error: {failure}");
            tally.count_failed_section(0);
            Vec::new()
        }
    };
    summarize(&chosen, &results, started.elapsed(), &tally);
    println!("{tally}");
    let all_ok = results.len() == chosen.len() && results.iter().all(|r| r.outcome.is_ok());
    if all_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How a section went.
struct Finished {
    section: Section,
    outcome: Outcome,
    took: Duration,
}

fn choose(args: &Args) -> Vec<Section> {
    let all = Section::value_variants().iter().copied();
    if args.only.is_empty() {
        all.filter(|section| args.long || !section.is_long())
            .collect()
    } else {
        all.filter(|section| args.only.contains(section)).collect()
    }
}

fn prepare(chosen: &[Section]) -> Outcome<Workspace> {
    let workspace = Workspace::load()?;
    for section in chosen {
        for tool in sections::tools(*section) {
            tool.ensure(&workspace)?;
        }
    }
    Ok(workspace)
}

fn run_sections(
    workspace: &Workspace,
    chosen: &[Section],
    keep_going: bool,
    tally: &mut Tally,
) -> Vec<Finished> {
    let mut results = Vec::new();
    for (index, section) in chosen.iter().copied().enumerate() {
        println!(
            "\n=== {} ({} of {})",
            section.name(),
            index + 1,
            chosen.len()
        );
        let started = Instant::now();
        let failed_before = tally.failed();
        let outcome = sections::run(section, workspace, tally);
        let took = started.elapsed();
        let failed = outcome.is_err();
        match &outcome {
            Ok(()) => println!("=== {}: ok in {}", section.name(), seconds(took)),
            Err(failure) => {
                tally.count_failed_section(failed_before);
                println!(
                    "=== {}: FAILED after {}: {failure}",
                    section.name(),
                    seconds(took)
                );
            }
        }
        results.push(Finished {
            section,
            outcome,
            took,
        });
        if failed && !keep_going {
            break;
        }
    }
    results
}

fn summarize(chosen: &[Section], results: &[Finished], took: Duration, tally: &Tally) {
    println!("\n=== summary");
    for section in chosen {
        let name = section.name();
        match results.iter().find(|result| result.section == *section) {
            Some(Finished {
                outcome: Ok(()),
                took,
                ..
            }) => {
                println!("{name:<10} ok      {:>8}", seconds(*took));
            }
            Some(Finished {
                outcome: Err(failure),
                took,
                ..
            }) => {
                println!("{name:<10} FAILED  {:>8}  {failure}", seconds(*took));
            }
            None => println!("{name:<10} not run"),
        }
    }
    println!("{:<10}         {:>8}", "together", seconds(took));
    if tally.ignored() > 0 {
        println!(
            "{} tests are marked `ignore` and were not run",
            tally.ignored()
        );
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(long: bool, only: &[Section]) -> Args {
        Args {
            long,
            keep_going: false,
            only: only.to_vec(),
        }
    }

    #[test]
    fn an_ordinary_run_leaves_out_what_is_long_and_nothing_else() {
        let chosen = choose(&args(false, &[]));
        assert!(chosen.iter().all(|section| !section.is_long()));
        let long = choose(&args(true, &[]));
        assert_eq!(
            long.iter().filter(|section| !section.is_long()).count(),
            chosen.len()
        );
        assert_eq!(long.len(), Section::value_variants().len());
    }

    #[test]
    fn a_long_section_runs_when_it_is_asked_for_by_name() {
        assert_eq!(choose(&args(false, &[Section::Fuzz])), [Section::Fuzz]);
    }

    #[test]
    fn sections_run_in_their_order_and_not_in_that_of_the_command_line() {
        let chosen = choose(&args(false, &[Section::Loom, Section::Fmt]));
        assert_eq!(chosen, [Section::Fmt, Section::Loom]);
    }
}
