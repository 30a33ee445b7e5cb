//! The servers that can be measured, and how each is spoken to.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Failure, Outcome};

/// Whose turn it is to show a token.
static TURN: AtomicUsize = AtomicUsize::new(0);
/// So many different grants the tokens have.
const GRANT_SETS: usize = 100;

/// How a server wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// This project's: JSON with the topic beside the data. Readers show the tokens in turn, publishers the first one.
    Hub { tokens: &'static [String] },
    /// The topic in the query, the data as the body: the floor, axum, nchan.
    Plain {
        subscribe: &'static str,
        publish: &'static str,
    },
}

impl Dialect {
    /// The request that opens a stream of `topic`.
    pub(crate) fn subscribe(
        self,
        addr: SocketAddrV4,
        topic: &str,
        encoding: Option<&str>,
    ) -> Vec<u8> {
        let path = match self {
            Self::Hub { .. } => "/events",
            Self::Plain { subscribe, .. } => subscribe,
        };
        let mut request = format!(
            "GET {path}?topic={topic} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n"
        );
        if let Some(encoding) = encoding {
            request.push_str(&format!("Accept-Encoding: {encoding}\r\n"));
        }
        if let Self::Hub { tokens } = self
            && !tokens.is_empty()
        {
            let turn = TURN.fetch_add(1, Ordering::Relaxed);
            let token = &tokens[turn % tokens.len()];
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// Writes the request that publishes `payload` to `topic` into `out`.
    pub(crate) fn publish(
        self,
        addr: SocketAddrV4,
        topic: &str,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let (target, before, after) = match self {
            Self::Hub { .. } => (
                "/events".to_owned(),
                format!("{{\"topic\":\"{topic}\",\"data\":"),
                "}",
            ),
            Self::Plain { publish, .. } => (format!("{publish}?topic={topic}"), String::new(), ""),
        };
        let len = before.len() + payload.len() + after.len();
        let authorization = match self {
            Self::Hub {
                tokens: [token, ..],
            } => format!("Authorization: Bearer {token}\r\n"),
            _ => String::new(),
        };
        out.clear();
        out.extend_from_slice(
            format!(
                "POST {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
                 {authorization}Content-Length: {len}\r\n\r\n{before}"
            )
            .as_bytes(),
        );
        out.extend_from_slice(payload);
        out.extend_from_slice(after.as_bytes());
    }
}

/// A server that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The bare loop, one write for each event and reader.
    Raw,
    /// The bare loop, all waiting events in one write for each reader.
    RawCoalesce,
    /// This project's server, everything in memory.
    Hub(PathBuf),
    /// This project's server with its log on disk.
    HubDurable(PathBuf),
    /// This project's server without the delay that gathers events under load.
    HubNoLinger(PathBuf),
    /// This project's server, and everyone shows a token.
    HubSigned(PathBuf, Signature),
    /// nginx with nchan, and the module's file.
    Nchan(PathBuf),
    /// axum's `Sse` over a broadcast channel.
    Axum(PathBuf),
}

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    Hs256,
    Es256,
}

/// What starting a target needs to know.
pub(crate) struct Place<'a> {
    pub(crate) addr: SocketAddrV4,
    /// A folder of the server's own, removed when it ends.
    pub(crate) dir: &'a Path,
    /// Arguments for the hub from the command line.
    pub(crate) server_args: &'a [String],
    /// Arguments that the shape asks of the hub.
    pub(crate) shape_args: &'a [&'a str],
}

impl Target {
    /// The name in tables and on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::RawCoalesce => "raw-coalesce",
            Self::Hub(_) => "hub",
            Self::HubDurable(_) => "hub-durable",
            Self::HubNoLinger(_) => "hub-no-linger",
            Self::HubSigned(_, Signature::Hs256) => "hub-hs256",
            Self::HubSigned(_, Signature::Es256) => "hub-es256",
            Self::Nchan(_) => "nchan",
            Self::Axum(_) => "axum",
        }
    }

    /// Whether it is this project's server.
    pub(crate) fn is_hub(&self) -> bool {
        matches!(
            self,
            Self::Hub(_) | Self::HubDurable(_) | Self::HubNoLinger(_) | Self::HubSigned(..)
        )
    }

    pub(crate) fn dialect(&self, tokens: &'static [String]) -> Dialect {
        match self {
            Self::Hub(_) | Self::HubDurable(_) | Self::HubNoLinger(_) | Self::HubSigned(..) => {
                Dialect::Hub { tokens }
            }
            Self::Nchan(_) => Dialect::Plain {
                subscribe: "/sub",
                publish: "/pub",
            },
            Self::Raw | Self::RawCoalesce | Self::Axum(_) => Dialect::Plain {
                subscribe: "/events",
                publish: "/publish",
            },
        }
    }

    /// Makes a key in `dir`, and tokens of as many different grants as readers of an application may have.
    pub(crate) fn tokens(&self, dir: &Path) -> Outcome<Vec<String>> {
        let Self::HubSigned(program, signature) = self else {
            return Ok(Vec::new());
        };
        let key = dir.join("key");
        let make = match signature {
            Signature::Hs256 => "openssl rand -base64 48 > key",
            Signature::Es256 => {
                "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key 2>openssl.log \
                 && openssl pkey -in key -pubout -out key.pub"
            }
        };
        let made = Command::new("sh")
            .args(["-c", make])
            .current_dir(dir)
            .status()?;
        if !made.success() {
            return Err(Failure::new(
                "openssl could not make a key: is it installed?".to_owned(),
            ));
        }
        let flag = match signature {
            Signature::Hs256 => "--jwt-secret",
            Signature::Es256 => "--private-key",
        };
        let sign = |number: usize| {
            let signed = Command::new(program)
                .args(["token", "sign", flag])
                .arg(&key)
                .args([
                    "--id",
                    &format!("t{number}"),
                    "--publish",
                    "*",
                    "--subscribe",
                    "*",
                ])
                .args(["--subscribe", &format!("own-{number}")])
                .output()?;
            if !signed.status.success() {
                let why = String::from_utf8_lossy(&signed.stderr);
                return Err(Failure::new(format!("no token was signed: {why}")));
            }
            Ok(String::from_utf8_lossy(&signed.stdout).trim().to_owned())
        };
        (0..GRANT_SETS).map(sign).collect()
    }

    /// The command that starts it at `place`.
    pub(crate) fn command(&self, place: &Place<'_>) -> std::io::Result<Command> {
        let port = place.addr.port().to_string();
        let hub = |program: &Path| {
            let mut command = Command::new(program);
            command
                .args(["--listen", &place.addr.to_string()])
                .args(["--max-connections", "20000"])
                .args(["--max-connections-per-ip", "20000"])
                .args(["--heartbeat", "0", "--log", "warn"])
                .args(place.shape_args)
                .args(place.server_args);
            command
        };
        Ok(match self {
            Self::Raw | Self::RawCoalesce => {
                let writes = if *self == Self::Raw {
                    "each"
                } else {
                    "together"
                };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", &port, writes]);
                command
            }
            Self::Hub(program) => {
                let mut command = hub(program);
                command.arg("--ephemeral");
                command
            }
            Self::HubNoLinger(program) => {
                let mut command = hub(program);
                command.args(["--ephemeral", "--max-linger", "0"]);
                command
            }
            Self::HubSigned(program, signature) => {
                let mut command = hub(program);
                let (flag, file) = match signature {
                    Signature::Hs256 => ("--jwt-secret", "key"),
                    Signature::Es256 => ("--jwt-key", "key.pub"),
                };
                command.args(["--ephemeral", "--max-connections-per-user", "20000"]);
                command.arg(flag).arg(place.dir.join(file));
                command
            }
            Self::HubDurable(program) => {
                let mut command = hub(program);
                command.arg("--data-dir").arg(place.dir.join("data"));
                command
            }
            Self::Nchan(module) => {
                std::fs::write(place.dir.join("nginx.conf"), nginx_conf(module, place))?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(place.dir);
                command.arg("-c").arg(place.dir.join("nginx.conf"));
                command.arg("-e").arg(place.dir.join("error.log"));
                command
            }
            Self::Axum(program) => {
                let mut command = Command::new(program);
                command.arg(port);
                command
            }
        })
    }
}

/// Where nginx's nchan module is, if both are installed.
pub(crate) fn nchan_module() -> Option<PathBuf> {
    let about = Command::new("nginx").arg("-V").output().ok()?;
    let about = String::from_utf8_lossy(&about.stderr).into_owned();
    let folder = about
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="))?;
    let module = Path::new(folder).join("ngx_nchan_module.so");
    module.is_file().then_some(module)
}

/// One worker that does nothing but nchan, without its default limits.
fn nginx_conf(module: &Path, place: &Place<'_>) -> String {
    let dir = place.dir.display();
    format!(
        "load_module {};
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/pid;
error_log {dir}/error.log crit;
events {{ use epoll; worker_connections 19500; multi_accept on; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen {} backlog=4096;
    location = /sub {{
      nchan_subscriber eventsource;
      nchan_channel_id $arg_topic;
      nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval 0;
    }}
    location = /pub {{
      nchan_publisher;
      nchan_channel_id $arg_topic;
      nchan_message_buffer_length 1024;
      nchan_message_timeout 1m;
    }}
  }}
}}
",
        module.display(),
        place.addr
    )
}
