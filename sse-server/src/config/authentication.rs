//! How callers show who they are, and what they may do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use url::Url;

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::authentication::{
    Application, ApplicationConfig, AuthenticationConfig, CertificateUsers, CookieName, InvalidKey,
    JwkSetUrl, JwtKeys, JwtRules, TokenFile,
};
use crate::access::{Authentication, Grants};
use crate::units::Span;

/// The settings of authentication, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Authentication")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct AuthenticationSettings {
    /// Take tokens (JWT, `Authorization: Bearer`) that one of these keys signed: a public key in PEM, or a JWK set
    #[arg(long, env = "SSE_JWT_KEY", value_name = "FILE")]
    pub jwt_key: Option<PathBuf>,
    /// Take tokens that were signed with this secret (HS256): a file of at least 32 bytes
    #[arg(long, env = "SSE_JWT_SECRET", value_name = "FILE")]
    pub jwt_secret: Option<PathBuf>,
    /// Take tokens that one of the keys at this https:// URL signed (a JWK set), such as your identity provider's. They are fetched
    /// again as they change. Needs --jwt-issuer and --jwt-audience
    #[arg(long, env = "SSE_JWT_JWKS_URL", value_name = "URL")]
    pub jwt_jwks_url: Option<Url>,
    /// Take only tokens of this issuer (`iss`)
    #[arg(long, env = "SSE_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,
    /// Take only tokens for this audience (`aud`)
    #[arg(long, env = "SSE_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,
    /// The claim of a token that names the session [default: sid]
    #[arg(long, env = "SSE_JWT_SESSION_CLAIM", value_name = "NAME")]
    pub jwt_session_claim: Option<String>,
    /// Take the API tokens in this file, which `sse-server token` makes
    #[arg(long, env = "SSE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Ask your application who callers are, at this http:// or https:// URL, with their `Authorization` header and the cookies of
    /// --auth-cookie. It answers 200 with JSON, 401 or 403
    #[arg(long, env = "SSE_AUTH_URL", value_name = "URL")]
    pub auth_url: Option<Url>,
    /// A cookie that the application is shown, such as `session`; may be repeated. Others are never sent
    #[arg(
        long,
        env = "SSE_AUTH_COOKIE",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub auth_cookie: Option<Vec<CookieName>>,
    /// How long the application may take to answer; then the caller gets 503 [default: 5s]
    #[arg(long, env = "SSE_AUTH_TIMEOUT", value_name = "DURATION")]
    pub auth_timeout: Option<Span>,
    /// How long an answer of the application is kept at most; a refusal 5s at most [default: 60s]
    #[arg(long, env = "SSE_AUTH_CACHE", value_name = "DURATION")]
    pub auth_cache: Option<Span>,
    /// What everyone may do, also without a token, where authentication is on: `{"subscribe": ["news"]}`. In the file
    /// also as a table, `[anonymous]` [default: nothing]
    #[arg(long, env = "SSE_ANONYMOUS", value_name = "JSON", value_parser = grants)]
    pub anonymous: Option<Grants>,
    /// What everyone may do besides who has shown who they are; in the file also as a table, `[authenticated]`
    /// [default: nothing]
    #[arg(long, env = "SSE_AUTHENTICATED", value_name = "JSON", value_parser = grants)]
    pub authenticated: Option<Grants>,
}

impl AuthenticationSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            jwt_key, jwt_secret, jwt_jwks_url, jwt_issuer, jwt_audience, jwt_session_claim, token_file, auth_url, auth_cookie, auth_timeout,
            auth_cache, anonymous, authenticated,
        )
    }

    /// Whether callers must show who they are.
    pub(super) fn is_on(&self) -> bool {
        self.jwt_key.is_some()
            || self.jwt_secret.is_some()
            || self.jwt_jwks_url.is_some()
            || self.token_file.is_some()
            || self.auth_url.is_some()
    }

    pub(super) fn build(
        self,
        certificates: Option<CertificateUsers>,
    ) -> Result<Arc<Authentication>, ConfigError> {
        let application = self.application()?;
        if !self.is_on() && certificates.is_none() {
            let stray = [
                ("--jwt-issuer", self.jwt_issuer.is_some()),
                ("--jwt-audience", self.jwt_audience.is_some()),
                ("--jwt-session-claim", self.jwt_session_claim.is_some()),
                ("--anonymous", self.anonymous.is_some()),
                ("--authenticated", self.authenticated.is_some()),
            ];
            if let Some((option, _)) = stray.into_iter().find(|(_, is_given)| *is_given) {
                return Err(invalid(format!(
                    "{option} has no use without authentication: add --jwt-key, --jwt-secret, --jwt-jwks-url, --token-file, --auth-url or --tls-client-ca"
                )));
            }
            return Ok(Arc::new(Authentication::open()));
        }
        let mut keys = JwtKeys::default();
        if let Some(path) = &self.jwt_key {
            keys = keys.and(read("--jwt-key", path, JwtKeys::from_public)?);
        }
        if let Some(path) = &self.jwt_secret {
            keys = keys.and(read("--jwt-secret", path, JwtKeys::from_secret)?);
        }
        let jwk_set_url = self.jwk_set_url()?;
        let defaults = JwtRules::default();
        let rules = JwtRules {
            issuer: self.jwt_issuer,
            audience: self.jwt_audience,
            session_claim: self.jwt_session_claim.unwrap_or(defaults.session_claim),
        };
        let has_keys = self.jwt_key.is_some() || self.jwt_secret.is_some() || jwk_set_url.is_some();
        let authentication = Authentication::new(AuthenticationConfig {
            jwt: has_keys.then_some((keys, rules)),
            jwk_set_url,
            api_tokens: self.token_file.map(TokenFile::new),
            application,
            certificates,
            anonymous: self.anonymous.unwrap_or_else(Grants::nothing),
            authenticated: self.authenticated.unwrap_or_else(Grants::nothing),
        });
        let authentication =
            authentication.map_err(|error| invalid(format!("--token-file {error}")))?;
        Ok(Arc::new(authentication))
    }
}

impl AuthenticationSettings {
    fn jwk_set_url(&self) -> Result<Option<JwkSetUrl>, ConfigError> {
        let Some(url) = &self.jwt_jwks_url else {
            return Ok(None);
        };
        // Such keys sign for everything that the provider knows.
        if self.jwt_issuer.is_none() || self.jwt_audience.is_none() {
            return Err(invalid(
                "--jwt-jwks-url needs --jwt-issuer and --jwt-audience: its keys sign tokens for other services too",
            ));
        }
        let set = JwkSetUrl::new(url);
        set.map(Some)
            .map_err(|error| invalid(format!("--jwt-jwks-url {error}")))
    }

    fn application(&self) -> Result<Option<Application>, ConfigError> {
        let Some(url) = &self.auth_url else {
            let stray = [
                ("--auth-cookie", self.auth_cookie.is_some()),
                ("--auth-timeout", self.auth_timeout.is_some()),
                ("--auth-cache", self.auth_cache.is_some()),
            ];
            return match stray.into_iter().find(|(_, is_given)| *is_given) {
                None => Ok(None),
                Some((option, _)) => Err(invalid(format!(
                    "{option} has no use without an application that is asked: add --auth-url"
                ))),
            };
        };
        let defaults = ApplicationConfig::new(url.clone());
        let timeout = self.auth_timeout.map_or(defaults.timeout, |span| span.0);
        if timeout.is_zero() {
            return Err(invalid(
                "--auth-timeout: nothing can be answered in no time; write for example 5s",
            ));
        }
        let application = Application::new(ApplicationConfig {
            cookies: self.auth_cookie.clone().unwrap_or_default(),
            timeout,
            max_kept: self.auth_cache.map_or(defaults.max_kept, |span| span.0),
            ..defaults
        });
        application
            .map(Some)
            .map_err(|error| invalid(format!("--auth-url {error}")))
    }
}

fn read(
    option: &str,
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<JwtKeys, InvalidKey>,
) -> Result<JwtKeys, ConfigError> {
    let wrong =
        |reason: &dyn std::fmt::Display| invalid(format!("{option} {}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    parse(&text).map_err(|error| wrong(&error))
}

fn grants(text: &str) -> Result<Grants, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("not grants such as {{\"subscribe\": [\"news\"]}}: {error}"))
}
