//! Streams whose lifetime the application has said: it is asked again before that is over.
//!
//! What a client has shown is kept for that, once for all its streams, with a permit for the memory. Where there is none, the
//! streams end when their lifetime does, and their clients come back.

use std::collections::HashMap;

use sse_broker::UnixMillis;
use sse_pool::ConnectionId;

use super::Question;
use super::answers::Key;
use crate::access::budget::Permit;
use crate::clock;

/// Those whose lifetime is known, by what their clients have shown.
#[derive(Debug, Default)]
pub(super) struct Renewals(HashMap<Key, Renewal>);

#[derive(Debug)]
struct Renewal {
    question: Question,
    _held: Permit,
    connections: Vec<ConnectionId>,
    due: UnixMillis,
    is_asked: bool,
}

impl Renewals {
    /// One more stream, whose lifetime ends then.
    pub(super) fn add(
        &mut self,
        key: Key,
        id: ConnectionId,
        expires_at: UnixMillis,
        now: UnixMillis,
        new: impl FnOnce() -> Option<(Question, Permit)>,
    ) {
        let due = due(now, expires_at);
        if let Some(known) = self.0.get_mut(&key) {
            known.connections.push(id);
            known.due = known.due.min(due);
            return;
        }
        if let Some((question, held)) = new() {
            let renewal = Renewal {
                question,
                _held: held,
                connections: vec![id],
                due,
                is_asked: false,
            };
            self.0.insert(key, renewal);
        }
    }

    /// What is to be asked now; each is given out once. Those without open streams are forgotten.
    pub(super) fn take_due(
        &mut self,
        now: UnixMillis,
        is_open: impl Fn(&ConnectionId) -> bool,
    ) -> Vec<(Key, Question)> {
        self.0.retain(|_, renewal| {
            if renewal.due <= now && !renewal.is_asked {
                renewal.connections.retain(&is_open);
            }
            renewal.is_asked || !renewal.connections.is_empty()
        });
        let is_due = |it: &Renewal| it.due <= now && !it.is_asked;
        let due = self.0.iter_mut().filter(|(_, renewal)| is_due(renewal));
        due.map(|(key, renewal)| {
            renewal.is_asked = true;
            (*key, renewal.question.clone())
        })
        .collect()
    }

    /// The streams of what was asked.
    pub(super) fn connections(&self, key: &Key) -> Vec<ConnectionId> {
        let known = self.0.get(key);
        known.map_or_else(Vec::new, |renewal| renewal.connections.clone())
    }

    /// They were renewed up to then, or are to be asked about again soon: `None`.
    pub(super) fn asked(&mut self, key: &Key, expires_at: Option<UnixMillis>, now: UnixMillis) {
        if let Some(renewal) = self.0.get_mut(key) {
            renewal.is_asked = false;
            renewal.due = match expires_at {
                Some(expires_at) => due(now, expires_at),
                None => now + jittered(RETRY_MILLIS),
            };
        }
    }

    /// Nothing is to be asked about these any more.
    pub(super) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Takes over those of another application.
    pub(super) fn take_over(&mut self, others: &mut Self) {
        self.0.extend(others.0.drain());
    }
}

/// Between a half and three quarters of a lifetime, so that not all are asked about at once and there is time for another try; and two
/// seconds before its end, as one looks once a second.
fn due(now: UnixMillis, expires_at: UnixMillis) -> UnixMillis {
    let left = expires_at.saturating_sub(now);
    let part = 0.5 + 0.25 * clock::chance();
    let part = std::time::Duration::from_millis(left).mul_f64(part);
    let part = u64::try_from(part.as_millis()).unwrap_or(left);
    now + part.min(left.saturating_sub(TWO_LOOKS_MILLIS))
}

fn jittered(millis: u64) -> u64 {
    let jittered = std::time::Duration::from_millis(millis).mul_f64(1.0 + clock::chance());
    u64::try_from(jittered.as_millis()).unwrap_or(millis)
}

const TWO_LOOKS_MILLIS: u64 = 2_000;
/// After so long an application that has not answered is asked again.
const RETRY_MILLIS: u64 = 500;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::access::budget::{Account, Budget, shares};

    fn question() -> (Question, Permit) {
        let budget = Budget::new(shares(1 << 30));
        let question = Question {
            authorization: None,
            cookies: None,
            address: [127, 0, 0, 1].into(),
            method: HeaderValue::from_static("GET"),
            target: HeaderValue::from_static("/events"),
        };
        let permit = budget.try_take(Account::Connections, question.address, 100);
        (question, permit.unwrap())
    }

    fn id(n: u8) -> ConnectionId {
        ConnectionId::from_uuid([n; 16])
    }

    #[test]
    fn each_client_is_asked_about_once_before_its_streams_end() {
        let mut renewals = Renewals::default();
        let key = Key::default();
        for n in 0..3 {
            renewals.add(key, id(n), 10_000, 0, || Some(question()));
        }
        assert!(renewals.take_due(4_999, |_| true).is_empty());
        assert_eq!(renewals.take_due(8_000, |_| true).len(), 1);
        assert!(
            renewals.take_due(9_000, |_| true).is_empty(),
            "it is being asked"
        );
        assert_eq!(renewals.connections(&key).len(), 3);
        // No answer: soon again.
        renewals.asked(&key, None, 9_000);
        assert!(renewals.take_due(9_499, |_| true).is_empty());
        assert_eq!(renewals.take_due(11_000, |_| true).len(), 1);
        renewals.asked(&key, Some(21_000), 11_000);
        assert!(renewals.take_due(15_999, |_| true).is_empty());
        // Two have gone meanwhile.
        assert_eq!(renewals.take_due(20_000, |it| *it == id(1)).len(), 1);
        assert_eq!(renewals.connections(&key), [id(1)]);
        renewals.asked(&key, Some(30_000), 20_000);
        assert!(renewals.take_due(30_000, |_| false).is_empty());
        assert!(renewals.0.is_empty());
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let mut renewals = Renewals::default();
        renewals.add(Key::default(), id(0), 10_000, 0, || None);
        assert!(renewals.take_due(u64::MAX, |_| true).is_empty());
    }
}
