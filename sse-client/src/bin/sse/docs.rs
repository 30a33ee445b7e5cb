//! `sse completions` and `sse man`: made from the same definition as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::Command;

use crate::Exit;
use crate::output::{Output, Stop};

#[derive(clap::Args)]
pub(crate) struct Completions {
    /// Shell to print completions for
    shell: clap_complete::Shell,
}

#[derive(clap::Args)]
pub(crate) struct Man {
    /// Write the pages of all commands into this folder instead
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &Completions, mut command: Command) -> Result<Exit, Stop> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sse", &mut text);
    Output::new().write(&text)?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &Man, command: Command) -> Result<Exit, Stop> {
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .map_err(|error| {
                Stop::Because(format!("cannot write to {}: {error}", dir.display()))
            })?;
        return Ok(Exit::Done);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Output::new().write(&text)?;
    Ok(Exit::Done)
}
