//! Whether a connection failed because of the server's certificate.

use std::error::Error as StdError;

/// Whether a failed dial ended with a certificate that was refused.
pub(crate) fn is_untrusted(cause: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(cause);
    while let Some(cause) = next {
        // An I/O error does not show in `source` what it was made of.
        let io: Option<&std::io::Error> = cause.downcast_ref();
        let tls = io.and_then(|io| io.get_ref()?.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return true;
        }
        next = cause.source();
    }
    false
}
