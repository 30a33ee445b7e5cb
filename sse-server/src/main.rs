//! The server binary: reads the configuration, opens the log, serves until it is told to stop; and the
//! tools for the log of a hub that is stopped.

mod cli;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use cli::reload::Reloader;
use cli::telemetry::Filter;
use sse_broker::{
    Broker, DiskBroker, DiskConfig, Epoch, MemoryBroker, MemoryConfig, OpenError, Retention,
};
use sse_server::audit::AuditLog;
use sse_server::config::{Config, Settings, Storage, check_environment, explain, read_file};
use sse_server::http::HubService;
use sse_server::hub::Hub;
use sse_server::serve::{BoundAddress, ListenError, Server, ServerConfig};
use sse_server::units::AboutBytes;
use tokio::runtime::Runtime;

/// What load has taken goes back to the system: its own thread sees to that, also when nothing is asked for any more. See
/// [the architecture](../../ARCHITECTURE.md#memory).
#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A hub for Server-Sent Events: publish an event once, and everyone who listens gets it.
///
/// Without any option it listens on 127.0.0.1:8080 and keeps events in ./sse-data.
#[derive(Debug, Parser)]
#[command(
    name = "sse-server",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub (the default)
    Serve(Box<Serve>),
    /// Inspect, verify, compact and copy the log of a stopped hub
    Log(cli::log::Args),
    /// Make, list and revoke API tokens
    Token(cli::token::Args),
    /// Say what a token may do here, and why
    Access(cli::access::Args),
    /// Check the configuration, show what holds, and write a file to begin with
    Config(cli::config::Args),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Configuration file (TOML); its keys are the long options' names
    #[arg(long, env = "SSE_CONFIG", value_name = "FILE", help_heading = "Server")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let (cli, matches) = match parse() {
        Ok(read) => read,
        Err(code) => return code,
    };
    if let Err(error) = check_environment(&Cli::command(), std::env::vars_os()) {
        let _ = writeln!(io::stderr(), "error: {error}");
        return ExitCode::from(2);
    }
    let outcome = match cli.command {
        Some(Command::Serve(serve)) => run(*serve, innermost(&matches)),
        Some(Command::Log(args)) => cli::log::run(args),
        Some(Command::Token(args)) => cli::token::run(args),
        Some(Command::Access(args)) => cli::access::run(args),
        Some(Command::Config(args)) => cli::config::run(args, innermost(&matches)),
        None => run(cli.serve, &matches),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            let _ = writeln!(io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line; a mistake in it is told in one line.
fn parse() -> Result<(Cli, ArgMatches), ExitCode> {
    let matches = Cli::command().try_get_matches();
    let read = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let error = match read {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    if let Some(told) = explain(&error) {
        let _ = writeln!(io::stderr(), "error: {told} (see --help)");
        return Err(ExitCode::from(2));
    }
    let is_of_log = std::env::args().nth(1).as_deref() == Some("log");
    let hint = match error.kind() {
        ErrorKind::UnknownArgument if is_of_log => "; a log's folder is given with --data-dir DIR",
        _ => "",
    };
    let text = error.to_string();
    let told = text
        .split("\n\nUsage:")
        .next()
        .unwrap_or(&text)
        .split("\n\nFor more")
        .next()
        .unwrap_or(&text);
    let line: Vec<&str> = told
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let _ = writeln!(io::stderr(), "{}{hint} (see --help)", line.join("; "));
    Err(ExitCode::from(2))
}

/// What was said to the subcommand.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, matches)) => innermost(matches),
        None => matches,
    }
}

fn run(serve: Serve, matches: &ArgMatches) -> Result<ExitCode, String> {
    let file = match &serve.config {
        Some(path) => read_file(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let config = Config::new(serve.settings.clone().or(file)).map_err(|error| error.to_string())?;
    let log = cli::telemetry::init(&config.log, config.log_format)?;
    let runtime = runtime().map_err(|error| format!("cannot start the runtime: {error}"))?;
    let given = (serve, matches.clone());
    runtime.block_on(serve_until_told(config, given, log.filter.clone()))
}

/// On one core one thread serves everything, and nothing is handed from thread to thread. On more, each worker has a
/// runtime of its own and this one keeps house.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn serve_until_told(
    mut config: Config,
    given: (Serve, ArgMatches),
    filter: Filter,
) -> Result<ExitCode, String> {
    if !config.core_dumps {
        cli::process_limits::forbid_core_dumps();
    }
    cli::process_limits::make_room_for(&mut config.hub);
    let hangups = cli::signals::handle_others()
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    config.hub.audit = open_audit_log(config.audit_log.as_deref())?;
    let broker = open_log(&config)?;
    let hub = Hub::open(config.hub.clone(), broker)
        .await
        .map_err(|error| error.to_string())?;
    let service = HubService::new(hub.clone(), config.http.clone());
    let defaults = ServerConfig::default();
    let server_config = ServerConfig {
        workers: config.hub.shards,
        tls: config.tls.clone(),
        // The kernel also gives up a peer that takes nothing, and must not be quicker than the hub has promised.
        peer_timeout: defaults.peer_timeout.max(2 * config.hub.send_timeout),
        ..defaults
    };
    let mut reloader = Reloader::new(given, service.clone(), config.tls.clone(), filter)?;
    let server = Server::listen(&config.listen, service, server_config)
        .and_then(|server| server.with_admin(&config.admin_listen))
        .map_err(|error| listen_error(&error))?;
    let stop =
        cli::signals::Stop::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    hangups.each(move || reloader.reload());
    config.hub.audit.started();
    cli::welcome::print(&config, &hub, &server);
    let shares: Vec<String> = hub
        .memory()
        .iter()
        .map(|status| {
            format!(
                "{} {}",
                status.account.name(),
                AboutBytes(status.max_bytes as u64)
            )
        })
        .collect();
    tracing::info!(
        max_body = %AboutBytes(config.http.max_body_bytes as u64),
        max_event = %AboutBytes(config.hub.max_event_bytes as u64),
        max_connections = config.hub.max_connections,
        "memory {}: {}",
        AboutBytes(config.memory_bytes as u64),
        shares.join(", "),
    );
    let proxies = &config.http.trusted_proxies;
    if !proxies.peers.is_empty() {
        let networks: Vec<_> = proxies.peers.iter().map(ToString::to_string).collect();
        tracing::info!(
            networks = networks.join(", "),
            header = %proxies.header,
            "trusted proxies tell their clients' addresses"
        );
    }
    let cut = server.run(stop.asked(), config.drain_timeout).await;
    if cut > 0 {
        tracing::warn!(streams = cut, "streams were cut at the end of the drain");
    }
    config.hub.audit.stopped();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn open_audit_log(path: Option<&Path>) -> Result<AuditLog, String> {
    let opened = match path {
        None => return Ok(AuditLog::default()),
        Some(path) if path == Path::new("-") => AuditLog::to_stdout(),
        Some(path) => AuditLog::to_file(path),
    };
    opened.map_err(|error| {
        let path = path.unwrap_or(Path::new("-")).display();
        format!("cannot write the audit log {path}: {error}; choose another file with --audit-log")
    })
}

fn open_log(config: &Config) -> Result<Arc<dyn Broker>, String> {
    let (path, durability, same_log) = match &config.storage {
        Storage::Memory => {
            let memory = MemoryConfig {
                epoch: Epoch::random(),
                max_memory_bytes: config.retention.max_bytes,
                retention: Retention {
                    max_bytes: None,
                    ..config.retention.clone()
                },
                max_pending_bytes: config.max_pending_bytes,
            };
            return Ok(MemoryBroker::new(memory));
        }
        Storage::Disk {
            path,
            durability,
            same_log,
        } => (path, *durability, *same_log),
    };
    let disk = DiskConfig {
        durability,
        same_log,
        retention: config.retention.clone(),
        cache_bytes: config.log_cache_bytes,
        max_pending_bytes: config.max_pending_bytes,
        ..DiskConfig::default()
    };
    match DiskBroker::open(path, disk) {
        Ok(broker) => Ok(broker),
        Err(
            ref error @ (OpenError::Damaged { path: ref file, .. }
            | OpenError::NotALog { path: ref file }),
        ) => Err(format!(
            "cannot keep events in {}: {error}; {}, or choose another folder with --data-dir",
            path.display(),
            cli::log::how_to_salvage(file)
        )),
        Err(error) => Err(format!(
            "cannot keep events in {}: {error}; choose another folder with --data-dir, or keep them in memory with --ephemeral",
            path.display()
        )),
    }
}

fn listen_error(error: &ListenError) -> String {
    let (address, reason) = (error.address(), error.reason());
    if reason.kind() == io::ErrorKind::AddrInUse {
        let or_free = match address {
            BoundAddress::Unix(_) => "",
            _ => ", or port 0 for a free one",
        };
        format!(
            "{address} is in use by another program; choose another address with --listen{or_free}"
        )
    } else {
        format!("cannot listen on {address}: {reason}; choose another address with --listen")
    }
}
