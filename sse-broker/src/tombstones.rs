//! How much the log remembers of the records that topic retention has removed.

/// As many topics as have an account of what was removed of them. Of those whose last removal is the longest
/// ago it is forgotten, and every reader that has not read beyond it hears of a gap then, whether its topics are
/// concerned or not. About 10 MB. A stated guess.
pub(crate) const MAX_ACCOUNTS: usize = 100_000;

/// As many ids of removed records as are remembered. About 10 MB. A stated guess.
pub(crate) const MAX_REMEMBERED_IDS: usize = 100_000;

/// As many accounts as are looked at to find one that a pattern means; then the answer is that there is one.
pub(crate) const MAX_LOOKED_AT: usize = 4096;
