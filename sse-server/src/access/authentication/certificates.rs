//! Client certificates: who a caller is by the certificate that its connection has shown.
//!
//! The user is `cert:` and the certificate's common name (CN). In the names that tokens and the application give a `:` is escaped,
//! so a certificate's user is never one of theirs, unless the operator has chosen another prefix.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Deserialize;
use sse_broker::UnixMillis;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AuthenticationError;
use super::jwt::{MAX_ID_BYTES, segment};
use crate::access::{Caller, Credential, CredentialKind, Grants};
use crate::clock;

/// A certificate that a client has shown, and that was verified. The server puts it among a request's extensions; who mounts the
/// service behind a TLS of its own may do so too.
#[derive(Clone, Debug)]
pub struct ClientCertificate(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    /// Its common name, or why it names nobody.
    name: Result<Box<str>, &'static str>,
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
    credential: Arc<Credential>,
}

impl ClientCertificate {
    /// Reads what counts here of a certificate. It must have been verified.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Self {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self(Arc::new(Shown {
                name: Err("the client certificate cannot be read"),
                issuer: Box::default(),
                serial: Box::default(),
                credential: Arc::new(Credential {
                    kind: CredentialKind::Certificate,
                    id: None,
                    issued_at: None,
                    expires_at: Some(0),
                }),
            }));
        };
        let serial = parsed.raw_serial();
        let millis = |seconds: i64| u64::try_from(seconds).map_or(0, |it| it.saturating_mul(1000));
        let validity = parsed.validity();
        Self(Arc::new(Shown {
            name: common_name(&parsed),
            issuer: parsed.issuer().as_raw().into(),
            serial: serial.into(),
            credential: Arc::new(Credential {
                kind: CredentialKind::Certificate,
                id: Some(id(serial).into()),
                issued_at: Some(millis(validity.not_before.timestamp())),
                expires_at: Some(millis(validity.not_after.timestamp())),
            }),
        }))
    }
}

/// The one common name of its subject.
fn common_name(certificate: &X509Certificate<'_>) -> Result<Box<str>, &'static str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names
        .next()
        .ok_or("the subject of the client certificate has no common name (CN)")?;
    if names.next().is_some() {
        return Err("the subject of the client certificate has more than one common name (CN)");
    }
    match name.as_str() {
        Ok(name) if !name.is_empty() && name.len() <= MAX_ID_BYTES => Ok(name.into()),
        _ => Err("the common name (CN) of the client certificate is not a short text"),
    }
}

/// The name by which a certificate can be revoked: `cert:` and its serial number, as `openssl x509 -serial` writes it.
fn id(serial: &[u8]) -> String {
    // A number that would be negative has a zero in front.
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    serial.iter().fold("cert:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Certificates that their authorities have taken back. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RevokedCertificates(Arc<RwLock<Revoked>>);

#[derive(Debug, Default)]
struct Revoked {
    /// By issuer and serial number.
    certificates: HashSet<(Vec<u8>, Vec<u8>)>,
    ids: HashSet<String>,
    is_read: bool,
    has_news: bool,
}

impl RevokedCertificates {
    /// These are revoked, and no others: issuers (as DER) and serial numbers.
    pub(crate) fn set(&self, certificates: Vec<(Vec<u8>, Vec<u8>)>) {
        let ids = certificates.iter().map(|(_, serial)| id(serial)).collect();
        let certificates = certificates.into_iter().collect();
        let mut revoked = self.0.write();
        let is_other = revoked.is_read && revoked.certificates != certificates;
        let has_news = revoked.has_news || is_other;
        let old = std::mem::replace(
            &mut *revoked,
            Revoked {
                certificates,
                ids,
                is_read: true,
                has_news,
            },
        );
        drop(revoked);
        drop(old);
    }

    /// Whether others are revoked since this was last asked.
    pub(super) fn take_news(&self) -> bool {
        std::mem::take(&mut self.0.write().has_news)
    }

    /// Whether a stream's credential may be one of them. Two authorities may give the same number: then it comes back.
    pub(super) fn has(&self, credential: &Credential) -> bool {
        let id = credential.id.as_deref();
        id.is_some_and(|id| self.0.read().ids.contains(id))
    }

    fn has_certificate(&self, shown: &Shown) -> bool {
        let revoked = self.0.read();
        // A key to look up has the type of those that are kept; with no list nothing is copied.
        !revoked.certificates.is_empty()
            && revoked
                .certificates
                .contains(&(shown.issuer.to_vec(), shown.serial.to_vec()))
    }
}

/// Who callers with certificates are, and what they may do.
#[derive(Clone, Debug)]
pub struct CertificateUsers {
    /// What stands before the common name in the user's.
    pub prefix: String,
    /// What single ones may do, by common name, beside what everyone may who has shown who they are.
    pub grants: CertificateGrants,
    /// Which certificates are not good any more.
    pub revoked: RevokedCertificates,
}

/// What those may do whose certificates have these common names.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CertificateGrants(BTreeMap<String, Grants>);

impl Default for CertificateUsers {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_CERTIFICATE_PREFIX.to_owned(),
            grants: CertificateGrants::default(),
            revoked: RevokedCertificates::default(),
        }
    }
}

impl CertificateUsers {
    /// The caller that has shown a certificate and nothing else.
    pub(super) fn caller(
        &self,
        address: IpAddr,
        certificate: &ClientCertificate,
        authenticated: &Grants,
    ) -> Result<Caller, AuthenticationError> {
        let shown = &certificate.0;
        let wrong = |reason| AuthenticationError::Invalid(Cow::Borrowed(reason));
        let name = shown.name.as_deref().map_err(|reason| wrong(*reason))?;
        if self.revoked.has_certificate(shown) {
            return Err(AuthenticationError::Revoked);
        }
        let expires_at = shown.credential.expires_at.unwrap_or(UnixMillis::MAX);
        if expires_at <= clock::unix_millis() {
            return Err(wrong("the client certificate has expired"));
        }
        let user = format!("{}{}", self.prefix, segment(name));
        let grants = match self.grants.0.get(name) {
            Some(grants) => authenticated.and(grants),
            None => authenticated.clone(),
        };
        Ok(Caller::new(address, Some(&user), None)?
            .with_grants(grants)
            .with_credential(Arc::clone(&shown.credential)))
    }
}

/// What stands before the name of a certificate's user, unless something else is chosen.
pub const DEFAULT_CERTIFICATE_PREFIX: &str = "cert:";

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(change: impl FnOnce(&mut rcgen::CertificateParams)) -> ClientCertificate {
        let mut params = rcgen::CertificateParams::default();
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        ClientCertificate::from_der(params.self_signed(&key).unwrap().der())
    }

    fn named(name: &str) -> ClientCertificate {
        certificate(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
        })
    }

    fn user(certificate: &ClientCertificate) -> Result<String, String> {
        CertificateUsers::default()
            .caller([127, 0, 0, 1].into(), certificate, &Grants::nothing())
            .map(|caller| caller.user().unwrap().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_user_is_the_common_name_and_no_token_can_name_it() {
        assert_eq!(user(&named("ann")).unwrap(), "cert:ann");
        // What means something in topics, or looks like somebody else.
        assert_eq!(user(&named("a/b")).unwrap(), "cert:a%2Fb");
        assert_eq!(user(&named("cert:ann")).unwrap(), "cert:cert%3Aann");
        assert_eq!(user(&named("..")).unwrap(), "cert:%2E%2E");
        assert_eq!(user(&named("a\nb")).unwrap(), "cert:a%0Ab");
        // How a token or the application would have to say it.
        assert_eq!(segment("cert:ann"), "cert%3Aann");
    }

    #[test]
    fn a_certificate_that_names_nobody_is_nobody() {
        let without = certificate(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
        });
        for nobody in [without, named(""), named(&"x".repeat(MAX_ID_BYTES + 1))] {
            assert!(user(&nobody).unwrap_err().contains("(CN)"));
        }
        let damaged = ClientCertificate::from_der(b"nonsense");
        assert!(user(&damaged).is_err());
        let old = certificate(|params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "old");
        });
        assert!(user(&old).is_err());
    }
}
