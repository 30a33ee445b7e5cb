//! Durations and sizes as people write them: `30s`, `7d`, `16MiB`; and how an error tells what somebody wrote.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration in configuration: a number with `ms`, `s`, `m`, `h` or `d`; seconds without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let seconds_each = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(no_duration(text)),
        };
        let number: f64 = number.parse().map_err(|_| no_duration(text))?;
        // Much longer ones would overflow when they are added to a time.
        match Duration::try_from_secs_f64(number * seconds_each) {
            Ok(span) if span <= MAX_SPAN => Ok(Self(span)),
            _ => Err(format!(
                "{text:?} is longer than 100 years; write at most 36500d"
            )),
        }
    }
}

/// A size in configuration: a number of bytes, or with `KiB`, `MiB`, `GiB`, `TiB` (`K`, `M`, `G`, `T` mean the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The size as an index type; on a 32-bit machine at most what fits.
    #[must_use]
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A size for people to read: with one decimal, where it is not exact. `1.1 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct AboutBytes(pub u64);

impl fmt::Display for AboutBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = UNITS.iter().find(|(bits, _)| self.0 >> bits > 0);
        let Some((bits, name)) = unit else {
            return write!(f, "{} bytes", self.0);
        };
        let tenths = (u128::from(self.0) * 10) >> bits;
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
        }
    }
}

/// As it would be written, in the largest unit that fits it exactly.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = UNITS
            .iter()
            .find(|(bits, _)| self.0 != 0 && self.0.is_multiple_of(1 << bits));
        match unit {
            Some((bits, name)) => write!(f, "{}{name}", self.0 >> bits),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(no_size(text)),
        };
        let number: u64 = number.parse().map_err(|_| no_size(text))?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is larger than 2^64 bytes; write less"))
    }
}

fn no_duration(text: &str) -> String {
    format!("{text:?} is not a valid duration; write it like 500ms, 30s, 5m, 12h or 7d")
}

fn no_size(text: &str) -> String {
    format!("{text:?} is not a valid size; write it like 65536, 64KiB, 16MiB or 1GiB")
}

/// A hundred years.
const MAX_SPAN: Duration = Duration::from_secs(36_500 * 24 * 3600);

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

macro_rules! from_text_or_number {
    ($name:ident, $expected:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, n: i64) -> Result<$name, E> {
                        n.to_string().parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, n: u64) -> Result<$name, E> {
                        n.to_string().parse().map_err(E::custom)
                    }
                    fn visit_f64<E: de::Error>(self, n: f64) -> Result<$name, E> {
                        n.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

from_text_or_number!(Span, "a duration such as \"30s\", or a number of seconds");
from_text_or_number!(Size, "a size such as \"16MiB\", or a number of bytes");

/// A text from outside as an error tells it: in quotes, and without its middle where it is long.
///
/// Some characters are told in six, so a text that was told in full could make an answer many times the size of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        if text.len() <= MAX_QUOTED_BYTES {
            return write!(f, "{text:?}");
        }
        let begin = &text[..text.floor_char_boundary(MAX_QUOTED_BYTES / 2)];
        let end = &text[text.ceil_char_boundary(text.len() - MAX_QUOTED_BYTES / 2)..];
        write!(f, "\"{}…{}\"", begin.escape_debug(), end.escape_debug())
    }
}

/// As much of a text as is told. A stated guess: most names and ids fit.
const MAX_QUOTED_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_for_people_has_one_decimal_where_it_is_not_exact() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1_184_836_416, "1.1 GiB"),
            (8 << 20, "8 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(AboutBytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("0.5", 500),
            ("500ms", 500),
            ("5m", 300_000),
            ("7 d", 604_800_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Span(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1s",
            "1w",
            "1e400",
            "36501d",
            "99999999999999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("64KiB", 65_536),
            ("16 MiB", 16 << 20),
            ("1g", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "-1", "1.5MiB", "1PiB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_told_without_its_middle() {
        assert_eq!(Quoted("a\"b").to_string(), r#""a\"b""#);
        let text = format!("begin{}end", "é".repeat(MAX_QUOTED_BYTES));
        let quoted = Quoted(&text).to_string();
        assert!(quoted.starts_with("\"begin") && quoted.ends_with("end\""));
        assert!(quoted.contains('…') && quoted.len() < MAX_QUOTED_BYTES + 10);
    }
}
