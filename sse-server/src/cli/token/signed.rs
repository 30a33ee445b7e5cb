//! `sse-server token sign`: a JWT as an application signs it.

use std::fs;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sse_server::access::authentication::JwtKeys;
use sse_server::clock;
use sse_server::units::Span;

use super::Grants;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    grants: Grants,
    /// The user, `sub`
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The session, `sid`
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// The name by which it can be revoked, `jti`
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Who signs it, `iss`
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// For whom it is, `aud`
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// How long it holds
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: Span,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Key {
    /// The secret, as the hub's --jwt-secret has it; signs with HS256
    #[arg(long, env = "SSE_JWT_SECRET", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
    /// A private key in PEM whose public key is the hub's --jwt-key; signs with ES256, EdDSA or RS256
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
}

impl Key {
    fn read(&self) -> Result<(Algorithm, EncodingKey), String> {
        if let Some(path) = &self.jwt_secret {
            let text = read(path)?;
            // The hub's own rule for secrets, so that no token is made that it would not take.
            JwtKeys::from_secret(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            return Ok((Algorithm::HS256, EncodingKey::from_secret(text)));
        }
        let path = self.private_key.as_deref().unwrap_or(Path::new(""));
        let pem = read(path)?;
        let kinds = [
            (Algorithm::ES256, EncodingKey::from_ec_pem(&pem)),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem)),
            (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem)),
        ];
        let mut usable = kinds
            .into_iter()
            .filter_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
        usable.next().ok_or_else(|| {
            format!(
                "{}: no private key in PEM of P-256, Ed25519 or RSA (make one with: openssl genpkey -algorithm ed25519)",
                path.display()
            )
        })
    }
}

impl Args {
    pub(super) fn sign(&self) -> Result<String, String> {
        let (algorithm, key) = self.key.read()?;
        let now = clock::unix_millis() / 1000;
        let mut claims = json!({
            "iat": now,
            "exp": now.saturating_add(self.expires.0.as_secs()),
            "sse": self.grants.json(),
        });
        for (claim, value) in [
            ("sub", &self.user),
            ("sid", &self.session),
            ("jti", &self.id),
            ("iss", &self.issuer),
            ("aud", &self.audience),
        ] {
            if let Some(value) = value {
                claims[claim] = Value::from(value.as_str());
            }
        }
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key)
            .map_err(|error| format!("the token cannot be signed with this key: {error}"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
