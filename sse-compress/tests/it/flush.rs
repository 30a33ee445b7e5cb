//! Whoever has received a write can read all of it, also with an inflater that waits longer than zlib's.

use bytes::Bytes;
use sse_compress::{BlockForm, CohortEncoder, CohortReader, Level};

use crate::go_inflater::GoInflater;
use crate::payload::{Random, event, noise, summary};

/// A reader that is written in Go.
struct GoClient {
    reader: CohortReader,
    inflater: GoInflater,
    expected: Vec<u8>,
}

impl GoClient {
    fn new(reader: CohortReader) -> Self {
        let mut inflater = GoInflater::default();
        inflater.feed(reader.head());
        Self {
            reader,
            inflater,
            expected: Vec::new(),
        }
    }

    fn take_own(&mut self, plain: impl AsRef<[u8]>) {
        let mut write = Vec::new();
        self.reader.take_own(plain.as_ref(), &mut write);
        self.receive(&write, plain);
    }

    fn take(&mut self, cohort: &mut CohortEncoder, plain: impl AsRef<[u8]>, form: BlockForm) {
        let block = cohort.encode(Bytes::copy_from_slice(plain.as_ref()));
        assert_eq!(self.reader.take(&block), form);
        self.receive(block.bytes(form), plain);
    }

    fn take_apart(&mut self, cohort: &mut CohortEncoder, plain: impl AsRef<[u8]>) {
        let block = cohort.encode_apart(Bytes::copy_from_slice(plain.as_ref()));
        let form = self.reader.take(&block);
        self.receive(block.bytes(form), plain);
    }

    fn receive(&mut self, write: &[u8], plain: impl AsRef<[u8]>) {
        self.inflater.feed(write);
        self.expected.extend_from_slice(plain.as_ref());
        assert_eq!(
            String::from_utf8_lossy(self.inflater.handed_on()),
            String::from_utf8_lossy(&self.expected)
        );
        assert!(write.ends_with(&[0, 0, 0xff, 0xff]), "no empty block");
    }

    fn end(mut self) {
        self.inflater.feed(&self.reader.finish());
        assert!(self.inflater.handed_on() == self.expected);
    }
}

/// A cohort that has run for a while, so that a newcomer takes stored blocks.
fn old_cohort(level: Level) -> CohortEncoder {
    let mut cohort = CohortEncoder::new(level);
    let _ = cohort.encode(event(0).into());
    cohort
}

/// What deflate itself stores, as it cannot make it smaller.
fn random(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    (0..bytes).map(|_| (random.next() >> 32) as u8).collect()
}

#[test]
fn a_greeting_is_read_at_once() {
    let mut cohort = CohortEncoder::new(Level::Fast);
    let mut client = GoClient::new(cohort.join());
    client.take_own("event: connected\ndata: {}\n\n");
    client.end();
}

#[test]
fn a_reader_that_joins_late_reads_each_event_at_once() {
    let mut cohort = old_cohort(Level::Fast);
    let mut client = GoClient::new(cohort.join());
    client.take_own("event: connected\ndata: {}\n\n");
    for number in 1..20 {
        client.take(&mut cohort, event(number), BlockForm::Stored);
    }
    client.end();
}

#[test]
fn a_replay_is_read_at_once_whatever_its_size() {
    let mut cohort = old_cohort(Level::Fast);
    for bytes in [1, 32_767, 32_768, 65_535, 65_536, 65_537, 200_000] {
        let mut client = GoClient::new(cohort.join());
        client.take_own(summary(1, bytes));
        client.take(&mut cohort, event(1), BlockForm::Stored);
        client.end();
    }
}

#[test]
fn bytes_of_its_own_and_what_follows_them_are_read_at_once() {
    let mut cohort = CohortEncoder::new(Level::Fast);
    let mut client = GoClient::new(cohort.join());
    client.take(&mut cohort, event(1), BlockForm::Compressed);
    client.take_own("event: notice\ndata: for you alone\n\n");
    client.take(&mut cohort, event(2), BlockForm::Stored);
    client.take_apart(&mut cohort, "data: {\"token\":\"secret\"}\n\n");
    client.take(&mut cohort, event(3), BlockForm::Compressed);
    client.end();
}

#[test]
fn a_heartbeat_is_read_at_once_in_both_forms() {
    let mut cohort = CohortEncoder::new(Level::Fast);
    let mut client = GoClient::new(cohort.join());
    client.take(&mut cohort, ": \n\n", BlockForm::Compressed);
    client.take(&mut cohort, ": \n\n", BlockForm::Compressed);
    let mut late = GoClient::new(cohort.join());
    late.take(&mut cohort, ": \n\n", BlockForm::Stored);
    late.end();
}

#[test]
fn events_of_any_size_and_kind_are_read_at_once_at_every_level() {
    for level in Level::ALL {
        for bytes in [100, 2000, 33_000, 70_000, 200_000] {
            let mut cohort = CohortEncoder::new(level);
            let mut early = GoClient::new(cohort.join());
            early.take(&mut cohort, summary(1, bytes), BlockForm::Compressed);
            early.take(&mut cohort, noise(1, bytes), BlockForm::Compressed);
            early.take(&mut cohort, random(bytes), BlockForm::Compressed);
            early.take(&mut cohort, "a".repeat(bytes), BlockForm::Compressed);
            early.take(&mut cohort, event(1), BlockForm::Compressed);
            early.end();

            let mut cohort = old_cohort(level);
            let mut late = GoClient::new(cohort.join());
            late.take(&mut cohort, noise(2, bytes), BlockForm::Stored);
            late.end();
        }
    }
}
