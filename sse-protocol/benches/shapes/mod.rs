//! The streams that are measured, and the floors they are measured against.
//!
//! A floor is what no decoder can leave out: one `memchr2` call for each line and UTF-8 validation of the same
//! bytes; for chunks shorter than a line a copy of the bytes cut the same way.

use std::fmt::Write as _;
use std::hint::black_box;

use memchr::memchr2;

/// A stream, how it is cut, and what must come out.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) stream: Vec<u8>,
    pub(crate) chunk_bytes: usize,
    pub(crate) expected: Answer,
}

/// Enough to notice a wrong decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) events: usize,
    pub(crate) data_bytes: usize,
}

impl Answer {
    #[inline]
    pub(crate) fn count(&mut self, data: &str) {
        self.events += 1;
        self.data_bytes += data.len();
    }
}

pub(crate) const KIB: usize = 1024;

pub(crate) fn shapes() -> Vec<Shape> {
    let tokens = || token_stream(&WORDS, 5_000);
    vec![
        shape("token_stream_16k_chunks", tokens(), 16 * KIB),
        shape("token_stream_1400_chunks", tokens(), 1400),
        shape("id_event_data_1k", one_kib_events(), 16 * KIB),
        shape("many_data_lines_64k", many_data_lines(), 16 * KIB),
        shape(
            "tiny_events_9_bytes",
            "data: x\n\n".repeat(100_000),
            16 * KIB,
        ),
        shape(
            "non_ascii_16k_chunks",
            token_stream(&FOREIGN_WORDS, 5_000),
            16 * KIB,
        ),
        shape("non_ascii_prose_1400_chunks", prose(), 1400),
        shape("token_stream_1_byte_chunks", token_stream(&WORDS, 1_000), 1),
        shape("one_huge_line_1_byte_chunks", huge_lines(64 * KIB), 1),
        shape(
            "token_stream_16_byte_chunks",
            token_stream(&WORDS, 1_000),
            16,
        ),
        shape("heartbeats", comments("keep-alive", 100_000), 16 * KIB),
        shape("one_huge_line_16k_chunks", huge_lines(64 * KIB), 16 * KIB),
        shape("one_huge_line_whole", huge_lines(64 * KIB), 128 * KIB),
    ]
}

/// A shape by its stream, whose lines end with LF or CRLF; what must come out is found the plain way.
pub(crate) fn shape(name: &'static str, stream: String, chunk_bytes: usize) -> Shape {
    let mut expected = Answer::default();
    let mut data: Vec<&str> = Vec::new();
    for line in stream.trim_start_matches('\u{FEFF}').lines() {
        if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value));
        } else if line.is_empty() && !data.is_empty() {
            expected.count(&data.join("\n"));
            data.clear();
        }
    }
    Shape {
        name,
        stream: stream.into_bytes(),
        chunk_bytes,
        expected,
    }
}

pub(crate) const WORDS: [&str; 8] = [
    " the", " answer", " of", " course", ",", " is", " forty", "-two",
];
pub(crate) const FOREIGN_WORDS: [&str; 8] = [
    " 答案",
    "当然是",
    "四十二",
    "。",
    " конечно",
    " ответ",
    "ありがとう",
    " 🌍",
];

/// A language model's stream as most of them send it: about 230 bytes for each token.
pub(crate) fn token_stream(words: &[&str], tokens: usize) -> String {
    let mut stream = String::new();
    for i in 0..tokens {
        let word = words[i % words.len()];
        write!(
            stream,
            "data: {{\"id\":\"chatcmpl-9xK2mPq7Lw3vB1nR\",\"object\":\"chat.completion.chunk\",\"created\":1717171717,\
             \"model\":\"model-2024-05-13\",\"system_fingerprint\":\"fp_319be4768e\",\"choices\":[{{\"index\":0,\
             \"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
        )
        .expect("writing to a string");
    }
    stream
}

fn one_kib_events() -> String {
    let payload = "{\"field\":\"value of some length\"},".repeat(KIB / 33);
    (0..1_000).fold(String::new(), |mut stream, i| {
        write!(
            stream,
            "id: 7f3a-{i}\nevent: update\ndata: [{payload}0]\n\n"
        )
        .expect("writing to a string");
        stream
    })
}

/// Pretty-printed JSON: 64 KiB in lines of about 80 bytes.
fn many_data_lines() -> String {
    let line =
        "data:     \"a_field_of_a_record\": \"and a value that is as long as they often are\",\n";
    let event = line.repeat(64 * KIB / line.len()) + "\n";
    event.repeat(16)
}

/// Text mostly of characters of two and three bytes.
fn prose() -> String {
    let line = "data: Съешь же ещё этих мягких французских булок, да выпей чаю. いろはにほへと ちりぬるを わかよたれそ\n\n";
    line.repeat(6_000)
}

/// Two events of one long line each.
pub(crate) fn huge_lines(bytes: usize) -> String {
    format!("data: {}\n\n", "x".repeat(bytes)).repeat(2)
}

/// Blocks of one comment each, and an event at the end, so that there is an answer to check.
pub(crate) fn comments(text: &str, count: usize) -> String {
    format!(": {text}\n\n").repeat(count) + "data: end\n\n"
}

/// Chunks up to this length are shorter than most lines.
const SHORT_CHUNK_BYTES: usize = 64;

/// The least a decoder has to do; see the module.
pub(crate) fn floor(shape: &Shape) -> usize {
    let mut lines = 0;
    if shape.chunk_bytes <= SHORT_CHUNK_BYTES {
        let mut copy = Vec::with_capacity(shape.stream.len());
        for chunk in shape.stream.chunks(shape.chunk_bytes) {
            black_box(&mut copy).extend_from_slice(black_box(chunk));
        }
        return copy.len();
    }
    for chunk in shape.stream.chunks(shape.chunk_bytes) {
        black_box(simdutf8::basic::from_utf8(black_box(chunk))).ok();
        let mut rest = chunk;
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            rest = &rest[end + 1..];
            lines += 1;
        }
    }
    lines
}
