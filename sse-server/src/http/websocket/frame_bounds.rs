//! Where the frames of a WebSocket end (RFC 6455, section 5.2). It reads no more of them than that: what they mean is the library's.

/// Follows the bytes of a client, frame by frame.
#[derive(Clone, Debug, Default)]
pub(super) struct FrameBounds {
    head: [u8; 2],
    /// Of the extended length, as far as it has come.
    length: u64,
    /// How many bytes of the head have come, and how many it has; as long as there are fewer than two, the second is unknown.
    head_read: usize,
    payload_left: u64,
}

impl FrameBounds {
    /// Some bytes have come.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let taken = usize::try_from(self.payload_left)
                    .map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.read_head(*first);
            bytes = rest;
        }
    }

    fn read_head(&mut self, byte: u8) {
        match self.head_read {
            at @ 0..=1 => self.head[at] = byte,
            at if at < 2 + self.length_bytes() => self.length = self.length << 8 | u64::from(byte),
            // The mask.
            _ => {}
        }
        self.head_read += 1;
        if self.head_read == self.head_bytes() {
            self.payload_left = match self.length_bytes() {
                0 => u64::from(self.head[1] & LENGTH),
                _ => self.length,
            };
            self.length = 0;
            self.head_read = 0;
        }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head_read == 0 && self.payload_left == 0
    }

    /// What is left of the payload that is on its way.
    pub(super) fn payload_left(&self) -> u64 {
        self.payload_left
    }

    /// So many bytes surely belong to the frame that is on its way, or begin the next one.
    pub(super) fn bytes_of_frame(&self) -> u64 {
        match self.payload_left {
            0 => (self.head_bytes() - self.head_read) as u64,
            left => left,
        }
    }

    /// How long the head is, as far as that is known.
    fn head_bytes(&self) -> usize {
        if self.head_read < 2 {
            return 2;
        }
        let mask_bytes = match self.head[1] & IS_MASKED {
            0 => 0,
            _ => 4,
        };
        2 + self.length_bytes() + mask_bytes
    }

    fn length_bytes(&self) -> usize {
        match self.head[1] & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }
}

const IS_MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;

    /// A frame as the library writes it.
    fn frame(length: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut frame = Frame::message(vec![7; length], OpCode::Data(Data::Binary), false);
        frame.header_mut().mask = mask;
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![
            0_usize..300,
            Just(125),
            Just(126),
            Just(65_535),
            Just(65_536),
            60_000_usize..70_000
        ]
    }

    proptest! {
        #[test]
        fn it_finds_the_ends_of_the_librarys_frames_however_they_are_cut(
            frames in prop::collection::vec((length(), any::<Option<[u8; 4]>>()), 1..6),
            cuts in prop::collection::vec(1_usize..5_000, 1..20),
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for (length, mask) in frames {
                bytes.extend(frame(length, mask));
                ends.push(bytes.len());
            }
            let mut bounds = FrameBounds::default();
            let mut cuts = cuts.iter().cycle();
            let mut at = 0;
            while at < bytes.len() {
                let to = bytes.len().min(at + cuts.next().unwrap());
                bounds.read(&bytes[at..to]);
                at = to;
                prop_assert_eq!(bounds.is_between_frames(), ends.contains(&at), "at {}", at);
                let next_end = ends.iter().find(|end| **end > at).copied();
                let sure = usize::try_from(bounds.bytes_of_frame()).unwrap();
                if let Some(next_end) = next_end {
                    prop_assert!(at + sure <= next_end, "{} and {} more are past {}", at, sure, next_end);
                }
            }
            // Whoever reads no more than is sure stops at each end.
            let mut bounds = FrameBounds::default();
            let mut seen = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let to = at + usize::try_from(bounds.bytes_of_frame()).unwrap();
                bounds.read(&bytes[at..to]);
                at = to;
                if bounds.is_between_frames() {
                    seen.push(at);
                }
            }
            prop_assert_eq!(seen, ends);
        }
    }
}
