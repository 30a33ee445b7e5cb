//! Where a record stands in the log.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The place of a record in the one order of its log: 1 for the first, then upwards without end.
///
/// Offsets of one epoch strictly increase; 0 stands for "before the first".
pub type Offset = u64;

/// Which log an offset belongs to.
///
/// A log that starts anew, or that cannot promise to hold all it once acknowledged, draws a new
/// epoch, so that a position of the old one is recognised as foreign and answered by a gap, never by
/// the wrong events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// An epoch that no other log has, as far as 64 bits of the operating system's chance go.
    #[must_use]
    pub fn random() -> Self {
        // The standard library seeds each of its hashers' keys from the operating system.
        Self(RandomState::new().hash_one(std::process::id()))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in a hub's log: `epoch` and `offset`, written `00000000c0ffee00-42`.
///
/// ```
/// # use sse_broker::{Epoch, Position};
/// let position = Position { epoch: Epoch(0xc0ffee00), offset: 42 };
/// assert_eq!(position.to_string(), "00000000c0ffee00-42");
/// assert_eq!("00000000c0ffee00-42".parse(), Ok(position));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Where in it.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    /// Reads just what `Display` writes: 16 lower-case hexadecimal digits, `-`, a decimal number
    /// without sign or leading zero.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once('-').ok_or(ParsePositionError)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if epoch.len() != 16 || !epoch.bytes().all(hex) {
            return Err(ParsePositionError);
        }
        if offset.is_empty() || !offset.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParsePositionError);
        }
        if offset.len() > 1 && offset.starts_with('0') {
            return Err(ParsePositionError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParsePositionError)?;
        let offset = offset.parse().map_err(|_| ParsePositionError)?;
        Ok(Self {
            epoch: Epoch(epoch),
            offset,
        })
    }
}

/// A text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected 16 hexadecimal digits, `-` and a number")]
pub struct ParsePositionError;
