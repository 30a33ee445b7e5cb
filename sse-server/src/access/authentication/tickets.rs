//! Tickets: for clients that can send no header, such as a page's `EventSource` and `WebSocket`.
//!
//! A ticket stands in the address of one stream, is good once and for half a minute, and never goes further than whoever asked
//! for it. So an address that is found in a log or a history is good for nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use super::AuthenticationError;
use crate::access::{Caller, Credential, CredentialKind};
use crate::clock;

/// How long a ticket is good.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// The tickets that were made and not used.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// By their SHA-256, so that what is held is no ticket.
    unused: Mutex<HashMap<Vec<u8>, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    caller: Caller,
    /// The origin of the page that asked for it.
    origin: Option<Box<str>>,
    good_until: Instant,
}

impl Tickets {
    /// Takes over those that others have made.
    pub(super) fn take_over(&self, others: &Self) {
        let made = std::mem::take(&mut *others.unused.lock());
        self.unused.lock().extend(made);
    }

    /// A ticket for this caller.
    pub(super) fn make(
        &self,
        caller: Caller,
        origin: Option<&str>,
        now: Instant,
    ) -> Result<String, AuthenticationError> {
        let unavailable = |reason| AuthenticationError::Unavailable(reason);
        let secret =
            clock::secret::<24>().map_err(|_| unavailable("no ticket can be made now".into()))?;
        let text = URL_SAFE_NO_PAD.encode(secret);
        let credential = match caller.credential() {
            Some(credential) => Credential {
                kind: CredentialKind::Ticket,
                ..(**credential).clone()
            },
            None => Credential {
                kind: CredentialKind::Ticket,
                id: None,
                issued_at: Some(clock::unix_millis()),
                expires_at: None,
            },
        };
        let ticket = Ticket {
            caller: caller.with_credential(Arc::new(credential)),
            origin: origin.map(Box::from),
            good_until: now + TICKET_LIFETIME,
        };
        let mut unused = self.unused.lock();
        if unused.len() >= MAX_TICKETS {
            unused.retain(|_, ticket| ticket.good_until > now);
        }
        if unused.len() >= MAX_TICKETS {
            return Err(unavailable(
                "too many tickets were made and not used".into(),
            ));
        }
        unused.insert(hash(&text), ticket);
        Ok(text)
    }

    /// The caller that a ticket is for; it is used up by that.
    pub(super) fn take(
        &self,
        text: &str,
        origin: Option<&str>,
        now: Instant,
    ) -> Result<Caller, AuthenticationError> {
        let ticket = self.unused.lock().remove(&hash(text));
        let ticket = ticket.filter(|ticket| ticket.good_until > now);
        let Some(ticket) = ticket else {
            // Whether it was used, or is too old, or never was one, is not known any more.
            return Err(AuthenticationError::UsedTicket);
        };
        // A page of the same origin says none when it opens a stream.
        if let (Some(asked), Some(given)) = (origin, &ticket.origin)
            && !given.eq_ignore_ascii_case(asked)
        {
            return Err(AuthenticationError::Invalid(
                "the ticket was made for a page of another origin".into(),
            ));
        }
        Ok(ticket.caller)
    }
}

fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// So many tickets wait to be used at most. A stated guess: some tens of MiB.
const MAX_TICKETS: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_half_a_minute_and_for_its_page() {
        let tickets = Tickets::default();
        let now = clock::now();
        let caller = || Caller::new([127, 0, 0, 1].into(), Some("ann"), None).unwrap();
        let make = |origin| tickets.make(caller(), origin, now).unwrap();
        let once = make(None);
        assert_eq!(tickets.take(&once, None, now).unwrap().user(), Some("ann"));
        assert!(matches!(
            tickets.take(&once, None, now),
            Err(AuthenticationError::UsedTicket)
        ));
        assert!(tickets.take("nonsense", None, now).is_err());
        let old = make(None);
        assert!(tickets.take(&old, None, now + TICKET_LIFETIME).is_err());
        let page = Some("https://app.example");
        assert!(
            tickets
                .take(&make(page), Some("https://evil.example"), now)
                .is_err()
        );
        assert!(tickets.take(&make(page), page, now).is_ok());
        assert!(tickets.take(&make(page), None, now).is_ok());
    }

    #[test]
    fn unused_tickets_are_bounded() {
        let tickets = Tickets::default();
        let now = clock::now();
        for _ in 0..MAX_TICKETS {
            tickets.make(Caller::default(), None, now).unwrap();
        }
        assert!(tickets.make(Caller::default(), None, now).is_err());
        assert!(
            tickets
                .make(Caller::default(), None, now + TICKET_LIFETIME)
                .is_ok()
        );
    }
}
