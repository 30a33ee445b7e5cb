//! An inflater that hands text on when Go's `compress/flate` does, which is later than zlib does.
//!
//! Go's reader collects what it decodes in a window of 32 KiB, and hands it on at three points only: when the window is
//! full, when an empty stored block has come, and at the end of the stream. The end of any other block, also of a stored
//! one, hands on nothing.

/// What a Go program has been sent, and what it has been able to read of it.
#[derive(Debug, Default)]
pub(crate) struct GoInflater {
    has_head: bool,
    text: Vec<u8>,
    handed_on: usize,
}

impl GoInflater {
    /// Takes the next write of a gzip stream. A write of ours ends with a whole block.
    pub(crate) fn feed(&mut self, mut write: &[u8]) {
        if !self.has_head && !write.is_empty() {
            let (head, rest) = write.split_at(10);
            assert_eq!(head[..4], [0x1f, 0x8b, 8, 0], "gzip without extras");
            self.has_head = true;
            write = rest;
        }
        let mut bits = Bits {
            bytes: write,
            at: 0,
        };
        while bits.has_more() {
            if self.block(&mut bits) {
                self.hand_on();
                // What follows is the checksum and the length.
                assert_eq!(bits.rest().len(), 8);
                return;
            }
        }
    }

    /// What the program has been able to read so far.
    pub(crate) fn handed_on(&self) -> &[u8] {
        &self.text[..self.handed_on]
    }

    /// Decodes one block; whether it is the last.
    fn block(&mut self, bits: &mut Bits<'_>) -> bool {
        let is_last = bits.take(1) == 1;
        match bits.take(2) {
            0 => {
                let rest = bits.rest();
                let len = u16::from_le_bytes([rest[0], rest[1]]);
                assert_eq!(!len, u16::from_le_bytes([rest[2], rest[3]]));
                let len = usize::from(len);
                self.push(&rest[4..4 + len]);
                bits.at += 8 * (4 + len);
                if len == 0 {
                    self.hand_on();
                }
            }
            1 => {
                let mut lengths = [8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                self.symbols(bits, &Code::new(&lengths), &Code::new(&[5; 30]));
            }
            2 => {
                let (literals, distances) = dynamic_codes(bits);
                self.symbols(bits, &literals, &distances);
            }
            other => panic!("a block of type {other}"),
        }
        is_last
    }

    fn symbols(&mut self, bits: &mut Bits<'_>, literals: &Code, distances: &Code) {
        loop {
            match literals.next(bits) {
                literal @ 0..256 => self.push(&[literal as u8]),
                256 => return,
                length => {
                    let (base, extra) = LENGTHS[length - 257];
                    let length = base + bits.take(extra);
                    let (base, extra) = DISTANCES[distances.next(bits)];
                    let distance = base + bits.take(extra);
                    for _ in 0..length {
                        self.push(&[self.text[self.text.len() - distance]]);
                    }
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let filled = self.text.len() - self.text.len() % GO_WINDOW_BYTES;
        self.handed_on = self.handed_on.max(filled);
    }

    fn hand_on(&mut self) {
        self.handed_on = self.text.len();
    }
}

/// Bits of a write, from the lowest of the first byte on.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn has_more(&self) -> bool {
        self.at.div_ceil(8) < self.bytes.len()
    }

    fn bit(&mut self) -> usize {
        let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        bit.into()
    }

    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |sum, index| sum | self.bit() << index)
    }

    /// What follows from the next byte boundary on.
    fn rest(&mut self) -> &'a [u8] {
        self.at = self.at.next_multiple_of(8);
        &self.bytes[self.at / 8..]
    }
}

/// A Huffman code (RFC 1951, section 3.2.2): how many symbols have each length, and the symbols in the order of their codes.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        for &length in lengths.iter().filter(|&&length| length > 0) {
            counts[length] += 1;
        }
        let mut symbols: Vec<usize> = (0..lengths.len())
            .filter(|&symbol| lengths[symbol] > 0)
            .collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn next(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code = code << 1 | bits.bit();
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
        }
        panic!("no code begins like this")
    }
}

/// The codes that a block brings with it (RFC 1951, section 3.2.7).
fn dynamic_codes(bits: &mut Bits<'_>) -> (Code, Code) {
    let (literals, distances) = (bits.take(5) + 257, bits.take(5) + 1);
    let mut lengths = [0; 19];
    for &place in &CODE_LENGTH_ORDER[..bits.take(4) + 4] {
        lengths[place] = bits.take(3);
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.next(bits) {
            16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let (literals, distances) = lengths.split_at(literals);
    (Code::new(literals), Code::new(distances))
}

/// The base and the extra bits of each length (RFC 1951, section 3.2.5).
const LENGTHS: [(usize, usize); 29] = {
    let mut table = [(258, 0); 29];
    let (mut symbol, mut base) = (0, 3);
    while symbol < 28 {
        let extra = if symbol < 8 { 0 } else { symbol / 4 - 1 };
        table[symbol] = (base, extra);
        base += 1 << extra;
        symbol += 1;
    }
    table
};

/// The same of each distance.
const DISTANCES: [(usize, usize); 30] = {
    let mut table = [(0, 0); 30];
    let (mut symbol, mut base) = (0, 1);
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol / 2 - 1 };
        table[symbol] = (base, extra);
        base += 1 << extra;
        symbol += 1;
    }
    table
};

const CODE_LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

const GO_WINDOW_BYTES: usize = 32 * 1024;
