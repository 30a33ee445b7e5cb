//! The JSON envelope of a compressed message.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    decompress::{DecompressError, decompress_all},
    negotiate::Coding,
};

const BEFORE_SIZE: &str = r#"{"compressed":true,"encoding":"gzip","original_size":"#;
const BEFORE_DATA: &str = r#","data":""#;
const END: &str = r#""}"#;

/// Opens the envelope that [`MessageCompressor`](crate::MessageCompressor) makes; `None` if `text` is not one.
///
/// An envelope is a JSON object with just the members `compressed` (true), `encoding`, `original_size` and `data`, in any
/// order and their names spelled out, without escapes. Any other text, JSON or not, is an ordinary message and gives `None`; so does an object that has more members
/// or fewer. A text that begins as an envelope and breaks off is an error.
///
/// At most `max_bytes` are produced, and nothing near that is allocated before the data has proved to hold it, so a
/// hostile sender gains nothing from a small message that claims or expands to a huge one.
///
/// ```
/// # use sse_compress::{open_envelope, EnvelopeError};
/// assert_eq!(open_envelope(r#"{"progress":3}"#, 1024)?, None);
///
/// let envelope = r#"{"compressed": true, "encoding": "gzip", "original_size": 5,
///                    "data": "H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=="}"#;
/// assert_eq!(open_envelope(envelope, 1024)?.as_deref(), Some("hello"));
/// # Ok::<(), EnvelopeError>(())
/// ```
///
/// # Errors
///
/// [`EnvelopeError`] when `text` is an envelope and cannot be opened. The message is lost then; whoever reads a stream
/// should report it and go on with the next.
pub fn open_envelope(text: &str, max_bytes: usize) -> Result<Option<String>, EnvelopeError> {
    let text = text.trim_ascii();
    // Most messages are no envelope; they are not parsed.
    if !text.starts_with('{') || !text.contains(r#""compressed""#) {
        return Ok(None);
    }
    let wire: Wire<'_> = match serde_json::from_str(text) {
        Ok(wire) => wire,
        Err(error) if !error.is_data() && begins_as_envelope(text) => {
            return Err(EnvelopeError::Malformed);
        }
        Err(_) => return Ok(None),
    };
    if !wire.compressed {
        return Ok(None);
    }
    if wire.encoding != "gzip" {
        return Err(EnvelopeError::UnsupportedEncoding);
    }
    let too_large = EnvelopeError::TooLarge {
        limit_bytes: max_bytes,
    };
    let size = usize::try_from(wire.original_size)
        .ok()
        .filter(|&size| size <= max_bytes)
        .ok_or(too_large)?;
    let gzipped = STANDARD
        .decode(wire.data.as_bytes())
        .map_err(|_| EnvelopeError::Base64)?;
    let plain = match decompress_all(Coding::Gzip, &gzipped, size) {
        Ok(plain) if plain.len() == size => plain,
        // More came out than the envelope said, or less.
        Ok(_) | Err(DecompressError::TooLarge { .. }) => return Err(EnvelopeError::SizeMismatch),
        Err(error) => return Err(EnvelopeError::Gzip(error)),
    };
    String::from_utf8(plain)
        .map(Some)
        .map_err(|_| EnvelopeError::NotUtf8)
}

/// Writes the envelope of `gzipped`.
pub(crate) fn write(original_size: usize, gzipped: &[u8]) -> String {
    let size = original_size.to_string();
    let mut text = String::with_capacity(FRAME_BYTES + size.len() + gzipped.len().div_ceil(3) * 4);
    text.push_str(BEFORE_SIZE);
    text.push_str(&size);
    text.push_str(BEFORE_DATA);
    STANDARD.encode_string(gzipped, &mut text); // base64 has no character that JSON escapes
    text.push_str(END);
    text
}

/// The most gzip bytes whose envelope is shorter than `original_size`, if there is any such number.
pub(crate) fn gzip_budget(original_size: usize) -> Option<usize> {
    let digits = original_size.checked_ilog10().unwrap_or(0) as usize + 1;
    let base64 = (original_size).checked_sub(FRAME_BYTES + digits + 1)?;
    Some(base64 / 4 * 3)
}

const FRAME_BYTES: usize = BEFORE_SIZE.len() + BEFORE_DATA.len() + END.len();

/// Whether `text` starts `{"compressed":true`, white space aside.
fn begins_as_envelope(text: &str) -> bool {
    [r#"{"#, r#""compressed""#, ":", "true"]
        .into_iter()
        .try_fold(text, |rest, token| {
            rest.trim_ascii_start().strip_prefix(token)
        })
        .is_some()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    compressed: bool,
    #[serde(borrow)]
    encoding: Cow<'a, str>,
    original_size: u64,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Why an envelope could not be opened. In each case the sender is at fault, and trying again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The text begins as an envelope, but is not JSON.
    #[error("compression envelope is not valid JSON")]
    Malformed,
    /// The envelope's `encoding` is not `gzip`.
    #[error("compression envelope has an encoding other than gzip")]
    UnsupportedEncoding,
    /// The envelope's `data` is not base64 in the standard alphabet with padding.
    #[error("compression envelope is not valid base64")]
    Base64,
    /// The message says that it is larger than the caller allows.
    #[error("compressed message is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What the caller allows.
        limit_bytes: usize,
    },
    /// The message's length is not its `original_size`.
    #[error("compressed message has another length than its envelope says")]
    SizeMismatch,
    /// The gzip data is corrupt, cut off or expands beyond reason.
    #[error("compressed message cannot be decompressed")]
    Gzip(#[source] DecompressError),
    /// The message is not UTF-8.
    #[error("compressed message is not UTF-8")]
    NotUtf8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_last_length_whose_envelope_is_shorter() {
        for size in 0..3000 {
            match gzip_budget(size) {
                Some(budget) => {
                    assert!(write(size, &vec![0; budget]).len() < size);
                    assert!(write(size, &vec![0; budget + 1]).len() >= size);
                }
                None => assert!(write(size, &[]).len() >= size),
            }
        }
    }

    #[test]
    fn room_for_an_envelope_is_made_once_and_exactly() {
        for (size, gzipped) in [(5, 1), (99, 2), (100, 3), (70_000, 4), (70_000, 20_000)] {
            let text = write(size, &vec![0; gzipped]);
            assert_eq!(text.capacity(), text.len(), "{size}, {gzipped}");
        }
    }
}
