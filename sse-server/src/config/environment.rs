//! Environment variables that look like settings and are none.

use std::ffi::{OsStr, OsString};

use clap::Command;

use super::ConfigError;
use super::suggestion::closest;

/// Refuses a variable `SSE_…` that no option of the command, or of one of its subcommands, reads: it is misspelt, and
/// would be without effect.
///
/// What other programs of this project read passes, and so do the variables that Kubernetes sets for a service called
/// `sse` or `sse-…`.
///
/// # Errors
///
/// [`ConfigError::UnknownVariable`], with the name that was probably meant.
pub fn check_environment(
    command: &Command,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    collect(command, &mut known);
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let is_known = known.iter().any(|known| known.as_str() == name)
            || is_another_programs(&name)
            || is_of_kubernetes(rest, &value);
        if is_known {
            continue;
        }
        let options: Vec<_> = known
            .iter()
            .filter_map(|name| name.strip_prefix(PREFIX))
            .map(|name| name.to_ascii_lowercase().replace('_', "-"))
            .collect();
        let meant = closest(rest, options.iter().map(String::as_str));
        return Err(ConfigError::UnknownVariable {
            advice: meant.map_or_else(
                || "unset it, or see --help for those that are".to_owned(),
                |option| format!("did you mean {}?", variable(option)),
            ),
            name: name.into_owned(),
        });
    }
    Ok(())
}

/// The variable of an option: `SSE_MAX_BODY` for `max-body`.
pub(super) fn variable(option: &str) -> String {
    format!("{PREFIX}{}", option.to_ascii_uppercase().replace('-', "_"))
}

fn collect(command: &Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(|arg| arg.get_env());
    known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    for command in command.get_subcommands() {
        collect(command, known);
    }
}

fn is_another_programs(name: &str) -> bool {
    let mut others = APPLICATIONS.iter().chain(TESTS);
    CLIENT.contains(&name) || others.any(|prefix| name.starts_with(prefix))
}

/// `SSE_PORT=tcp://10.0.0.1:8080` is not somebody's port: a cluster tells its containers of every service so.
fn is_of_kubernetes(rest: &str, value: &OsStr) -> bool {
    let rest = format!("_{rest}");
    let is_link = |value: &str| {
        ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| value.starts_with(scheme))
    };
    let of_port = rest.split_once("_PORT_").map(|(_, port)| port);
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || (rest.ends_with("_PORT") && value.to_str().is_some_and(is_link))
        || of_port.is_some_and(|port| {
            port.starts_with(|c: char| c.is_ascii_digit())
                && ["_TCP", "_UDP", "_SCTP"]
                    .iter()
                    .any(|kind| port.contains(kind))
        })
}

const PREFIX: &str = "SSE_";
/// What `sse`, the client, reads.
const CLIENT: &[&str] = &["SSE_TOKEN", "SSE_CA_CERT"];
/// What applications that publish to a hub read, as in `examples/`.
const APPLICATIONS: &[&str] = &["SSE_HUB_"];
/// What tests and benchmarks read: how many, how long, and which program.
const TESTS: &[&str] = &[
    "SSE_BROKER_",
    "SSE_CLIENTS_",
    "SSE_MODEL_",
    "SSE_SERVER_PROGRAM",
];
