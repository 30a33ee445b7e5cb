//! `sse-server access check`: what a token may do, and why.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use sse_server::access::authentication::Presented;
use sse_server::access::{Authentication, AuthenticationError, Caller, CredentialKind};
use sse_server::clock;
use sse_server::config::{Config, Settings, read_file};
use sse_server::hub::{Hub, HubConfig, Interest};
use sse_server::session::ConnectionRequest;

use crate::Serve;

/// Say what a token may do here, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Judge a token as the hub would with this configuration. Exit status 0: it may, 1: it may not, 2: the question is wrong
    Check(Box<Check>),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The token; `-` reads it from standard input, where nobody else sees it. Left out, the question is what everyone may do
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// What is to be done
    #[arg(long, value_enum, default_value = "subscribe")]
    action: Action,
    /// The topic; for reading also a pattern
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// The type of the event that is to be published
    #[arg(long, value_name = "TYPE", default_value = "message")]
    event_type: String,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Publish to the topic
    Publish,
    /// Read the topic
    Subscribe,
    /// Make tickets for others
    Issue,
    /// Administer the hub
    Admin,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, String> {
    let Task::Check(mut check) = args.task;
    let file = match &check.serve.config {
        Some(path) => read_file(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let settings = check.serve.settings.clone().or(file);
    let config = Config::new(settings).map_err(|error| error.to_string())?;
    if check.token.as_deref() == Some("-") {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.map_err(|error| format!("cannot read the token: {error}"))?;
        check.token = Some(text.trim().to_owned());
    }
    let needs_topic = matches!(check.action, Action::Publish | Action::Subscribe);
    if needs_topic && check.topic.is_none() {
        let _ = writeln!(
            io::stderr(),
            "error: --topic is missing: what is to be read or published to?"
        );
        return Ok(ExitCode::from(2));
    }
    let runtime = crate::runtime().map_err(|error| error.to_string())?;
    let (text, is_allowed) = runtime.block_on(judge(&check, &config.http.authentication))?;
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(match is_allowed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn judge(check: &Check, authentication: &Authentication) -> Result<(String, bool), String> {
    let mut text = String::new();
    if authentication.is_open() {
        text.push_str("authentication is off: everyone may do everything\n");
        return Ok((text, true));
    }
    let authorization = check.token.as_ref().map(|token| format!("Bearer {token}"));
    let shown = Presented {
        authorization: authorization.as_deref(),
        ..Presented::at(Ipv4Addr::LOCALHOST.into())
    };
    let caller = match authentication.caller(shown).await {
        Ok(caller) => caller,
        Err(error) => {
            let status = match error {
                AuthenticationError::Unavailable(_) => "503",
                AuthenticationError::Forbidden(_) => "403",
                _ => "401",
            };
            let _ = writeln!(text, "refused with {status}: {error}");
            return Ok((text, false));
        }
    };
    describe(&caller, &mut text);
    let outcome = ask(check, &caller).await?;
    let allowed_by = |rules: Vec<String>| match rules.is_empty() {
        true => "it is the caller's own".to_owned(),
        false => format!("granted by {}", rules.join(", ")),
    };
    let topic = check.topic.as_deref();
    match &outcome {
        Ok(()) => {
            let why = match check.action {
                Action::Publish => allowed_by(caller.grants().publish_rules(topic)),
                Action::Subscribe => allowed_by(caller.grants().subscribe_rules(topic)),
                Action::Issue => "granted by issue".to_owned(),
                Action::Admin => "granted by admin".to_owned(),
            };
            let _ = writeln!(text, "allowed: {why}");
        }
        Err(reason) => {
            let status = match caller.credential() {
                None => "401, as nothing was shown",
                Some(_) => "403",
            };
            let _ = writeln!(text, "refused with {status}: {reason}");
        }
    }
    Ok((text, outcome.is_ok()))
}

/// Asks as the hub does: `Ok(Err)` is a refusal, with its reason.
async fn ask(check: &Check, caller: &Caller) -> Result<Result<(), String>, String> {
    let topic = check.topic.clone().unwrap_or_default();
    Ok(match check.action {
        Action::Publish => caller
            .check_publish([topic.as_str()], &check.event_type)
            .map_err(|error| error.to_string()),
        Action::Subscribe => {
            let hub = Hub::in_memory(HubConfig::default()).await;
            let hub = hub.map_err(|error| error.to_string())?;
            let request = ConnectionRequest {
                interest: Interest {
                    topics: vec![topic],
                    ..Interest::default()
                },
                ..ConnectionRequest::from(caller.clone())
            };
            hub.check_connect(&request)
                .map_err(|error| error.to_string())
        }
        Action::Issue if caller.grants().may_issue() => Ok(()),
        Action::Issue => Err("this needs the grant issue".to_owned()),
        Action::Admin => caller.check_admin().map_err(|error| error.to_string()),
    })
}

/// Who the caller is, and what it is granted.
fn describe(caller: &Caller, text: &mut String) {
    let kind = match caller.credential().map(|credential| credential.kind) {
        None => "nothing: what everyone may do",
        Some(CredentialKind::Jwt) => "a signed token (JWT)",
        Some(CredentialKind::ApiToken) => "an API token",
        Some(CredentialKind::Application) => "what the application knows (--auth-url)",
        Some(CredentialKind::Ticket) => "a ticket",
        Some(CredentialKind::Certificate) => "a client certificate",
    };
    let _ = writeln!(text, "shown: {kind}");
    let credential = caller.credential();
    let until = credential.and_then(|credential| credential.expires_at);
    for (name, value) in [
        (
            "id",
            credential
                .and_then(|it| it.id.as_deref())
                .map(str::to_owned),
        ),
        ("good until", until.map(clock::rfc3339)),
        ("user", caller.user().map(str::to_owned)),
        ("session", caller.session().map(str::to_owned)),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    let grants = caller.grants();
    for (name, rules) in [
        ("publish", grants.publish_rules(None)),
        ("subscribe", grants.subscribe_rules(None)),
    ] {
        let rules = match rules.is_empty() {
            true => "nothing".to_owned(),
            false => rules.join(", "),
        };
        let _ = writeln!(text, "{name}: {rules}");
    }
    let others = [("issue", grants.may_issue()), ("admin", grants.is_admin())];
    for (name, _) in others.iter().filter(|(_, is_granted)| *is_granted) {
        let _ = writeln!(text, "{name}: yes");
    }
}
