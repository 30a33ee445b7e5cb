//! Who gets a place: a total, and a share per client address.

use std::{collections::HashMap, fmt, hash::Hash, net::IpAddr, sync::Arc};

use crate::{Limits, high_water::HighWater, sync::Mutex};

/// Why a connection was not admitted. All of these pass: trying again later may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Every place is taken.
    #[error("the pool is full")]
    Full,
    /// The client's address has its share already.
    #[error("too many connections from this address")]
    TooManyFromAddress,
    /// The pool admits nobody any more: this node is leaving.
    #[error("the pool is draining")]
    Draining,
}

/// A place in the pool, given back when it is dropped.
///
/// [`Pool::admit`](crate::Pool::admit) gives one out and [`Pool::connect`](crate::Pool::connect) takes it; from
/// then on the place belongs to the connection, and comes back when that is dropped. So a place is held for
/// the whole of a connection's life, from before its first byte is answered.
#[must_use = "dropping a permit gives the place back"]
pub struct Permit {
    /// `None` once the place belongs to a connection.
    admission: Option<Arc<Admission>>,
    address: AddressKey,
}

impl Permit {
    pub(crate) fn is_from(&self, admission: &Arc<Admission>) -> bool {
        self.admission
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, admission))
    }

    /// Hands the place over: whoever gets the address gives it back with [`Admission::release`].
    pub(crate) fn into_address(mut self) -> AddressKey {
        self.admission = None;
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = &self.admission {
            admission.release(self.address);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What counts as one client address: an IPv4 address, or the /64 that one IPv6 site is given.
///
/// An IPv4-mapped IPv6 address is the IPv4 address. A /64 and not an address, because whoever has one IPv6
/// address has 2^64 of them (RFC 6177, RFC 4291 §2.5.1).
///
/// ```
/// # use std::net::IpAddr;
/// # use sse_pool::AddressKey;
/// let key = |text: &str| AddressKey::from(text.parse::<IpAddr>().unwrap());
/// assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
/// assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
}

impl From<IpAddr> for AddressKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

pub(crate) struct Admission {
    max_total: usize,
    max_per_address: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    peak: usize,
    draining: bool,
    v4: Shares<[u8; 4]>,
    v6: Shares<[u8; 8]>,
    accepted: u64,
    refused_full: u64,
    refused_address: u64,
    refused_draining: u64,
}

/// How many places each address of one family holds; an address without any is not there.
///
/// There is one per family: an IPv4 client then costs nine bytes per bucket, and an IPv6 client thirteen, where
/// one table for both would cost either of them seventeen.
#[derive(Debug)]
struct Shares<K> {
    taken: HashMap<K, u32>,
    most: HighWater,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self {
            taken: HashMap::new(),
            most: HighWater::default(),
        }
    }
}

impl<K: Eq + Hash> Shares<K> {
    /// Takes a place; false when this address has `max` already.
    fn take(&mut self, key: K, max: usize) -> bool {
        let share = self.taken.get(&key).copied().unwrap_or(0);
        if share as usize >= max || share == u32::MAX {
            return false;
        }
        self.taken.insert(key, share + 1);
        self.most.grown(self.taken.len());
        true
    }

    /// How many places this address has.
    fn taken(&self, key: K) -> usize {
        self.taken.get(&key).copied().unwrap_or(0) as usize
    }

    fn release(&mut self, key: K) {
        let Some(share) = self.taken.get_mut(&key) else {
            return;
        };
        *share -= 1;
        if *share == 0 {
            self.taken.remove(&key);
            if let Some(capacity) = self.most.shrunk(self.taken.len()) {
                self.taken.shrink_to(capacity);
            }
        }
    }
}

/// The counters of admission, for [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionStats {
    pub(crate) active: usize,
    pub(crate) peak: usize,
    pub(crate) accepted: u64,
    pub(crate) refused_full: u64,
    pub(crate) refused_address: u64,
    pub(crate) refused_draining: u64,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max_total: limits.max_connections,
            max_per_address: limits.max_connections_per_ip,
            places: Mutex::new(Places::default()),
        }
    }

    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Refusal> {
        let address = AddressKey::from(ip);
        self.take(address)?;
        Ok(Permit {
            admission: Some(Arc::clone(self)),
            address,
        })
    }

    /// Whether there is a place now; nothing is taken or counted.
    pub(crate) fn check(&self, ip: IpAddr) -> Result<(), Refusal> {
        let places = self.places.lock();
        if places.draining {
            return Err(Refusal::Draining);
        }
        if places.taken >= self.max_total {
            return Err(Refusal::Full);
        }
        let taken = match AddressKey::from(ip) {
            AddressKey::V4(key) => places.v4.taken(key),
            AddressKey::V6(key) => places.v6.taken(key),
        };
        if taken >= self.max_per_address {
            return Err(Refusal::TooManyFromAddress);
        }
        Ok(())
    }

    fn take(&self, address: AddressKey) -> Result<(), Refusal> {
        let mut guard = self.places.lock();
        let places = &mut *guard;
        if places.draining {
            places.refused_draining += 1;
            return Err(Refusal::Draining);
        }
        if places.taken >= self.max_total {
            places.refused_full += 1;
            return Err(Refusal::Full);
        }
        let within_share = match address {
            AddressKey::V4(key) => places.v4.take(key, self.max_per_address),
            AddressKey::V6(key) => places.v6.take(key, self.max_per_address),
        };
        if !within_share {
            places.refused_address += 1;
            return Err(Refusal::TooManyFromAddress);
        }
        places.taken += 1;
        places.peak = places.peak.max(places.taken);
        places.accepted += 1;
        Ok(())
    }

    pub(crate) fn release(&self, address: AddressKey) {
        let mut guard = self.places.lock();
        let places = &mut *guard;
        places.taken -= 1;
        match address {
            AddressKey::V4(key) => places.v4.release(key),
            AddressKey::V6(key) => places.v6.release(key),
        }
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.places.lock().draining = draining;
    }

    pub(crate) fn stats(&self) -> AdmissionStats {
        let places = self.places.lock();
        AdmissionStats {
            active: places.taken,
            peak: places.peak,
            accepted: places.accepted,
            refused_full: places.refused_full,
            refused_address: places.refused_address,
            refused_draining: places.refused_draining,
        }
    }
}
