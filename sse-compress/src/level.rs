//! How hard to try.

use core::{fmt, str::FromStr};

use flate2::Compression;
use thiserror::Error;

/// How much time compression may take: `FAST`, `BALANCED` or `BEST`.
///
/// Each name stands for a deflate level, chosen by measuring zlib-rs 0.6.8 on JSON messages of English prose
/// (ratio before base64, microseconds for a message; one core of a shared machine, so the order counts, not the digits):
///
/// | | deflate level | 1 KiB | 4 KiB | 16 KiB | 64 KiB |
/// |---|---|---|---|---|---|
/// | `Fast` | 1 | 0.51, 4 µs | 0.38, 14 µs | 0.34, 30 µs | 0.33, 160 µs |
/// | `Balanced` | 4 | 0.39, 15 µs | 0.27, 44 µs | 0.22, 160 µs | 0.21, 700 µs |
/// | `Best` | 9 | 0.39, 21 µs | 0.27, 56 µs | 0.22, 380 µs | 0.19, 2100 µs |
///
/// Level 4 is where the ratio of small messages stops falling; above 6 nothing is gained but a percent at 64 KiB.
/// For a stream of small events, whose history does most of the work, `Fast` is the right choice: ratio 0.149 at 0.2 µs
/// an event, against 0.139 at 3 µs for `Best`.
///
/// ```
/// # use sse_compress::Level;
/// assert_eq!("balanced".parse(), Ok(Level::Balanced));
/// assert_eq!(Level::Best.to_string(), "BEST");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// The least time: deflate level 1.
    Fast,
    /// Nearly the best size for messages up to 16 KiB, at a third of the time: deflate level 4.
    #[default]
    Balanced,
    /// The smallest output: deflate level 9.
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

    pub(crate) const fn deflate(self) -> Compression {
        Compression::new(match self {
            Self::Fast => 1,
            Self::Balanced => 4,
            Self::Best => 9,
        })
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
