//! `sse-server config …`: what holds and why, what is wrong, and a file to begin with.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Subcommand};
use sse_server::config::{
    Config, ConfigError, Effective, Origin, Profile, Settings, check_file, effective, schema,
    template,
};

use crate::Serve;

/// Check the configuration, show what holds, and write a file to begin with
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Say everything that is wrong with the file, the environment and these options, and start nothing
    Check(Box<Serve>),
    /// Show every setting with the value that holds, as a file
    Print {
        /// Say of each where it comes from: a flag, a variable, the file or the default
        #[arg(long)]
        origin: bool,
        /// Leave out what nobody has set
        #[arg(long)]
        set: bool,
        #[command(flatten)]
        serve: Box<Serve>,
    },
    /// Print a JSON Schema of the file, for editors
    Schema,
    /// Print a commented file with every setting
    Init {
        /// What it is for
        #[arg(long, value_enum, default_value = "production")]
        profile: Profile,
        /// Write it here, if nothing is there, instead of printing it
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(crate) fn run(args: Args, matches: &ArgMatches) -> Result<ExitCode, String> {
    match args.task {
        Task::Check(serve) => Ok(check(*serve)),
        Task::Print { origin, set, serve } => print(&serve, matches, origin, set),
        Task::Schema => {
            let text =
                serde_json::to_string_pretty(&schema()).map_err(|error| error.to_string())?;
            say(&format!("{text}\n"))
        }
        Task::Init { profile, output } => match output {
            None => say(&template(profile)),
            Some(path) => {
                let mut options = std::fs::OpenOptions::new();
                let file = options.write(true).create_new(true).open(&path);
                let written =
                    file.and_then(|mut file| file.write_all(template(profile).as_bytes()));
                written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                say(&format!("wrote {}\n", path.display()))
            }
        },
    }
}

/// One line for each mistake. What a start would only find later, such as a port that is in use, is not among them.
fn check(serve: Serve) -> ExitCode {
    let mut mistakes: Vec<ConfigError> = Vec::new();
    let file = match &serve.config {
        None => Settings::default(),
        Some(path) => check_file(path).unwrap_or_else(|errors| {
            mistakes.extend(errors);
            Settings::default()
        }),
    };
    if mistakes.is_empty()
        && let Err(error) = Config::new(serve.settings.or(file))
    {
        mistakes.push(error);
    }
    for mistake in &mistakes {
        let _ = writeln!(io::stderr(), "error: {mistake}");
    }
    if mistakes.is_empty() {
        let _ = writeln!(io::stdout(), "nothing is wrong");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn print(
    serve: &Serve,
    matches: &ArgMatches,
    with_origin: bool,
    only_set: bool,
) -> Result<ExitCode, String> {
    let settings =
        effective(matches, serve.config.as_deref()).map_err(|error| error.to_string())?;
    let mut text = String::new();
    for setting in settings {
        if only_set && setting.origin == Origin::Default {
            continue;
        }
        text.push_str(&line(&setting, with_origin));
    }
    say(&text)
}

fn line(setting: &Effective, with_origin: bool) -> String {
    let line = match &setting.value {
        // What nobody has set follows from the rest, and contradicts nothing as long as nobody sets it.
        Some(value) if setting.origin == Origin::Default => format!("#{} = {value}", setting.name),
        Some(value) => format!("{} = {value}", setting.name),
        None => format!("#{} is not set", setting.name),
    };
    let origin = match &setting.origin {
        _ if !with_origin => return line + "\n",
        Origin::Default => "default".to_owned(),
        Origin::File => "file".to_owned(),
        Origin::Environment(name) => name.clone(),
        Origin::Flag => format!("--{}", setting.name),
    };
    format!("{line}  # {origin}\n")
}

fn say(text: &str) -> Result<ExitCode, String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.to_string()),
    }
}
