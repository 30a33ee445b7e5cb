//! The checksum of a joined text from the checksums of its parts.
//!
//! A reader of a cohort ends with the checksum of all that it was sent. Computing it byte by byte would cost each
//! reader a pass over every event. With these two functions it costs nothing until the end: the cohort keeps one running
//! checksum, a reader remembers where it came in and where it is, and the difference is worked out when it leaves.

/// The CRC-32 polynomial of gzip (RFC 1952, section 8), bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// `X_POWERS[n]` is x^(2^n) modulo the polynomial; 32 entries suffice, as x^(2^32) = x.
const X_POWERS: [u32; 32] = {
    let mut table = [0; 32];
    let mut power = 1 << 30; // x, since bit 31 is x^0
    let mut n = 0;
    while n < 32 {
        table[n] = power;
        power = multiply(power, power);
        n += 1;
    }
    table
};

/// The checksum of `A` followed by `B`, from those of `A` and `B` and the length of `B`.
pub(crate) fn combine(a: u32, b: u32, b_len: u64) -> u32 {
    shift(a, b_len) ^ b
}

/// The checksum of `B`, from those of `A` and of `A` followed by `B`, and the length of `B`.
pub(crate) fn difference(a: u32, a_and_b: u32, b_len: u64) -> u32 {
    shift(a, b_len) ^ a_and_b
}

/// What `crc` contributes to a checksum when `len` bytes follow: `crc` times x^(8 len).
fn shift(crc: u32, len: u64) -> u32 {
    let mut factor = 1 << 31; // x^0
    let mut bits = len;
    let mut n = 3; // a byte is 2^3 bits
    while bits != 0 {
        if bits & 1 != 0 {
            factor = multiply(X_POWERS[n & 31], factor);
        }
        bits >>= 1;
        n += 1;
    }
    multiply(factor, crc)
}

/// The product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 != 0 {
            (b >> 1) ^ POLYNOMIAL
        } else {
            b >> 1
        };
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Crc;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    proptest! {
        #[test]
        fn the_parts_and_the_whole_agree(a: Vec<u8>, b: Vec<u8>) {
            let whole = [a.as_slice(), &b].concat();
            prop_assert_eq!(combine(of(&a), of(&b), b.len() as u64), of(&whole));
            prop_assert_eq!(difference(of(&a), of(&whole), b.len() as u64), of(&b));
        }
    }

    #[test]
    fn lengths_beyond_32_bits_are_not_cut_off() {
        // A shift by n and then by m is a shift by n + m, also past 2^32.
        let crc = of(b"a long-lived stream");
        assert_eq!(
            shift(shift(crc, 3_000_000_000), 3_000_000_000),
            shift(crc, 6_000_000_000)
        );
        assert_ne!(
            shift(crc, 6_000_000_000),
            shift(crc, 6_000_000_000 & 0xffff_ffff)
        );
    }
}
