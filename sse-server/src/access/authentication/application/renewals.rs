//! Streams whose lifetime the application has said: it is asked again before that is over.
//!
//! What a client has shown is kept for that, once for all its streams, with a permit for the memory. Where there is none, the
//! streams end when their lifetime does, and their clients come back.

use std::collections::{HashMap, HashSet};

use sse_broker::UnixMillis;
use sse_pool::ConnectionId;

use super::Question;
use super::answers::Key;
use crate::access::budget::Permit;
use crate::clock;

/// Those whose lifetime is known, by what their clients have shown.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    by_key: HashMap<Key, Renewal>,
    looked_at: UnixMillis,
}

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
        if let Some(known) = self.by_key.get_mut(&key) {
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
            self.by_key.insert(key, renewal);
        }
    }

    /// What is to be asked now; each is given out once. Those without open streams are forgotten.
    pub(super) fn take_due(
        &mut self,
        now: UnixMillis,
        is_open: impl Fn(&ConnectionId) -> bool,
    ) -> Vec<(Key, Question)> {
        self.by_key.retain(|_, renewal| {
            if renewal.due <= now && !renewal.is_asked {
                renewal.connections.retain(&is_open);
            }
            renewal.is_asked || !renewal.connections.is_empty()
        });
        let is_due = |it: &Renewal| it.due <= now && !it.is_asked;
        let due = self
            .by_key
            .iter_mut()
            .filter(|(_, renewal)| is_due(renewal));
        due.map(|(key, renewal)| {
            renewal.is_asked = true;
            (*key, renewal.question.clone())
        })
        .collect()
    }

    /// All streams, now and then: those that have ended are then to be [left out](Self::leave_out), so that what their clients have
    /// shown is not kept as long as it would hold.
    pub(super) fn take_look(&mut self, now: UnixMillis) -> Vec<ConnectionId> {
        if now < self.looked_at.saturating_add(LOOK_MILLIS) {
            return Vec::new();
        }
        self.looked_at = now;
        let all = self.by_key.values();
        all.flat_map(|renewal| &renewal.connections)
            .cloned()
            .collect()
    }

    /// Forgets streams that have ended.
    pub(super) fn leave_out(&mut self, ended: &HashSet<ConnectionId>) {
        self.by_key.retain(|_, renewal| {
            renewal.connections.retain(|id| !ended.contains(id));
            renewal.is_asked || !renewal.connections.is_empty()
        });
    }

    /// The streams of what was asked.
    pub(super) fn connections(&self, key: &Key) -> Vec<ConnectionId> {
        let known = self.by_key.get(key);
        known.map_or_else(Vec::new, |renewal| renewal.connections.clone())
    }

    /// They were renewed up to then, or are to be asked about again soon: `None`.
    pub(super) fn asked(&mut self, key: &Key, expires_at: Option<UnixMillis>, now: UnixMillis) {
        if let Some(renewal) = self.by_key.get_mut(key) {
            renewal.is_asked = false;
            renewal.due = match expires_at {
                Some(expires_at) => due(now, expires_at),
                None => now + jittered(RETRY_MILLIS),
            };
        }
    }

    /// Nothing is to be asked about these any more.
    pub(super) fn forget(&mut self, key: &Key) {
        self.by_key.remove(key);
    }

    /// Takes over those of another application.
    pub(super) fn take_over(&mut self, others: &mut Self) {
        for (key, mut renewal) in others.by_key.drain() {
            // Whoever asks about it has the other one's answer, and tells nobody here.
            renewal.is_asked = false;
            self.by_key.insert(key, renewal);
        }
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
/// How often streams that have ended are looked for.
const LOOK_MILLIS: u64 = 30_000;
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
        assert!(renewals.by_key.is_empty());
    }

    #[test]
    fn what_ended_streams_have_shown_is_not_kept_until_it_is_due() {
        let mut renewals = Renewals::default();
        let year = 365 * 24 * 3_600_000;
        let key = Key::default();
        renewals.add(key, id(1), year, 0, || Some(question()));
        renewals.add(key, id(2), year, 0, || Some(question()));
        assert_eq!(renewals.take_look(LOOK_MILLIS), [id(1), id(2)]);
        assert!(
            renewals.take_look(LOOK_MILLIS + 1).is_empty(),
            "just looked"
        );
        renewals.leave_out(&HashSet::from([id(1)]));
        assert_eq!(renewals.connections(&key), [id(2)]);
        renewals.leave_out(&HashSet::from([id(2)]));
        assert!(renewals.by_key.is_empty());
    }

    #[test]
    fn what_another_has_begun_to_ask_is_asked_again() {
        let (mut old, mut new) = (Renewals::default(), Renewals::default());
        old.add(Key::default(), id(1), 10_000, 0, || Some(question()));
        assert_eq!(old.take_due(9_000, |_| true).len(), 1);
        new.take_over(&mut old);
        assert_eq!(new.take_due(9_000, |_| true).len(), 1);
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let mut renewals = Renewals::default();
        renewals.add(Key::default(), id(0), 10_000, 0, || None);
        assert!(renewals.take_due(u64::MAX, |_| true).is_empty());
    }
}
