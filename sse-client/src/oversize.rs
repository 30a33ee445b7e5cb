//! Events over the limit: passing them, and noticing that one cannot be passed.
//!
//! An event over the limit is dropped, and the next connection has to begin behind it, or the same bytes are fetched
//! again and again. Its id says where that is, if it stood before what was too long. Without an id, and with a server
//! that does not go by `Last-Event-ID`, the next connection meets the same event again. Then there is no way forward:
//! once may be chance, twice is the end.
//!
//! A connection on which an event follows the dropped one has passed it, and the count begins anew.

use sse_protocol::EventId;

/// What the source knows about events over the limit.
#[derive(Debug, Default)]
pub(crate) struct Oversize {
    skipped: Skipped,
    /// Where the latest one was met that no connection has passed.
    met_at: Option<Place>,
    /// Whether that was on this connection.
    met_here: bool,
}

/// Whether an event is being skipped, and for how long already.
#[derive(Clone, Copy, Debug, Default)]
enum Skipped {
    #[default]
    Nothing,
    Bytes(usize),
}

/// Where an event over the limit stands in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its own id, if that is known.
    pub(crate) id: Option<EventId>,
    /// The last event id before it; empty at the beginning.
    pub(crate) after: EventId,
}

impl Place {
    fn is_same(&self, other: &Self) -> bool {
        match (&self.id, &other.id) {
            (Some(id), Some(other)) => id == other,
            (None, None) => self.after == other.after,
            _ => false,
        }
    }
}

impl Oversize {
    /// A connection begins.
    pub(crate) fn begin(&mut self) {
        self.skipped = Skipped::Nothing;
        self.met_here = false;
    }

    /// An event at `place` went over the limit. Says whether there is no way past it.
    pub(crate) fn meet(&mut self, place: &Place) -> bool {
        let is_again = !self.met_here
            && self
                .met_at
                .as_ref()
                .is_some_and(|met_at| met_at.is_same(place));
        self.skipped = Skipped::Bytes(0);
        self.met_at = Some(place.clone());
        self.met_here = true;
        is_again
    }

    /// So many more bytes held nothing to tell. Says whether the event is skipped for longer than `limit_bytes`.
    pub(crate) fn skip(&mut self, bytes: usize, limit_bytes: usize) -> bool {
        match &mut self.skipped {
            Skipped::Nothing => false,
            Skipped::Bytes(skipped) => {
                *skipped = skipped.saturating_add(bytes);
                *skipped > limit_bytes.max(MIN_SKIP_BYTES)
            }
        }
    }

    /// A comment or a time came: the event has ended.
    pub(crate) fn end(&mut self) {
        self.skipped = Skipped::Nothing;
    }

    /// An event came.
    pub(crate) fn pass(&mut self) {
        self.skipped = Skipped::Nothing;
        if self.met_here {
            self.met_at = None;
            self.met_here = false;
        }
    }
}

/// An event over the limit may go on for this long at least before the connection is given up.
const MIN_SKIP_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: Option<&str>, after: &str) -> Place {
        Place {
            id: id.map(|id| EventId::new(id).unwrap()),
            after: EventId::new(after).unwrap(),
        }
    }

    #[test]
    fn the_same_event_on_the_next_connection_is_the_end() {
        for (first, second, is_end) in [
            (place(None, "5"), place(None, "5"), true),
            (place(None, ""), place(None, ""), true),
            (place(Some("6"), "5"), place(Some("6"), "6"), true),
            (place(None, "5"), place(None, "9"), false),
            (place(Some("6"), "5"), place(Some("7"), "6"), false),
            (place(Some("6"), "5"), place(None, "5"), false),
        ] {
            let mut oversize = Oversize::default();
            oversize.begin();
            assert!(!oversize.meet(&first));
            oversize.begin();
            assert_eq!(oversize.meet(&second), is_end, "{first:?} {second:?}");
        }
    }

    #[test]
    fn an_event_behind_it_passes_it_and_one_before_it_does_not() {
        let place = place(None, "");
        let mut oversize = Oversize::default();
        for _ in 0..3 {
            oversize.begin();
            assert!(!oversize.meet(&place));
            assert!(!oversize.meet(&place), "another one of the same stream");
            oversize.pass();
        }
        oversize.begin();
        assert!(!oversize.meet(&place));
        oversize.end();
        oversize.begin();
        oversize.pass();
        assert!(
            oversize.meet(&place),
            "a comment behind it and an event before it do not count"
        );
    }

    #[test]
    fn an_event_is_skipped_for_as_long_as_the_limit_and_at_least_a_mebibyte() {
        let mut oversize = Oversize::default();
        assert!(!oversize.skip(usize::MAX, 10), "nothing is skipped");
        oversize.meet(&place(None, ""));
        assert!(!oversize.skip(MIN_SKIP_BYTES, 10));
        assert!(oversize.skip(1, 10));
        oversize.meet(&place(None, ""));
        assert!(!oversize.skip(2 * MIN_SKIP_BYTES, 2 * MIN_SKIP_BYTES));
        assert!(oversize.skip(1, 2 * MIN_SKIP_BYTES));
        oversize.end();
        assert!(!oversize.skip(1, 10));
    }
}
