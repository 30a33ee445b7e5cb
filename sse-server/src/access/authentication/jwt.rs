//! Signed tokens of the application (RFC 7519), checked with keys that the operator names.
//!
//! * A public key and a secret are different files, so that a public key is never taken for a secret.
//! * The key decides which algorithms it may be used with; the token only says which of those it used.
//! * `exp` must be there and must not have passed; a malformed `exp` or `nbf` is an error and not an absent one.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};
use sse_broker::UnixMillis;

use super::AuthenticationError;
use super::jwk_set_url::JwkSetUrl;
use crate::access::{Credential, CredentialKind, Grants};
use crate::clock;

/// What is to be true of a token beside its signature.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// Its `iss`; `None` for any.
    pub issuer: Option<String>,
    /// What must be among its `aud`; `None` for any.
    pub audience: Option<String>,
    /// The claim that names the session.
    pub session_claim: String,
}

impl Default for JwtRules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            session_claim: "sid".to_owned(),
        }
    }
}

/// A file that holds no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKey(String);

/// Keys that tokens may be signed with.
#[derive(Clone, Debug, Default)]
pub struct JwtKeys {
    keys: Vec<Key>,
}

/// A key, and what it may be used for.
#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl JwtKeys {
    /// The keys of a file: a public key in PEM, or a JWK set.
    ///
    /// # Errors
    ///
    /// When it holds neither, or a secret: whoever has a public file must not be able to sign.
    pub fn from_public(text: &[u8]) -> Result<Self, InvalidKey> {
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::from_jwk_set(text);
        }
        let pem = |of: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
                   algorithms: &[Algorithm]| {
            let key = of(text).ok()?;
            Some(Key {
                id: None,
                algorithms: algorithms.to_vec(),
                key,
            })
        };
        let key = pem(DecodingKey::from_rsa_pem, &RSA)
            .or_else(|| {
                pem(
                    DecodingKey::from_ec_pem,
                    &[Algorithm::ES256, Algorithm::ES384],
                )
            })
            .or_else(|| pem(DecodingKey::from_ed_pem, &[Algorithm::EdDSA]));
        let key = key.ok_or_else(|| {
            InvalidKey(
                "neither a public key in PEM (RSA, P-256, P-384, Ed25519) nor a JWK set".to_owned(),
            )
        })?;
        Ok(Self { keys: vec![key] })
    }

    /// The keys of a JWK set (RFC 7517) that are for signatures and of a kind that is known.
    ///
    /// # Errors
    ///
    /// When it is none, holds no such key or more than 32 of them, or holds a secret.
    pub fn from_jwk_set(text: &[u8]) -> Result<Self, InvalidKey> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| InvalidKey(format!("not a JWK set: {error}")))?;
        if set
            .keys
            .iter()
            .any(|jwk| matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)))
        {
            return Err(InvalidKey(
                "it holds a secret (kty oct), which a file of public keys must not; see --jwt-secret".to_owned(),
            ));
        }
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::from_jwk).collect();
        match keys.len() {
            0 => Err(InvalidKey(
                "the JWK set holds no public key for signatures".to_owned(),
            )),
            1..=MAX_KEYS => Ok(Self { keys }),
            count => Err(InvalidKey(format!("{count} keys are more than {MAX_KEYS}"))),
        }
    }

    /// The secret of a file, without the line break at its end.
    ///
    /// # Errors
    ///
    /// When it has less than 32 bytes, or is a public key.
    pub fn from_secret(text: &[u8]) -> Result<Self, InvalidKey> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.starts_with(b"-----BEGIN ") {
            return Err(InvalidKey(
                "it holds a key in PEM; a public key is given with --jwt-key".to_owned(),
            ));
        }
        if text.len() < MIN_SECRET_BYTES {
            return Err(InvalidKey(format!(
                "it has {} bytes; a secret has at least {MIN_SECRET_BYTES} (make one with: openssl rand -base64 48)",
                text.len()
            )));
        }
        // RFC 7518, section 3.2: a key as long as the hash.
        let fits = [
            (32, Algorithm::HS256),
            (48, Algorithm::HS384),
            (64, Algorithm::HS512),
        ];
        let algorithms = fits.iter().filter(|(bytes, _)| text.len() >= *bytes);
        Ok(Self {
            keys: vec![Key {
                id: None,
                algorithms: algorithms.map(|(_, algorithm)| *algorithm).collect(),
                key: DecodingKey::from_secret(text),
            }],
        })
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.keys.extend(more.keys);
        self
    }
}

impl Key {
    /// `None` for one that is not for signatures, or of a kind that is not known.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if !matches!(
            &jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        ) {
            return None;
        }
        let of_kind: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &RSA,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        let algorithms = match jwk.common.key_algorithm {
            None => of_kind.to_vec(),
            Some(named) => {
                let named = algorithm(named)?;
                of_kind.iter().copied().filter(|it| *it == named).collect()
            }
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            key,
        })
    }
}

fn algorithm(named: KeyAlgorithm) -> Option<Algorithm> {
    named.to_string().parse().ok()
}

/// What a token says.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) user: Option<String>,
    pub(super) session: Option<String>,
    /// `None` where the token names none.
    pub(super) grants: Option<Grants>,
    pub(super) credential: Arc<Credential>,
    expires_at: UnixMillis,
    valid_from: Option<UnixMillis>,
}

/// A token that was good, with the version of the keys that said so, and what it says.
type KnownToken = (Option<u64>, Box<str>, Arc<Verified>);

/// Checks tokens, and remembers those that it has checked.
#[derive(Debug)]
pub(super) struct JwtVerifier {
    keys: JwtKeys,
    /// Keys that may change.
    remote: Option<JwkSetUrl>,
    rules: JwtRules,
    /// By a hash that nobody outside can predict; the token itself is compared too.
    known: Mutex<Vec<Option<KnownToken>>>,
    hasher: RandomState,
}

/// Why a token is not good.
#[derive(Debug)]
enum Failure {
    Refused(AuthenticationError),
    /// It names a key that is not there. A new one may be.
    UnknownKey,
    /// There are no keys to check it with, and there should be.
    NoKeys,
}

impl From<AuthenticationError> for Failure {
    fn from(error: AuthenticationError) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    fn into_error(self) -> AuthenticationError {
        match self {
            Self::Refused(error) => error,
            Self::UnknownKey => invalid("no key fits the token's `alg` and `kid`"),
            Self::NoKeys => AuthenticationError::Unavailable(
                "the keys for tokens cannot be fetched now; try again".into(),
            ),
        }
    }
}

impl JwtVerifier {
    pub(super) fn new(keys: JwtKeys, remote: Option<JwkSetUrl>, rules: JwtRules) -> Self {
        Self {
            keys,
            remote,
            rules,
            known: Mutex::new(vec![None; KNOWN_TOKENS]),
            hasher: RandomState::new(),
        }
    }

    /// The keys that may change.
    pub(super) fn remote(&self) -> Option<&JwkSetUrl> {
        self.remote.as_ref()
    }

    /// What a token says, if it is good now.
    pub(super) async fn verify(
        &self,
        token: &str,
        is_throttled: bool,
    ) -> Result<Arc<Verified>, AuthenticationError> {
        let now = clock::unix_millis();
        if is_throttled && !self.is_known(token) {
            return Err(AuthenticationError::Throttled);
        }
        let version = self.remote_keys().map(|(_, version)| version);
        let failure = match self.verify_now(token, now) {
            Ok(verified) => return Ok(verified),
            Err(failure) => failure,
        };
        if let (Failure::UnknownKey | Failure::NoKeys, Some(remote)) = (&failure, &self.remote)
            && Box::pin(remote.fetch_unless_tried(version)).await
        {
            return self.verify_now(token, now).map_err(Failure::into_error);
        }
        Err(failure.into_error())
    }

    /// Whether a token was good when it was shown before.
    fn is_known(&self, token: &str) -> bool {
        let known = &self.known.lock()[self.place_of(token)];
        matches!(known, Some((_, known, _)) if **known == *token)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "any bits of a hash will do"
    )]
    fn place_of(&self, token: &str) -> usize {
        self.hasher.hash_one(token) as usize % KNOWN_TOKENS
    }

    fn remote_keys(&self) -> Option<(Arc<JwtKeys>, u64)> {
        self.remote.as_ref()?.keys(clock::now())
    }

    /// The same with the keys that are there.
    fn verify_now(&self, token: &str, now: UnixMillis) -> Result<Arc<Verified>, Failure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(format!("the token has more than {MAX_TOKEN_BYTES} bytes")).into());
        }
        let place = self.place_of(token);
        let remote = self.remote_keys();
        let version = remote.as_ref().map(|(_, version)| *version);
        let known = self.known.lock()[place].clone();
        match known {
            Some((by, known, verified)) if by == version && *known == *token => {
                verified.check_time(now)?;
                Ok(verified)
            }
            _ => {
                let remote = remote.as_ref().map(|(keys, _)| &**keys);
                let verified = Arc::new(self.check(token, remote)?);
                verified.check_time(now)?;
                let known = (version, token.into(), Arc::clone(&verified));
                let before = self.known.lock()[place].replace(known);
                drop(before);
                Ok(verified)
            }
        }
    }

    /// Checks the signature and reads the claims.
    fn check(&self, token: &str, remote: Option<&JwtKeys>) -> Result<Verified, Failure> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| invalid("the token is not a JWT with an algorithm that is known"))?;
        if header.crit.is_some() {
            return Err(invalid("the token's `crit` names extensions that are not known").into());
        }
        let fits = |key: &&Key| {
            let names_it = match (&header.kid, &key.id) {
                (Some(named), Some(id)) => named == id,
                // A key without a name may be the one that is meant.
                (_, None) | (None, _) => true,
            };
            names_it && key.algorithms.contains(&header.alg)
        };
        let remote_keys = remote.map_or(&[][..], |remote| &remote.keys);
        let mut failure = match (&self.remote, remote) {
            (Some(_), None) => Failure::NoKeys,
            _ => Failure::UnknownKey,
        };
        for key in self.keys.keys.iter().chain(remote_keys).filter(fits) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(header.alg)) {
                Ok(data) => return Ok(self.read(data.claims)?),
                // Without the other keys nobody knows whether it is good.
                Err(_) if matches!(failure, Failure::NoKeys) => {}
                Err(error) => failure = reason(&error).into(),
            }
        }
        Err(failure)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        // Time is the hub's own clock, and checked each time a token is used.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let mut required = Vec::new();
        if let Some(issuer) = &self.rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.rules.audience {
            validation.validate_aud = true;
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn read(&self, claims: Claims) -> Result<Verified, AuthenticationError> {
        let expires_at = match &claims.exp {
            None => return Err(invalid("the token has no `exp`")),
            Some(value) => seconds("exp", value)?,
        };
        let valid_from = claims
            .nbf
            .as_ref()
            .map(|value| seconds("nbf", value))
            .transpose()?;
        let issued_at = claims
            .iat
            .as_ref()
            .map(|value| seconds("iat", value))
            .transpose()?;
        let session = claims.others.get(&self.rules.session_claim);
        let grants = match claims.sse {
            None => None,
            Some(value) => Some(serde_json::from_value(value).map_err(|error| {
                invalid(format!("the token's claim `sse` holds no grants: {error}"))
            })?),
        };
        let id = match &claims.jti {
            None => None,
            Some(Value::String(id)) if !id.is_empty() && id.len() <= MAX_ID_BYTES => {
                Some(Arc::from(id.as_str()))
            }
            Some(_) => return Err(invalid("the token's `jti` is not a short text")),
        };
        Ok(Verified {
            user: name("sub", claims.sub.as_ref())?,
            session: name(&self.rules.session_claim, session)?,
            grants,
            credential: Arc::new(Credential {
                kind: CredentialKind::Jwt,
                id,
                issued_at,
                expires_at: Some(expires_at),
            }),
            expires_at,
            valid_from,
        })
    }
}

impl Verified {
    fn check_time(&self, now: UnixMillis) -> Result<(), AuthenticationError> {
        if now >= self.expires_at {
            return Err(invalid("the token has expired"));
        }
        if self.valid_from.is_some_and(|from| now < from) {
            return Err(invalid("the token is not valid yet (`nbf`)"));
        }
        Ok(())
    }
}

/// The claims that mean something here. What they may be is checked by hand, so that a wrong one is an error and not an absent
/// one.
#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    jti: Option<Value>,
    sse: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A NumericDate (RFC 7519, section 2).
fn seconds(claim: &str, value: &Value) -> Result<UnixMillis, AuthenticationError> {
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| invalid(format!("the token's `{claim}` is not a number of seconds")))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive and far below 2^53"
    )]
    Ok((seconds * 1000.0) as UnixMillis)
}

/// A user or a session, as one segment of a topic. What would not be one is escaped, so that two names never become one.
fn name(claim: &str, value: Option<&Value>) -> Result<Option<String>, AuthenticationError> {
    match value {
        None => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if name.len() <= MAX_ID_BYTES => {
            Ok(Some(segment(name).into_owned()))
        }
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(invalid(format!(
            "the token's `{claim}` is not a short text"
        ))),
    }
}

/// A name with everything escaped that has a meaning in topics.
pub(super) fn segment(name: &str) -> Cow<'_, str> {
    match name {
        "." => Cow::Borrowed("%2E"),
        ".." => Cow::Borrowed("%2E%2E"),
        name => utf8_percent_encode(name, ESCAPED).into(),
    }
}

fn reason(error: &jsonwebtoken::errors::Error) -> AuthenticationError {
    use jsonwebtoken::errors::ErrorKind;
    invalid(match error.kind() {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidIssuer => "the token's `iss` is another one",
        ErrorKind::InvalidAudience => "the token's `aud` is another one",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks `iss` or `aud`",
        _ => "the token is not a valid JWT",
    })
}

fn invalid(reason: impl Into<Cow<'static, str>>) -> AuthenticationError {
    AuthenticationError::Invalid(reason.into())
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
/// What has a meaning in topics and their patterns, and the escape itself.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'/')
    .add(b'*')
    .add(b'?')
    .add(b'+')
    .add(b':')
    .add(b'\\')
    .add(b'(')
    .add(b')')
    .add(b'{')
    .add(b'}');
/// So many keys are tried at most.
const MAX_KEYS: usize = 32;
/// As long as a secret must be.
const MIN_SECRET_BYTES: usize = 32;
/// As long as a token may be: a request's head is bounded too.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// As long as a name may be, before it is escaped.
pub(super) const MAX_ID_BYTES: usize = 256;
/// The end of the year 9999.
const MAX_SECONDS: f64 = 253_402_300_799.0;
/// So many tokens are remembered. A stated guess: more than the clients that connect in a minute.
const KNOWN_TOKENS: usize = 4096;
