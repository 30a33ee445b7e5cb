//! What arrived, held against what was published: nothing lost, nothing twice, one order for all.

use hdrhistogram::Histogram;

/// What is counted while one load runs.
pub(crate) struct Tally {
    /// The number of the first event of this load; smaller ones are late from an earlier load.
    first: u64,
    /// By number from `first` on: what was published and when, in nanoseconds.
    published: Vec<(Box<[u8]>, u64)>,
    /// By number: the event's place in the order that readers see, once one has seen it.
    place_of: Vec<Option<u32>>,
    /// By place: how many readers have it, or will never.
    settled: Vec<u32>,
    /// Places that every reader has settled.
    complete: usize,
    /// Readers that must settle an event before it is complete.
    quorum: u32,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupt: u64,
    pub(crate) last_arrival_nanos: u64,
    pub(crate) latency: Latency,
}

impl Tally {
    /// Begins a load whose events are numbered from `first` on, each for `quorum` readers.
    pub(crate) fn new(first: u64, quorum: usize) -> Self {
        Self {
            first,
            published: Vec::new(),
            place_of: Vec::new(),
            settled: Vec::new(),
            complete: 0,
            quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
            delivered: 0,
            lost: 0,
            reordered: 0,
            corrupt: 0,
            last_arrival_nanos: 0,
            latency: Latency::default(),
        }
    }

    /// Notes that the next event is about to be published; returns its number.
    pub(crate) fn publish(
        &mut self,
        payload: impl FnOnce(u64) -> Vec<u8>,
        now_nanos: u64,
    ) -> &[u8] {
        let number = self.first + self.published.len() as u64;
        let payload = payload(number).into_boxed_slice();
        self.published.push((payload, now_nanos));
        self.place_of.push(None);
        &self.published[self.published.len() - 1].0
    }

    /// The number that the next load may begin with.
    pub(crate) fn next_first(&self) -> u64 {
        self.first + self.published.len() as u64
    }

    /// Events published.
    pub(crate) fn events(&self) -> usize {
        self.published.len()
    }

    /// Published and not yet with everyone.
    pub(crate) fn in_flight(&self) -> usize {
        self.published.len() - self.complete
    }

    /// The payloads published, in the order of their numbers.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.published.iter().map(|(payload, _)| &**payload)
    }

    /// A reader that has the first `*place` events of the common order has received `data`.
    pub(crate) fn arrived(&mut self, place: &mut u32, data: &[u8], now_nanos: u64) {
        let Some(index) = self.recognize(data) else {
            return;
        };
        let expected = *place;
        let at = match self.place_of[index] {
            Some(at) => at,
            None => {
                // The first to see it: the order goes on here, whatever this reader skipped.
                let at = self.settled.len() as u32;
                self.place_of[index] = Some(at);
                self.settled.push(0);
                at
            }
        };
        if at < expected {
            self.reordered += 1;
            return;
        }
        for skipped in expected..at {
            self.lost += 1;
            self.settled[skipped as usize] += 1;
        }
        self.settled[at as usize] += 1;
        *place = at + 1;
        self.count(index, now_nanos);
        self.advance();
    }

    /// The only reader of an event has received `data`: any order is right, twice is not.
    pub(crate) fn arrived_alone(&mut self, data: &[u8], now_nanos: u64) {
        let Some(index) = self.recognize(data) else {
            return;
        };
        if self.place_of[index].is_some() {
            self.reordered += 1;
            return;
        }
        self.place_of[index] = Some(self.settled.len() as u32);
        self.settled.push(1);
        self.count(index, now_nanos);
        self.advance();
    }

    /// A reader with the first `place` events is gone: what others have and it has not is lost,
    /// and what comes is complete without it.
    pub(crate) fn left(&mut self, place: u32) {
        let place = place as usize;
        self.lost += (self.settled.len() - place) as u64;
        for settled in self.settled[..place].iter_mut().skip(self.complete) {
            *settled -= 1;
        }
        self.quorum = self.quorum.saturating_sub(1);
        self.advance();
    }

    /// Nothing more will come: all that is still missing is lost.
    pub(crate) fn give_up(&mut self) {
        let quorum = u64::from(self.quorum);
        let never_seen = (self.published.len() - self.settled.len()) as u64 * quorum;
        let partly: u64 = self.settled[self.complete..]
            .iter()
            .map(|settled| quorum.saturating_sub(u64::from(*settled)))
            .sum();
        self.lost += never_seen + partly;
        self.complete = self.published.len();
    }

    /// The index of the event that `data` is, byte for byte.
    fn recognize(&mut self, data: &[u8]) -> Option<usize> {
        let number = number_of(data);
        if number.is_some_and(|number| number < self.first) {
            return None; // late from an earlier load, where it was counted as lost
        }
        let index = number.map(|number| (number - self.first) as usize);
        let index = index.filter(|index| {
            let published = self.published.get(*index);
            published.is_some_and(|(payload, _)| **payload == *data)
        });
        if index.is_none() {
            self.corrupt += 1;
        }
        index
    }

    fn count(&mut self, index: usize, now_nanos: u64) {
        self.delivered += 1;
        self.last_arrival_nanos = now_nanos;
        self.latency
            .record(now_nanos.saturating_sub(self.published[index].1));
    }

    fn advance(&mut self) {
        while self
            .settled
            .get(self.complete)
            .is_some_and(|count| *count >= self.quorum)
        {
            self.complete += 1;
        }
    }
}

/// How long deliveries took; records only while someone wants to know.
#[derive(Default)]
pub(crate) struct Latency(Option<Histogram<u64>>);

impl Latency {
    /// Records from now on.
    pub(crate) fn on(&mut self) {
        // Three digits over a minute; what is longer counts as a minute.
        self.0 = Histogram::new_with_max(MAX_LATENCY_NANOS, 3).ok();
    }

    fn record(&mut self, nanos: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanos);
        }
    }

    /// The latency in milliseconds that the share `quantile` of deliveries stayed within.
    pub(crate) fn millis(&self, quantile: f64) -> Option<f64> {
        let histogram = self.0.as_ref()?;
        Some(histogram.value_at_quantile(quantile) as f64 / 1e6)
    }
}

const MAX_LATENCY_NANOS: u64 = 60_000_000_000;

/// Where an event's number stands in its payload: sixteen hexadecimal digits after this.
pub(crate) const BEFORE_NUMBER: &[u8] = b"{\"event\":\"";

/// The number in a payload made by [`crate::payload`].
pub(crate) fn number_of(data: &[u8]) -> Option<u64> {
    let digits = data.strip_prefix(BEFORE_NUMBER)?.get(..16)?;
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(number: u64) -> Vec<u8> {
        format!("{{\"event\":\"{number:016x}\"}}").into_bytes()
    }

    fn tally(events: u64, readers: usize) -> Tally {
        let mut tally = Tally::new(7, readers);
        for _ in 0..events {
            tally.publish(payload, 0);
        }
        tally
    }

    #[test]
    fn an_event_is_complete_when_every_reader_has_it() {
        let mut tally = tally(2, 2);
        let (mut a, mut b) = (0, 0);
        tally.arrived(&mut a, &payload(7), 1);
        tally.arrived(&mut a, &payload(8), 1);
        assert_eq!(tally.in_flight(), 2);
        tally.arrived(&mut b, &payload(7), 1);
        assert_eq!(tally.in_flight(), 1);
        tally.arrived(&mut b, &payload(8), 1);
        assert_eq!((tally.in_flight(), tally.delivered, tally.lost), (0, 4, 0));
    }

    #[test]
    fn any_order_is_right_if_it_is_the_same_for_all() {
        let mut tally = tally(2, 2);
        let (mut a, mut b) = (0, 0);
        tally.arrived(&mut a, &payload(8), 1);
        tally.arrived(&mut a, &payload(7), 1);
        tally.arrived(&mut b, &payload(7), 1);
        assert_eq!((tally.lost, tally.reordered), (1, 0), "8 was passed over");
        tally.arrived(&mut b, &payload(8), 1);
        assert_eq!((tally.lost, tally.reordered), (1, 1));
    }

    #[test]
    fn a_reader_that_leaves_loses_what_it_had_not_got() {
        let mut tally = tally(2, 2);
        let (mut a, mut b) = (0, 0);
        tally.arrived(&mut a, &payload(7), 1);
        tally.arrived(&mut a, &payload(8), 1);
        tally.arrived(&mut b, &payload(7), 1);
        tally.left(b);
        assert_eq!((tally.in_flight(), tally.lost), (0, 1));
    }

    #[test]
    fn what_never_came_is_lost_in_the_end() {
        let mut tally = tally(3, 2);
        let mut a = 0;
        tally.arrived(&mut a, &payload(7), 1);
        tally.give_up();
        assert_eq!((tally.in_flight(), tally.lost), (0, 5));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut tally = tally(1, 1);
        let mut changed = payload(7);
        changed[20] ^= 1;
        tally.arrived(&mut 0, &changed, 1);
        tally.arrived(&mut 0, b"something else", 1);
        assert_eq!((tally.corrupt, tally.delivered), (2, 0));
    }
}
