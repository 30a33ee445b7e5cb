//! One chunk on its way through the decoder: finding line ends, and bytes that are text.

use alloc::string::String;
use core::ops::Range;

use crate::search::LineEndSearch;

/// The unread part of a chunk, and how much of it is known to be text.
///
/// UTF-8 is checked a window at a time and not line by line: one call of the vector code per window costs less
/// than one for each line, and the window is still in the first-level cache when its lines are read.
#[derive(Debug, Default)]
pub(crate) struct Input<'c> {
    rest: &'c [u8],
    /// The window: the rest, as far as it was checked.
    text: &'c str,
    checks: Checks,
    /// The last line was long, so the next one probably is.
    long_lines: bool,
}

/// How the next bytes are checked.
#[derive(Clone, Copy, Debug, Default)]
enum Checks {
    /// Nothing was checked so far.
    #[default]
    None,
    /// A window at a time.
    Windows,
    /// Each line by itself, because a window held malformed bytes: so a bad byte costs no more than its line and
    /// one window.
    Lines,
}

/// From here on a line is long: it takes the vector search, which costs a call.
const LONG_LINE_BYTES: usize = 32;

/// How much is checked at once. Half of a common first-level cache.
const WINDOW_BYTES: usize = 16 * 1024;

/// How much is checked at first: little, for those who take one event from a feed and give it up, as a client that is
/// asked for the next event does, but more than a packet.
const FIRST_WINDOW_BYTES: usize = 2 * 1024;

impl<'c> Input<'c> {
    #[inline]
    pub(crate) fn new(rest: &'c [u8]) -> Self {
        Self {
            rest,
            ..Self::default()
        }
    }

    /// The bytes that have not been read.
    #[inline]
    pub(crate) fn rest(&self) -> &'c [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads `len` bytes.
    #[inline]
    pub(crate) fn advance(&mut self, len: usize) {
        self.rest = &self.rest[len..];
        self.text = self.text.get(len..).unwrap_or_default();
    }

    /// Reads `len` bytes, after which the window goes on with `text`.
    #[inline]
    pub(crate) fn advance_to(&mut self, len: usize, text: &'c str) {
        self.rest = &self.rest[len..];
        self.text = text;
    }

    pub(crate) fn use_up(&mut self) {
        self.rest = &[];
    }

    /// The rest as far as it is known to be text, which may be nothing.
    #[inline]
    pub(crate) fn text(&self) -> &'c str {
        self.text
    }

    /// Whether [`text`](Self::text) is all the rest.
    #[inline]
    pub(crate) fn is_all_text(&self) -> bool {
        self.text.len() == self.rest.len()
    }

    /// The length of the line that begins with `text`, which is in the window.
    ///
    /// Where lines are short, [`line_end`](LineEndSearch::line_end) finds it; where they are long, that is not tried.
    #[expect(
        clippy::inline_always,
        reason = "measured: as a call it costs a tenth of the time of small events"
    )]
    #[inline(always)]
    pub(crate) fn line_end_in(&mut self, text: &'c str, search: &LineEndSearch) -> Option<usize> {
        let bytes = text.as_bytes();
        let len = if self.long_lines {
            search.find(bytes)?
        } else {
            search.line_end(bytes)?
        };
        self.long_lines = len > LONG_LINE_BYTES;
        Some(len)
    }

    /// Checks the next window, which is not shorter than a line that [`fits_window`](Self::fits_window).
    #[cold]
    pub(crate) fn open_window(&mut self) {
        self.check(0);
    }

    /// Whether a line of this length is shorter than any window, also with a blank line after it.
    #[inline]
    pub(crate) fn fits_window(len: usize) -> bool {
        len + 4 < FIRST_WINDOW_BYTES
    }

    /// A part of the rest as text, or `None` if it is not UTF-8. The part must begin and end beside an ASCII byte or
    /// the chunk's edge.
    #[inline]
    pub(crate) fn part(&mut self, part: Range<usize>) -> Option<&'c str> {
        if part.end > self.text.len() {
            self.check(part.end);
        }
        if part.end <= self.text.len() {
            return self.text.get(part);
        }
        simdutf8::basic::from_utf8(&self.rest()[part]).ok()
    }

    /// Checks the next window, of at least `len` bytes.
    #[cold]
    fn check(&mut self, len: usize) {
        let window_bytes = match self.checks {
            Checks::None => FIRST_WINDOW_BYTES,
            Checks::Windows => WINDOW_BYTES,
            Checks::Lines => return,
        };
        self.checks = Checks::Windows;
        let rest = self.rest();
        let window_bytes = rest.len().min(len.max(window_bytes));
        let window = without_cut_character(&rest[..window_bytes], len);
        match simdutf8::basic::from_utf8(window) {
            Ok(text) => self.text = text,
            Err(_) => self.checks = Checks::Lines,
        }
    }
}

/// `window` without a character at its end that lacks bytes, but never less than its first `keep` bytes.
fn without_cut_character(window: &[u8], keep: usize) -> &[u8] {
    for back in 1..=3.min(window.len() - keep) {
        let len = match window[window.len() - back] {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            _ => 1,
        };
        return if len > back {
            &window[..window.len() - back]
        } else {
            window
        };
    }
    window
}

/// Replaces `text` by a value; see [`push_lossy`].
pub(crate) fn set_text(text: &mut String, value: &[u8], lent: Option<&str>) {
    text.clear();
    match lent {
        Some(lent) => text.push_str(lent),
        None => push_lossy(text, value),
    }
}

/// Appends `bytes` as text; malformed UTF-8 becomes U+FFFD, one for each maximal subpart.
pub(crate) fn push_lossy(text: &mut String, bytes: &[u8]) {
    if let Ok(valid) = simdutf8::basic::from_utf8(bytes) {
        return text.push_str(valid);
    }
    for part in bytes.utf8_chunks() {
        text.push_str(part.valid());
        if !part.invalid().is_empty() {
            text.push('\u{FFFD}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_between_characters() {
        for (window, keep, len) in [("aé", 0, 3), ("a世", 1, 4), ("🌍", 0, 4)] {
            let whole = window.as_bytes();
            assert_eq!(without_cut_character(whole, keep).len(), len);
            let last = window.chars().last().unwrap().len_utf8();
            for cut in 1..last {
                let cut = &whole[..whole.len() - cut];
                assert_eq!(
                    without_cut_character(cut, keep).len(),
                    len - last,
                    "{cut:?}"
                );
            }
        }
    }

    #[test]
    fn a_window_never_ends_before_its_line() {
        assert_eq!(without_cut_character(b"ab\xF0", 3), b"ab\xF0");
    }
}
