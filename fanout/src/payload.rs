//! What the published events hold: one line of JSON that begins with the event's number.

use crate::tally::BEFORE_NUMBER;

/// A kind of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// So many bytes, most of them the same in every event.
    Filler(usize),
    /// A piece of a language model's answer, as its API streams them.
    Token,
    /// The progress of a job.
    Progress,
}

impl Payload {
    /// The payload of the event `number`.
    pub(crate) fn of(self, number: u64) -> Vec<u8> {
        let mut out = BEFORE_NUMBER.to_vec();
        out.extend_from_slice(format!("{number:016x}\"").as_bytes());
        match self {
            Self::Filler(size) => {
                out.extend_from_slice(b",\"fill\":\"");
                let fill = FILL.bytes().cycle();
                out.extend(fill.take(size.saturating_sub(out.len() + 2)));
                out.extend_from_slice(b"\"}");
            }
            Self::Token => {
                let word = WORDS
                    [(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % WORDS.len()];
                out.extend_from_slice(
                    format!(
                        ",\"id\":\"chatcmpl-9f31c2\",\"object\":\"chat.completion.chunk\",\
                         \"created\":1735689600,\"model\":\"example-large\",\"choices\":[{{\"index\":0,\
                         \"delta\":{{\"content\":\" {word}\"}},\"finish_reason\":null}}]}}"
                    )
                    .as_bytes(),
                );
            }
            Self::Progress => {
                let percent = number % 100;
                out.extend_from_slice(
                    format!(
                        ",\"job\":\"import-2291\",\"state\":\"running\",\"progress\":{{\"percent\":{percent},\
                         \"done\":{},\"total\":250000}},\"message\":\"row {} of 250000\"}}",
                        percent * 2500,
                        percent * 2500
                    )
                    .as_bytes(),
                );
            }
        }
        out
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Filler(size) if size % 1024 == 0 => format!("{} KiB", size / 1024),
            Self::Filler(size) => format!("{size} B"),
            Self::Token => "tokens".to_owned(),
            Self::Progress => "progress".to_owned(),
        }
    }
}

const FILL: &str = "the quick brown fox jumps over the lazy dog; 0123456789 PACK MY BOX. ";

const WORDS: [&str; 32] = [
    "the",
    "a",
    "stream",
    "of",
    "events",
    "is",
    "read",
    "by",
    "many",
    "and",
    "each",
    "sees",
    "them",
    "in",
    "one",
    "order",
    "so",
    "that",
    "nothing",
    "must",
    "be",
    "asked",
    "for",
    "again",
    "when",
    "connection",
    "breaks",
    "it",
    "goes",
    "on",
    "where",
    "stopped",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::number_of;

    #[test]
    fn every_payload_carries_its_number_and_is_one_line_of_json() {
        for payload in [Payload::Filler(100), Payload::Token, Payload::Progress] {
            for number in [0, 99, u64::MAX] {
                let bytes = payload.of(number);
                assert_eq!(number_of(&bytes), Some(number));
                assert!(!bytes.contains(&b'\n'));
                assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
            }
        }
    }

    #[test]
    fn a_filler_has_the_size_that_was_asked_for() {
        for size in [100, 1024, 16384] {
            assert_eq!(Payload::Filler(size).of(1).len(), size);
        }
    }
}
