//! How long certificates are still good, and when that is said.

use std::path::PathBuf;

use sse_broker::UnixMillis;

use crate::clock;

/// When something that TLS needs is not good any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// Its name in metrics.
    pub(super) of: &'static str,
    pub(super) path: PathBuf,
    /// From when it is good.
    pub(super) not_before: UnixMillis,
    /// Until when; the largest number for one that has no end.
    pub(super) not_after: UnixMillis,
}

/// How much time is left. Each is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    Enough,
    Month,
    Week,
    Day,
    Nothing,
    /// It has not begun yet.
    NotYet,
}

impl Expiry {
    pub(super) fn left(&self, now: UnixMillis) -> Left {
        let left = self.not_after.saturating_sub(now);
        match left {
            0 => Left::Nothing,
            _ if now < self.not_before => Left::NotYet,
            _ if left <= DAY => Left::Day,
            _ if left <= 7 * DAY => Left::Week,
            _ if left <= 30 * DAY => Left::Month,
            _ => Left::Enough,
        }
    }

    /// Says in the log how much is left, unless that is enough.
    pub(super) fn complain(&self, left: Left, now: UnixMillis) {
        let what = match self.of {
            "server" => "the certificate",
            "client_ca" => "an authority in --tls-client-ca",
            _ => "a list in --tls-client-crl",
        };
        let path = self.path.display();
        let until = clock::rfc3339(self.not_after);
        match left {
            Left::Enough => {}
            Left::Nothing if self.of == "server" => tracing::error!(
                "the certificate {path} has expired at {until}, and clients refuse it; renew it, and send SIGHUP"
            ),
            Left::Nothing => tracing::error!(
                "{what}, {path}, has expired at {until}, and clients that need it are refused; renew it, and send SIGHUP"
            ),
            Left::NotYet => tracing::error!(
                "{what} {path} is valid only from {}, and clients refuse it until then; is this machine's clock right?",
                clock::rfc3339(self.not_before)
            ),
            Left::Month | Left::Week | Left::Day => {
                let hours = self.not_after.saturating_sub(now) / (60 * 60 * 1000);
                let left = match hours {
                    0..=47 => format!("{hours} h"),
                    _ => format!("{} days", hours / 24),
                };
                tracing::warn!(
                    "{what} {path} expires in {left}, at {until}; renew it, and send SIGHUP"
                );
            }
        }
    }
}

const DAY: UnixMillis = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_gets_less_in_steps_and_never_more() {
        let expiry = Expiry {
            of: "server",
            path: PathBuf::new(),
            not_before: DAY,
            not_after: 100 * DAY,
        };
        for (now, left) in [
            (0, Left::NotYet),
            (DAY, Left::Enough),
            (70 * DAY - 1, Left::Enough),
            (70 * DAY, Left::Month),
            (93 * DAY - 1, Left::Month),
            (93 * DAY, Left::Week),
            (99 * DAY, Left::Day),
            (100 * DAY - 1, Left::Day),
            (100 * DAY, Left::Nothing),
            (UnixMillis::MAX, Left::Nothing),
        ] {
            assert_eq!(expiry.left(now), left, "{now}");
        }
        let endless = Expiry {
            not_after: UnixMillis::MAX,
            ..expiry
        };
        assert_eq!(endless.left(100 * DAY), Left::Enough);
    }
}
