//! Cohorts in zstd: whatever happens to a reader, its bytes are one whole zstd stream with exactly its events in it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use proptest::prelude::*;
use sse_compress::{
    AcceptEncoding, Coding, CohortEncoder, DecompressError, Decompressor, Form, Level, Limits,
    ZstdBlock, ZstdCohortEncoder, ZstdReader, decompress_all,
};

use crate::happening::{Happening, happening};
use crate::payload::{event, noise, summary, token};

/// What one reader was sent, and what it should read.
struct Client {
    reader: ZstdReader,
    sent: Vec<u8>,
    expected: Vec<u8>,
    forms: Vec<Form>,
}

impl Client {
    fn new(reader: ZstdReader) -> Self {
        Self {
            reader,
            sent: Vec::new(),
            expected: Vec::new(),
            forms: Vec::new(),
        }
    }

    fn take(&mut self, block: &ZstdBlock) -> Form {
        let (form, bytes) = self.reader.take(block);
        self.sent.extend_from_slice(&bytes);
        self.expected.extend_from_slice(block.plain());
        self.forms.push(form);
        form
    }

    fn take_own(&mut self, plain: &[u8]) {
        self.reader.take_own(plain, &mut self.sent);
        self.expected.extend_from_slice(plain);
    }

    /// What has been sent so far says all of it, and the end is a proper one.
    fn check(mut self) -> Vec<u8> {
        assert_eq!(self.reader.total_in(), self.expected.len() as u64);
        let mut flushed = Vec::new();
        let limits = Limits {
            ratio: u32::MAX,
            step_bytes: usize::MAX,
            ..Limits::default()
        };
        let mut decoder = Decompressor::new(Coding::Zstd, limits);
        assert!(decoder.step(&self.sent, &mut flushed).unwrap().drained);
        assert!(flushed == self.expected, "an event waits in the stream");
        self.sent.extend_from_slice(self.reader.finish());
        let decoded = decompress_all(Coding::Zstd, &self.sent, usize::MAX).unwrap();
        assert!(decoded == self.expected, "the reader sees something else");
        self.sent
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_reader_reads_exactly_its_events_whatever_happens(
        happenings in prop::collection::vec(happening(300_000), 1..60),
        level in prop::sample::select(&Level::ALL[..]),
        refresh in prop::sample::select(vec![0, 500, 16 * 1024, u64::MAX]),
    ) {
        let mut cohorts = [
            ZstdCohortEncoder::with_refresh(level, refresh),
            ZstdCohortEncoder::with_refresh(level, refresh),
        ];
        // A client, the cohort it follows, and whether it misses the next block.
        let mut clients: Vec<(Client, usize, bool)> = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Batch { cohort, text } => {
                    deliver(&cohorts[cohort].encode(text.into()), cohort, &mut clients);
                }
                Happening::Apart { cohort, text } => {
                    deliver(&cohorts[cohort].encode_apart(text.into()), cohort, &mut clients);
                }
                Happening::Join { cohort } => {
                    clients.push((Client::new(cohorts[cohort].join()), cohort, false));
                }
                Happening::Welcome { cohort } => cohorts[cohort].welcome(),
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
        for cohort in cohorts {
            let held = cohort.memory_bytes();
            prop_assert!(level != Level::Fast || held <= ZstdCohortEncoder::MEMORY_BYTES, "{held}");
        }
    }
}

fn deliver(block: &ZstdBlock, cohort: usize, clients: &mut [(Client, usize, bool)]) {
    for (client, follows, lags) in clients {
        if *follows == cohort && !std::mem::take(lags) {
            client.take(block);
        }
    }
}

#[test]
fn a_newcomer_takes_raw_frames_until_one_begins_for_all() {
    let mut cohort = ZstdCohortEncoder::with_refresh(Level::Fast, 1000);
    let mut old = Client::new(cohort.join());
    assert_eq!(
        old.take(&cohort.encode(summary(1, 600).into())),
        Form::Packed
    );
    let mut newcomer = Client::new(cohort.join());
    for number in 0..8 {
        let block = cohort.encode(event(number).into());
        assert_eq!(
            old.take(&block),
            Form::Packed,
            "the old reader never falls back"
        );
        newcomer.take(&block);
    }
    let forms = &newcomer.forms;
    let switched = forms.iter().position(|&form| form == Form::Packed);
    let switched = switched.expect("it came in step");
    assert!((1..=5).contains(&switched), "{forms:?}");
    assert!(forms[switched..].iter().all(|&form| form == Form::Packed));
    old.check();
    newcomer.check();
}

#[test]
fn a_reader_with_bytes_of_its_own_is_soon_in_step_again() {
    let mut cohort = ZstdCohortEncoder::with_refresh(Level::Fast, 4096);
    let mut client = Client::new(cohort.join());
    let (mut plain_bytes, mut stored_bytes) = (0, 0);
    for number in 0..1000 {
        if number % 100 == 50 {
            client.take_own(b"event: notice\ndata: for you alone\n\n");
        }
        let block = cohort.encode(event(number).into());
        plain_bytes += block.plain().len();
        if client.take(&block) == Form::Stored {
            cohort.welcome();
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
fn a_secret_leaves_no_trace_in_any_length() {
    let lengths = |secret: &str, guess: &str| {
        let mut cohort = ZstdCohortEncoder::new(Level::Best);
        let mut client = Client::new(cohort.join());
        client.take(&cohort.encode(event(1).into()));
        client.take(&cohort.encode_apart(format!("data: {{\"token\":\"{secret}\"}}\n\n").into()));
        client.take(&cohort.encode(format!("data: {{\"token\":\"{guess}\"}}\n\n").into()));
        client.check().len()
    };
    assert_eq!(
        lengths("correct-horse-battery", "correct-horse-battery"),
        lengths("nothing-of-this-sort-", "correct-horse-battery")
    );
}

#[test]
fn a_block_is_made_once_and_shared_by_those_in_step() {
    let mut cohort = ZstdCohortEncoder::new(Level::Fast);
    let mut readers = [cohort.join(), cohort.join(), ZstdReader::new()];
    let first = cohort.encode(summary(1, 5000).into());
    for reader in &mut readers[..2] {
        assert_eq!(reader.take(&first).0, Form::Packed);
    }
    let block = cohort.encode(event(7).into());
    let [one, two, late] = readers.each_mut().map(|reader| reader.take(&block));
    assert_eq!(one.1.as_ptr(), two.1.as_ptr());
    assert_eq!(one.1.len(), block.packed_len());
    assert!(one.1.len() < block.plain().len());
    assert_eq!(late.0, Form::Stored);
    assert_eq!(
        late.1.len(),
        block.plain().len() + 9,
        "a frame's head and a block's"
    );
}

#[test]
fn a_reader_costs_less_than_fifty_bytes() {
    assert!(size_of::<ZstdReader>() <= 40, "{}", size_of::<ZstdReader>());
}

#[test]
fn a_stream_that_ends_at_once_is_whole() {
    let mut cohort = ZstdCohortEncoder::new(Level::Fast);
    Client::new(cohort.join()).check();
    let mut greeted = Client::new(cohort.join());
    greeted.take_own(b"event: connected\ndata: {}\n\n");
    greeted.take_own(b"");
    greeted.check();
    let mut idle = Client::new(cohort.join());
    assert_eq!(idle.take(&cohort.encode(Bytes::new())), Form::Packed);
    idle.check();
}

#[test]
fn the_program_zstd_reads_the_frames_behind_each_other_as_one_stream() {
    let mut cohort = ZstdCohortEncoder::with_refresh(Level::Fast, 2000);
    let mut client = Client::new(cohort.join());
    for number in 0..400 {
        if number % 50 == 20 {
            client.take_own(noise(number, 9000).as_bytes());
        }
        let block = if number % 90 == 70 {
            cohort.encode_apart(vec![b's'; 200_000].into())
        } else {
            cohort.encode(token(number).into())
        };
        if number % 60 != 5 && client.take(&block) == Form::Stored {
            cohort.welcome();
        }
    }
    let expected = client.expected.clone();
    let sent = client.check();
    let mut program = Command::new("zstd")
        // RFC 9659: no content coding asks for more than 8 MiB.
        .args(["-d", "-c", "-q", "--memory=8MiB"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("zstd: {error}; install it: apt-get install zstd"));
    let mut stdin = program.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = program.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == expected);
}

#[test]
fn small_events_shrink_about_as_far_as_in_gzip() {
    type Payload = fn(u64) -> String;
    for (name, payload) in [("token", token as Payload), ("progress", event)] {
        let (mut gzip, mut zstd) = (
            CohortEncoder::new(Level::Fast),
            ZstdCohortEncoder::new(Level::Fast),
        );
        let mut bytes = [0; 3];
        for number in 0..2000 {
            let text = Bytes::from(payload(number));
            bytes[0] += text.len();
            bytes[1] += gzip.encode(text.clone()).bytes(Form::Packed).len();
            bytes[2] += zstd.encode(text).packed_len();
        }
        let [plain, gzip, zstd] = bytes;
        assert!(
            zstd * 10 < gzip * 12,
            "{name}: {zstd} and {gzip} of {plain}"
        );
        assert!(zstd * 4 < plain, "{name}: {zstd} of {plain}");
    }
}

#[test]
fn damage_and_cuts_and_windows_over_eight_mebibytes_are_refused() {
    let mut cohort = ZstdCohortEncoder::new(Level::Fast);
    let mut client = Client::new(cohort.join());
    client.take(&cohort.encode(summary(3, 3000).into()));
    let sent = client.sent.clone();
    let decode = |bytes: &[u8]| decompress_all(Coding::Zstd, bytes, 1 << 20);
    assert_eq!(decode(&sent), Err(DecompressError::Truncated));
    assert_eq!(decode(b"this is no zstd"), Err(DecompressError::Corrupt));
    let mut wide = sent.clone();
    wide[5] = (24 - 10) << 3;
    assert_eq!(decode(&wide), Err(DecompressError::Corrupt));
    let whole = client.check();
    for cut in 1..whole.len() {
        assert!(decode(&whole[..cut]).is_err(), "{cut}");
    }
    assert_eq!(
        decompress_all(Coding::Zstd, &whole, 2999),
        Err(DecompressError::TooLarge { limit_bytes: 2999 })
    );
}

proptest! {
    #[test]
    fn no_input_makes_the_decoder_panic_or_turn_for_ever(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        at in any::<prop::sample::Index>(),
        piece_bytes in 1usize..50,
    ) {
        let mut cohort = ZstdCohortEncoder::new(Level::Fast);
        let mut client = Client::new(cohort.join());
        (0..5).for_each(|number| { client.take(&cohort.encode(event(number).into())); });
        let mut bytes = client.sent;
        let at = at.index(bytes.len());
        bytes.splice(at.., noise);
        let mut decoder = Decompressor::new(Coding::Zstd, Limits { step_bytes: 100, ..Limits::default() });
        let mut out = Vec::new();
        'pieces: for mut piece in bytes.chunks(piece_bytes) {
            for _ in 0..10_000 {
                let Ok(step) = decoder.step(piece, &mut out) else { break 'pieces };
                piece = &piece[step.consumed..];
                if step.drained {
                    continue 'pieces;
                }
            }
            prop_assert!(false, "it makes no progress");
        }
    }
}

#[test]
fn zstd_is_chosen_by_name_and_by_weight() {
    use Coding::{Gzip, Identity, Zstd};
    for (header, expected) in [
        ("gzip, deflate, br, zstd", Gzip), // wanted alike: the one offered first
        ("deflate, br, zstd", Zstd),
        ("gzip, zstd;q=0.9", Gzip),
        ("gzip;q=0.5, zstd;q=0.6", Zstd),
        ("ZSTD", Zstd),
        ("zstd;q=0, gzip", Gzip),
        ("zstd;q=0", Identity),
        ("*", Gzip), // who does not name it may not know it
    ] {
        let chosen = AcceptEncoding::parse(header).choose(&[Gzip, Zstd, Identity]);
        assert_eq!(chosen, Some(expected), "{header:?}");
    }
    assert_eq!(Coding::from_name("zstd"), Some(Zstd));
}
