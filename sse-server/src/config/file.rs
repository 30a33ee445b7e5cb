//! The configuration file: TOML, whose keys are the options' long names.
//!
//! A value takes the way of a flag: its text goes through the option's own parser, so that a key means what the flag of
//! that name means, and no option is without a key. `retain` and the grants have a second form, the table.

use std::path::Path;

use clap::{Arg, ArgAction, Args as _, Command, FromArgMatches as _};
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::suggestion::closest;
use super::topic_rule::TopicRule;
use super::{ConfigError, Settings, explain};

/// Reads settings from a TOML file.
///
/// # Errors
///
/// When it cannot be read, or holds a key or value that no setting has; the message names the line and the key.
pub fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    check_file(path).map_err(|mut errors| errors.swap_remove(0))
}

/// The same, with every mistake that is in it.
///
/// # Errors
///
/// As [`read_file`], in the order of the lines; there is at least one.
pub fn check_file(path: &Path) -> Result<Settings, Vec<ConfigError>> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(|error| vec![unreadable(error)])?;
    parse(&text).map_err(|mistakes| {
        let told = mistakes.into_iter().map(|mistake| ConfigError::Malformed {
            path: path.to_owned(),
            line: 1 + text[..mistake.at.min(text.len())].matches('\n').count(),
            reason: mistake.reason,
        });
        told.collect()
    })
}

/// What is wrong, and at which byte.
struct Mistake {
    at: usize,
    reason: String,
}

impl Mistake {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self {
            at,
            reason: reason.into(),
        }
    }

    fn of_toml(error: &toml::de::Error, otherwise: usize) -> Self {
        let at = error.span().map_or(otherwise, |span| span.start);
        Self::new(at, error.message().replace('\n', " "))
    }

    /// The same, said of this key.
    fn of_key(self, key: &str) -> Self {
        Self {
            reason: format!("{key}: {}", self.reason),
            ..self
        }
    }
}

fn parse(text: &str) -> Result<Settings, Vec<Mistake>> {
    let table = DeTable::parse(text).map_err(|error| vec![Mistake::of_toml(&error, 0)])?;
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    // Mistakes are told in the order of the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let options = Options::new();
    let mut settings = Settings::default();
    let mut mistakes = Vec::new();
    for (key, value) in entries {
        match options.read(&key, value) {
            Ok(more) => settings = settings.or(more),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    match mistakes.is_empty() {
        true => Ok(settings),
        false => Err(mistakes),
    }
}

/// The command line's options, without the environment.
struct Options {
    command: Command,
}

impl Options {
    fn new() -> Self {
        let command = Command::new("file")
            .no_binary_name(true)
            .disable_help_flag(true);
        Self {
            command: Settings::augment_args(command)
                .mut_args(|arg| arg.env(clap::builder::Resettable::Reset)),
        }
    }

    /// One entry of the file.
    fn read<'i>(
        &self,
        key: &Spanned<impl AsRef<str>>,
        value: Spanned<DeValue<'i>>,
    ) -> Result<Settings, Mistake> {
        let at = key.span().start;
        let key = key.get_ref().as_ref();
        let Some(option) = self
            .command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(key))
        else {
            return Err(Mistake::new(at, self.unknown(key, value.get_ref())));
        };
        if key == RETAIN {
            let rules = rules(value).map_err(|mistake| mistake.of_key(key))?;
            let mut settings = Settings::default();
            settings.retention.retain = Some(rules);
            return Ok(settings);
        }
        if GRANTS.contains(&key) && value.get_ref().is_table() {
            let json = json(value).map_err(|mistake| mistake.of_key(key))?;
            return self
                .parse(key, &Given::One(json))
                .map_err(|reason| Mistake::new(at, reason));
        }
        let given = texts(option, &value).map_err(|mistake| mistake.of_key(key))?;
        self.parse(key, &given)
            .map_err(|reason| Mistake::new(value.span().start, reason))
    }

    /// Does as the command line does with these values.
    fn parse(&self, key: &str, given: &Given) -> Result<Settings, String> {
        let (command, values) = match given {
            Given::One(text) => (self.command.clone(), std::slice::from_ref(text)),
            // An entry of a list is one value, whatever is in it.
            Given::List(texts) => {
                let whole = |arg: Arg| arg.value_delimiter(clap::builder::Resettable::Reset);
                (self.command.clone().mut_args(whole), texts.as_slice())
            }
        };
        let flags = values.iter().map(|value| format!("--{key}={value}"));
        command
            .try_get_matches_from(flags)
            .and_then(|matches| Settings::from_arg_matches(&matches))
            .map_err(|error| match explain(&error) {
                Some(told) => told.trim_start_matches('-').to_owned(),
                None => format!("{key}: {}", error.kind()),
            })
    }

    fn unknown(&self, key: &str, value: &DeValue<'_>) -> String {
        let names = self.command.get_arguments().filter_map(Arg::get_long);
        match closest(key, names) {
            Some(name) => format!("there is no setting {key}; did you mean {name}?"),
            None if value.is_table() => format!(
                "there are no sections, and no setting {key}; write the settings one under the other"
            ),
            None => format!(
                "there is no setting {key}; the keys are the options of --help without `--`"
            ),
        }
    }
}

/// What was given for an option.
enum Given {
    One(String),
    List(Vec<String>),
}

fn texts(option: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Given, Mistake> {
    let at = value.span().start;
    let Some(list) = value.get_ref().as_array() else {
        return text(value).map(Given::One);
    };
    if !matches!(option.get_action(), ArgAction::Append) {
        return Err(Mistake::new(at, "takes one value and not a list"));
    }
    // Nothing at all may be published, or anything? Other empty lists mean one thing.
    if list.is_empty() && option.get_long() == Some("allowed-event-type") {
        return Err(Mistake::new(
            at,
            "is an empty list; name a type, or leave the key out to allow any",
        ));
    }
    list.iter()
        .map(text)
        .collect::<Result<_, _>>()
        .map(Given::List)
}

/// A value as one writes it behind a flag.
fn text(value: &Spanned<DeValue<'_>>) -> Result<String, Mistake> {
    let wrong = |what: &str| {
        let at = value.span().start;
        Err(Mistake::new(
            at,
            format!("must be text, a number, true or false, and is {what}"),
        ))
    };
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => wrong("a number that is too large"),
        },
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is_so) => Ok(is_so.to_string()),
        DeValue::Datetime(_) => wrong("a date"),
        DeValue::Array(_) => wrong("a list"),
        DeValue::Table(_) => wrong("a table"),
    }
}

/// The rules of `retain`: one text, or texts and tables in a list.
fn rules(value: Spanned<DeValue<'_>>) -> Result<Vec<TopicRule>, Mistake> {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(text) => text
            .split('|')
            .map(|rule| {
                rule.parse()
                    .map_err(|reason: String| Mistake::new(span.start, reason))
            })
            .collect(),
        DeValue::Array(list) => list.into_iter().map(rule).collect(),
        table => rule(Spanned::new(span, table)).map(|rule| vec![rule]),
    }
}

fn rule(value: Spanned<DeValue<'_>>) -> Result<TopicRule, Mistake> {
    let at = value.span().start;
    match value.get_ref() {
        DeValue::String(text) => text
            .parse()
            .map_err(|reason: String| Mistake::new(at, reason)),
        DeValue::Table(_) => TopicRule::deserialize(ValueDeserializer::from(value))
            .map_err(|error| Mistake::of_toml(&error, at)),
        _ => Err(Mistake::new(
            at,
            "a rule is a text such as \"progress/*;keep-latest=1\", or a table",
        )),
    }
}

/// A table, as the JSON that the flag takes.
fn json(value: Spanned<DeValue<'_>>) -> Result<String, Mistake> {
    let at = value.span().start;
    let json = serde_json::Value::deserialize(ValueDeserializer::from(value))
        .map_err(|error| Mistake::of_toml(&error, at))?;
    Ok(json.to_string())
}

const RETAIN: &str = "retain";
/// What is written as a table in the file, and as JSON behind a flag.
const GRANTS: [&str; 3] = ["anonymous", "authenticated", "tls-client-grants"];
