//! HTTPS, and the certificates of clients.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::authentication::{
    CertificateGrants, CertificateUsers, DEFAULT_CERTIFICATE_PREFIX,
};
use crate::serve::{ClientAuth, Tls, TlsConfig, TlsVersion};

/// The settings of HTTPS, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "HTTPS")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct TlsSettings {
    /// Speak HTTPS with this certificate: a PEM file, the server's own first, then those up to the root
    #[arg(long, env = "SSE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key: a PEM file. After a renewal SIGHUP makes the server read both again
    #[arg(long, env = "SSE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The oldest version of TLS that is spoken [default: 1.2]
    #[arg(long, env = "SSE_TLS_MIN_VERSION", value_name = "VERSION")]
    pub tls_min_version: Option<TlsVersionSetting>,
    /// Take certificates of clients that these authorities have signed: a PEM file. A client that shows nothing else is the user
    /// `cert:` and the certificate's common name
    #[arg(long, env = "SSE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Refuse client certificates that are on these lists: CRLs in a PEM file, one of each authority of their chains. SIGHUP makes
    /// the server read it again, which ends the streams of those that are revoked
    #[arg(long, env = "SSE_TLS_CLIENT_CRL", value_name = "FILE")]
    pub tls_client_crl: Option<PathBuf>,
    /// Whether a client without a certificate is refused, or shows who it is in another way [default: required]
    #[arg(long, env = "SSE_TLS_CLIENT_AUTH", value_name = "WHEN")]
    pub tls_client_auth: Option<ClientAuthSetting>,
    /// What stands before the common name in the user's name. With '' a certificate's users are the same as those that tokens name
    /// [default: cert:]
    #[arg(long, env = "SSE_TLS_CLIENT_USER_PREFIX", value_name = "TEXT")]
    pub tls_client_user_prefix: Option<String>,
    /// What clients with these common names may do besides --authenticated: `{"backend": {"publish": ["*"]}}`. In the file also
    /// as tables, `[tls-client-grants.backend]`
    #[arg(long, env = "SSE_TLS_CLIENT_GRANTS", value_name = "JSON", value_parser = grants)]
    pub tls_client_grants: Option<CertificateGrants>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersionSetting {
    /// TLS 1.2
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3
    #[value(name = "1.3")]
    Tls13,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAuthSetting {
    /// It may
    Optional,
    /// It must
    Required,
}

/// What the section comes to.
pub(super) struct TlsParts {
    pub(super) tls: Option<Tls>,
    /// Who the clients with certificates are.
    pub(super) certificates: Option<CertificateUsers>,
}

impl TlsSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            tls_cert, tls_key, tls_min_version, tls_client_ca, tls_client_crl, tls_client_auth, tls_client_user_prefix,
            tls_client_grants,
        )
    }

    pub(super) fn build(self) -> Result<TlsParts, ConfigError> {
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                return Err(invalid(
                    "--tls-cert is given without --tls-key: add the certificate's private key",
                ));
            }
            (None, Some(_)) => {
                return Err(invalid(
                    "--tls-key is given without --tls-cert: add the key's certificate",
                ));
            }
            (None, None) => return self.nothing(),
        };
        let certificates = self.certificates()?;
        let clients = match (&certificates, &self.tls_client_ca) {
            (Some(users), Some(authorities)) => Some(ClientAuth {
                authorities: authorities.clone(),
                revocations: self.tls_client_crl.clone(),
                is_required: self.tls_client_auth != Some(ClientAuthSetting::Optional),
                revoked: users.revoked.clone(),
            }),
            _ => None,
        };
        let config = TlsConfig {
            min_version: match self.tls_min_version {
                None | Some(TlsVersionSetting::Tls12) => TlsVersion::Tls12,
                Some(TlsVersionSetting::Tls13) => TlsVersion::Tls13,
            },
            clients,
            ..TlsConfig::new(certificate, key)
        };
        let tls = Tls::new(config).map_err(|error| invalid(error.to_string()))?;
        Ok(TlsParts {
            tls: Some(tls),
            certificates,
        })
    }

    /// No HTTPS: then nothing may be said about it.
    fn nothing(&self) -> Result<TlsParts, ConfigError> {
        let stray = [
            ("--tls-min-version", self.tls_min_version.is_some()),
            ("--tls-client-ca", self.tls_client_ca.is_some()),
        ];
        let stray = stray.into_iter().chain(self.about_clients());
        match stray.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(invalid(format!(
                "{option} has no use without HTTPS: add --tls-cert and --tls-key"
            ))),
            None => Ok(TlsParts {
                tls: None,
                certificates: None,
            }),
        }
    }

    fn certificates(&self) -> Result<Option<CertificateUsers>, ConfigError> {
        if self.tls_client_ca.is_none() {
            return match self.about_clients().into_iter().find(|it| it.1) {
                Some((option, _)) => Err(invalid(format!(
                    "{option} has no use where no client certificates are taken: add --tls-client-ca"
                ))),
                None => Ok(None),
            };
        }
        let prefix = self.tls_client_user_prefix.as_deref();
        let prefix = prefix.unwrap_or(DEFAULT_CERTIFICATE_PREFIX);
        if prefix.len() > MAX_PREFIX_BYTES || prefix.contains(|c: char| c.is_control() || c == '/')
        {
            return Err(invalid(format!(
                "--tls-client-user-prefix: {prefix:?} cannot begin the name of a user; write for example cert:"
            )));
        }
        Ok(Some(CertificateUsers {
            prefix: prefix.to_owned(),
            grants: self.tls_client_grants.clone().unwrap_or_default(),
            ..CertificateUsers::default()
        }))
    }

    fn about_clients(&self) -> [(&'static str, bool); 4] {
        [
            ("--tls-client-crl", self.tls_client_crl.is_some()),
            ("--tls-client-auth", self.tls_client_auth.is_some()),
            (
                "--tls-client-user-prefix",
                self.tls_client_user_prefix.is_some(),
            ),
            ("--tls-client-grants", self.tls_client_grants.is_some()),
        ]
    }
}

fn grants(text: &str) -> Result<CertificateGrants, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("not grants by name such as {{\"backend\": {{\"publish\": [\"*\"]}}}}: {error}")
    })
}

/// A stated guess: a word and a separator.
const MAX_PREFIX_BYTES: usize = 64;
