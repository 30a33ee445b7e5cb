//! An interner: a value that many connections share is held once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Remembers values that were made, so that equal ones are one.
///
/// Bounded in their number and in the bytes of their keys: when it is full, it first forgets what nobody uses, and then all. What is
/// not found is simply made anew, so this is never wrong, only now and then of no use. What nobody uses any more goes with
/// [`forget_unused`](Self::forget_unused) too: a value may hold memory of the budget.
#[derive(Debug)]
pub(super) struct Interner<K, V> {
    known: Mutex<Known<K, V>>,
    /// What a key takes in bytes, more or less.
    weight: fn(&K) -> usize,
}

#[derive(Debug)]
struct Known<K, V> {
    values: HashMap<K, Arc<V>>,
    bytes: usize,
}

impl<K: Hash + Eq, V> Interner<K, V> {
    pub(super) fn new(weight: fn(&K) -> usize) -> Self {
        Self {
            known: Mutex::new(Known {
                values: HashMap::new(),
                bytes: 0,
            }),
            weight,
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
        if let Some(value) = self.known.lock().values.get(&key) {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make(&key)?);
        let bytes = (self.weight)(&key);
        if !self.has_room(bytes) {
            self.forget_unused();
        }
        if !self.has_room(bytes) {
            self.forget(|_| true);
        }
        if bytes <= MAX_BYTES {
            let mut known = self.known.lock();
            // Somebody else may have made it just now.
            if known.values.insert(key, Arc::clone(&value)).is_none() {
                known.bytes += bytes;
            }
        }
        Ok(value)
    }

    /// Forgets the values that nobody has any more.
    pub(super) fn forget_unused(&self) {
        self.forget(|value| Arc::strong_count(value) == 1);
    }

    fn has_room(&self, bytes: usize) -> bool {
        let known = self.known.lock();
        known.values.len() < MAX_VALUES && known.bytes + bytes <= MAX_BYTES
    }

    fn forget(&self, is_meant: impl Fn(&Arc<V>) -> bool) {
        let gone: Vec<_> = {
            let mut known = self.known.lock();
            let Known { values, bytes } = &mut *known;
            let gone: Vec<_> = values.extract_if(|_, value| is_meant(value)).collect();
            *bytes -= gone
                .iter()
                .map(|(key, _)| (self.weight)(key))
                .sum::<usize>();
            gone
        };
        // They are dropped without the lock.
        drop(gone);
    }
}

/// How many values are remembered. A stated guess: more than a hub has kinds of readers that come together.
const MAX_VALUES: usize = 1024;
/// How many bytes of keys. A stated guess: kilobytes for each kind of reader.
const MAX_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_a_value_and_mistakes_are_not_remembered() {
        let shared: Interner<String, String> = Interner::new(String::len);
        let get = |key: &str| shared.get(key.to_owned(), |key| Ok::<_, ()>(key.clone()));
        assert!(Arc::ptr_eq(&get("a").unwrap(), &get("a").unwrap()));
        assert!(shared.get("b".to_owned(), |_| Err(())).is_err());
        let kept = get("a").unwrap();
        drop(get("c"));
        shared.forget_unused();
        let left = shared.known.lock().values.len();
        assert_eq!(left, 1, "only what is used");
        assert!(Arc::ptr_eq(&get("a").unwrap(), &kept));
        for n in 0..3 * MAX_VALUES {
            let key = n.to_string();
            assert_eq!(*get(&key).unwrap(), key);
            assert!(shared.known.lock().values.len() <= MAX_VALUES);
        }
    }

    #[test]
    fn large_keys_are_fewer_and_what_is_used_is_shared_for_long() {
        let shared: Interner<String, String> = Interner::new(String::len);
        let get = |key: &str| shared.get(key.to_owned(), |key| Ok::<_, ()>(key.clone()));
        let used: Vec<_> = (0..100).map(|n| get(&n.to_string()).unwrap()).collect();
        for n in 0..100 {
            drop(get(&format!("{n:0>60000}")));
            assert!(shared.known.lock().bytes <= MAX_BYTES);
        }
        for value in &used {
            assert!(Arc::ptr_eq(value, &get(value).unwrap()));
        }
        drop(get(&"x".repeat(MAX_BYTES + 1)));
        assert!(shared.known.lock().bytes <= MAX_BYTES);
    }
}
