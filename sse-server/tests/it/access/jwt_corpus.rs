//! Tokens as attackers write them: each is refused, and never taken for none.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Guarded, SECRET, now, token};
use crate::server::{Server, folder};

/// A token with this header and these claims, as they are written, signed with HS256.
fn written(header: &str, claims: &str) -> String {
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
    );
    hs256(&format!("{header}.{claims}"), SECRET)
}

fn hs256(signed: &str, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256"}"#;

fn claims(more: &str) -> String {
    format!("{{\"sub\":\"ann\",\"exp\":{}{more}}}", now() + 600)
}

/// Signed with the right secret, and wrong in what it says.
fn wrong_claims() -> Vec<(&'static str, String)> {
    let with_exp = |exp: &str| format!("{{\"sub\":\"ann\",\"exp\":{exp}}}");
    let mut all = vec![
        ("claims are a list", "[]".to_owned()),
        ("claims are text", "\"ann\"".to_owned()),
        ("claims are nothing", String::new()),
        ("claims break off", "{\"sub\":\"ann\"".to_owned()),
        ("no claims", "{}".to_owned()),
        (
            "exp twice",
            format!("{{\"exp\":1,\"exp\":{}}}", now() + 600),
        ),
        (
            "exp twice, the good one first",
            format!("{{\"exp\":{},\"exp\":1}}", now() + 600),
        ),
        ("sub twice", claims(",\"sub\":\"root\"")),
        (
            "deep",
            claims(&format!(
                ",\"x\":{}{}",
                "[".repeat(5_000),
                "]".repeat(5_000)
            )),
        ),
    ];
    for exp in [
        "\"9999999999\"",
        "null",
        "true",
        "[]",
        "{}",
        "-1",
        "0",
        "1e400",
        "-0.0",
        "1e300",
        "99999999999999999999999",
        "253402300800",
    ] {
        all.push(("exp", with_exp(exp)));
    }
    all.push(("exp a second ago", with_exp(&(now() - 1).to_string())));
    for (name, values) in [
        (
            "nbf",
            &["\"0\"", "null_", "[]", "-5", "1e400", "9999999999"][..],
        ),
        ("iat", &["\"0\"", "[]", "{}", "-5"]),
        ("jti", &["7", "[]", "{}", "\"\"", "true"]),
        ("sub2", &[]),
        ("sid", &["[]", "{}", "true"]),
        (
            "sse",
            &[
                "7",
                "\"*\"",
                "[]",
                "{\"write\":[\"*\"]}",
                "{\"publish\":\"*\"}",
                "{\"admin\":\"yes\"}",
                "{\"publish\":[7]}",
            ],
        ),
    ] {
        for value in values {
            all.push((name, claims(&format!(",\"{name}\":{value}"))));
        }
    }
    for sub in ["[]", "{}", "true"] {
        all.push(("sub", format!("{{\"sub\":{sub},\"exp\":{}}}", now() + 600)));
    }
    all
}

/// Wrong in how it is written or signed.
fn wrong_forms() -> Vec<(&'static str, String)> {
    let good = token(json!({"sub": "ann"}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims_part) = signed.split_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut flipped = bytes.clone();
    flipped[0] ^= 1;
    let unsigned = |header: &str| format!("{}.{claims_part}.", URL_SAFE_NO_PAD.encode(header));
    let mut all = vec![
        ("empty parts", "..".to_owned()),
        ("one dot", signed.to_owned()),
        ("no dot", header.to_owned()),
        ("a part more", format!("{good}.{signature}")),
        ("a dot more", format!("{good}.")),
        ("a dot before", format!(".{good}")),
        ("no signature", format!("{signed}.")),
        (
            "a bit",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(flipped)),
        ),
        (
            "cut",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes[..16])),
        ),
        (
            "zeros",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        ),
        ("longer", format!("{signed}.{signature}AA")),
        ("padded", format!("{signed}.{}", URL_SAFE.encode(&bytes))),
        (
            "padded header",
            format!("{header}=.{claims_part}.{signature}"),
        ),
        (
            "other alphabet",
            hs256(
                &format!(
                    "{}.{claims_part}",
                    STANDARD.encode("{\"alg\":\"HS256\",\"x\":\"\u{fbff}\u{fbff}\"}")
                ),
                SECRET,
            ),
        ),
        (
            "claims of another",
            format!(
                "{header}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(claims(""))
            ),
        ),
        ("another secret", hs256(signed, &[b'x'; 48])),
        ("no secret", hs256(signed, b"")),
        (
            "huge",
            written(
                HS256,
                &claims(&format!(",\"x\":\"{}\"", "x".repeat(20_000))),
            ),
        ),
        (
            "huge header",
            written(
                &format!("{{\"alg\":\"HS256\",\"x\":\"{}\"}}", "x".repeat(20_000)),
                &claims(""),
            ),
        ),
        (
            "a JWE",
            format!("{header}.{claims_part}.{signature}.{signature}.{signature}"),
        ),
    ];
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        all.push(("alg none", unsigned(&json!({"alg": alg}).to_string())));
        all.push((
            "alg none, signed",
            written(&json!({"alg": alg}).to_string(), &claims("")),
        ));
    }
    for alg in [
        "HS384",
        "HS512",
        "RS256",
        "ES256",
        "EdDSA",
        "HS1",
        "hs256",
        "HS256 ",
        "RS256\u{0}",
    ] {
        all.push((
            "another alg",
            written(&json!({"alg": alg}).to_string(), &claims("")),
        ));
    }
    for header in [
        "{}",
        "[]",
        "\"HS256\"",
        "{\"alg\":7}",
        "{\"alg\":[\"HS256\"]}",
        "{\"alg\":null}",
        "{\"alg\":\"HS256\"",
        "",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}",
        "{\"alg\":\"HS256\",\"crit\":[]}",
    ] {
        all.push(("header", written(header, &claims(""))));
    }
    all
}

#[test]
fn tokens_that_are_wrong_in_any_way_are_refused_and_never_taken_for_none() {
    let hub = Guarded::start(&[
        "--anonymous",
        r#"{"subscribe": ["*"], "publish": ["*"]}"#,
        "--failed-credential-rate",
        "0",
    ]);
    // The corpus can tell good from bad.
    hub.get(&written(HS256, &claims("")), "/events/poll").ok();
    let mut count = 0;
    for (what, token) in wrong_claims()
        .into_iter()
        .map(|(what, claims)| (what, written(HS256, &claims)))
        .chain(wrong_forms())
    {
        count += 1;
        let reply = hub.get(&token, "/events/poll");
        assert!(
            // A head that is too large is refused before anything in it is looked at.
            [401, 431].contains(&reply.status),
            "{what}: {} {}: {token:.400}",
            reply.status,
            reply.text()
        );
    }
    assert!(count > 90, "{count}");
    assert!(!hub.server.stderr().contains("panic"));
}

/// Nothing in a token's header says where keys are: they are the hub's own.
#[test]
fn a_header_that_brings_or_names_keys_changes_nothing() {
    let hub = Guarded::start(&[]);
    let other = [b'x'; 48];
    let brought = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(other)});
    for more in [
        json!({"jwk": brought}),
        json!({"jku": "http://127.0.0.1:1/jwks"}),
        json!({"x5u": "http://127.0.0.1:1/cert"}),
        json!({"x5c": ["MIIB"]}),
        json!({"kid": "../../dev/null"}),
        json!({"kid": "' OR 1=1 --"}),
        json!({"kid": "\u{0}"}),
        json!({"kid": "x".repeat(1_000)}),
    ] {
        let mut header = json!({"alg": "HS256"});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        let (header, claims) = (
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims("")),
        );
        let signed = format!("{header}.{claims}");
        for secret in [&other[..], b"", &[0; 32]] {
            hub.get(&hs256(&signed, secret), "/events/poll")
                .problem(401);
        }
    }
}

#[test]
fn signatures_of_curves_are_taken_in_the_one_form_that_there_is() {
    let folder = folder();
    let key = rcgen::KeyPair::generate().unwrap();
    let path = folder.path().join("public.pem");
    std::fs::write(&path, key.public_key_pem()).unwrap();
    let server = Server::with(&[
        "--jwt-key",
        path.to_str().unwrap(),
        "--authenticated",
        r#"{"subscribe": ["*"]}"#,
    ]);
    let poll = |token: &str| {
        let bearer = format!("Bearer {token}");
        server.request("GET", "/events/poll", &[("Authorization", &bearer)], b"")
    };
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    let claims: Value = serde_json::from_str(&claims("")).unwrap();
    let signing = jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let good = jsonwebtoken::encode(&header, &claims, &signing).unwrap();
    poll(&good).ok();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    // ASN.1, as OpenSSL writes it.
    let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
    let der = [vec![0x30, 70], integer(r), integer(s)].concat();
    for (what, bytes) in [
        ("all zero", vec![0; 64]),
        ("r is zero", [&[0; 32], s].concat()),
        ("s is zero", [r, &[0; 32]].concat()),
        ("the group's order", [&[0xff; 32][..], &[0xff; 32]].concat()),
        ("DER", der),
        ("swapped", [s, r].concat()),
        ("cut", raw[..63].to_vec()),
        ("longer", [&raw[..], &[0]].concat()),
        ("nothing", Vec::new()),
    ] {
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let reply = poll(&token);
        assert_eq!(reply.status, 401, "{what}");
    }
}
