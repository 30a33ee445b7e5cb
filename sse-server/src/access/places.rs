//! Places: how many of something there may be at once, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use sse_pool::AddressKey;

/// How many there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// In all.
    pub max: usize,
    /// From one address; an IPv6 address counts with its /64.
    pub max_per_address: usize,
}

/// There is no place. It passes: trying again later may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Every place is taken.
    #[error("all {0} places are taken")]
    Full(usize),
    /// The address has as many as one may have.
    #[error("this address has {0} places, and gets no more")]
    TooManyFromAddress(usize),
}

/// How the places are at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceStatus {
    /// How many there are.
    pub limits: PlaceLimits,
    /// How many are taken.
    pub taken: usize,
    /// How often somebody found all of them taken.
    pub refused: u64,
    /// How often an address had its own already.
    pub refused_per_address: u64,
}

/// Who has how many places. An address that has none is not in it, so it is never larger than the places are many.
#[derive(Debug)]
pub(super) struct Counts {
    limits: PlaceLimits,
    taken: usize,
    by_address: HashMap<AddressKey, usize>,
    refused: u64,
    refused_per_address: u64,
}

impl Counts {
    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self {
            limits,
            taken: 0,
            by_address: HashMap::new(),
            refused: 0,
            refused_per_address: 0,
        }
    }

    /// Whether all are taken.
    pub(super) fn is_full(&self) -> bool {
        self.taken >= self.limits.max
    }

    /// Takes a place, for an address or for none.
    pub(super) fn take(&mut self, address: Option<AddressKey>) -> Result<(), NoPlace> {
        self.take_share(address)?;
        if self.is_full() {
            self.release_share(address);
            self.refused += 1;
            return Err(NoPlace::Full(self.limits.max));
        }
        self.taken += 1;
        Ok(())
    }

    /// Takes a place beyond what there is, for what is there already.
    pub(super) fn add(&mut self, address: Option<AddressKey>) {
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.taken += 1;
    }

    /// Whether an address has less than its share.
    pub(super) fn has_share(&self, address: Option<AddressKey>) -> bool {
        let own = address.and_then(|address| self.by_address.get(&address));
        own.is_none_or(|own| *own < self.limits.max_per_address)
    }

    /// Counts a place that is taken for this address too.
    pub(super) fn take_share(&mut self, address: Option<AddressKey>) -> Result<(), NoPlace> {
        let Some(address) = address else {
            return Ok(());
        };
        let most = self.limits.max_per_address;
        let own = self.by_address.get(&address).copied().unwrap_or(0);
        if own >= most {
            self.refused_per_address += 1;
            return Err(NoPlace::TooManyFromAddress(most));
        }
        self.by_address.insert(address, own + 1);
        Ok(())
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, address: Option<AddressKey>) {
        self.release_share(address);
        self.taken -= 1;
    }

    /// No longer counts a place for this address.
    pub(super) fn release_share(&mut self, address: Option<AddressKey>) {
        let Some(address) = address else { return };
        if let Some(own) = self.by_address.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    pub(super) fn status(&self) -> PlaceStatus {
        PlaceStatus {
            limits: self.limits,
            taken: self.taken,
            refused: self.refused,
            refused_per_address: self.refused_per_address,
        }
    }
}

/// Places that are taken one at a time. Cloning it is cheap; all clones are the same places.
#[derive(Clone, Debug)]
pub struct Places(Arc<Mutex<Counts>>);

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(limits: PlaceLimits) -> Self {
        Self(Arc::new(Mutex::new(Counts::new(limits))))
    }

    /// Takes a place for an address.
    ///
    /// # Errors
    ///
    /// When there is none, or none for this address.
    pub fn take(&self, address: IpAddr) -> Result<Place, NoPlace> {
        let address = AddressKey::from(address);
        self.0.lock().take(Some(address))?;
        Ok(Place {
            places: self.clone(),
            address,
        })
    }

    /// How they are.
    #[must_use]
    pub fn status(&self) -> PlaceStatus {
        self.0.lock().status()
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
#[must_use = "a place is given back when it is dropped"]
pub struct Place {
    places: Places,
    address: AddressKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().release(Some(self.address));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn an_address_has_its_share_and_all_together_have_what_there_is() {
        let places = Places::new(PlaceLimits {
            max: 3,
            max_per_address: 2,
        });
        let ann = [
            places.take(address(1)).unwrap(),
            places.take(address(1)).unwrap(),
        ];
        assert_eq!(
            places.take(address(1)).unwrap_err(),
            NoPlace::TooManyFromAddress(2)
        );
        let _bob = places.take(address(2)).unwrap();
        assert_eq!(places.take(address(2)).unwrap_err(), NoPlace::Full(3));
        drop(ann);
        let status = places.status();
        assert_eq!(
            (status.taken, status.refused, status.refused_per_address),
            (1, 1, 1)
        );
        let mapped = "::ffff:192.0.2.2".parse().unwrap();
        let _second = places.take(mapped).unwrap();
        assert!(places.take(address(2)).is_err());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_who_is_there_and_nothing_is_left_behind(
            ops in prop::collection::vec((any::<bool>(), 0_u8..4), 0..200),
        ) {
            let places = Places::new(PlaceLimits { max: 6, max_per_address: 3 });
            let mut there: Vec<(u8, Place)> = Vec::new();
            for (comes, who) in ops {
                if comes {
                    let own = there.iter().filter(|(it, _)| *it == who).count();
                    let taken = places.take(address(who));
                    prop_assert_eq!(taken.is_ok(), own < 3 && there.len() < 6);
                    there.extend(taken.ok().map(|place| (who, place)));
                } else if let Some(at) = there.iter().position(|(it, _)| *it == who) {
                    drop(there.remove(at));
                }
                prop_assert_eq!(places.status().taken, there.len());
            }
            there.clear();
            let counts = places.0.lock();
            prop_assert!(counts.taken == 0 && counts.by_address.is_empty());
        }
    }
}
