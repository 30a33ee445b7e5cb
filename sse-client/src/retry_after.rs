//! The `Retry-After` header: seconds or a date.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// Reads `Retry-After` as a delay from `now`; `None` when it is absent or malformed.
///
/// RFC 9110 §10.2.3 allows a number of seconds and an HTTP date in any of its three forms. A date in the
/// past means "now", that is a delay of zero. More digits than fit saturate.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(value: &str, now: u64) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn seconds_and_dates_are_understood_and_nonsense_is_not() {
        assert_eq!(read("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(read(" 7 ", 0), Some(Duration::from_secs(7)));
        assert_eq!(
            read("99999999999999999999999", 0),
            Some(Duration::from_secs(u64::MAX))
        );
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read(date, 784_111_777 - 30), Some(Duration::from_secs(30)));
        assert_eq!(read(date, 784_111_777 + 30), Some(Duration::ZERO));
        for nonsense in ["", "-1", "1.5", "+3", "soon", "12s"] {
            assert_eq!(read(nonsense, 0), None, "{nonsense:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::UNIX_EPOCH), None);
    }
}
