//! Whatever stands behind `Bearer`, nobody is let in who has not the secret, and nothing panics; and of what was signed, whatever its
//! header and claims are, only what is valid is taken.

#![no_main]

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use sse_server::access::authentication::{AuthenticationConfig, JwtKeys, JwtRules, Presented};
use sse_server::access::{Authentication, Caller, Grants};
use tokio::runtime::{Builder, Runtime};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes, and some more";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

static AUTHENTICATION: LazyLock<Authentication> = LazyLock::new(|| {
    Authentication::new(AuthenticationConfig {
        jwt: Some((
            JwtKeys::from_secret(SECRET).expect("a secret"),
            JwtRules::default(),
        )),
        anonymous: Grants::nothing(),
        ..AuthenticationConfig::default()
    })
    .expect("no files")
});

fn caller(token: &str) -> Option<Caller> {
    let authorization = format!("Bearer {token}");
    let shown = Presented {
        authorization: Some(&authorization),
        ..Presented::at(Ipv4Addr::LOCALHOST.into())
    };
    RUNTIME.block_on(AUTHENTICATION.caller(shown)).ok()
}

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (text, header, claims) = input;
    assert!(caller(text).is_none(), "{text}");
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let sign = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    assert!(caller(&sign(&[0; 48])).is_none(), "{signed}");
    if let Some(caller) = caller(&sign(SECRET)) {
        let claims: serde_json::Value = serde_json::from_slice(claims).expect("they were read");
        let header: serde_json::Value = serde_json::from_slice(header).expect("it was read");
        assert_eq!(header["alg"], "HS256");
        assert!(claims["exp"].is_number());
        let credential = caller.credential().expect("a token");
        assert!(credential.expires_at.is_some());
        // A name is one segment of a topic, whatever it was.
        assert!(!caller.user().unwrap_or_default().contains(['/', '*']));
    }
});
