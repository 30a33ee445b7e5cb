//! The settings as data: for a schema, for a file to begin with, and for saying what holds and why.
//!
//! Everything is read from the options' declarations, so that nothing can be said here that is not so.

use std::any::TypeId;
use std::fmt::Write as _;
use std::path::Path;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, ValueEnum};
use serde_json::{Map, Value, json};
use toml::{Table, Value as Toml};
use url::Url;

use super::environment::variable;
use super::{ConfigError, Settings};
use crate::units::{Size, Span};

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// On a developer's machine: few connections, and everything told
    Development,
    /// In production: for an application and its users
    Production,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// The file.
    File,
    /// A variable of this name.
    Environment(String),
    /// The command line.
    Flag,
}

/// A setting with the value that holds.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Its name: the key in the file, and the flag's long name.
    pub name: String,
    /// The value as the file has it; `None` where the default cannot be written.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

fn command() -> Command {
    Settings::augment_args(Command::new("settings").disable_help_flag(true))
}

/// The options that have a long name, each with it.
fn options(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let named = |arg| Some((arg, Arg::get_long(arg)?));
    command.get_arguments().filter_map(named)
}

/// The help text without its default, and the default.
fn help_and_default(option: &Arg) -> (String, Option<String>) {
    let help = option.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default().replace('\n', " ");
    match help.rsplit_once(" [default: ") {
        Some((help, default)) => {
            let default = default.trim_end().trim_end_matches(']');
            (help.to_owned(), Some(default.to_owned()))
        }
        None => (help, None),
    }
}

/// A JSON Schema (2020-12) of the configuration file, for editors and for checking files before they are used.
#[must_use]
pub fn schema() -> Value {
    let command = command();
    let properties: Map<String, Value> = options(&command)
        .map(|(option, name)| (name.to_owned(), property(option, name)))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of sse-server",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(option: &Arg, name: &str) -> Value {
    let (help, default) = help_and_default(option);
    let one = value_schema(option);
    let mut schema = match option.get_action() {
        ArgAction::Append => match name {
            "retain" => json!({"anyOf": [
                {"type": ["string", "object"]},
                {"type": "array", "items": {"type": ["string", "object"]}},
            ]}),
            _ => json!({"anyOf": [one, {"type": "array", "items": one}]}),
        },
        _ if ["anonymous", "authenticated", "tls-client-grants"].contains(&name) => {
            json!({"type": ["string", "object"]})
        }
        _ => one,
    };
    let help = match default {
        Some(default) => format!("{help}. Default: {default}"),
        None => help,
    };
    schema["description"] = help.into();
    schema
}

fn value_schema(option: &Arg) -> Value {
    let parser = option.get_value_parser().type_id();
    let is = |id: TypeId| parser == id;
    if is(TypeId::of::<bool>()) {
        return json!({"enum": [true, false, "true", "false"]});
    }
    if is(TypeId::of::<usize>()) || is(TypeId::of::<u64>()) {
        return json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]});
    }
    if is(TypeId::of::<Size>()) || is(TypeId::of::<Span>()) {
        return json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "^[0-9]"}]});
    }
    let possible: Vec<Value> = option
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().into())
        .collect();
    match possible.is_empty() {
        true => json!({"type": ["string", "number"]}),
        false => json!({"enum": possible}),
    }
}

/// A commented file with every setting, of which those of the profile are set.
#[must_use]
pub fn template(profile: Profile) -> String {
    let command = command();
    let mut text = String::from(match profile {
        Profile::Development => "# sse-server on a developer's machine.",
        Profile::Production => "# sse-server in production.",
    });
    text.push_str(
        "\n# Flags win over environment variables (SSE_…), those over this file, this file over the defaults.\n\
         # A line that begins with `#` and a name shows the default, or an example.\n",
    );
    let set = profile_values(profile);
    let mut section = "";
    for (option, name) in options(&command) {
        let heading = option.get_help_heading().unwrap_or_default();
        if heading != section {
            let _ = write!(text, "\n\n# {heading}\n# {}\n", "-".repeat(heading.len()));
            section = heading;
        }
        let (help, default) = help_and_default(option);
        text.push('\n');
        for line in wrapped(&help) {
            let _ = writeln!(text, "# {line}");
        }
        match set.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                let _ = writeln!(text, "{name} = {value}");
            }
            None => {
                let value = default
                    .as_deref()
                    .and_then(|default| written(option, default));
                let value = value.unwrap_or_else(|| example(name, option));
                let _ = writeln!(text, "#{name} = {value}");
            }
        }
    }
    text
}

/// What a profile sets.
fn profile_values(profile: Profile) -> &'static [(&'static str, &'static str)] {
    match profile {
        Profile::Development => &[
            ("ephemeral", "true"),
            ("log", "\"debug\""),
            ("max-connections", "100"),
            ("heartbeat", "\"30s\""),
        ],
        Profile::Production => &[
            ("listen", "[\"127.0.0.1:8080\"]"),
            ("log", "\"info\""),
            ("log-format", "\"json\""),
            ("max-connections", "1000"),
            ("heartbeat", "\"30s\""),
            // Longer than two heartbeats: whoever is quiet for so long is gone.
            ("idle-timeout", "\"60s\""),
        ],
    }
}

/// A default as the file takes it, if it is one: help texts also say things such as "half of what the machine has".
fn written(option: &Arg, default: &str) -> Option<String> {
    let name = option.get_long()?;
    let value = default.split([',', ' ']).next().unwrap_or(default);
    let is_whole = value == default || default[value.len()..].starts_with(',');
    let parses = is_whole && takes(name, value);
    parses.then(|| as_toml(option, &[value.to_owned()]))
}

/// Whether a setting takes this text.
fn takes(name: &str, value: &str) -> bool {
    let command = command().no_binary_name(true);
    let command = command.mut_args(|arg| arg.env(Resettable::Reset));
    command
        .try_get_matches_from([format!("--{name}={value}")])
        .is_ok()
}

/// Something that a setting takes which has no default that can be written.
fn example(name: &str, option: &Arg) -> String {
    let text = match name {
        "admin-listen" => "127.0.0.1:9090",
        "tls-cert" => "certificate.pem",
        "tls-key" => "key.pem",
        "tls-client-ca" => "clients-ca.pem",
        "tls-client-crl" => "clients-revoked.pem",
        "tls-client-auth" => "required",
        "tls-client-user-prefix" => "cert:",
        "tls-client-grants" => r#"{"backend": {"publish": ["*"]}}"#,
        "data-dir" => "./sse-data",
        "allowed-host" => "events.example.com",
        "allowed-origin" => "https://app.example.com",
        "jwt-key" => "public.pem",
        "jwt-secret" => "secret",
        "jwt-jwks-url" => "https://id.example.com/jwks.json",
        "jwt-issuer" => "https://id.example.com",
        "jwt-audience" => "events",
        "token-file" => "sse-tokens.json",
        "auth-url" => "http://127.0.0.1:3000/hub-access",
        "auth-cookie" => "session",
        "anonymous" | "authenticated" => r#"{"subscribe": ["news"]}"#,
        "trusted-proxy" => "10.0.0.0/8",
        "audit-log" => "audit.jsonl",
        "allowed-event-type" => "progress",
        "never-compress" => "secret/*",
        "retain" => "progress/*;keep-latest=1",
        "when-late" => "price/*;latest=symbol",
        "health-threshold" => "memory=80%,95%",
        "ready-needs" => "log",
        "memory" => "256MiB",
        "connect-rate" | "publish-rate" => "100/s:1000",
        "publish-bytes-rate" => "1MiB:8MiB",
        _ => match option.get_value_parser().type_id() {
            id if id == TypeId::of::<bool>() => "false",
            id if id == TypeId::of::<Span>() => "60s",
            id if id == TypeId::of::<Size>() => "64MiB",
            id if id == TypeId::of::<usize>() => "1000",
            id if id == TypeId::of::<u64>() => "1000000",
            _ => "…",
        },
    };
    as_toml(option, &[text.to_owned()])
}

/// Texts as a value of the file: numbers and truth values bare, several as a list.
fn as_toml(option: &Arg, texts: &[String]) -> String {
    let one = |text: &String| -> Toml {
        let kind = option.get_value_parser().type_id();
        let bare = [TypeId::of::<usize>(), TypeId::of::<u64>()];
        if kind == TypeId::of::<bool>()
            && let Ok(value) = text.parse()
        {
            return Toml::Boolean(value);
        }
        if bare.iter().any(|id| kind == *id)
            && let Ok(value) = text.parse()
        {
            return Toml::Integer(value);
        }
        Toml::String(text.clone())
    };
    match (option.get_action(), texts) {
        (ArgAction::Append, texts) => Toml::Array(texts.iter().map(one).collect()).to_string(),
        (_, [text, ..]) => one(text).to_string(),
        (_, []) => "\"\"".to_owned(),
    }
}

/// A text in lines of a readable length.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= 100 {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// Every setting with the value that holds, and where it comes from. What may hold a secret is hidden.
///
/// # Errors
///
/// When the file cannot be read.
pub fn effective(matches: &ArgMatches, file: Option<&Path>) -> Result<Vec<Effective>, ConfigError> {
    let table = match file {
        None => Table::new(),
        Some(path) => {
            let unreadable = |source| ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            text.parse::<Table>()
                .map_err(|error| ConfigError::Invalid(format!("{}: {error}", path.display())))?
        }
    };
    let command = command();
    let one = |(option, name): (&Arg, &str)| {
        let id = option.get_id().as_str();
        let given = || -> Vec<String> {
            let raw = matches.get_raw(id).into_iter().flatten();
            raw.map(|text| text.to_string_lossy().into_owned())
                .collect()
        };
        let (value, origin) = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => (Some(as_toml(option, &given())), Origin::Flag),
            Some(ValueSource::EnvVariable) => (
                Some(as_toml(option, &given())),
                Origin::Environment(variable(name)),
            ),
            _ => match table.get(name) {
                Some(value) => (Some(value.to_string()), Origin::File),
                None => {
                    let (_, default) = help_and_default(option);
                    let default = default.and_then(|default| written(option, &default));
                    (default, Origin::Default)
                }
            },
        };
        Effective {
            value: value.map(|value| without_secrets(name, value)),
            name: name.to_owned(),
            origin,
        }
    };
    Ok(options(&command).map(one).collect())
}

/// URLs may hold secrets where they name users and in their queries. All other secrets are in files of their own.
fn without_secrets(name: &str, value: String) -> String {
    if !name.ends_with("-url") {
        return value;
    }
    let Ok(mut url) = value.trim_matches(['"', '\'']).parse::<Url>() else {
        return "\"hidden\"".to_owned();
    };
    let hidden = Some("hidden");
    if url.password().is_some() {
        let _ = url.set_password(hidden);
    }
    if url.query().is_some() {
        url.set_query(hidden);
    }
    Toml::String(url.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, check_file};
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_to_begin_with_can_be_used_as_it_is() {
        for (profile, connections, log) in [
            (Profile::Development, 100, "debug"),
            (Profile::Production, 1000, "info"),
        ] {
            let (_folder, path) = file(&template(profile));
            let config = Config::new(check_file(&path).unwrap()).unwrap();
            assert_eq!(
                (config.hub.max_connections, &*config.log),
                (connections, log)
            );
            assert_eq!(config.hub.heartbeat.unwrap().as_secs(), 30);
        }
    }

    /// Whatever line somebody takes the `#` away from is one that the hub understands.
    #[test]
    fn each_commented_line_can_be_used_too() {
        for profile in [Profile::Development, Profile::Production] {
            let text = template(profile);
            let mut count = 0;
            for line in text.lines() {
                let is_setting = |line: &&str| !line.starts_with(' ') && line.contains(" = ");
                let Some(line) = line.strip_prefix('#').filter(is_setting) else {
                    continue;
                };
                count += 1;
                let (_folder, path) = file(line);
                check_file(&path).unwrap_or_else(|errors| panic!("{line}: {errors:?}"));
            }
            assert!(count > 50, "{count}");
        }
    }

    #[test]
    fn every_setting_is_in_the_schema_and_in_the_file() {
        let schema = schema();
        let text = template(Profile::Production);
        for (_, name) in options(&command()) {
            assert!(schema["properties"][name].is_object(), "{name}");
            assert!(text.contains(&format!("{name} = ")), "{name}");
            assert!(
                !text.contains(&format!("{name} = \"…\"")),
                "{name} has no example"
            );
        }
    }

    #[test]
    fn what_may_be_secret_is_hidden() {
        for (value, shown) in [
            ("\"https://a/b\"", "\"https://a/b\""),
            ("\"https://a/b?key=secret\"", "\"https://a/b?hidden\""),
            ("\"https://u:secret@a/\"", "\"https://u:hidden@a/\""),
            ("\"secret\"", "\"hidden\""),
        ] {
            assert_eq!(without_secrets("auth-url", value.to_owned()), shown);
        }
    }

    /// Whether a value fits a schema, of the words that ours use (JSON Schema, validation, section 6).
    fn fits(value: &Value, schema: &Value) -> bool {
        let schema = schema.as_object().unwrap();
        schema.iter().all(|(word, is)| match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => {
                let kind = |kind: &Value| match kind.as_str().unwrap() {
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    other => panic!("{other}"),
                };
                is.as_array()
                    .map_or_else(|| kind(is), |kinds| kinds.iter().any(kind))
            }
            "enum" => is.as_array().unwrap().contains(value),
            "anyOf" => is.as_array().unwrap().iter().any(|one| fits(value, one)),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= is.as_f64().unwrap()),
            "pattern" => {
                let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
                value
                    .as_str()
                    .is_none_or(|text| match is.as_str().unwrap() {
                        "^[0-9]+$" => !text.is_empty() && digits(text),
                        "^[0-9]" => text.get(..1).is_some_and(digits),
                        other => panic!("{other}"),
                    })
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                items.all(|item| fits(item, is))
            }
            "properties" => {
                let mut entries = value.as_object().into_iter().flatten();
                // `additionalProperties` is false.
                entries.all(|(name, value)| is.get(name).is_some_and(|schema| fits(value, schema)))
            }
            "additionalProperties" => *is == Value::Bool(false),
            other => panic!("{other}"),
        })
    }

    fn as_json(text: &str) -> Value {
        serde_json::to_value(text.parse::<Table>().unwrap()).unwrap()
    }

    #[test]
    fn what_the_hub_takes_fits_the_schema() {
        let schema = schema();
        for profile in [Profile::Development, Profile::Production] {
            let text = template(profile);
            assert!(fits(&as_json(&text), &schema));
            for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
                if !line.starts_with(' ') && line.contains(" = ") {
                    assert!(fits(&as_json(line), &schema), "{line}");
                }
            }
        }
        for line in [
            "listen = 8080",
            "listen = \"8080\"",
            "heartbeat = 0.5",
            "heartbeat = \"30s\"",
            "max-body = 4194304",
            "max-jobs = \"7\"",
            "retain = \"a;max-count=1\"",
            "retain = [\"a;max-count=1\"]",
            "[[retain]]\ntopics = [\"a\"]\nmax-count = 1",
            "[anonymous]\nsubscribe = [\"news\"]",
            "ephemeral = true",
        ] {
            let (_folder, path) = file(line);
            check_file(&path).unwrap();
            assert!(fits(&as_json(line), &schema), "{line}");
        }
    }

    #[test]
    fn what_the_hub_refuses_does_not_fit_it() {
        let schema = schema();
        for line in [
            "max-conections = 5",
            "max-connections = -1",
            "max-connections = \"many\"",
            "max-connections = [1]",
            "heartbeat = \"soon\"",
            "heartbeat = -1",
            "max-body = \"large\"",
            "durability = \"maybe\"",
            "ephemeral = \"yes, please\"",
            "tls-cert = [\"a\", \"b\"]",
            "retain = 7",
            "anonymous = true",
            "[hub]\nlisten = 8080",
        ] {
            let (_folder, path) = file(line);
            assert!(check_file(&path).is_err(), "{line}");
            assert!(!fits(&as_json(line), &schema), "{line}");
        }
    }
}
