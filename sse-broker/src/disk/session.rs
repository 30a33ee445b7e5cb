//! The mark in an open log that tells a clean end from a crash.
//!
//! It is there while a log is open at a level below `fsync`: the level, and which boot of the machine it was.

use super::checked::checked;
use crate::Durability;

pub(super) fn session_mark(level: Durability) -> Vec<u8> {
    let mut mark = vec![level as u8];
    mark.extend_from_slice(&boot_id().unwrap_or_default());
    mark
}

/// Whether a log that was left open with this mark may lack what it had acknowledged.
///
/// At the level `os` what a process wrote outlives it as long as the machine runs: the same boot as
/// then means that nothing is lost.
pub(super) fn may_have_lost(mark: &[u8]) -> bool {
    let Ok(mark) = checked(b"session", mark) else {
        return true;
    };
    let same_boot = boot_id().is_some_and(|boot| mark.get(1..) == Some(&boot[..]));
    !(mark.first() == Some(&(Durability::Os as u8)) && same_boot)
}

/// What tells one run of the machine from another, where the system says it.
pub(super) fn boot_id() -> Option<Vec<u8>> {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_ascii().to_vec()).filter(|id| !id.is_empty())
}
