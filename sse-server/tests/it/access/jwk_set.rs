//! Keys at a URL.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use super::application::{App, good, status};
use super::now;
use crate::client::{Reply, eventually};
use crate::server::Server;
use crate::starting::complaint;

/// A key and its name.
struct Named(KeyPair, &'static str);

impl Named {
    fn new(id: &'static str) -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap(), id)
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key_raw());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.1, "x": x})
    }

    fn token(&self, claims: Value) -> String {
        let mut all = json!({"iss": "https://id.example", "aud": "hub", "sub": "ann", "exp": now() + 600,
            "sse": {"subscribe": ["*"]}});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let header = Header {
            kid: Some(self.1.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        let key = EncodingKey::from_ed_pem(self.0.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &all, &key).unwrap()
    }
}

/// Whoever publishes the keys: answers what stands in it, 500 for nothing.
struct Provider {
    app: App,
    set: Arc<Mutex<String>>,
}

impl Provider {
    fn with(keys: &[&Named]) -> Self {
        let set = Arc::new(Mutex::new(set_of(keys)));
        let answer = {
            let set = Arc::clone(&set);
            move |_: &_| match set.lock().unwrap().as_str() {
                "" => status("500 Broken"),
                set => good(set),
            }
        };
        Self {
            app: App::start(answer),
            set,
        }
    }

    fn has(&self, keys: &[&Named]) {
        *self.set.lock().unwrap() = set_of(keys);
    }

    fn says(&self, text: &str) {
        *self.set.lock().unwrap() = text.to_owned();
    }

    fn hub(&self) -> Server {
        Server::with(&[
            "--jwt-jwks-url",
            &format!("http://{}/jwks.json", self.app.address),
            "--jwt-issuer",
            "https://id.example",
            "--jwt-audience",
            "hub",
        ])
    }
}

fn set_of(keys: &[&Named]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({"keys": keys}).to_string()
}

fn poll(hub: &Server, token: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    hub.request(
        "GET",
        "/events/poll?topic=a",
        &[("Authorization", &bearer)],
        b"",
    )
}

#[test]
fn keys_are_exchanged_while_the_hub_runs_and_an_old_one_signs_no_more() {
    let (old, new) = (Named::new("old"), Named::new("new"));
    let provider = Provider::with(&[&old]);
    let hub = provider.hub();
    let of_old = old.token(json!({}));
    poll(&hub, &of_old).ok();
    poll(&hub, &of_old).ok();
    for claims in [
        json!({"iss": "https://other.example"}),
        json!({"aud": "shop"}),
        json!({"aud": null}),
        json!({"iss": null}),
        json!({"exp": now() - 1}),
    ] {
        poll(&hub, &old.token(claims)).problem(401);
    }
    // Another key of that name.
    poll(&hub, &Named::new("old").token(json!({}))).problem(401);
    provider.has(&[&new]);
    let of_new = new.token(json!({}));
    // A flood of tokens with names that nobody knows fetches the keys once in ten seconds.
    let unknown = Named::new("unknown").token(json!({}));
    for _ in 0..50 {
        poll(&hub, &unknown).problem(401);
    }
    assert!(
        provider.app.asked().len() <= 2,
        "{}",
        provider.app.asked().len()
    );
    eventually("the new key is there", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        (poll(&hub, &of_new).status == 200).then_some(())
    });
    poll(&hub, &of_old).problem(401);
    assert!(
        provider.app.asked().len() <= 4,
        "{}",
        provider.app.asked().len()
    );
    let asked = &provider.app.asked()[0];
    assert!(asked.line.starts_with("GET /jwks.json "), "{}", asked.line);
}

#[test]
fn without_keys_nobody_is_let_in_and_it_is_said_that_this_passes() {
    let key = Named::new("a");
    for set in [
        "",
        "nonsense",
        r#"{"keys": []}"#,
        r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}"#,
        &format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(100_000)),
    ] {
        let provider = Provider::with(&[&key]);
        provider.says(set);
        let hub = provider.hub();
        let reply = poll(&hub, &key.token(json!({})));
        reply.problem(503);
        assert!(reply.header("retry-after").is_some(), "{set:.40}");
        // Who shows nothing is not concerned.
        hub.get("/livez");
        poll(&hub, "nonsense").problem(401);
    }
    // With the keys there, it goes on by itself.
    let provider = Provider::with(&[&key]);
    provider.says("");
    let hub = provider.hub();
    poll(&hub, &key.token(json!({}))).problem(503);
    provider.has(&[&key]);
    eventually("the keys are fetched", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        (poll(&hub, &key.token(json!({}))).status == 200).then_some(())
    });
}

#[test]
fn keys_of_many_services_need_issuer_and_audience_and_come_encrypted() {
    let url = ["--ephemeral", "--jwt-jwks-url", "https://id.example/jwks"];
    for more in [
        &[][..],
        &["--jwt-issuer", "https://id.example"],
        &["--jwt-audience", "hub"],
    ] {
        let said = complaint(&[&url[..], more].concat(), &[]);
        assert!(said.contains("--jwt-issuer and --jwt-audience"), "{said}");
    }
    let both = [
        "--jwt-issuer",
        "https://id.example",
        "--jwt-audience",
        "hub",
    ];
    for url in [
        "http://id.example/jwks",
        "ftp://id.example/",
        "https://u:hunter2@id.example/",
    ] {
        let said = complaint(
            &[&["--ephemeral", "--jwt-jwks-url", url], &both[..]].concat(),
            &[],
        );
        assert!(
            said.contains("--jwt-jwks-url") && !said.contains("hunter2"),
            "{said}"
        );
    }
}
