//! `Content-Encoding`: the stream unpacked in small bounded steps.
//!
//! The decoder is *pulled*: what arrived is put in with [`push`](ContentDecoder::push), and each
//! [`next_chunk`](ContentDecoder::next_chunk) unpacks at most 32 KiB of it. So a decompression bomb of any ratio costs
//! no memory, and an event is there as soon as the server flushed it, because all that can be unpacked is unpacked
//! before more is awaited. A limit on the ratio bounds the time.
//!
//! One decoder belongs to one connection. One coding is understood, not several on top of each other: no
//! honest server does that.
#![cfg_attr(
    not(any(feature = "decode", feature = "zstd", feature = "brotli")),
    allow(
        dead_code,
        unreachable_code,
        irrefutable_let_patterns,
        reason = "only identity is left"
    )
)]

#[cfg(feature = "brotli")]
mod brotli_coding;
#[cfg(feature = "zstd")]
mod zstd_coding;

#[cfg(feature = "decode")]
use bytes::Buf as _;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// Why compressed content could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A coding that was not asked for, or several at once.
    #[error("unknown content encoding {coding:?}")]
    Unknown {
        /// What the header said.
        coding: String,
    },
    /// The bytes are not what the header promised.
    #[error("damaged {coding} data")]
    Damaged {
        /// The coding's name.
        coding: &'static str,
    },
    /// The content ended in the middle.
    #[error("{coding} data cut short")]
    CutShort {
        /// The coding's name.
        coding: &'static str,
    },
    /// More bytes came out of each byte than the configured ratio allows.
    #[error("more than {max_ratio} bytes out of each byte of {coding}, as in a decompression bomb")]
    Bomb {
        /// The coding's name.
        coding: &'static str,
        /// The configured limit.
        max_ratio: u32,
    },
}

/// The value for `Accept-Encoding`: what this build can unpack, and nothing else.
pub(crate) fn accept_encoding() -> Option<&'static str> {
    match (
        cfg!(feature = "decode"),
        cfg!(feature = "zstd"),
        cfg!(feature = "brotli"),
    ) {
        (true, true, true) => Some("zstd, br, gzip, deflate"),
        (true, true, false) => Some("zstd, gzip, deflate"),
        (true, false, true) => Some("br, gzip, deflate"),
        (true, false, false) => Some("gzip, deflate"),
        (false, true, true) => Some("zstd, br"),
        (false, true, false) => Some("zstd"),
        (false, false, true) => Some("br"),
        (false, false, false) => None,
    }
}

/// Unpacks the content of one connection.
pub(crate) struct ContentDecoder {
    coding: Coding,
    input: Bytes,
    max_ratio: u32,
    total_in: u64,
    total_out: u64,
    /// Kept between calls.
    scratch: Vec<u8>,
}

enum Coding {
    Identity,
    #[cfg(feature = "decode")]
    Deflated {
        decompressor: sse_compress::Decompressor,
        name: &'static str,
    },
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd_coding::Zstd>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli_coding::Brotli>),
}

impl ContentDecoder {
    /// A decoder for a response with these headers.
    pub(crate) fn new(headers: &HeaderMap, max_ratio: u32) -> Result<Self, ContentError> {
        let mut codings = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|&b| b == b','))
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "identity");
        let coding = match (codings.next(), codings.next()) {
            (None, _) => Coding::Identity,
            (Some(one), None) => Coding::named(&one)?,
            (Some(one), Some(two)) => {
                return Err(ContentError::Unknown {
                    coding: format!("{one}, {two}"),
                });
            }
        };
        let (total_in, total_out) = (0, 0);
        Ok(Self {
            coding,
            input: Bytes::new(),
            max_ratio,
            total_in,
            total_out,
            scratch: Vec::new(),
        })
    }

    /// Puts in what arrived. The previous input must have been used up by `next_chunk`.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(
            self.input.is_empty(),
            "the previous chunk has not been used up"
        );
        self.total_in += chunk.len() as u64;
        self.input = chunk;
    }

    /// The next piece of the content; `None` when more input is needed.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        if let Coding::Identity = self.coding {
            let chunk = std::mem::take(&mut self.input);
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
        loop {
            let before = self.input.len();
            self.scratch.clear();
            self.coding.step(&mut self.input, &mut self.scratch)?;
            if !self.scratch.is_empty() {
                self.total_out += self.scratch.len() as u64;
                self.check_ratio()?;
                return Ok(Some(Bytes::copy_from_slice(&self.scratch)));
            }
            if self.input.is_empty() {
                return Ok(None);
            }
            if self.input.len() == before {
                // It neither takes nor gives; no valid content does this.
                return Err(ContentError::Damaged {
                    coding: self.coding.name(),
                });
            }
        }
    }

    /// Says whether the content may end here.
    pub(crate) fn finish(&self) -> Result<(), ContentError> {
        if self.total_in == 0 || self.coding.is_complete() {
            Ok(())
        } else {
            Err(ContentError::CutShort {
                coding: self.coding.name(),
            })
        }
    }

    fn check_ratio(&self) -> Result<(), ContentError> {
        let limit = RATIO_GRACE_BYTES.max(self.total_in.saturating_mul(u64::from(self.max_ratio)));
        if self.total_out > limit {
            return Err(ContentError::Bomb {
                coding: self.coding.name(),
                max_ratio: self.max_ratio,
            });
        }
        Ok(())
    }
}

impl Coding {
    fn named(name: &str) -> Result<Self, ContentError> {
        Ok(match name {
            #[cfg(feature = "decode")]
            "gzip" | "x-gzip" => Self::deflated(sse_compress::Coding::Gzip, "gzip"),
            #[cfg(feature = "decode")]
            "deflate" => Self::deflated(sse_compress::Coding::Deflate, "deflate"),
            #[cfg(feature = "zstd")]
            "zstd" => Self::Zstd(Box::new(zstd_coding::Zstd::new()?)),
            #[cfg(feature = "brotli")]
            "br" => Self::Brotli(Box::new(brotli_coding::Brotli::new())),
            other => {
                return Err(ContentError::Unknown {
                    coding: other.chars().take(100).collect(),
                });
            }
        })
    }

    #[cfg(feature = "decode")]
    fn deflated(coding: sse_compress::Coding, name: &'static str) -> Self {
        // The ratio is watched here, alike for every coding.
        let limits = sse_compress::Limits {
            step_bytes: STEP_BYTES,
            total_bytes: u64::MAX,
            ratio: u32::MAX,
        };
        Self::Deflated {
            decompressor: sse_compress::Decompressor::new(coding, limits),
            name,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            #[cfg(feature = "decode")]
            Self::Deflated { name, .. } => name,
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => "zstd",
            #[cfg(feature = "brotli")]
            Self::Brotli(_) => "br",
        }
    }

    /// Takes from `input` and writes at most [`STEP_BYTES`] to `out`.
    fn step(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> Result<(), ContentError> {
        match self {
            Self::Identity => out.extend_from_slice(&std::mem::take(input)),
            #[cfg(feature = "decode")]
            Self::Deflated { decompressor, name } => {
                let step = decompressor
                    .step(input, out)
                    .map_err(|_| ContentError::Damaged { coding: name })?;
                input.advance(step.consumed);
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.step(input, out)?,
            #[cfg(feature = "brotli")]
            Self::Brotli(brotli) => brotli.step(input, out)?,
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Identity => true,
            #[cfg(feature = "decode")]
            Self::Deflated { decompressor, .. } => decompressor.finish().is_ok(),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.is_complete(),
            #[cfg(feature = "brotli")]
            Self::Brotli(brotli) => brotli.is_complete(),
        }
    }
}

/// What one step unpacks at most: large enough that the calls do not count, small enough to stay in cache.
const STEP_BYTES: usize = 32 * 1024;

/// So much may always be unpacked: a short stream of equal bytes is not an attack.
const RATIO_GRACE_BYTES: u64 = 1024 * 1024;

/// Bytes out of each byte in. Deflate cannot exceed 1032; token and JSON streams reach 3 to 40, the same
/// heartbeat over and over about 10.
pub(crate) const DEFAULT_MAX_RATIO: u32 = 400;

#[cfg(all(test, feature = "decode"))]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use http::HeaderValue;
    use std::io::Write;

    fn decoder(coding: &'static str) -> Result<ContentDecoder, ContentError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        ContentDecoder::new(&headers, DEFAULT_MAX_RATIO)
    }

    fn drain(decoder: &mut ContentDecoder, out: &mut Vec<u8>) -> Result<(), ContentError> {
        while let Some(chunk) = decoder.next_chunk()? {
            assert!(chunk.len() <= STEP_BYTES || matches!(decoder.coding, Coding::Identity));
            out.extend_from_slice(&chunk);
        }
        Ok(())
    }

    fn unpack(coding: &'static str, packed: &[u8], cut: usize) -> Result<Vec<u8>, ContentError> {
        let mut decoder = decoder(coding)?;
        let mut out = Vec::new();
        for piece in packed.chunks(cut) {
            decoder.push(Bytes::copy_from_slice(piece));
            drain(&mut decoder, &mut out)?;
        }
        decoder.finish()?;
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..600)
            .flat_map(|n| format!("id: {n}\ndata: token {}\n\n", n * 7919 % 997).into_bytes())
            .collect()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        writer.write_all(text).expect("a vector takes any bytes");
        writer.finish().expect("a vector takes any bytes")
    }

    #[test]
    fn gzip_deflate_and_bare_deflate_come_out_whole_however_they_are_cut() {
        let text = text();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
        bare.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let bare = bare.finish().unwrap();
        for cut in [1, 2, 7, 1000, usize::MAX] {
            assert_eq!(
                unpack("gzip", &gzip(&text), cut).unwrap(),
                text,
                "gzip {cut}"
            );
            assert_eq!(unpack("deflate", &zlib, cut).unwrap(), text, "zlib {cut}");
            assert_eq!(unpack("Deflate", &bare, cut).unwrap(), text, "bare {cut}");
            assert_eq!(unpack("identity", &text, cut).unwrap(), text);
        }
    }

    #[test]
    fn members_that_follow_each_other_are_one_content() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        for cut in [1, 5, usize::MAX] {
            assert_eq!(unpack("gzip", &both, cut).unwrap(), b"one two");
        }
    }

    #[test]
    fn a_flushed_event_comes_out_at_once() {
        let mut compress = Compress::new_gzip(Compression::fast(), 15);
        let mut decoder = decoder("gzip").unwrap();
        for n in 0..50 {
            let event = format!("data: {n}\n\n");
            let mut packed = Vec::with_capacity(1024);
            compress
                .compress_vec(event.as_bytes(), &mut packed, FlushCompress::Sync)
                .unwrap();
            decoder.push(Bytes::from(packed));
            let mut out = Vec::new();
            drain(&mut decoder, &mut out).unwrap();
            assert_eq!(out, event.as_bytes());
        }
        assert_eq!(
            decoder.finish(),
            Err(ContentError::CutShort { coding: "gzip" })
        );
    }

    #[test]
    fn damage_truncation_and_stacks_are_errors() {
        let packed = gzip(&text());
        assert_eq!(
            unpack("gzip", b"this is not gzip", 100),
            Err(ContentError::Damaged { coding: "gzip" })
        );
        let half = &packed[..packed.len() / 2];
        assert_eq!(
            unpack("gzip", half, 100),
            Err(ContentError::CutShort { coding: "gzip" })
        );
        let mut flipped = packed.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert_eq!(
            unpack("gzip", &flipped, 100),
            Err(ContentError::Damaged { coding: "gzip" })
        );
        assert!(matches!(
            decoder("gzip, gzip"),
            Err(ContentError::Unknown { .. })
        ));
        assert!(matches!(decoder("lzma"), Err(ContentError::Unknown { .. })));
        assert!(decoder("identity, gzip").is_ok());
    }

    #[test]
    fn a_bomb_is_recognised_by_its_ratio_in_little_memory() {
        let mut compress = Compress::new_gzip(Compression::best(), 15);
        let zeros = vec![b'0'; 1 << 18];
        let mut block = || {
            let mut packed = Vec::with_capacity(8192);
            compress
                .compress_vec(&zeros, &mut packed, FlushCompress::Sync)
                .unwrap();
            packed
        };
        // From the second block on they are all the same: copies of what lies in the window.
        let (first, again) = (block(), block());
        let mut decoder = decoder("gzip").unwrap();
        decoder.push(Bytes::from([first, again.repeat(8)].concat()));
        let mut total = 0;
        let end = loop {
            match decoder.next_chunk() {
                Ok(Some(chunk)) => total += chunk.len() as u64,
                other => break other,
            }
        };
        assert_eq!(
            end,
            Err(ContentError::Bomb {
                coding: "gzip",
                max_ratio: DEFAULT_MAX_RATIO
            })
        );
        assert!(total <= RATIO_GRACE_BYTES + STEP_BYTES as u64);
    }

    /// Three events as Node's encoder wrote them, flushed after each, and the end of the stream.
    #[cfg(feature = "brotli")]
    const BROTLI: [&str; 4] = [
        "8b0e0000049c709ed040d38c0baeef493a516516c99debaec1ca5908ac623ee5fa4d3200",
        "e8000040422691484290b08e6a00",
        "e800004062260540228900bc",
        "03",
    ];

    #[cfg(any(feature = "brotli", feature = "zstd"))]
    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[cfg(feature = "brotli")]
    #[test]
    fn each_event_of_a_brotli_stream_comes_out_with_its_flush() {
        let mut decoder = decoder("br").unwrap();
        for (n, piece) in BROTLI[..3].iter().enumerate() {
            let mut out = Vec::new();
            decoder.push(Bytes::from(unhex(piece)));
            drain(&mut decoder, &mut out).unwrap();
            let n = n + 1;
            assert_eq!(
                out,
                format!("id: {n}\ndata: token {n} of three\n\n").into_bytes()
            );
        }
        decoder.push(Bytes::from(unhex(BROTLI[3])));
        drain(&mut decoder, &mut Vec::new()).unwrap();
        decoder.finish().unwrap();
    }

    #[cfg(feature = "brotli")]
    #[test]
    fn brotli_comes_out_whole_however_it_is_cut_and_a_cut_end_is_told() {
        let packed = unhex(&BROTLI.concat());
        let whole = unpack("br", &packed, packed.len()).unwrap();
        assert!(whole.ends_with(b"data: token 3 of three\n\n"));
        for cut in [1, 2, 7] {
            assert_eq!(unpack("br", &packed, cut).unwrap(), whole);
        }
        assert!(unpack("br", &packed[..packed.len() - 1], 10).is_err());
        assert!(unpack("br", &[0xff; 64], 10).is_err());
    }

    #[cfg(feature = "brotli")]
    #[test]
    fn a_brotli_bomb_is_refused() {
        // Three million times the same byte, in fourteen.
        let bomb = unhex("9bbfc62df825f0e2b14020cfb705");
        assert!(matches!(
            unpack("br", &bomb, 14),
            Err(ContentError::Bomb { .. })
        ));
    }

    /// A stream of forty events as a hub wrote it, and one as libzstd's own encoder did, flushed after each event.
    #[cfg(feature = "zstd")]
    const ZSTD: [(&str, &str); 2] = [
        (
            "many frames",
            include_str!("../../tests/recorded/zstd-many-frames.hex"),
        ),
        (
            "one frame",
            include_str!("../../tests/recorded/zstd-one-frame.hex"),
        ),
    ];

    /// What the recorded streams say.
    #[cfg(feature = "zstd")]
    fn recorded(n: usize) -> String {
        let token = n * 7919 % 997;
        format!(
            "id: {n}\nevent: token\ndata: {{\"index\":{n},\"delta\":{{\"content\":\" wörd{token}\"}}}}\n\n"
        )
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn each_event_of_a_zstd_stream_comes_out_with_its_flush() {
        for (name, stream) in ZSTD {
            let mut decoder = decoder("zstd").unwrap();
            for (n, piece) in stream.lines().enumerate() {
                let mut out = Vec::new();
                decoder.push(Bytes::from(unhex(piece)));
                drain(&mut decoder, &mut out).unwrap();
                let expected = if n < 40 { recorded(n) } else { String::new() };
                assert_eq!(out, expected.into_bytes(), "{name} {n}");
            }
            decoder.finish().unwrap();
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_comes_out_whole_however_it_is_cut() {
        let text: String = (0..40).map(recorded).collect();
        for (name, stream) in ZSTD {
            let packed: Vec<u8> = stream.lines().flat_map(unhex).collect();
            for cut in [1, 3, 100, usize::MAX] {
                let unpacked = unpack("zstd", &packed, cut).unwrap();
                assert_eq!(unpacked, text.as_bytes(), "{name} {cut}");
            }
            let cut_short = unpack("zstd", &packed[..packed.len() - 1], 10);
            assert_eq!(
                cut_short,
                Err(ContentError::CutShort { coding: "zstd" }),
                "{name}"
            );
        }
        assert_eq!(
            unpack("zstd", b"this is not zstd", 10),
            Err(ContentError::Damaged { coding: "zstd" })
        );
    }

    /// A frame of one block of `bytes` equal bytes, which is stored (raw) or only says how often (RLE).
    #[cfg(feature = "zstd")]
    fn zstd_frame(kind: u32, bytes: usize) -> Vec<u8> {
        const RAW: u32 = 0;
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
        let head = (u32::try_from(bytes).expect("a small frame") << 3) | (kind << 1) | 1;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.resize(frame.len() + if kind == RAW { bytes } else { 1 }, b'r');
        frame
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_frames_behind_each_other_are_one_stream_and_may_end_in_an_empty_block() {
        const FRAME_END: [u8; 3] = [1, 0, 0];
        let recorded_text = recorded(0);
        let begun = unhex(ZSTD[1].1.lines().next().unwrap());
        let (mut packed, mut text) = (Vec::new(), Vec::new());
        for round in 0..20 {
            // A frame that was flushed, and ended later by an empty block, as a hub does it for many readers.
            packed.extend_from_slice(&begun);
            packed.extend_from_slice(&FRAME_END);
            text.extend_from_slice(recorded_text.as_bytes());
            // A frame of one raw block, sometimes as large as one step of the decoder.
            let bytes = if round % 10 == 0 { STEP_BYTES } else { 100 };
            packed.extend(zstd_frame(0, bytes));
            text.resize(text.len() + bytes, b'r');
        }
        for cut in [7, 1000, usize::MAX] {
            assert_eq!(unpack("zstd", &packed, cut).unwrap(), text, "{cut}");
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_bomb_is_refused() {
        let bomb = zstd_frame(1, 64 * 1024).repeat(100);
        assert!(matches!(
            unpack("zstd", &bomb, 100),
            Err(ContentError::Bomb { .. })
        ));
    }
}
