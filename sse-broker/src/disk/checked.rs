//! Values with a checksum behind them, which covers their key too.

use crate::encoding::Damaged;

/// Bytes with their checksum behind them, for the small values of other tables.
pub(super) fn with_checksum(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 4);
    value.extend_from_slice(bytes);
    value.extend_from_slice(&checksum(key, bytes).to_le_bytes());
    value
}

/// What [`with_checksum`] was given.
pub(super) fn checked<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (bytes, stored) = value.split_last_chunk::<4>().ok_or(Damaged)?;
    if checksum(key, bytes) == u32::from_le_bytes(*stored) {
        Ok(bytes)
    } else {
        Err(Damaged)
    }
}

pub(super) fn checksum(key: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_value_is_whole_and_under_its_own_key() {
        let value = with_checksum(b"job/1", b"state");
        assert_eq!(checked(b"job/1", &value), Ok(&b"state"[..]));
        assert_eq!(checked(b"job/2", &value), Err(Damaged));
        assert_eq!(checked(b"job/1", &value[..3]), Err(Damaged));
    }
}
