//! `sse-server access check`.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::json;

use super::{now, secret_file, signed, token};
use crate::server::{Server, command, folder};

fn check(args: &[&str], input: &str) -> Output {
    let folder = folder();
    let secret = secret_file(&folder);
    let mut command = command();
    command
        .args(["access", "check", "--jwt-secret", secret.to_str().unwrap()])
        .args(args)
        .stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn it_says_what_the_hub_would_and_why() {
    let ann = token(json!({"sub": "ann", "sid": "s", "jti": "t-1", "sse": {
        "publish": ["job/*", {"topic": "news", "event_types": ["flash"]}], "subscribe": ["job/*"], "issue": true}}));
    let expired = signed(
        &jsonwebtoken::Header::default(),
        &json!({"sub": "ann", "exp": now() - 60}),
    );
    for (token, args, status, words) in [
        (
            &ann,
            &["--topic", "job/7"][..],
            0,
            &[
                "user: ann",
                "session: s",
                "id: t-1",
                "allowed: granted by job/*",
            ][..],
        ),
        (
            &ann,
            &["--topic", "news"],
            1,
            &["refused with 403", "reading \"news\" is not granted"],
        ),
        (&ann, &["--topic", "user/ann"], 0, &["the caller's own"]),
        (&ann, &["--topic", "user/bob"], 1, &["403"]),
        (&ann, &["--topic", "job/:id/log"], 0, &["allowed"]),
        (
            &ann,
            &["--topic", "news", "--action", "publish"],
            1,
            &["for events of the type \"message\""],
        ),
        (
            &ann,
            &[
                "--topic",
                "news",
                "--action",
                "publish",
                "--event-type",
                "flash",
            ],
            0,
            &["granted by news (only flash)"],
        ),
        (&ann, &["--action", "issue"], 0, &["allowed"]),
        (&ann, &["--action", "admin"], 1, &["needs the grant admin"]),
        (
            &expired,
            &["--topic", "job/7"],
            1,
            &["refused with 401: the token has expired"],
        ),
        (&"nonsense".to_owned(), &["--topic", "job/7"], 1, &["401"]),
    ] {
        let output = check(&[&["--token", "-"], args].concat(), &format!("{token}\n"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
        for words in words {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains(token.as_str()));
    }
    let nobody = check(
        &[
            "--topic",
            "job/7",
            "--anonymous",
            r#"{"subscribe": ["news"]}"#,
        ],
        "",
    );
    let text = String::from_utf8(nobody.stdout).unwrap();
    assert!(
        text.contains("refused with 401") && text.contains("subscribe: news"),
        "{text}"
    );
    assert_eq!(check(&["--token", "x"], "").status.code(), Some(2));
    assert_eq!(
        check(&["--topic", "a", "--action", "fly"], "")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_token_that_it_signs_is_taken_with_the_secret_or_the_public_key() {
    let folder = folder();
    let secret = secret_file(&folder);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut ways = vec![(
        "--jwt-secret",
        secret.to_str().unwrap().to_owned(),
        secret.to_str().unwrap().to_owned(),
    )];
    for (name, algorithm) in [
        ("ec", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("ed", &rcgen::PKCS_ED25519),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let (private, public) = (path(name), path(&format!("{name}.pub")));
        std::fs::write(&private, key.serialize_pem()).unwrap();
        std::fs::write(&public, key.public_key_pem()).unwrap();
        ways.push(("--private-key", private, public));
    }
    for (flag, key, of_hub) in ways {
        let mut sign = command();
        sign.args([
            "token",
            "sign",
            flag,
            &key,
            "--user",
            "ann",
            "--subscribe",
            "news",
        ]);
        sign.args(["--issuer", "app", "--audience", "hub", "--expires", "1m"]);
        let signed = sign.output().unwrap();
        assert!(signed.status.success(), "{signed:?}");
        let token = String::from_utf8(signed.stdout).unwrap();
        let keys = if flag == "--private-key" {
            "--jwt-key"
        } else {
            flag
        };
        let hub = Server::with(&[
            keys,
            &of_hub,
            "--jwt-issuer",
            "app",
            "--jwt-audience",
            "hub",
        ]);
        let bearer = format!("Bearer {}", token.trim());
        let open = |path: &str| hub.try_open(path, &[("Authorization", &bearer)]);
        assert!(open("/events?topic=news&topic=user/ann").is_ok());
        assert!(open("/events?topic=olds").is_err_and(|refused| refused.status == 403));
    }
    let mut sign = command();
    sign.args(["token", "sign", "--private-key", secret.to_str().unwrap()]);
    let refused = sign.output().unwrap();
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("openssl genpkey"),
        "{refused:?}"
    );
}
