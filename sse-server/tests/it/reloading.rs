//! SIGHUP: the configuration is exchanged while the hub serves.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::client::eventually;
use crate::server::{Server, folder};

/// A hub with a file that the test writes.
struct Reloadable {
    server: Server,
    folder: TempDir,
    path: PathBuf,
}

impl Reloadable {
    fn with(text: &str) -> Self {
        let folder = folder();
        let path = folder.path().join("hub.toml");
        let text = text.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("secret"), [b'a'; 40]).unwrap();
        std::fs::write(&path, text).unwrap();
        let server = Server::with(&["--config", path.to_str().unwrap()]);
        Self {
            server,
            folder,
            path,
        }
    }

    /// Writes the file, and lets the hub read it; what the hub says of that.
    fn now_says(&self, text: &str) -> String {
        let text = text.replace("FOLDER", self.folder.path().to_str().unwrap());
        std::fs::write(&self.path, text).unwrap();
        let before = self.server.stderr().matches("SIGHUP").count();
        self.server.signal("HUP");
        eventually("it is told", || {
            let log = self.server.stderr();
            let mut lines = log.lines().filter(|line| line.contains("SIGHUP"));
            lines.nth(before).map(str::to_owned)
        })
    }
}

fn token(secret: &[u8]) -> String {
    let exp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    let claims = json!({"sub": "ann", "exp": exp, "sse": {"subscribe": ["*"], "publish": ["*"], "admin": true}});
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    format!("Bearer {}", token.unwrap())
}

#[test]
fn what_can_be_exchanged_is_and_streams_go_on() {
    let hub = Reloadable::with("jwt-secret = \"FOLDER/secret\"\n");
    let (old, new) = (token(&[b'a'; 40]), token(&[b'b'; 40]));
    let as_old = [("Authorization", old.as_str())];
    let as_new = [("Authorization", new.as_str())];
    let server = &hub.server;
    let mut stream = server.open_with("/events?topic=news", &as_old);
    server.get("/events/poll?topic=news").problem(401);
    server.request("GET", "/metrics", &as_new, b"").problem(401);

    // Another secret in the same file, rights for everyone, a rate, a log level; and what needs a restart.
    std::fs::write(hub.folder.path().join("secret"), [b'b'; 40]).unwrap();
    let told = hub.now_says(
        "jwt-secret = \"FOLDER/secret\"\nlog = \"debug\"\nmax-connections = 5\npublish-rate = \"2/h:2\"\n\
         [anonymous]\nsubscribe = [\"news\"]\n",
    );
    for words in [
        "log, ",
        "anonymous",
        "publish-rate",
        "needs_restart=\"max-connections\"",
        "streams_ended=0",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    server.get("/events/poll?topic=news").ok();
    server
        .request("GET", "/events/poll", &as_old, b"")
        .problem(401);
    let publish = |data: &str| {
        server.request(
            "POST",
            "/events",
            &as_new,
            json!({"topic": "news", "data": data})
                .to_string()
                .as_bytes(),
        )
    };
    publish("one").ok();
    publish("two").ok();
    publish("three").problem(429);
    // The stream was opened with a token that was good then, and goes on.
    assert_eq!(stream.next().data, "one");
    assert_eq!(stream.next().data, "two");
    let metrics = server.request("GET", "/metrics", &as_new, b"").text();
    assert!(
        metrics.contains("sse_config_reloads_total 1\n"),
        "{metrics}"
    );
    drop(server.open_with("/events", &as_new));
    eventually("debug lines are there", || {
        server.stderr().contains("DEBUG").then_some(())
    });

    // What needs a restart is told until there is one.
    let told = hub.now_says("jwt-secret = \"FOLDER/secret\"\nmax-connections = 5\n");
    assert!(told.contains("needs_restart=\"max-connections\""), "{told}");
    server.get("/events/poll?topic=news").problem(401);
    publish("four").ok();
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let hub =
        Reloadable::with("jwt-secret = \"FOLDER/secret\"\n[anonymous]\nsubscribe = [\"news\"]\n");
    let server = &hub.server;
    server.get("/events/poll?topic=news").ok();
    for (text, reason) in [
        ("jwt-secret = \"FOLDER/secret\"\nno-such = 1", "no-such"),
        ("jwt-secret = \"FOLDER/nowhere\"", "nowhere"),
        ("jwt-secret = \"FOLDER/secret\"\nlog = \"a=b=c\"", "filter"),
        (
            "jwt-secret = \"FOLDER/secret\"\nheartbeat = \"soon\"",
            "heartbeat",
        ),
        // It would open the hub.
        ("", "switched off"),
        ("not toml", "line 1"),
    ] {
        let told = hub.now_says(text);
        assert!(
            told.contains(reason) && told.contains("ERROR"),
            "{text}: {told}"
        );
        server.get("/events/poll?topic=news").ok();
        server.get("/events/poll?topic=other").problem(401);
    }
    std::fs::remove_file(&hub.path).unwrap();
    server.signal("HUP");
    eventually("it is told", || {
        server
            .stderr()
            .contains("cannot read the configuration file")
            .then_some(())
    });
    server.get("/events/poll?topic=news").ok();
    let admin = token(&[b'a'; 40]);
    let metrics = server
        .request("GET", "/metrics", &[("Authorization", &admin)], b"")
        .text();
    assert!(
        metrics.contains("sse_config_reloads_refused_total 7\n"),
        "{metrics}"
    );
}

#[test]
fn a_way_to_show_who_one_is_that_goes_takes_its_streams_along() {
    let hub = Reloadable::with("jwt-secret = \"FOLDER/secret\"\ntoken-file = \"FOLDER/tokens\"\n");
    let bearer = token(&[b'a'; 40]);
    let mut stream = hub
        .server
        .open_with("/events?topic=news", &[("Authorization", &bearer)]);
    let told = hub.now_says("token-file = \"FOLDER/tokens\"\n");
    assert!(
        told.contains("streams_ended=1") && told.contains("jwt-secret"),
        "{told}"
    );
    let (events, _) = stream.rest();
    assert_eq!(events.last().unwrap().json()["code"], "revoked");
}

#[test]
fn publishes_go_on_while_it_reloads_and_none_is_lost() {
    let hub = Reloadable::with("max-jobs = 7\n");
    let server = &hub.server;
    let mut stream = server.open("/events?topic=t");
    for n in 0..200 {
        if n % 10 == 0 {
            server.signal("HUP");
        }
        server.publish(&json!({"topic": "t", "data": n.to_string()}));
    }
    for n in 0..200 {
        assert_eq!(stream.next().data, n.to_string());
    }
}
