//! The files that TLS is made of, read anew each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use sse_broker::UnixMillis;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::error::TlsError;
use super::expiry::Expiry;

/// A certificate and its key, read together: they belong to each other.
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) expiry: Expiry,
}

/// Reads a certificate, with those behind it, and its key. Both were read when this gives them, or neither is used.
pub(super) fn pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Pair, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CERTIFICATE.all(certificate)?;
    let private: PrivateKeyDer<'static> = {
        let text = KEY.read(key)?;
        match PrivateKeyDer::pem_slice_iter(&text).next() {
            None => return Err(KEY.empty(key)),
            Some(Err(error)) => return Err(KEY.malformed(key, &error)),
            Some(Ok(private)) => private,
        }
    };
    let private = provider
        .key_provider
        .load_private_key(private)
        .map_err(|error| KEY.malformed(key, &error))?;
    let expiry = expiry_of(&CERTIFICATE, certificate, &chain)?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Pair {
            certified: Arc::new(certified),
            expiry,
        }),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatched {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) => Err(CERTIFICATE.malformed(certificate, &error)),
    }
}

/// Those whose certificates clients may show.
pub(super) fn authorities(path: &Path) -> Result<(RootCertStore, Expiry), TlsError> {
    let certificates: Vec<CertificateDer<'static>> = CLIENT_CA.all(path)?;
    let expiry = expiry_of(&CLIENT_CA, path, &certificates)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| CLIENT_CA.malformed(path, &error))?;
    }
    Ok((roots, expiry))
}

/// Lists of certificates that were taken back.
pub(super) struct Revocations {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// The issuer and the serial number of each certificate.
    pub(super) certificates: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) expiry: Expiry,
}

pub(super) fn revocations(path: &Path) -> Result<Revocations, TlsError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = CLIENT_CRL.all(path)?;
    let mut certificates = Vec::new();
    let mut earliest = UnixMillis::MAX;
    for list in &lists {
        let (_, parsed) = CertificateRevocationList::from_der(list)
            .map_err(|error| CLIENT_CRL.malformed(path, &error))?;
        let issuer = parsed.issuer().as_raw();
        for revoked in parsed.iter_revoked_certificates() {
            certificates.push((issuer.to_vec(), revoked.raw_serial().to_vec()));
        }
        if let Some(next) = parsed.next_update() {
            earliest = earliest.min(millis(next));
        }
    }
    let expiry = Expiry {
        of: CLIENT_CRL.name,
        path: path.to_owned(),
        not_before: 0,
        not_after: earliest,
    };
    Ok(Revocations {
        lists,
        certificates,
        expiry,
    })
}

/// When the first of these certificates is not good any more, and when the last of them began to be.
fn expiry_of(
    part: &Part,
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<Expiry, TlsError> {
    let mut expiry = Expiry {
        of: part.name,
        path: path.to_owned(),
        not_before: 0,
        not_after: UnixMillis::MAX,
    };
    for certificate in certificates {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| part.malformed(path, &error))?;
        let validity = parsed.validity();
        expiry.not_before = expiry.not_before.max(millis(validity.not_before));
        expiry.not_after = expiry.not_after.min(millis(validity.not_after));
    }
    Ok(expiry)
}

/// A time before 1970 is 1970: it is over in any case.
pub(super) fn millis(time: ASN1Time) -> UnixMillis {
    u64::try_from(time.timestamp()).map_or(0, |seconds| seconds.saturating_mul(1000))
}

/// What one of the files should hold.
struct Part {
    /// Its name in metrics.
    name: &'static str,
    what: &'static str,
    label: &'static str,
    option: &'static str,
}

impl Part {
    fn read(&self, path: &Path) -> Result<Vec<u8>, TlsError> {
        std::fs::read(path).map_err(|source| TlsError::Unreadable {
            what: self.what,
            path: path.to_owned(),
            option: self.option,
            source,
        })
    }

    /// All that the file holds of it: one at least.
    fn all<T: PemObject>(&self, path: &Path) -> Result<Vec<T>, TlsError> {
        let text = self.read(path)?;
        let all = T::pem_slice_iter(&text)
            .collect::<Result<Vec<T>, pem::Error>>()
            .map_err(|error| self.malformed(path, &error))?;
        match all.is_empty() {
            true => Err(self.empty(path)),
            false => Ok(all),
        }
    }

    fn empty(&self, path: &Path) -> TlsError {
        TlsError::Empty {
            what: self.what,
            path: path.to_owned(),
            label: self.label,
            option: self.option,
        }
    }

    fn malformed(&self, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
        TlsError::Malformed {
            what: self.what,
            path: PathBuf::from(path),
            option: self.option,
            reason: reason.to_string().replace('\n', " "),
        }
    }
}

const CERTIFICATE: Part = Part {
    name: "server",
    what: "certificate",
    label: "CERTIFICATE",
    option: "--tls-cert",
};
const KEY: Part = Part {
    name: "key",
    what: "key",
    label: "PRIVATE KEY",
    option: "--tls-key",
};
const CLIENT_CA: Part = Part {
    name: "client_ca",
    what: "certificate of an authority",
    label: "CERTIFICATE",
    option: "--tls-client-ca",
};
const CLIENT_CRL: Part = Part {
    name: "client_crl",
    what: "list of revoked certificates",
    label: "X509 CRL",
    option: "--tls-client-crl",
};
