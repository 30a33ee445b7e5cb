//! Compression levels: how much effort is spent.

use core::{fmt, str::FromStr};

use flate2::Compression;
use thiserror::Error;

/// How much time compression may take: `FAST`, `BALANCED` or `BEST`.
///
/// Each name stands for deflate levels chosen by measuring zlib-rs 0.6.8 on 1.2 MiB of English technical prose, cut into
/// messages and, for streams, into events of 130 bytes (best of five runs on one core of a shared machine, so compare the
/// figures with each other only). The ratio of a message is that of its whole envelope, base64 included.
///
/// | | deflate level | 1 KiB message | 8 KiB | 64 KiB | event in a stream |
/// |---|---|---|---|---|---|
/// | `Fast` | 2; streams 1 | 0.78, 18 µs | 0.56, 110 µs | 0.50, 580 µs | 0.25, 0.5 µs |
/// | `Balanced` | 5 | 0.78, 21 µs | 0.54, 100 µs | 0.46, 870 µs | 0.23, 4.4 µs |
/// | `Best` | 8 | 0.77, 21 µs | 0.54, 130 µs | 0.45, 1320 µs | 0.23, 7.7 µs |
///
/// Level 1 has fixed codes. For events in a stream, whose history does most of the work, that is right: a ninth of the time
/// for a tenth more bytes. For a message of 1 KiB it gains nothing at all (0.99), hence level 2. Level 9 was never smaller than 8.
///
/// ```
/// # use sse_compress::Level;
/// assert_eq!("balanced".parse(), Ok(Level::Balanced));
/// assert_eq!(Level::Best.to_string(), "BEST");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// The least time. The right choice for streams of small events.
    Fast,
    /// Within a percent of the best size, at two thirds of the time for large messages.
    #[default]
    Balanced,
    /// The smallest output.
    Best,
}

impl Level {
    /// Every level, from the fastest to the smallest output.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Balanced, Self::Best];

    /// The name as configuration files write it: `FAST`, `BALANCED` or `BEST`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "FAST",
            Self::Balanced => "BALANCED",
            Self::Best => "BEST",
        }
    }

    /// The deflate level for texts that stand alone.
    pub(crate) const fn for_messages(self) -> Compression {
        Compression::new(match self {
            Self::Fast => 2,
            Self::Balanced => 5,
            Self::Best => 8,
        })
    }

    /// The deflate level for pieces of a stream that is flushed often.
    pub(crate) const fn for_streams(self) -> Compression {
        match self {
            Self::Fast => Compression::new(1),
            Self::Balanced | Self::Best => self.for_messages(),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    /// Reads a level's name, in any letter case.
    ///
    /// # Errors
    ///
    /// [`ParseLevelError`] for any other text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(text))
            .ok_or(ParseLevelError)
    }
}

/// A text that names no [`Level`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown compression level, expected FAST, BALANCED or BEST")]
pub struct ParseLevelError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_back_from_its_name_in_any_case() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.name().to_lowercase().parse(), Ok(level));
        }
        for wrong in ["", "FASTER", " FAST", "6"] {
            assert_eq!(wrong.parse::<Level>(), Err(ParseLevelError));
        }
    }
}
