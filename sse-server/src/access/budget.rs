//! The memory budget: whatever holds bytes for a client holds a permit for them.
//!
//! The memory that the hub may use (`--memory`) is divided into accounts at the start. Code that holds bytes takes a permit of
//! the account first, and keeps it until the bytes are gone. When there is none left it waits a moment, or its client is told to
//! come back. So overload is an answer and never an allocation.
//!
//! ```text
//!                 permit
//!   free ──────────────────────▶ held by an address
//!     ▲                                │
//!     └────────────────────────────────┘
//!            the permit is dropped
//! ```
//!
//! * **Nobody takes the last half.** An address may hold as much of an account as is still free then, so one alone gets half
//!   of it, a second one half of what is left.
//! * **No account is smaller than its largest item**, twice over, or an item could never be taken.
//! * **Permits are taken in the order of [`Account`]**: a request that holds one waits only for later ones, so requests cannot
//!   wait for each other in a circle. And nobody waits for long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sse_pool::AddressKey;
use tokio::sync::Notify;

use crate::clock;

/// What memory is used for. Permits are taken in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Connections: what hyper, TLS, HTTP/2 and WebSockets hold for each, and the place of each stream.
    Connections,
    /// Selectors and patterns of readers.
    Selectors,
    /// Bodies of requests, as they arrive.
    Bodies,
    /// Events that a request publishes, until they are in the log.
    Publications,
    /// The states of jobs.
    Jobs,
    /// Encoders of compressed streams.
    Compression,
    /// Pages of the log on their way to readers.
    Replay,
    /// Answers on their way to clients.
    Answers,
    /// The newest events, for all readers. No permits are taken: it keeps its own bound.
    Window,
    /// The log: all of one in memory, the cache of one on disk. No permits are taken here either.
    Log,
}

impl Account {
    /// Every account, in the order in which permits are taken.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::Selectors,
        Self::Bodies,
        Self::Publications,
        Self::Jobs,
        Self::Compression,
        Self::Replay,
        Self::Answers,
        Self::Window,
        Self::Log,
    ];

    /// The name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Selectors => "selectors",
            Self::Bodies => "bodies",
            Self::Publications => "publications",
            Self::Jobs => "jobs",
            Self::Compression => "compression",
            Self::Replay => "replay",
            Self::Answers => "answers",
            Self::Window => "window",
            Self::Log => "log",
        }
    }
}

/// How many bytes each account has.
pub type Sizes = [usize; Account::ALL.len()];

/// Shares out memory: what the accounts get of so many bytes.
#[must_use]
pub const fn shares(total_bytes: usize) -> Sizes {
    let part = total_bytes / PARTS;
    let mut sizes = PARTS_OF_ACCOUNTS;
    let mut at = 0;
    while at < sizes.len() {
        sizes[at] *= part;
        at += 1;
    }
    sizes
}

/// Memory is shared out in so many parts. Two of those that no account gets are for what nobody counts: small answers, small
/// selectors, named subscriptions. The other sixteen are the allocator's: under attack it holds about a quarter more than it has
/// given out, in pieces that fit nobody.
pub const PARTS: usize = 80;

/// How many parts each account gets.
pub const PARTS_OF_ACCOUNTS: Sizes = [6, 2, 6, 8, 4, 6, 7, 7, 8, 8];

/// What a stream takes for its place, whoever writes it; a topic or a name of its own is among it.
pub const STREAM_BYTES: usize = 512;

/// There is no memory left in an account, or not for this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory is left for {}: {wanted} bytes are wanted", account.name())]
pub struct NoMemory {
    /// Which account.
    pub account: Account,
    /// How many bytes were asked for.
    pub wanted: usize,
    /// What one address can have of the account, when all of it is free.
    pub most: usize,
}

/// The accounts. Cloning it is cheap; all clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    accounts: Arc<[AccountState; Account::ALL.len()]>,
}

#[derive(Debug)]
struct AccountState {
    max_bytes: usize,
    ledger: Mutex<Ledger>,
    /// Told when something was given back.
    freed: Notify,
}

/// Who holds how much.
#[derive(Debug, Default)]
struct Ledger {
    held: usize,
    by_address: HashMap<AddressKey, usize>,
    refused: u64,
    /// When somebody was last refused for what others hold.
    short_at: Option<Instant>,
}

/// What an account holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountStatus {
    /// Which account.
    pub account: Account,
    /// What it may hold.
    pub max_bytes: usize,
    /// What it holds.
    pub held_bytes: usize,
    /// How often somebody found nothing left.
    pub refused: u64,
}

impl Budget {
    /// A budget of these accounts.
    #[must_use]
    pub fn new(sizes: Sizes) -> Self {
        let accounts = sizes.map(|max_bytes| AccountState {
            max_bytes,
            ledger: Mutex::default(),
            freed: Notify::new(),
        });
        Self {
            accounts: Arc::new(accounts),
        }
    }

    /// Takes bytes of an account for an address.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when less is free, or the address would hold more than what is free then.
    pub fn try_take(
        &self,
        account: Account,
        address: IpAddr,
        bytes: usize,
    ) -> Result<Permit, NoMemory> {
        let mut permit = Permit {
            budget: self.clone(),
            account,
            holder: address.into(),
            bytes: 0,
        };
        permit.try_grow(bytes)?;
        Ok(permit)
    }

    /// The same, waiting a moment for others to give back what they hold.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_take`](Self::try_take), when the moment is over.
    pub async fn take(
        &self,
        account: Account,
        address: IpAddr,
        bytes: usize,
    ) -> Result<Permit, NoMemory> {
        let mut permit = self.try_take(account, address, 0)?;
        permit.grow(bytes).await?;
        Ok(permit)
    }

    /// The same, waiting until it is there. For what can always wait, such as the pages of a reader that is behind.
    pub async fn take_in_turn(&self, account: Account, address: IpAddr, bytes: usize) -> Permit {
        let state = self.state(account);
        // What can never be free would be waited for for ever.
        let bytes = bytes.min(state.max_bytes / 2);
        loop {
            let freed = state.freed.notified();
            if let Ok(permit) = self.try_take(account, address, bytes) {
                return permit;
            }
            freed.await;
        }
    }

    /// What each account holds.
    #[must_use]
    pub fn status(&self) -> [AccountStatus; Account::ALL.len()] {
        Account::ALL.map(|account| {
            let state = self.state(account);
            let ledger = state.ledger.lock();
            AccountStatus {
                account,
                max_bytes: state.max_bytes,
                held_bytes: ledger.held,
                refused: ledger.refused,
            }
        })
    }

    /// Whether somebody was refused in the last second for what others hold: what stands still can give way then.
    #[must_use]
    pub fn is_short(&self, account: Account) -> bool {
        let short_at = self.state(account).ledger.lock().short_at;
        short_at.is_some_and(|at| clock::now().duration_since(at) < SHORTAGE)
    }

    /// Whether an address holds little of an account: who holds more makes nobody give way.
    #[must_use]
    pub fn holds_little(&self, account: Account, address: IpAddr) -> bool {
        let state = self.state(account);
        let ledger = state.ledger.lock();
        let own = ledger.by_address.get(&address.into());
        own.is_none_or(|own| *own < state.max_bytes / LITTLE)
    }

    /// That an account has nothing left for so many bytes.
    pub(crate) fn exhausted(&self, account: Account, wanted: usize) -> NoMemory {
        let most = self.max_bytes(account) / 2;
        NoMemory {
            account,
            wanted,
            most,
        }
    }

    /// What an account may hold.
    #[must_use]
    pub fn max_bytes(&self, account: Account) -> usize {
        self.state(account).max_bytes
    }

    /// Says how much an account holds whose owner keeps its own ledger: jobs, the window and the log.
    pub(crate) fn record(&self, account: Account, bytes: usize) {
        self.state(account).ledger.lock().held = bytes;
    }

    fn state(&self, account: Account) -> &AccountState {
        &self.accounts[account as usize]
    }
}

/// The right to hold bytes, given back when it is dropped.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit {
    budget: Budget,
    account: Account,
    holder: AddressKey,
    bytes: usize,
}

impl Permit {
    /// How many bytes it is for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// As [`Budget::try_take`]; then it is what it was.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), NoMemory> {
        // Whoever wants nothing is not refused for what others hold.
        if bytes == 0 {
            return Ok(());
        }
        let state = self.budget.state(self.account);
        let mut ledger = state.ledger.lock();
        let own = ledger.by_address.get(&self.holder).copied().unwrap_or(0);
        let held = ledger.held.saturating_add(bytes);
        let own_then = own.saturating_add(bytes);
        if held > state.max_bytes || own_then > state.max_bytes - held {
            ledger.refused += 1;
            // Whoever holds little and finds no room finds it taken by others, also where one large item is all that is left.
            let is_for_others = own < state.max_bytes / LITTLE && bytes <= state.max_bytes / 2;
            if is_for_others || ledger.held >= state.max_bytes / 4 * 3 {
                ledger.short_at = Some(clock::now());
            }
            return Err(NoMemory {
                account: self.account,
                wanted: self.bytes.saturating_add(bytes),
                most: state.max_bytes / 2,
            });
        }
        ledger.held = held;
        ledger.by_address.insert(self.holder, own_then);
        self.bytes += bytes;
        Ok(())
    }

    /// The same, waiting a moment for others to give back what they hold.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing.
    ///
    /// # Errors
    ///
    /// As [`Budget::take`].
    pub async fn grow(&mut self, bytes: usize) -> Result<(), NoMemory> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_grow(bytes) {
                Err(refused) if pause > LAST_PAUSE => return Err(refused),
                Err(_) => tokio::time::sleep(pause).await,
                Ok(()) => return Ok(()),
            }
            pause *= 2;
        }
    }

    /// Refuses what it is for when its account is short: whoever makes no use of it gives way.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when the account [is short](Budget::is_short).
    pub fn check_not_short(&self) -> Result<(), NoMemory> {
        match self.budget.is_short(self.account) {
            true => Err(self.budget.exhausted(self.account, self.bytes)),
            false => Ok(()),
        }
    }

    /// Gives so many bytes back.
    pub fn shrink_by(&mut self, bytes: usize) {
        self.shrink_to(self.bytes.saturating_sub(bytes));
    }

    /// Gives back what is over so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let over = self.bytes.saturating_sub(bytes);
        if over == 0 {
            return;
        }
        self.bytes -= over;
        let state = self.budget.state(self.account);
        {
            let mut ledger = state.ledger.lock();
            ledger.held -= over;
            if let Some(own) = ledger.by_address.get_mut(&self.holder) {
                *own -= over;
                if *own == 0 {
                    ledger.by_address.remove(&self.holder);
                }
            }
        }
        state.freed.notify_waiters();
    }

    /// Bytes that hold this permit until the last of their clones and slices is gone.
    #[must_use]
    pub fn attach(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _permit: self,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Bytes with their permit.
struct Held<T> {
    bytes: T,
    _permit: Permit,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Somebody who finds nothing left looks again after a pause, each twice as long as the one before: half a second in all. A stated
/// guess: a body or an answer of others is gone by then. What others give back wakes only pages, which wait without a bound: under attack
/// it would wake hundreds who wait, again and again.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LAST_PAUSE: Duration = Duration::from_millis(256);
/// For how long a refusal says that there is too little.
const SHORTAGE: Duration = Duration::from_secs(1);
/// Such a part of an account is little.
const LITTLE: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn budget(bytes: usize) -> Budget {
        Budget::new([bytes; Account::ALL.len()])
    }

    fn held(budget: &Budget) -> usize {
        budget.status()[Account::Bodies as usize].held_bytes
    }

    #[test]
    fn nobody_takes_the_last_half() {
        let budget = budget(100);
        let ann = budget.try_take(Account::Bodies, ANN, 50).unwrap();
        assert!(budget.try_take(Account::Bodies, ANN, 1).is_err());
        let bob = budget.try_take(Account::Bodies, BOB, 25).unwrap();
        assert!(budget.try_take(Account::Bodies, BOB, 1).is_err());
        assert!(budget.try_take(Account::Bodies, ANN, 0).is_ok());
        assert_eq!(held(&budget), 75);
        drop(ann);
        assert!(budget.try_take(Account::Bodies, BOB, 10).is_ok());
        drop(bob);
        assert_eq!(held(&budget), 0);
        assert_eq!(budget.status()[Account::Bodies as usize].refused, 2);
    }

    #[test]
    fn an_account_is_short_when_somebody_who_holds_little_finds_no_room() {
        let budget = budget(100);
        let _ann = budget.try_take(Account::Bodies, ANN, 50).unwrap();
        assert!(budget.try_take(Account::Bodies, ANN, 1).is_err());
        assert!(!budget.is_short(Account::Bodies), "it has its share");
        assert!(budget.try_take(Account::Bodies, BOB, 60).is_err());
        assert!(!budget.is_short(Account::Bodies), "nobody ever has so much");
        // Only half of it is held, and the other half is too little for two large items.
        assert!(budget.try_take(Account::Bodies, BOB, 26).is_err());
        assert!(budget.is_short(Account::Bodies));
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_is_the_ipv4_one() {
        let budget = budget(100);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let _one = budget.try_take(Account::Bodies, address("2001:db8::1"), 50);
        let same = budget.try_take(Account::Bodies, address("2001:db8::2"), 1);
        assert!(same.is_err());
        let other = budget.try_take(Account::Bodies, address("2001:db8:0:1::1"), 1);
        assert!(other.is_ok());
        let _ann = budget.try_take(Account::Jobs, ANN, 50);
        let mapped = budget.try_take(Account::Jobs, address("::ffff:192.0.2.1"), 1);
        assert!(mapped.is_err());
    }

    #[test]
    fn bytes_hold_their_permit_until_the_last_slice_is_gone() {
        let budget = budget(100);
        let permit = budget.try_take(Account::Bodies, ANN, 10).unwrap();
        let bytes = permit.attach(vec![7; 10]);
        let slice = bytes.slice(3..4);
        drop(bytes);
        assert_eq!(held(&budget), 10);
        drop(slice);
        assert_eq!(held(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_nothing_left_waits_a_moment() {
        let budget = budget(100);
        let ann = budget.try_take(Account::Bodies, ANN, 50).unwrap();
        let bob = budget.try_take(Account::Bodies, BOB, 25).unwrap();
        assert!(budget.take(Account::Bodies, BOB, 20).await.is_err());
        let (more, ()) = tokio::join!(budget.take(Account::Bodies, BOB, 20), async {
            tokio::task::yield_now().await;
            drop(ann);
        });
        assert_eq!(more.unwrap().bytes(), 20);
        drop(bob);
        let ann = budget.try_take(Account::Bodies, ANN, 30).unwrap();
        let waited = tokio::join!(budget.take_in_turn(Account::Bodies, ANN, 1_000), async {
            tokio::time::sleep(10 * LAST_PAUSE).await;
            drop(ann);
        });
        assert_eq!(waited.0.bytes(), 50, "no more than can ever be free");
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_the_permits(ops in prop::collection::vec((0_u8..4, 0_u8..3, 0_usize..60), 0..100)) {
            let budget = budget(100);
            let mut permits: Vec<Permit> = Vec::new();
            for (op, who, bytes) in ops {
                let address = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, who));
                match op {
                    0 => permits.extend(budget.try_take(Account::Bodies, address, bytes)),
                    1 => drop(permits.pop()),
                    2 => if let Some(permit) = permits.first_mut() { let _ = permit.try_grow(bytes); },
                    _ => if let Some(permit) = permits.last_mut() { permit.shrink_to(bytes); },
                }
                let sum: usize = permits.iter().map(Permit::bytes).sum();
                prop_assert_eq!(held(&budget), sum);
                prop_assert!(sum <= 100);
            }
            permits.clear();
            prop_assert_eq!(held(&budget), 0);
            prop_assert!(budget.state(Account::Bodies).ledger.lock().by_address.is_empty());
        }
    }
}
