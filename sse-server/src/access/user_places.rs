//! How many connections one user has at once, wherever it connects from.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::caller::{Caller, Counted};
use super::refusals::{Refusals, RefusalsToTell};

/// A user has as many connections as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{max} connections of this {counted_as} are open, and no more are taken")]
pub struct TooManyOfUser {
    /// How many one may have.
    pub max: usize,
    /// As what the caller is counted: `user`, `session` or `token`.
    pub counted_as: &'static str,
}

/// The places of users. Whoever has shown nothing has none here, and is counted by its address alone.
#[derive(Clone, Debug)]
pub(crate) struct UserPlaces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    /// By a keyed hash of the user. Whoever has no connection is not in it, so it is never larger than connections are many.
    taken: Mutex<HashMap<u64, usize>>,
    hasher: RandomState,
    refusals: Refusals,
}

impl UserPlaces {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Inner {
            max,
            taken: Mutex::default(),
            hasher: RandomState::new(),
            refusals: Refusals::default(),
        }))
    }

    /// A place for a caller; `None` for one that is counted by its address.
    pub(crate) fn take(&self, caller: &Caller) -> Result<Option<UserPlace>, TooManyOfUser> {
        let counted = caller.counted_as();
        let Some(key) = self.key(&counted) else {
            return Ok(None);
        };
        let is_taken = {
            let mut taken = self.0.taken.lock();
            let own = taken.get(&key).copied().unwrap_or(0);
            let has_room = own < self.0.max;
            if has_room {
                taken.insert(key, own + 1);
            }
            has_room
        };
        match is_taken {
            true => Ok(Some(UserPlace {
                places: self.clone(),
                key,
            })),
            false => Err(self.refuse(&counted)),
        }
    }

    /// Whether there is a place for a caller, without taking it.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), TooManyOfUser> {
        let counted = caller.counted_as();
        let own = self
            .key(&counted)
            .and_then(|key| self.0.taken.lock().get(&key).copied());
        match own.is_some_and(|own| own >= self.0.max) {
            true => Err(self.too_many(&counted)),
            false => Ok(()),
        }
    }

    /// How often somebody was refused, since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refusals.total()
    }

    /// The refusals that nobody was told of yet.
    pub(crate) fn refusals_to_tell(&self, now: Instant) -> Option<RefusalsToTell> {
        self.0.refusals.to_tell(now)
    }

    fn key(&self, counted: &Counted<'_>) -> Option<u64> {
        match counted {
            Counted::Address(_) => None,
            shown => Some(self.0.hasher.hash_one(shown)),
        }
    }

    fn refuse(&self, counted: &Counted<'_>) -> TooManyOfUser {
        self.0.refusals.record(counted);
        self.too_many(counted)
    }

    fn too_many(&self, counted: &Counted<'_>) -> TooManyOfUser {
        TooManyOfUser {
            max: self.0.max,
            counted_as: counted.noun(),
        }
    }
}

/// A user's place, given back when it is dropped.
#[derive(Debug)]
#[must_use = "a place is given back when it is dropped"]
pub(crate) struct UserPlace {
    places: UserPlaces,
    key: u64,
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock();
        if let Some(own) = taken.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::{Credential, CredentialKind};

    fn user(address: u8, name: Option<&str>) -> Caller {
        let caller = Caller::new([192, 0, 2, address].into(), name, None).unwrap();
        caller.with_credential(Arc::new(Credential {
            kind: CredentialKind::Jwt,
            id: None,
            issued_at: None,
            expires_at: None,
        }))
    }

    #[test]
    fn a_user_has_so_many_wherever_it_comes_from_and_nothing_is_left_behind() {
        let places = UserPlaces::new(2);
        let ann = [
            places.take(&user(1, Some("ann"))).unwrap(),
            places.take(&user(2, Some("ann"))).unwrap(),
        ];
        assert!(ann.iter().all(Option::is_some));
        let refused = places.take(&user(3, Some("ann"))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "2 connections of this user are open, and no more are taken"
        );
        assert_eq!(places.check(&user(4, Some("ann"))), Err(refused));
        assert_eq!(places.refused(), 1);
        let bob = places.take(&user(3, Some("bob"))).unwrap();
        // Nobody in particular is counted by its address.
        assert!(places.take(&user(3, None)).unwrap().is_none());
        assert!(places.take(&Caller::default()).unwrap().is_none());
        drop(ann);
        drop(places.take(&user(1, Some("ann"))).unwrap());
        drop(bob);
        assert!(places.0.taken.lock().is_empty());
    }
}
