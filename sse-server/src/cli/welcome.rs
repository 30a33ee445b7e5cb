//! What is printed at the start: where the hub listens, and commands to paste.

use std::io::{self, Write};
use std::path::Path;

use sse_server::config::{Config, Storage};
use sse_server::hub::Hub;
use sse_server::serve::{BoundAddress, Server};

/// Says on standard output where the hub listens, and how to try it. The first lines are for programs too:
/// `listening on http://127.0.0.1:8080`, one for each address, then `management on …` for those of administrators.
pub(crate) fn print(config: &Config, hub: &Hub, server: &Server) {
    let addresses = server.addresses();
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let listening: String = addresses
        .iter()
        .map(|address| format!("listening on {}\n", url(address, scheme)))
        .collect();
    let management: String = server
        .admin_addresses()
        .map(|address| format!("management on {}\n", url(address, scheme)))
        .collect();
    let kept = match &config.storage {
        Storage::Memory => "events are kept in memory and gone when this process ends".to_owned(),
        Storage::Disk { path, .. } => format!(
            "events are kept in {} (durability: {})",
            std::path::absolute(path)
                .as_deref()
                .unwrap_or(path)
                .display(),
            hub.durability()
        ),
    };
    let curl = match addresses.first() {
        Some(address @ BoundAddress::Tcp(_)) => format!("{}/events", url(address, scheme)),
        Some(BoundAddress::Unix(path)) => {
            format!("--unix-socket {} http://localhost/events", quoted(path))
        }
        _ => return,
    };
    let hint = match addresses.first() {
        Some(BoundAddress::Tcp(_)) if config.tls.is_some() => {
            "The address below must be a name that the certificate is for; with -k curl takes any certificate, to try it.\n"
        }
        _ => "",
    };
    let managed = server.admin_addresses().next().or(addresses.first());
    let console = match managed {
        Some(address @ BoundAddress::Tcp(_)) => {
            format!("in a browser: {}/console\n", url(address, scheme))
        }
        _ => String::new(),
    };
    let text = format!(
        "{listening}{management}{kept}\n{console}\n{hint}\
         Listen in a second terminal:\n  curl -N {curl}\n\
         Publish in a third:\n  curl {curl} -H 'Content-Type: application/json' \
         -d '{{\"event_type\": \"greeting\", \"data\": {{\"hello\": \"world\"}}}}'\n\n"
    );
    // Nobody need be reading.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn url(address: &BoundAddress, scheme: &str) -> String {
    match address {
        BoundAddress::Tcp(address) => format!("{scheme}://{address}"),
        unix => unix.to_string(),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/run/hub.sock")), "/run/hub.sock");
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
