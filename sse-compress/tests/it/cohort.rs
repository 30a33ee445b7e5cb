use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::DeflateEncoder};
use proptest::prelude::*;
use sse_compress::{BlockForm, CohortBlock, CohortEncoder, CohortReader, Level};

use crate::go_inflater::GoInflater;
use crate::happening::{Happening, happening};
use crate::payload::{event, noise, summary, token};

/// What one reader was sent, and what it should read.
struct Client {
    reader: CohortReader,
    sent: Vec<u8>,
    /// Reads along, as late as a reader may.
    go: GoInflater,
    expected: Vec<u8>,
    forms: Vec<BlockForm>,
}

impl Client {
    fn new(reader: CohortReader) -> Self {
        let sent = reader.head().to_vec();
        let mut go = GoInflater::default();
        go.feed(&sent);
        Self {
            reader,
            sent,
            go,
            expected: Vec::new(),
            forms: Vec::new(),
        }
    }

    fn take(&mut self, block: &CohortBlock) -> BlockForm {
        let form = self.reader.take(block);
        self.send(block.bytes(form), block.plain());
        self.forms.push(form);
        form
    }

    fn take_own(&mut self, plain: &[u8]) {
        let mut write = Vec::new();
        self.reader.take_own(plain, &mut write);
        self.send(&write, plain);
    }

    fn send(&mut self, write: &[u8], plain: &[u8]) {
        self.sent.extend_from_slice(write);
        self.expected.extend_from_slice(plain);
        self.go.feed(write);
        assert_eq!(self.go.handed_on().len(), self.expected.len());
    }

    /// Ends the stream and checks it with another implementation of gzip's framing, checksum included.
    fn check(mut self) {
        assert_eq!(self.reader.total_in(), self.expected.len() as u64);
        self.sent.extend_from_slice(&self.reader.finish());
        let mut decoded = Vec::new();
        let mut decoder = GzDecoder::new(self.sent.as_slice());
        decoder
            .read_to_end(&mut decoded)
            .expect("a valid gzip stream");
        assert!(decoder.into_inner().is_empty(), "something follows the end");
        assert!(decoded == self.expected, "the reader sees something else");
        assert!(self.go.handed_on() == self.expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_reader_reads_exactly_its_events_whatever_happens(
        happenings in prop::collection::vec(happening(70_000), 1..60),
        level in prop::sample::select(&Level::ALL[..]),
        refresh in prop::sample::select(vec![0, 500, 16 * 1024, u64::MAX]),
    ) {
        let mut cohorts = [CohortEncoder::with_full_flush_after(level, refresh), CohortEncoder::with_full_flush_after(level, refresh)];
        // A client, the cohort it follows, and whether it misses the next block.
        let mut clients: Vec<(Client, usize, bool)> = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Batch { cohort, text } | Happening::Apart { cohort, text } if text.is_empty() => {
                    let _ = cohorts[cohort].encode(Bytes::new());
                }
                Happening::Batch { cohort, text } => {
                    deliver(&cohorts[cohort].encode(text.into()), cohort, &mut clients);
                }
                Happening::Apart { cohort, text } => {
                    deliver(&cohorts[cohort].encode_apart(text.into()), cohort, &mut clients);
                }
                Happening::Join { cohort } => clients.push((Client::new(cohorts[cohort].join()), cohort, false)),
                Happening::RequestFullFlush { cohort } => cohorts[cohort].request_full_flush(),
                Happening::Lag { client } if !clients.is_empty() => {
                    let index = client.index(clients.len());
                    clients[index].2 = true;
                }
                Happening::Own { client, text } if !clients.is_empty() => {
                    let index = client.index(clients.len());
 clients[index].0.take_own(&text);
                }
                Happening::Move { client } if !clients.is_empty() => {
                    let index = client.index(clients.len());
                    clients[index].1 ^= 1;
                    cohorts[clients[index].1].request_full_flush();
                }
                Happening::Leave { client } if !clients.is_empty() => {
                    let index = client.index(clients.len());
 clients.swap_remove(index).0.check();
                }
                _ => {}
            }
        }
        for (client, _, _) in clients {
            client.check();
        }
    }
}

fn deliver(block: &CohortBlock, cohort: usize, clients: &mut [(Client, usize, bool)]) {
    for (client, follows, lags) in clients {
        if *follows == cohort && !std::mem::take(lags) {
            client.take(block);
        }
    }
}

#[test]
fn a_newcomer_takes_stored_bytes_until_the_history_is_forgotten() {
    let mut cohort = CohortEncoder::with_full_flush_after(Level::Fast, 1000);
    let mut old = Client::new(cohort.join());
    let block = cohort.encode(summary(1, 600).into());
    assert_eq!(old.take(&block), BlockForm::Compressed);

    let mut newcomer = Client::new(cohort.join());
    let mut forms = Vec::new();
    for number in 0..8 {
        let block = cohort.encode(event(number).into());
        assert_eq!(
            old.take(&block),
            BlockForm::Compressed,
            "the old reader never falls back"
        );
        forms.push(newcomer.take(&block));
    }
    let switched = forms
        .iter()
        .position(|&form| form == BlockForm::Compressed)
        .expect("it came in step");
    assert!((1..=5).contains(&switched), "{forms:?}");
    assert!(
        forms[switched..]
            .iter()
            .all(|&form| form == BlockForm::Compressed)
    );
    old.check();
    newcomer.check();
}

#[test]
fn a_newcomer_catches_up_by_itself_once_a_window_has_passed() {
    let mut cohort = CohortEncoder::with_full_flush_after(Level::Fast, u64::MAX);
    let _ = cohort.encode(noise(1, 50_000).into());
    let mut newcomer = Client::new(cohort.join());
    // `with_full_flush_after` never waits longer than a window, so hide the newcomer from it.
    let mut hidden = Client::new(CohortReader::new());
    let _ = newcomer.take(&cohort.encode(event(0).into()));
    let mut stored_bytes = 0;
    for number in 1..1000 {
        let block = cohort.encode(event(number).into());
        newcomer.take(&block);
        if hidden.take(&block) == BlockForm::Stored {
            stored_bytes += block.plain().len() as u64;
        }
    }
    assert_eq!(hidden.forms.last(), Some(&BlockForm::Compressed));
    assert!(
        stored_bytes <= CohortEncoder::WINDOW_BYTES + 200,
        "{stored_bytes}"
    );
    hidden.check();
    newcomer.check();
}

#[test]
fn a_reader_with_bytes_of_its_own_is_soon_in_step_again() {
    let mut cohort = CohortEncoder::with_full_flush_after(Level::Fast, 4096);
    let mut client = Client::new(cohort.join());
    let (mut plain_bytes, mut stored_bytes) = (0, 0);
    for number in 0..1000 {
        if number % 100 == 50 {
            client.take_own(b"event: notice\ndata: for you alone\n\n");
        }
        let block = cohort.encode(event(number).into());
        plain_bytes += block.plain().len();
        if client.take(&block) == BlockForm::Stored {
            cohort.request_full_flush();
            stored_bytes += block.plain().len();
        }
    }
    assert!(
        stored_bytes <= 10 * 4500 && stored_bytes < plain_bytes / 3,
        "{stored_bytes} of {plain_bytes}"
    );
    client.check();
}

#[test]
fn without_newcomers_nothing_is_forgotten() {
    // The cohort's bytes are then those of an encoder that one reader has for itself, behind gzip's head.
    let mut cohort = CohortEncoder::with_full_flush_after(Level::Fast, 0);
    let mut client = Client::new(cohort.join());
    let mut alone = DeflateEncoder::new(client.sent.clone(), Compression::new(1));
    for number in 0..500 {
        let event = event(number);
        client.take(&cohort.encode(event.clone().into()));
        alone.write_all(event.as_bytes()).unwrap();
        alone.flush().unwrap();
    }
    assert!(client.sent == *alone.get_ref());
    client.check();
}

#[test]
fn a_secret_leaves_no_trace_in_any_length() {
    let lengths = |secret: &str, guess: &str| {
        let mut cohort = CohortEncoder::new(Level::Best);
        let mut client = Client::new(cohort.join());
        client.take(&cohort.encode(event(1).into()));
        client.take(&cohort.encode_apart(format!("data: {{\"token\":\"{secret}\"}}\n\n").into()));
        client.take(&cohort.encode(format!("data: {{\"token\":\"{guess}\"}}\n\n").into()));
        let sent = client.sent.len();
        client.check();
        sent
    };
    assert_eq!(
        lengths("correct-horse-battery", "correct-horse-battery"),
        lengths("nothing-of-this-sort-", "correct-horse-battery")
    );
}

#[test]
fn small_events_shrink_to_a_fraction() {
    type Payload = fn(u64) -> String;
    for (name, level, payload, bound) in [
        ("token", Level::Fast, token as Payload, 0.10),
        ("progress", Level::Fast, event, 0.25),
        ("progress", Level::Balanced, event, 0.23),
        ("progress", Level::Best, event, 0.22),
    ] {
        let mut cohort = CohortEncoder::new(level);
        let (mut plain, mut packed) = (0, 0);
        for number in 0..1000 {
            let block = cohort.encode(payload(number).into());
            plain += block.plain().len();
            packed += block.bytes(BlockForm::Compressed).len();
        }
        let ratio = packed as f64 / plain as f64;
        assert!(ratio < bound, "{name} at {level}: {ratio:.3}");
    }
}

#[test]
fn a_block_is_shared_and_made_once() {
    let mut cohort = CohortEncoder::new(Level::Fast);
    let _ = cohort.encode(summary(1, 5000).into());
    let block = cohort.encode(event(7).into());
    let stored = block.bytes(BlockForm::Stored).as_ptr();
    assert_eq!(block.bytes(BlockForm::Stored).as_ptr(), stored);
    assert_eq!(
        block.bytes(BlockForm::Stored).len(),
        block.plain().len() + 10
    );
    assert!(block.bytes(BlockForm::Compressed).len() < block.plain().len());
}

#[test]
fn a_reader_costs_less_than_a_hundred_bytes() {
    assert!(
        size_of::<CohortReader>() <= 80,
        "{}",
        size_of::<CohortReader>()
    );
}

#[test]
fn a_stream_that_ends_at_once_is_whole() {
    let mut cohort = CohortEncoder::new(Level::Fast);
    Client::new(cohort.join()).check();
    let mut greeted = Client::new(cohort.join());
    greeted.take_own(b"event: connected\ndata: {}\n\n");
    greeted.take_own(b"");
    greeted.check();
}
