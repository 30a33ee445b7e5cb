//! An interner: a value that many connections share is held once.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

/// Remembers the last values that were made, so that equal ones are one.
///
/// Bounded: a key has one place it can be in, and a newer key takes it over. What is not found is simply made anew, so this is
/// never wrong, only now and then of no use. What nobody uses any more goes with [`forget_unused`](Self::forget_unused): a value
/// may hold memory of the budget.
#[derive(Debug)]
pub(super) struct Interner<K, V> {
    places: Mutex<Vec<Place<K, V>>>,
    hasher: RandomState,
}

/// A key and its value, if one has taken the place.
type Place<K, V> = Option<(K, Arc<V>)>;

impl<K: std::hash::Hash + Eq, V> Interner<K, V> {
    pub(super) fn new() -> Self {
        Self {
            places: Mutex::new(std::iter::repeat_with(|| None).take(PLACES).collect()),
            hasher: RandomState::new(),
        }
    }

    /// The value for this key, made when it is not known.
    ///
    /// # Errors
    ///
    /// What `make` says.
    pub(super) fn get<E>(
        &self,
        key: K,
        make: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let place = self.hasher.hash_one(&key) as usize % PLACES;
        if let Some((known, value)) = &self.places.lock()[place]
            && *known == key
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make(&key)?);
        let before = self.places.lock()[place].replace((key, Arc::clone(&value)));
        drop(before);
        Ok(value)
    }
}

impl<K, V> Interner<K, V> {
    /// Forgets the values that nobody has any more.
    pub(super) fn forget_unused(&self) {
        let mut unused = Vec::new();
        {
            let mut places = self.places.lock();
            for place in places.iter_mut() {
                let is_unused = |(_, value): &(K, Arc<V>)| Arc::strong_count(value) == 1;
                unused.extend(place.take_if(|place| is_unused(place)));
            }
        }
        // They are dropped without the lock.
        drop(unused);
    }
}

/// How many values are remembered. A stated guess: more than a hub has kinds of readers that come together.
const PLACES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_a_value_and_mistakes_are_not_remembered() {
        let shared: Interner<String, String> = Interner::new();
        let get = |key: &str| shared.get(key.to_owned(), |key| Ok::<_, ()>(key.clone()));
        assert!(Arc::ptr_eq(&get("a").unwrap(), &get("a").unwrap()));
        assert!(shared.get("b".to_owned(), |_| Err(())).is_err());
        let kept = get("a").unwrap();
        drop(get("c"));
        shared.forget_unused();
        let left = shared.places.lock().iter().flatten().count();
        assert_eq!(left, 1, "only what is used");
        assert!(Arc::ptr_eq(&get("a").unwrap(), &kept));
        for n in 0..10 * PLACES {
            let key = n.to_string();
            assert_eq!(*get(&key).unwrap(), key, "whoever had its place before");
        }
    }
}
