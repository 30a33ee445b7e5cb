//! `--memory`: the hub's memory, the defaults that follow from it, and the check that everything fits.
//!
//! Sizes that were given are taken off first, and the rest is shared out among the other accounts. So a large window makes the
//! others smaller, and one that leaves too little is refused.

use clap::Args;

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::budget::{Account, PARTS, PARTS_OF_ACCOUNTS, STREAM_BYTES, Sizes};
use crate::http::{HttpConfig, PUBLICATION_OVERHEAD_BYTES};
use crate::hub::HubConfig;
use crate::units::Size;

/// The memory, as it was given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct MemorySettings {
    /// Memory for everything that the hub holds; a request that finds none left is answered with 503. The program takes some
    /// 10MiB beside it. Defaults follow from it: --window and an ephemeral log get a tenth of it at most, --stream-compression
    /// 3/40, --max-body a 40th, --max-event a 160th, and --max-connections what fits into 3/80 [default: half of what the
    /// container or the machine has; at least 10MiB]
    #[arg(long, env = "SSE_MEMORY", value_name = "SIZE")]
    pub memory: Option<Size>,
}

impl MemorySettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other: memory)
    }

    pub(super) fn bytes(&self) -> usize {
        let half = || {
            let limit = sse_health::memory_limit_bytes().unwrap_or(DEFAULT_MACHINE_BYTES);
            usize::try_from(limit / 2).unwrap_or(usize::MAX)
        };
        self.memory.map_or_else(half, Size::to_usize)
    }
}

/// The memory, shared out.
pub(super) struct Shared {
    total_bytes: usize,
    /// What one part has.
    part_bytes: usize,
    sizes: Sizes,
    /// The sizes that were given, with their options.
    given: Vec<(Account, &'static str, usize)>,
}

impl Shared {
    /// Takes off what was given, and shares out the rest.
    pub(super) fn new(
        total_bytes: usize,
        given: impl IntoIterator<Item = (Account, &'static str, Option<usize>)>,
    ) -> Self {
        let given: Vec<_> = given
            .into_iter()
            .filter_map(|(account, option, bytes)| Some((account, option, bytes?)))
            .collect();
        let mut shared = Self {
            total_bytes,
            part_bytes: 0,
            sizes: PARTS_OF_ACCOUNTS,
            given,
        };
        let left = total_bytes.saturating_sub(shared.given_bytes());
        shared.part_bytes = (left / shared.parts_left()).min(total_bytes / PARTS);
        let sizes = PARTS_OF_ACCOUNTS.map(|parts| parts * shared.part_bytes);
        shared.sizes = sizes;
        for (account, _, bytes) in &shared.given {
            shared.sizes[*account as usize] = *bytes;
        }
        shared
    }

    fn given_bytes(&self) -> usize {
        let bytes = self.given.iter().map(|(_, _, bytes)| *bytes);
        bytes.fold(0, usize::saturating_add)
    }

    /// The parts that are shared out.
    fn parts_left(&self) -> usize {
        let set_apart = self.given.iter();
        let set_apart = set_apart.map(|(account, _, _)| PARTS_OF_ACCOUNTS[*account as usize]);
        PARTS - set_apart.sum::<usize>()
    }

    pub(super) fn size(&self, account: Account) -> usize {
        self.sizes[account as usize]
    }

    /// The defaults with this memory: sizes that would take too much of it are smaller.
    pub(super) fn defaults(&self) -> (HubConfig, HttpConfig) {
        let hub = HubConfig::default();
        let http = HttpConfig::default();
        let streams = self.size(Account::Connections) / 2 / STREAM_BYTES;
        let compression = self.size(Account::Compression);
        (
            HubConfig {
                memory: self.sizes,
                max_connections: hub.max_connections.min(streams.max(1)),
                window_bytes: hub.window_bytes.min(self.size(Account::Window)),
                stream_compression_bytes: hub.stream_compression_bytes.min(compression),
                max_event_bytes: hub.max_event_bytes.min(self.part_bytes / 2),
                max_named_subscriptions: (hub.max_named_subscriptions)
                    .min(self.part_bytes / NAMED_SUBSCRIPTION_BYTES),
                ..hub
            },
            HttpConfig {
                max_body_bytes: http.max_body_bytes.min(self.part_bytes * 2),
                ..http
            },
        )
    }

    /// No account may be smaller than twice its largest item: one address alone gets half of it.
    pub(super) fn check(&self, hub: &HubConfig, http: &HttpConfig) -> Result<(), ConfigError> {
        // Escaped as JSON or as lines of an event stream, data can be some times as long.
        let largest_event = hub.max_event_bytes.saturating_mul(MAX_ESCAPED);
        let body = http.max_body_bytes;
        let publication = body.saturating_add(PUBLICATION_OVERHEAD_BYTES);
        let items = [
            (Account::Bodies, "--max-body", body),
            (Account::Publications, "--max-body", publication),
            (Account::Replay, "--max-event", largest_event),
            (Account::Answers, "--max-event", largest_event),
        ];
        // How large a part must be for two items to fit.
        let needs = items.map(|(account, option, item)| {
            let parts = PARTS_OF_ACCOUNTS[account as usize] as u128;
            ((item as u128 * 2).div_ceil(parts), option)
        });
        let (needed, option) = needs.into_iter().fold((MIN_PART_BYTES, ""), Ord::max);
        if self.part_bytes as u128 >= needed {
            return Ok(());
        }
        // What the whole must be, in whole MiB, as people write it.
        let mib = |bytes: u128| {
            let whole = bytes.div_ceil(1 << 20).saturating_mul(1 << 20);
            Size(u64::try_from(whole).unwrap_or(u64::MAX))
        };
        let apart = needed * self.parts_left() as u128 + self.given_bytes() as u128;
        let enough = mib(apart.max(needed * PARTS as u128));
        let total = Size(self.total_bytes as u64);
        let largest_given = self.given.iter().max_by_key(|(_, _, bytes)| *bytes);
        let would_do_alone = self.total_bytes as u128 >= needed * PARTS as u128;
        Err(invalid(match (largest_given, option) {
            (Some((_, option, bytes)), _) if would_do_alone => format!(
                "{option} takes {} of --memory {total}, which leaves too little for everything else: give --memory {enough} or \
                 more, or a smaller {option}",
                Size(*bytes as u64)
            ),
            (_, "") => format!(
                "--memory {total} is too small: give {enough} or more, so that each of the {} accounts of memory can hold two of \
                 its largest items",
                Account::ALL.len()
            ),
            (_, option) => format!(
                "--memory {total} is too small for {option}: give {enough} or more, or a smaller {option}"
            ),
        }))
    }
}

/// How much of its memory a log on disk keeps of its file; the rest is for what waits to be written.
pub(super) fn disk_cache_bytes(log_bytes: usize) -> usize {
    MAX_CACHE_BYTES.min(log_bytes / 4 * 3)
}

/// What so many streams need, where that is more than the share of connections: half of their memory is for streams.
pub(super) fn given_connections(total_bytes: usize, streams: Option<usize>) -> Option<usize> {
    let needed = streams?.saturating_mul(2 * STREAM_BYTES);
    let share = total_bytes / PARTS * PARTS_OF_ACCOUNTS[Account::Connections as usize];
    (needed > share).then_some(needed)
}

/// More than this is of no use: the system keeps the file in memory too.
const MAX_CACHE_BYTES: usize = 64 << 20;
/// Below this the smallest accounts have room for nothing: with it a body may have 256 KiB and an event 64.
const MIN_PART_BYTES: u128 = (10 << 20) / PARTS as u128;
/// What is assumed where the machine does not tell how much memory it has.
const DEFAULT_MACHINE_BYTES: u64 = 1 << 30;
/// A control character is six in JSON, and a line break seven in an event stream.
const MAX_ESCAPED: usize = 7;
/// What a named subscription takes in the hub, more or less. One of the parts that nobody counts is for all of them.
const NAMED_SUBSCRIPTION_BYTES: usize = 512;
