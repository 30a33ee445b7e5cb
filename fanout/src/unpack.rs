//! Codings of a stream, and the way back.

use std::io::{self, Write};

use flate2::write::GzDecoder;

/// A `Content-Encoding` that streams may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|coding| coding.name() == name)
    }
}

/// Unpacks what comes, as far as it goes.
pub(crate) enum Unpacker {
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Unpacker {
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(GzDecoder::new(Vec::new()))),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new())?),
        })
    }

    /// Takes more; all of its text is there afterwards.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
            Self::Zstd(decoder) => decoder.write_all(bytes).and_then(|()| decoder.flush()),
        }
    }

    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    /// Forgets the first bytes of the text.
    pub(crate) fn forget(&mut self, count: usize) {
        let text = match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        };
        text.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_zstd_behind_each_other_are_one_text_however_they_are_cut() {
        let mut packed = Vec::new();
        for text in ["one ", "", "two ", "three"] {
            packed.extend(zstd::stream::encode_all(text.as_bytes(), 1).unwrap());
        }
        for size in [1, 2, 7, packed.len()] {
            let mut unpacker = Unpacker::new(Coding::Zstd).unwrap();
            for piece in packed.chunks(size) {
                unpacker.feed(piece).unwrap();
            }
            assert_eq!(unpacker.text(), b"one two three", "pieces of {size}");
        }
    }
}
