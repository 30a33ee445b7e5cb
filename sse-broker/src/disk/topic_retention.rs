//! Topic retention on disk: applying the rules of topics, and removing records from the middle of the log.
//!
//! The rules are applied to each record once, with a commit after the one that stored it, so that nothing is ever
//! removed for a record that is not safe itself. How far they have come stands in the same commit as what they
//! did; a crash repeats or loses nothing. With other rules than before, all that was kept for the old ones is
//! dropped and the new ones are applied to the log from its floor on, a bounded piece with each commit.

use redb::{Table, WriteTransaction};

use super::ledger::{Summary, WriteLedger};
use super::log_state::{LogState, RuleProgress};
use super::tables::{ACCOUNTS, META, NEWEST, QUEUES};
use super::tombstones;
use crate::topic_retention::{self, RuleStore as _, Rules};
use crate::{Offset, UnixMillis};

/// Begins anew when the rules are not those that were.
pub(super) fn begin(
    progress: &mut RuleProgress,
    txn: &WriteTransaction,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    rules: u64,
    floor: Offset,
) -> Result<(), redb::Error> {
    if progress.fingerprint != rules {
        txn.delete_table(QUEUES)?;
        txn.delete_table(ACCOUNTS)?;
        txn.delete_table(NEWEST)?;
        progress.fingerprint = rules;
        progress.applied_upto = floor;
        progress.put(meta)?;
    }
    if rules != 0 {
        // Readers look at them too.
        txn.open_table(QUEUES)?;
        txn.open_table(ACCOUNTS)?;
        txn.open_table(NEWEST)?;
    }
    Ok(())
}

/// What the rules have done in a commit.
#[derive(Default)]
pub(super) struct Applied {
    /// How many records were removed.
    pub(super) records: u64,
    /// Whether there is more to do.
    pub(super) has_more: bool,
    /// What is still to be taken out of the indexes.
    pub(super) removed: tombstones::Batch,
}

/// Applies the rules to what was committed `upto` here, and removes what is too much and, at `now`, too old.
pub(super) fn apply(
    txn: &WriteTransaction,
    rules: &Rules,
    upto: Offset,
    now: Option<UnixMillis>,
    state: &mut LogState,
) -> Result<Applied, redb::Error> {
    let mut done = Applied::default();
    if rules.is_empty() {
        return Ok(done);
    }
    state.retention.applied_upto = state.retention.applied_upto.max(state.floor);
    if state.retention.applied_upto >= upto && now.is_none() {
        return Ok(done);
    }
    // At least as many as have come, or a busy log would never catch up.
    let max = MAX_PIECE.max(usize::try_from(state.head - upto).unwrap_or(usize::MAX));
    let mut ledger = WriteLedger::open(txn, rules, state.floor)?;
    let (records, applied_upto) = ledger.next_records(state.retention.applied_upto, upto, max)?;
    state.retention.applied_upto = applied_upto;
    done.has_more = applied_upto < upto;
    for (offset, summary) in &records {
        topic_retention::apply(rules, &mut ledger, *offset, summary)?;
    }
    if let (Some(now), false) = (now, done.has_more) {
        done.has_more = !topic_retention::expire(rules, &mut ledger, now, MAX_PIECE)?;
    }
    done.records = ledger.removed_records();
    done.removed = ledger.finish(txn, state)?;
    Ok(done)
}

/// Removes these records, as far as they are there.
pub(super) fn erase(
    txn: &WriteTransaction,
    rules: &Rules,
    offsets: &[Offset],
    state: &mut LogState,
) -> Result<tombstones::Batch, redb::Error> {
    let mut ledger = WriteLedger::open(txn, rules, state.floor)?.forgetting_ids();
    for offset in offsets.iter().filter(|offset| **offset > state.floor) {
        let Some(summary) = ledger.summary(*offset)? else {
            continue;
        };
        // What the rules have not been shown is in no account of theirs.
        if *offset <= state.retention.applied_upto {
            topic_retention::forget(rules, &mut ledger, *offset, &summary)?;
        }
        ledger.remove(*offset, summary, true)?;
    }
    ledger.finish(txn, state)
}

/// Takes what the bounds of the whole log have removed out of what is kept for the rules, and forgets the
/// tombstones up to the floor.
pub(super) fn forget_trimmed(
    txn: &WriteTransaction,
    rules: &Rules,
    trimmed: &[(Offset, Summary)],
    state: &mut LogState,
) -> Result<(), redb::Error> {
    if !state.retention.is_in_use() {
        return Ok(());
    }
    if !rules.is_empty() {
        let mut ledger = WriteLedger::open(txn, rules, state.floor)?;
        for (offset, summary) in trimmed {
            if *offset <= state.retention.applied_upto {
                topic_retention::forget(rules, &mut ledger, *offset, summary)?;
            }
        }
        ledger.forget_queues_upto(state.floor)?;
        ledger.finish(txn, state)?;
    }
    tombstones::forget_upto(txn, state.floor)?;
    state.retention.applied_upto = state.retention.applied_upto.max(state.floor);
    Ok(state.retention.put(&mut txn.open_table(META)?)?)
}

/// To how many records the rules are applied in a commit, and how many too old ones it removes: some milliseconds.
pub(super) const MAX_PIECE: usize = 4096;
