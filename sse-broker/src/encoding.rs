//! Numbers and texts as the disk has them, and a record's texts lent without a copy.

/// The bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// Bytes that are read from the front and never beyond their end.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], Damaged> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(array)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(*self.take_array()?))
    }

    /// A LEB128 number.
    pub(crate) fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take_array()?;
            let bits = u64::from(byte & 0x7f);
            if bits > u64::MAX >> shift {
                return Err(Damaged);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        let len = usize::try_from(self.number()?).map_err(|_| Damaged)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Damaged)
    }

    pub(crate) fn texts(&mut self) -> Result<Texts<'a>, Damaged> {
        let count = self.number()?;
        let start = self.0;
        for _ in 0..count {
            self.text()?;
        }
        Ok(Texts {
            count,
            bytes: &start[..start.len() - self.0.len()],
        })
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Texts one after the other, checked when they were taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    count: u64,
    bytes: &'a [u8],
}

impl Texts<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.count = self.count.checked_sub(1)?;
        let mut rest = Rest(self.bytes);
        let text = rest.text().ok()?;
        self.bytes = rest.0;
        Some(text)
    }

    /// What it was said to be, but for a number that would be damage to believe.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        (count.min(64), Some(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_promises_too_much_is_damage_and_costs_no_memory() {
        let mut rest = Vec::new();
        put_number(&mut rest, u64::MAX);
        assert_eq!(Rest(&rest).number(), Ok(u64::MAX));
        assert!(Rest(&rest).texts().is_err());
        assert!(Rest(&rest).text().is_err());
        assert_eq!(Rest(&[0xff; 10]).number(), Err(Damaged));
    }
}
