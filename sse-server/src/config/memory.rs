//! `--memory`: the hub's memory, the defaults that follow from it, and the check that everything fits.

use clap::Args;

use super::settings::or_fields;
use super::{ConfigError, invalid};
use crate::access::budget::{Account, shares};
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
    /// Memory for everything that is held for clients; a request that finds none left is answered with 503. With less
    /// than 256MiB the defaults of other sizes are smaller [default: half of what the container or the machine has]
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

/// The defaults with this memory: sizes that would take too much of it are smaller.
pub(super) fn defaults(memory_bytes: usize) -> (HubConfig, HttpConfig) {
    let hub = HubConfig::default();
    let http = HttpConfig::default();
    (
        HubConfig {
            memory: shares(memory_bytes),
            window_bytes: hub.window_bytes.min(memory_bytes / 8),
            stream_compression_bytes: hub.stream_compression_bytes.min(memory_bytes / 8),
            max_event_bytes: hub.max_event_bytes.min(memory_bytes / 128),
            ..hub
        },
        HttpConfig {
            max_body_bytes: http.max_body_bytes.min(memory_bytes / 32),
            ..http
        },
    )
}

/// How much event data a log in memory keeps when nobody says.
pub(super) fn ephemeral_log_bytes(memory_bytes: usize) -> u64 {
    (64 << 20).min(memory_bytes as u64 / 8)
}

/// No account may be smaller than twice its largest item: one address alone gets half of it.
pub(super) fn check(
    memory_bytes: usize,
    hub: &HubConfig,
    http: &HttpConfig,
) -> Result<(), ConfigError> {
    // Escaped as JSON or as lines of an event stream, data can be some times as long.
    let largest_event = hub.max_event_bytes.saturating_mul(MAX_ESCAPED);
    let items = [
        (Account::Bodies, "--max-body", http.max_body_bytes),
        (
            Account::Publications,
            "--max-body",
            http.max_body_bytes
                .saturating_add(PUBLICATION_OVERHEAD_BYTES),
        ),
        (Account::Jobs, "a job", hub.max_job_bytes),
        (Account::Replay, "--max-event", largest_event),
        (Account::Answers, "--max-event", largest_event),
    ];
    // What the whole must be for an item to fit, in whole MiB, as people write it.
    let whole = |account: Account, item: usize| {
        let share = shares(PARTS_OF_THE_WHOLE)[account as usize];
        (item as u128 * 2 * PARTS_OF_THE_WHOLE as u128).div_ceil((share as u128) << 20) << 20
    };
    let needs = items.map(|(account, option, item)| (whole(account, item), option));
    let Some((enough, option)) = needs.into_iter().max() else {
        return Ok(());
    };
    let enough = u64::try_from(enough).unwrap_or(u64::MAX);
    let given = Size(memory_bytes as u64);
    if (memory_bytes as u64) < MIN_BYTES {
        let least = Size(MIN_BYTES);
        return Err(invalid(format!(
            "--memory {given} is too small: give {least} or more"
        )));
    }
    if (memory_bytes as u64) < enough {
        let enough = Size(enough);
        return Err(invalid(format!(
            "--memory {given} is too small for {option}: give {enough} or more, or a smaller {option}"
        )));
    }
    Ok(())
}

/// Any number that [`shares`] divides without a rest.
const PARTS_OF_THE_WHOLE: usize = 1 << 20;
/// Below this the program itself has no room.
const MIN_BYTES: u64 = 8 << 20;

/// What is assumed where the machine does not tell how much memory it has.
const DEFAULT_MACHINE_BYTES: u64 = 1 << 30;
/// A control character is six in JSON, and a line break seven in an event stream.
const MAX_ESCAPED: usize = 7;
