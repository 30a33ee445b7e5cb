//! `sse-server token …`: the tokens that the operator makes.

mod signed;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};
use sse_server::access::authentication::{NewToken, TokenFile};
use sse_server::clock;
use sse_server::units::Span;

/// Make, list and revoke API tokens; a running hub takes notice within a second or two
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Make a token and show it, this once
    New {
        #[command(flatten)]
        file: Tokens,
        #[command(flatten)]
        grants: Grants,
        /// The user that it stands for
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// How long it holds, such as 90d [default: until it is revoked]
        #[arg(long, value_name = "DURATION")]
        expires: Option<Span>,
    },
    /// Sign a JWT as an application would, and show it: to try things out, and for scripts
    Sign(Box<signed::Args>),
    /// Say which tokens there are
    List {
        #[command(flatten)]
        file: Tokens,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Take a token back: streams that it opened end, and nobody gets in with it
    Revoke {
        #[command(flatten)]
        file: Tokens,
        /// The id of the token, as `list` shows it
        id: String,
    },
}

/// What a token lets its bearer do.
#[derive(Debug, clap::Args)]
struct Grants {
    /// A topic or pattern that may be published to; repeatable
    #[arg(long, value_name = "TOPIC")]
    publish: Vec<String>,
    /// A topic or pattern that may be read; repeatable
    #[arg(long, value_name = "TOPIC")]
    subscribe: Vec<String>,
    /// May administer the hub: metrics, statistics, every connection, revocations
    #[arg(long)]
    admin: bool,
    /// May make tickets for others
    #[arg(long)]
    issue: bool,
}

impl Grants {
    fn is_nothing(&self) -> bool {
        self.publish.is_empty() && self.subscribe.is_empty() && !self.admin && !self.issue
    }

    fn json(&self) -> Value {
        json!({"publish": self.publish, "subscribe": self.subscribe, "admin": self.admin, "issue": self.issue})
    }
}

#[derive(Debug, clap::Args)]
struct Tokens {
    /// The file that the tokens are kept in; the hub is given the same
    #[arg(
        long,
        env = "SSE_TOKEN_FILE",
        value_name = "FILE",
        default_value = "./sse-tokens.json"
    )]
    token_file: PathBuf,
}

impl Tokens {
    fn open(self) -> TokenFile {
        TokenFile::new(self.token_file)
    }
}

/// Does it; the exit code when it could be done.
pub(crate) fn run(args: Args) -> Result<ExitCode, String> {
    match args.task {
        Task::New {
            file,
            grants,
            user,
            name,
            expires,
        } => {
            if grants.is_nothing() {
                return Err("a token that grants nothing is of no use: add --publish, --subscribe, --issue or --admin".into());
            }
            let now = clock::unix_millis();
            let expires_at = expires.map(|Span(span)| {
                now.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
            });
            let new = NewToken {
                name,
                user,
                grants: grants.json(),
                expires_at,
            };
            let (_, text) = file
                .open()
                .add(new, now)
                .map_err(|error| error.to_string())?;
            print(&format!("{text}\n"))
        }
        Task::Sign(args) => print(&format!("{}\n", args.sign()?)),
        Task::List { file, json } => list(&file.open(), json),
        Task::Revoke { file, id } => {
            if file.open().remove(&id).map_err(|error| error.to_string())? {
                return Ok(ExitCode::SUCCESS);
            }
            Err(format!(
                "there is no token {id}; `sse-server token list` shows which there are"
            ))
        }
    }
}

fn list(file: &TokenFile, as_json: bool) -> Result<ExitCode, String> {
    let used = file.last_uses();
    let tokens = file.tokens().map_err(|error| error.to_string())?;
    let time = |at: Option<u64>| at.map(clock::rfc3339);
    if as_json {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| {
                json!({
                    "id": token.id,
                    "name": token.name,
                    "user": token.user,
                    "grants": token.grants,
                    "created_at": clock::rfc3339(token.created_at),
                    "expires_at": time(token.expires_at),
                    "last_used_at": time(used.get(&token.id).copied()),
                })
            })
            .collect();
        return print(&format!("{}\n", Value::from(tokens)));
    }
    let mut text = String::new();
    for token in &tokens {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        text.push_str(&format!(
            "{}  {}  made {}  expires {}  last used {}  {}\n",
            token.id,
            or_dash(token.name.clone()),
            clock::rfc3339(token.created_at),
            or_dash(time(token.expires_at)),
            or_dash(time(used.get(&token.id).copied())),
            token.grants,
        ));
    }
    print(&text)
}

fn print(text: &str) -> Result<ExitCode, String> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
