//! The answers that are kept, and those that are waited for.

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::watch;

use super::answer::Outcome;

/// A keyed hash of all that decided. What is held is no credential.
pub(super) type Key = [u8; 32];

/// Answers in two generations: when the young one is full, the old one goes, and with it what was not used for so long. Nothing
/// is searched.
#[derive(Debug, Default)]
pub(super) struct Answers {
    young: Generation,
    old: Generation,
    /// What is being asked, for whoever asks the same.
    asked: HashMap<Key, watch::Receiver<Option<Outcome>>>,
}

/// Answers, each with the moment until which it is good.
pub(super) type Generation = HashMap<Key, (Outcome, Instant)>;

/// What is known of a question.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Its answer.
    Known(Outcome),
    /// It is being asked.
    Asked(watch::Receiver<Option<Outcome>>),
    /// It is to be asked now, by whoever looked.
    New(
        watch::Sender<Option<Outcome>>,
        watch::Receiver<Option<Outcome>>,
    ),
    /// Too much is being asked.
    Full,
}

impl Answers {
    /// Whether an answer is kept.
    pub(super) fn is_known(&self, key: &Key, now: Instant) -> bool {
        let mut kept = self.young.get(key).into_iter().chain(self.old.get(key));
        kept.any(|(_, until)| *until > now)
    }

    /// What is known of a question; and what is to be dropped outside the lock.
    pub(super) fn look_up(&mut self, key: Key, now: Instant) -> (Lookup, Option<Generation>) {
        if let Some((outcome, until)) = self.young.get(&key)
            && *until > now
        {
            return (Lookup::Known(outcome.clone()), None);
        }
        if let Some((outcome, until)) = self.old.remove(&key)
            && until > now
        {
            let dropped = self.keep(key, outcome.clone(), until);
            return (Lookup::Known(outcome), dropped);
        }
        // One whose asker is gone without an answer is asked again.
        if let Some(asked) = self.asked.get(&key)
            && asked.has_changed().is_ok()
        {
            return (Lookup::Asked(asked.clone()), None);
        }
        if self.asked.len() >= MAX_ASKED {
            return (Lookup::Full, None);
        }
        let (sender, answer) = watch::channel(None);
        self.asked.insert(key, answer.clone());
        (Lookup::New(sender, answer), None)
    }

    /// Keeps an answer, if it is to be kept; what is to be dropped outside the lock.
    pub(super) fn answered(
        &mut self,
        key: Key,
        outcome: Outcome,
        kept_until: Option<Instant>,
    ) -> Option<Generation> {
        self.asked.remove(&key);
        self.keep(key, outcome, kept_until?)
    }

    /// Forgets what is kept; what is to be dropped outside the lock.
    pub(super) fn forget(&mut self) -> [Generation; 2] {
        [&mut self.young, &mut self.old].map(std::mem::take)
    }

    fn keep(&mut self, key: Key, outcome: Outcome, until: Instant) -> Option<Generation> {
        let dropped = (self.young.len() >= MAX_YOUNG).then(|| {
            let young = std::mem::take(&mut self.young);
            std::mem::replace(&mut self.old, young)
        });
        self.young.insert(key, (outcome, until));
        dropped
    }
}

/// Half of what is kept: 16,384 answers in all. A stated guess: more than the clients that come back within a minute.
const MAX_YOUNG: usize = 8192;
/// So many different questions wait for their answer. A stated guess: what 64 at once get answered within seconds.
const MAX_ASKED: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn key(n: usize) -> Key {
        let mut key = Key::default();
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }

    fn finds(answers: &mut Answers, n: usize, now: Instant) -> bool {
        let lookup = answers.look_up(key(n), now).0;
        answers.asked.clear();
        matches!(lookup, Lookup::Known(Outcome::Forbidden))
    }

    #[test]
    fn answers_are_bounded_and_those_in_use_stay() {
        let mut answers = Answers::default();
        let now = clock::now();
        let until = now + Duration::from_secs(1);
        for n in 0..5 * MAX_YOUNG {
            answers.answered(key(n), Outcome::Forbidden, Some(until));
            assert!(answers.young.len() + answers.old.len() <= 2 * MAX_YOUNG);
            if n % MAX_YOUNG == 0 {
                assert!(finds(&mut answers, 0, now), "{n}");
            }
        }
        assert!(finds(&mut answers, 5 * MAX_YOUNG - 1, now));
        assert!(!finds(&mut answers, 1, now));
        assert!(!finds(&mut answers, 0, until), "it is over");
    }

    #[test]
    fn what_is_asked_is_asked_once_and_again_if_its_asker_is_gone() {
        let mut answers = Answers::default();
        let now = clock::now();
        let Lookup::New(sender, _) = answers.look_up(key(0), now).0 else {
            panic!("nothing is known yet")
        };
        assert!(matches!(answers.look_up(key(0), now).0, Lookup::Asked(_)));
        drop(sender);
        let mut askers = vec![answers.look_up(key(0), now).0];
        assert!(matches!(askers[0], Lookup::New(..)));
        askers.extend((1..MAX_ASKED).map(|n| answers.look_up(key(n), now).0));
        assert!(matches!(
            answers.look_up(key(MAX_ASKED), now).0,
            Lookup::Full
        ));
        answers.answered(key(1), Outcome::Unavailable, None);
        assert!(matches!(answers.look_up(key(1), now).0, Lookup::New(..)));
    }
}
