//! The name of a connection.

use std::{fmt, str::FromStr, sync::Arc};

/// The name of one connection: a UUID, or a short text that the caller chose.
///
/// The pool has no randomness of its own, so the caller brings the id: sixteen random bytes for a server
/// ([`from_uuid`](Self::from_uuid), stored inline, no allocation), or a name such as `client-7`
/// ([`FromStr`]). Text that has exactly the form of a lower-case hyphenated UUID *is* that UUID, so that
/// reading back what [`Display`](fmt::Display) wrote always gives the same id, and the other way round.
///
/// ```
/// use sse_pool::ConnectionId;
///
/// let id = ConnectionId::from_uuid([0x11; 16]);
/// assert_eq!(id.to_string(), "11111111-1111-1111-1111-111111111111");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert_eq!("client-7".parse::<ConnectionId>().unwrap().to_string(), "client-7");
/// assert!("two\nlines".parse::<ConnectionId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Uuid([u8; 16]),
    Name(Arc<str>),
}

/// The longest name a caller may choose, in bytes: a stated guess, well over any id format we know.
pub const MAX_CONNECTION_NAME_BYTES: usize = 128;

/// Why a text cannot name a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConnectionId {
    /// The text is empty.
    #[error("a connection id must not be empty")]
    Empty,
    /// The text is longer than [`MAX_CONNECTION_NAME_BYTES`].
    #[error("a connection id has at most {MAX_CONNECTION_NAME_BYTES} bytes")]
    TooLong,
    /// The text holds a control character, which could forge a line where the id is written out.
    #[error("a connection id must not hold control characters")]
    ControlCharacter,
}

impl ConnectionId {
    /// The id with these sixteen bytes; written as a hyphenated lower-case UUID.
    #[must_use]
    pub const fn from_uuid(bytes: [u8; 16]) -> Self {
        Self(Repr::Uuid(bytes))
    }

    /// The sixteen bytes, when this id is a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Option<[u8; 16]> {
        match self.0 {
            Repr::Uuid(bytes) => Some(bytes),
            Repr::Name(_) => None,
        }
    }

    /// A cheap spread over a few locks; collisions only share one.
    pub(crate) fn stripe_hash(&self) -> usize {
        let bytes = match &self.0 {
            Repr::Uuid(bytes) => &bytes[..],
            Repr::Name(name) => name.as_bytes(),
        };
        bytes.iter().fold(0, |sum: usize, &byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        })
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidConnectionId::Empty);
        }
        if text.len() > MAX_CONNECTION_NAME_BYTES {
            return Err(InvalidConnectionId::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidConnectionId::ControlCharacter);
        }
        Ok(match parse_uuid(text.as_bytes()) {
            Some(bytes) => Self(Repr::Uuid(bytes)),
            None => Self(Repr::Name(text.into())),
        })
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.0 {
            Repr::Name(name) => return f.pad(name),
            Repr::Uuid(bytes) => bytes,
        };
        let mut text = [b'-'; UUID_TEXT_BYTES];
        let mut places = (0..UUID_TEXT_BYTES).filter(|place| !HYPHENS.contains(place));
        for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            if let Some(place) = places.next() {
                text[place] = HEX[usize::from(nibble)];
            }
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

const UUID_TEXT_BYTES: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Reads exactly the form that `Display` writes, and nothing looser.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != UUID_TEXT_BYTES {
        return None;
    }
    let mut bytes = [0_u8; 16];
    let mut nibbles = 0;
    for (place, &byte) in text.iter().enumerate() {
        if HYPHENS.contains(&place) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let nibble = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bytes[nibbles / 2] = (bytes[nibbles / 2] << 4) | nibble;
        nibbles += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_display_writes_is_read_back_as_the_same_id(bytes: [u8; 16]) {
            let id = ConnectionId::from_uuid(bytes);
            prop_assert_eq!(id.to_string().parse::<ConnectionId>(), Ok(id));
        }

        #[test]
        fn every_accepted_text_is_written_back_as_it_was(text in "\\PC{1,40}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}") {
            if let Ok(id) = text.parse::<ConnectionId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_upper_case_uuid_stays_the_name_it_is() {
        let text = "AAAAAAAA-0000-0000-0000-000000000000";
        let id: ConnectionId = text.parse().unwrap();
        assert_eq!((id.as_uuid(), id.to_string().as_str()), (None, text));
    }

    #[test]
    fn an_id_is_no_larger_than_a_uuid_and_a_word() {
        assert_eq!(size_of::<ConnectionId>(), 24);
    }

    #[test]
    fn texts_that_could_forge_a_line_or_fill_memory_are_refused() {
        assert_eq!("".parse::<ConnectionId>(), Err(InvalidConnectionId::Empty));
        assert_eq!(
            "a\0".parse::<ConnectionId>(),
            Err(InvalidConnectionId::ControlCharacter)
        );
        assert_eq!(
            "x".repeat(129).parse::<ConnectionId>(),
            Err(InvalidConnectionId::TooLong)
        );
    }
}
