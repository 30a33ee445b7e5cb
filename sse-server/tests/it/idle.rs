//! Whom the hub lets go because nothing comes of them: idle streams, stalled ones, and peers that have vanished.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::access::{secret_file, token};
use crate::client::eventually;
use crate::server::{Server, command, folder};

#[test]
fn a_quiet_reader_stays_while_it_takes_heartbeats() {
    let server = Server::with(&["--heartbeat", "200ms", "--idle-timeout", "5s"]);
    let mut stream = server.open("/events?topic=nothing-comes");
    // Longer than the idle timeout.
    for _ in 0..40 {
        assert_eq!(stream.next_or_ping().name, "ping");
    }
    let cleaned = server.post("/events/cleanup", &json!({})).ok();
    assert_eq!(
        cleaned,
        json!({"status": "cleaned", "closed": 0, "idle": 0, "stalled": 0, "total_connections": 1})
    );
}

#[test]
fn a_reader_that_takes_nothing_at_all_is_idle_and_goes_on_where_it_was() {
    let server = Server::with(&["--heartbeat", "0", "--idle-timeout", "2s"]);
    let mut stream = server.open("/events?topic=t");
    server.publish(&json!({"topic": "t", "data": "before"}));
    assert_eq!(stream.next().data, "before");
    eventually("the idle stream is ended", || {
        // As often as anybody asks: it is the time that decides.
        server.post("/events/cleanup", &json!({})).ok();
        (server.active() == 0).then_some(())
    });
    let stats = server.get("/events/stats").ok();
    assert_eq!(stats["evicted_connections"], 1);
    let health = server.get("/sse/health").ok();
    assert_eq!(health["heartbeat"]["failures"], 0, "it had nothing to take");
    server.publish(&json!({"topic": "t", "data": "meanwhile"}));
    let mut stream = server.resume("/events?topic=t", &stream.last_id);
    assert_eq!(stream.next().data, "meanwhile");
}

#[test]
fn only_administrators_clean_up() {
    let folder = folder();
    let secret = secret_file(&folder);
    let server = Server::with(&["--jwt-secret", secret.to_str().unwrap()]);
    let ask = |grants: Value| {
        let bearer = format!("Bearer {}", token(json!({"sub": "ann", "sse": grants})));
        server.request(
            "POST",
            "/events/cleanup",
            &[("Authorization", &bearer)],
            b"",
        )
    };
    server.post("/events/cleanup", &json!({})).problem(401);
    ask(json!({"publish": ["*"]})).problem(403);
    assert_eq!(ask(json!({"admin": true})).ok()["closed"], 0);
}

/// A hub in a network of its own, in which an address can vanish.
struct Network(Server);

impl Network {
    /// Where clients are that can vanish.
    const ADDRESS: &str = "10.9.9.1";

    fn start() -> Self {
        let server = command();
        let set_up = format!(
            "ip link set lo up && ip address add {}/32 dev lo && exec \"$0\" \"$@\"",
            Self::ADDRESS
        );
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--net", "sh", "-c", &set_up])
            .arg(server.get_program())
            .args(["--listen", "127.0.0.1:0", "--ephemeral", "--core-dumps"])
            .args(["--heartbeat", "200ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in server.get_envs() {
            if value.is_none() {
                command.env_remove(name);
            }
        }
        Self(Server::spawn(command))
    }

    /// A program inside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--preserve-credentials", "--user", "--net", "--target"])
            .arg(self.0.pid().to_string())
            .arg(program);
        command
    }

    fn health(&self) -> Value {
        let url = format!("http://{}/sse/health", self.0.address);
        let mut curl = self.command("curl");
        let answer = curl.args(["-sS", &url]).output().unwrap();
        serde_json::from_slice(&answer.stdout).unwrap_or_default()
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs a network of its own, and half a minute; cargo xtask test --long runs it"]
fn a_peer_that_vanishes_is_found_by_what_it_never_acknowledges() {
    let network = Network::start();
    let url = format!("http://{}/events", network.0.address);
    let mut reader = network.command("curl");
    reader.args(["-sN", "--interface", Network::ADDRESS, &url]);
    let _reader = Killed(reader.stdout(Stdio::null()).spawn().unwrap());
    let active = |health: &Value| health["connections"]["active"] == 1;
    eventually("the reader is there", || {
        active(&network.health()).then_some(())
    });
    // As when a laptop is closed: no FIN, no RST, and nobody who answers.
    let mut vanish = network.command("ip");
    vanish.args(["address", "delete"]);
    vanish.args([&format!("{}/32", Network::ADDRESS), "dev", "lo"]);
    assert!(vanish.status().unwrap().success());
    let gone = eventually("the hub notices", || {
        let health = network.health();
        (!health.is_null() && !active(&health)).then_some(health)
    });
    let heartbeat = &gone["heartbeat"];
    assert_eq!(heartbeat["failures"], 1, "{gone}");
    assert_eq!(
        heartbeat["failures_by_cause"],
        json!({"write_failed": 0, "send_timeout": 0, "never_acknowledged": 1})
    );
}
