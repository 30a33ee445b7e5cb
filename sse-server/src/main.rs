//! The server binary: reads the configuration, opens the log, serves until it is told to stop; and the
//! tools for the log of a hub that is stopped.

mod cli;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use sse_broker::{Broker, DiskBroker, DiskConfig, Epoch, MemoryBroker, MemoryConfig};
use sse_server::config::{Config, Settings, Storage, read_file};
use sse_server::http::HubService;
use sse_server::hub::Hub;
use sse_server::serve::{Server, ServerConfig, Tls};
use tokio::runtime::Runtime;

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
    /// Run the hub; what happens without a command too
    Serve(Box<Serve>),
    /// Look at, check, make small and copy the log of a hub that is not running
    Log(cli::log::Args),
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
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let outcome = match cli.command {
        Some(Command::Serve(serve)) => run(*serve),
        Some(Command::Log(args)) => cli::log::run(args),
        None => run(cli.serve),
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
fn parse() -> Result<Cli, ExitCode> {
    let matches = Cli::command().try_get_matches();
    let error = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
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
    let _ = writeln!(io::stderr(), "{} (see --help)", line.join("; "));
    Err(ExitCode::from(2))
}

fn run(serve: Serve) -> Result<ExitCode, String> {
    let file = match &serve.config {
        Some(path) => read_file(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let config = Config::new(serve.settings.or(file)).map_err(|error| error.to_string())?;
    cli::telemetry::init(&config.log, config.log_format)?;
    let runtime = runtime().map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(serve_until_told(config))
}

/// On one core one thread serves everything, and nothing is handed from thread to thread. On more, each worker has a
/// runtime of its own and this one keeps house.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn serve_until_told(config: Config) -> Result<ExitCode, String> {
    cli::open_files::make_room_for(config.hub.max_connections);
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
    let server = Server::bind(config.listen, service, server_config)
        .map_err(|error| bind_error(config.listen, &error))?;
    let signals = Signals::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    if let Some(tls) = &config.tls {
        check_dates(tls);
        renew_when_told(tls.clone())
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
    }
    welcome(&config, &hub, server.local_addr());
    let cut = server.run(signals.stop(), config.drain_timeout).await;
    if cut > 0 {
        tracing::warn!(streams = cut, "streams were cut at the end of the drain");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn open_log(config: &Config) -> Result<Arc<dyn Broker>, String> {
    let (path, durability) = match &config.storage {
        Storage::Memory => {
            let memory = MemoryConfig {
                epoch: Epoch::random(),
                retention: config.retention.clone(),
                ..MemoryConfig::default()
            };
            return Ok(MemoryBroker::new(memory));
        }
        Storage::Disk { path, durability } => (path, *durability),
    };
    let durable = DiskConfig {
        durability,
        retention: config.retention.clone(),
        ..DiskConfig::default()
    };
    match DiskBroker::open(path, durable) {
        Ok(broker) => Ok(broker),
        Err(error) => Err(format!(
            "cannot keep events in {}: {error}; choose another folder with --data-dir, or keep them in memory with --ephemeral",
            path.display()
        )),
    }
}

fn bind_error(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        format!(
            "{address} is in use by another program; choose another address with --listen, or port 0 for a free one"
        )
    } else {
        format!("cannot listen on {address}: {error}; choose another address with --listen")
    }
}

/// What a person at the terminal needs next.
fn welcome(config: &Config, hub: &Hub, address: SocketAddr) {
    let kept = match &config.storage {
        Storage::Memory => "events are kept in memory and gone when this process ends".to_owned(),
        Storage::Disk { path, .. } => format!(
            "events are kept in {} (durability: {})",
            std::path::absolute(path)
                .as_deref()
                .unwrap_or(Path::new(path))
                .display(),
            hub.durability()
        ),
    };
    let (scheme, hint) = match &config.tls {
        None => ("http", ""),
        Some(_) => (
            "https",
            "The address below must be a name that the certificate is for; with -k curl takes any certificate, to try it.\n",
        ),
    };
    let text = format!(
        "listening on {scheme}://{address}\n{kept}\n\n{hint}\
         Listen in a second terminal:\n  curl -N {scheme}://{address}/events\n\
         Publish in a third:\n  curl {scheme}://{address}/events -H 'Content-Type: application/json' \
         -d '{{\"event_type\": \"greeting\", \"data\": {{\"hello\": \"world\"}}}}'\n\n"
    );
    // Nobody need be reading.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says if clients will refuse the certificate for its dates. The server starts nevertheless: some take any.
fn check_dates(tls: &Tls) {
    if let Err(error) = tls.check_dates(sse_server::clock::unix_millis()) {
        tracing::error!("{error}");
    }
}

/// Reads the certificate again at each SIGHUP.
#[cfg(unix)]
fn renew_when_told(tls: Tls) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => {
                    tracing::info!("the certificate was read again");
                    check_dates(&tls);
                }
                Err(error) => tracing::error!(%error, "the certificate stays the old one"),
            }
        }
    });
    Ok(())
}

/// Elsewhere there is no such signal.
#[cfg(not(unix))]
fn renew_when_told(_tls: Tls) -> io::Result<()> {
    Ok(())
}

/// The signals that end the server: the first lets it drain, the second does not wait.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn stop(mut self) {
        self.one().await;
        tokio::spawn(async move {
            self.one().await;
            let _ = writeln!(io::stderr(), "stopped at once");
            std::process::exit(130);
        });
    }

    #[cfg(unix)]
    async fn one(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn stop(self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
