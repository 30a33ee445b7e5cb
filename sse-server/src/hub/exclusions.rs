//! Clients that were sent away for a while (`DELETE /events/connections/{id}?for=`). An `EventSource` reconnects by itself, unless it
//! is told not to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sse_pool::{ClientInfo, PackedIp};

use super::Hub;
use crate::access::Caller;
use crate::clock;

/// A client that is sent away: the same user agent, user and session at the same address. The user agent is part of it, so that
/// a page that is sent away keeps no other program out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Excluded {
    address: PackedIp,
    user_agent: Option<Arc<str>>,
    user: Option<Arc<str>>,
    session: Option<Arc<str>>,
}

impl Excluded {
    fn new(address: IpAddr, client: &ClientInfo) -> Self {
        Self {
            address: address.into(),
            user_agent: client.user_agent.clone(),
            user: client.user.clone(),
            session: client.session.clone(),
        }
    }
}

/// Who is to stay away, and until when.
#[derive(Debug, Default)]
pub(super) struct Exclusions(Mutex<HashMap<Excluded, Instant>>);

impl Exclusions {
    fn add(&self, excluded: Excluded, until: Instant, now: Instant) {
        let mut table = self.0.lock();
        table.retain(|_, until| *until > now);
        if table.len() >= MAX_EXCLUSIONS
            && let Some(soonest) = table.iter().min_by_key(|(_, until)| **until)
        {
            let soonest = soonest.0.clone();
            table.remove(&soonest);
        }
        table.insert(excluded, until);
    }

    fn is_excluded(&self, excluded: &Excluded, now: Instant) -> bool {
        let table = self.0.lock();
        table.get(excluded).is_some_and(|until| *until > now)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Hub {
    /// Keeps the client of a connection from coming back for so long; `false` when there is no such connection.
    pub fn exclude_connection(&self, id: &sse_pool::ConnectionId, within: Duration) -> bool {
        let Some(status) = self.connection_status(id) else {
            return false;
        };
        let info = &status.info;
        let now = clock::now();
        let until = now + within.min(MAX_EXCLUSION);
        let excluded = Excluded::new(info.ip.into(), &info.client);
        self.inner.exclusions.add(excluded, until, now);
        true
    }

    /// Whether this client was sent away and is to stay away still.
    #[must_use]
    pub fn is_excluded(&self, caller: &Caller, user_agent: Option<&str>) -> bool {
        if self.inner.exclusions.is_empty() {
            return false;
        }
        let client = self.client(user_agent, caller);
        let excluded = Excluded::new(caller.address(), &client);
        self.inner.exclusions.is_excluded(&excluded, clock::now())
    }
}

/// The longest that somebody can be sent away for.
pub(crate) const MAX_EXCLUSION: Duration = Duration::from_secs(24 * 3600);
/// Clients that are remembered. A stated guess; the one that would be let in first makes room.
const MAX_EXCLUSIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_remembered_and_only_for_so_long() {
        let exclusions = Exclusions::default();
        let now = Instant::now();
        let client = |n: usize| {
            let info = ClientInfo {
                user: Some(n.to_string().into()),
                ..ClientInfo::default()
            };
            Excluded::new([127, 0, 0, 1].into(), &info)
        };
        for n in 0..=MAX_EXCLUSIONS {
            let until = now + Duration::from_secs(10 + n as u64);
            exclusions.add(client(n), until, now);
        }
        assert!(!exclusions.is_excluded(&client(0), now));
        assert!(exclusions.is_excluded(&client(1), now));
        assert!(!exclusions.is_excluded(&client(1), now + Duration::from_secs(11)));
        exclusions.add(client(0), now, now + MAX_EXCLUSION);
        assert_eq!(exclusions.0.lock().len(), 1, "what is over is forgotten");
    }
}
