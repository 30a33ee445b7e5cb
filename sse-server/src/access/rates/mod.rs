//! Rates: how fast one caller may connect and publish.
//!
//! A caller is counted as [`Counted`] says: by its user, or else its address. What it has taken stands in one `table` for all limits,
//! whose memory is bounded, however many callers there are.

mod rate;
mod table;

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

pub use rate::{InvalidRate, Rate};
use table::Table;

use super::caller::{Caller, Counted};
use super::refusals::{Refusals, RefusalsToTell};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limited {
    /// Opening streams and WebSockets.
    Connect,
    /// Publishing events.
    Publish,
    /// Publishing bytes.
    PublishBytes,
    /// Showing credentials that are not good. Counted by address in any case.
    FailedCredentials,
}

impl Limited {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Connect,
        Self::Publish,
        Self::PublishBytes,
        Self::FailedCredentials,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::PublishBytes => "publish_bytes",
            Self::FailedCredentials => "failed_credentials",
        }
    }

    /// The option that sets it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Connect => "--connect-rate",
            Self::Publish => "--publish-rate",
            Self::PublishBytes => "--publish-bytes-rate",
            Self::FailedCredentials => "--failed-credential-rate",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Connect => "connections",
            Self::Publish => "events",
            Self::PublishBytes => "bytes",
            Self::FailedCredentials => "credentials that are not good",
        }
    }
}

/// How fast one caller may do what is limited; `None` for as fast as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Opening streams and WebSockets.
    pub connect: Option<Rate>,
    /// Publishing events.
    pub publish: Option<Rate>,
    /// Publishing bytes.
    pub publish_bytes: Option<Rate>,
    /// Showing credentials that are not good.
    pub failed_credentials: Option<Rate>,
}

impl RateLimits {
    /// The rate of one limit.
    #[must_use]
    pub fn of(&self, limited: Limited) -> Option<Rate> {
        match limited {
            Limited::Connect => self.connect,
            Limited::Publish => self.publish,
            Limited::PublishBytes => self.publish_bytes,
            Limited::FailedCredentials => self.failed_credentials,
        }
    }
}

/// Somebody is too fast, or wants more at once than anybody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// What is limited.
    pub limited: Limited,
    /// How fast it may be done.
    pub rate: Rate,
    /// As what the caller is counted: `user`, `session`, `token` or `address`.
    pub counted_as: &'static str,
    /// How many were wanted.
    pub wanted: u64,
    /// How long to wait, in whole seconds; `None` when waiting does not help.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for TooFast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, noun, flag) = (self.rate, self.limited.noun(), self.limited.flag());
        let Some(wait) = self.retry_after else {
            return write!(
                f,
                "{} {noun} are wanted at once, and {} are the most that is ever taken ({flag}); send them in smaller parts",
                self.wanted,
                rate.burst()
            );
        };
        let seconds = match wait.as_secs() {
            1 => "1 second".to_owned(),
            seconds => format!("{seconds} seconds"),
        };
        write!(
            f,
            "this {} is too fast: {noun} are taken at a rate of {rate} ({flag}); try again in {seconds}",
            self.counted_as
        )
    }
}

impl std::error::Error for TooFast {}

/// Who has taken how much lately.
#[derive(Debug)]
pub struct Rates {
    limits: RwLock<RateLimits>,
    table: Table,
    /// When ticks begin.
    begun: Instant,
    /// Nobody outside knows its keys, so nobody can choose whose slots to take.
    hasher: RandomState,
    refusals: [Refusals; Limited::ALL.len()],
}

impl Rates {
    /// These limits, with a table of no more than so many bytes.
    #[must_use]
    pub fn new(limits: RateLimits, max_bytes: usize, now: Instant) -> Self {
        Self {
            limits: RwLock::new(limits),
            table: Table::new(max_bytes),
            begun: now,
            hasher: RandomState::new(),
            refusals: Default::default(),
        }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> RateLimits {
        *self.limits.read()
    }

    /// Takes other limits from now on. What callers have taken stays taken.
    pub fn set_limits(&self, limits: RateLimits) {
        *self.limits.write() = limits;
    }

    /// Takes so many for a caller.
    ///
    /// # Errors
    ///
    /// [`TooFast`] when it has taken too many lately; nothing is taken then.
    pub fn take(
        &self,
        limited: Limited,
        caller: &Caller,
        amount: usize,
        now: Instant,
    ) -> Result<(), TooFast> {
        self.ask(limited, caller, amount, |table, key, cost, burst| {
            table.take(key, cost, burst, self.ticks(now))
        })
    }

    /// Whether so many could be taken, and takes none.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn check(
        &self,
        limited: Limited,
        caller: &Caller,
        amount: usize,
        now: Instant,
    ) -> Result<(), TooFast> {
        self.ask(limited, caller, amount, |table, key, cost, burst| {
            table.check(key, cost, burst, self.ticks(now))
        })
    }

    /// Whether nothing more could be taken now. Nobody is refused by that.
    #[must_use]
    pub fn is_exhausted(&self, limited: Limited, caller: &Caller, now: Instant) -> bool {
        self.limits().of(limited).is_some_and(|rate| {
            let key = self.key(limited, &caller.counted_as());
            let (cost, burst) = (rate.ticks_of(1), rate.burst_ticks());
            self.table.check(key, cost, burst, self.ticks(now)).is_err()
        })
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, limited: Limited, caller: &Caller, amount: usize) {
        if let Some(rate) = self.limits().of(limited) {
            let key = self.key(limited, &caller.counted_as());
            self.table.give_back(key, rate.ticks_of(amount as u64));
        }
    }

    /// How often each limit has refused somebody, since the start.
    #[must_use]
    pub fn refused(&self) -> [(Limited, u64); Limited::ALL.len()] {
        Limited::ALL.map(|limited| (limited, self.refusals[limited as usize].total()))
    }

    /// The refusals that nobody was told of yet, by the option that sets the limit.
    pub(crate) fn refusals_to_tell(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&'static str, RefusalsToTell)> {
        Limited::ALL.into_iter().filter_map(move |limited| {
            let told = self.refusals[limited as usize].to_tell(now)?;
            Some((limited.flag(), told))
        })
    }

    fn ask(
        &self,
        limited: Limited,
        caller: &Caller,
        amount: usize,
        ask: impl FnOnce(&Table, u64, u64, u64) -> Result<(), u64>,
    ) -> Result<(), TooFast> {
        let Some(rate) = self.limits().of(limited) else {
            return Ok(());
        };
        let counted = caller.counted_as();
        let wanted = amount as u64;
        let asked = match wanted > rate.burst() {
            true => Err(None),
            false => {
                let key = self.key(limited, &counted);
                let (cost, burst) = (rate.ticks_of(wanted), rate.burst_ticks());
                ask(&self.table, key, cost, burst).map_err(Some)
            }
        };
        asked.map_err(|wait| {
            self.refusals[limited as usize].record(&counted);
            TooFast {
                limited,
                rate,
                counted_as: counted.noun(),
                wanted,
                retry_after: wait.map(rate::whole_seconds),
            }
        })
    }

    fn key(&self, limited: Limited, counted: &Counted<'_>) -> u64 {
        self.hasher.hash_one((limited, counted))
    }

    fn ticks(&self, now: Instant) -> u64 {
        rate::ticks(now.saturating_duration_since(self.begun))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::{Credential, CredentialKind};
    use crate::clock;

    fn at(last: u8) -> Caller {
        Caller::anonymous([192, 0, 2, last].into())
    }

    fn shown(caller: Caller, kind: CredentialKind, id: &str) -> Caller {
        caller.with_credential(Arc::new(Credential {
            kind,
            id: Some(id.into()),
            issued_at: None,
            expires_at: None,
        }))
    }

    fn rates(publish: Rate) -> (Rates, Instant) {
        let limits = RateLimits {
            publish: Some(publish),
            ..RateLimits::default()
        };
        let now = clock::now();
        (Rates::new(limits, 1 << 20, now), now)
    }

    #[test]
    fn a_burst_is_whole_and_the_wait_is_exact_and_in_whole_seconds() {
        // Three a second do not divide a second's nanoseconds.
        let (rates, now) = rates(Rate::new(3, Duration::from_secs(1), 10).unwrap());
        let take = |amount, after: u64| {
            let now = now + Duration::from_millis(after);
            rates.take(Limited::Publish, &at(1), amount, now)
        };
        for _ in 0..10 {
            take(1, 0).unwrap();
        }
        let wait = |refused: Result<(), TooFast>| refused.unwrap_err().retry_after;
        assert_eq!(wait(take(1, 0)), Some(Duration::from_secs(1)));
        assert_eq!(wait(take(9, 0)), Some(Duration::from_secs(3)));
        assert_eq!(wait(take(10, 0)), Some(Duration::from_secs(4)));
        take(3, 1_000).unwrap();
        assert_eq!(wait(take(1, 1_000)), Some(Duration::from_secs(1)));
        take(1, 1_334).unwrap();
        assert_eq!(wait(take(11, 60_000)), None, "that never fits");
        take(10, 60_000).unwrap();
        rates.give_back(Limited::Publish, &at(1), 10);
        take(10, 60_000).unwrap();
        // What has no limit is never refused.
        let connect = rates.take(Limited::Connect, &at(1), 1_000_000, now);
        assert_eq!(connect, Ok(()));
        assert_eq!(rates.refused()[1], (Limited::Publish, 5));
    }

    #[test]
    fn callers_are_counted_by_what_they_have_shown_or_else_by_their_address() {
        let (rates, now) = rates(Rate::new(1, Duration::from_secs(1), 1).unwrap());
        let user = |address: u8, name| {
            let caller = Caller::new([192, 0, 2, address].into(), Some(name), None).unwrap();
            shown(caller, CredentialKind::Jwt, &format!("{address}"))
        };
        let v6 = |text: &str| Caller::anonymous(text.parse().unwrap());
        let said = |name| Caller::new([192, 0, 2, 9].into(), Some(name), None).unwrap();
        // Of each pair both are counted as one.
        for (one, other) in [
            (user(1, "ann"), user(2, "ann")),
            (
                shown(at(1), CredentialKind::ApiToken, "t1"),
                shown(at(2), CredentialKind::ApiToken, "t1"),
            ),
            (at(1), at(1)),
            (v6("2001:db8::1"), v6("2001:db8::2")),
            // Whoever has shown nothing may say any name.
            (said("cleo"), said("dora")),
            // Tickets that name nobody are those of many pages.
            (shown(at(3), CredentialKind::Ticket, "t1"), at(3)),
        ] {
            assert_eq!(
                rates.take(Limited::Publish, &one, 1, now),
                Ok(()),
                "{one:?}"
            );
            assert!(
                rates.take(Limited::Publish, &other, 1, now).is_err(),
                "{other:?}"
            );
        }
        rates
            .take(Limited::Publish, &user(1, "bob"), 1, now)
            .unwrap();
        let told = rates.refusals_to_tell(now).collect::<Vec<_>>();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, told[0].1.count), ("--publish-rate", 6));
        assert_eq!(told[0].1.example, "user \"ann\"");
    }

    #[test]
    fn a_refusal_says_the_limit_and_what_to_do() {
        let (rates, now) = rates(Rate::new(30, Duration::from_secs(60), 2).unwrap());
        rates.take(Limited::Publish, &at(1), 2, now).unwrap();
        let refused = |amount| {
            rates
                .take(Limited::Publish, &at(1), amount, now)
                .unwrap_err()
        };
        assert_eq!(
            refused(1).to_string(),
            "this address is too fast: events are taken at a rate of 30 a minute, and 2 at once (--publish-rate); try again \
             in 2 seconds"
        );
        assert_eq!(
            refused(3).to_string(),
            "3 events are wanted at once, and 2 are the most that is ever taken (--publish-rate); send them in smaller parts"
        );
    }
}
