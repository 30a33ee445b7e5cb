//! [`TlsError`].

use std::io;
use std::path::PathBuf;

/// Why a certificate cannot be used. Each message is one line, and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {path}: {source}; give its path with {option}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file holds nothing of what it should.
    #[error(
        "{path} holds no {what} in PEM (-----BEGIN {label}-----); give one that does with {option}"
    )]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What PEM calls it.
        label: &'static str,
        /// The option that names it.
        option: &'static str,
    },
    /// What a file holds is damaged.
    #[error("{path} is not a {what} that can be used: {reason}; give another one with {option}")]
    Malformed {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "the key {key} does not belong to the certificate {certificate}; give the two that were made together, \
         the server's own certificate first in its file"
    )]
    Mismatched {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
    },
    /// The lists of revoked certificates, or the authorities, do not go together.
    #[error("{path} cannot be used for checking client certificates: {reason}")]
    Unverifiable {
        /// The path of the authorities.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cryptography itself does not work.
    #[error("TLS cannot be used here: {0}")]
    Unusable(rustls::Error),
}
