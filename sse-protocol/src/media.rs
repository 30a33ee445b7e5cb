//! The media type of an event stream.

/// The value of the `Content-Type` header of an event stream. Its only encoding is UTF-8, so it needs no
/// `charset`.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether a `Content-Type` header's value says that the body is an event stream.
///
/// Compares the MIME essence, without regard to case; parameters and a trailing `;` are allowed and
/// ignored (a `charset` changes nothing: the stream is UTF-8).
///
/// ```
/// # use sse_protocol::is_event_stream;
/// assert!(is_event_stream("Text/Event-Stream; charset=utf-8"));
/// assert!(!is_event_stream("text/event-streamX"));
/// ```
#[must_use]
pub fn is_event_stream(content_type: &str) -> bool {
    // "MIME Sniffing", parse a MIME type: leading and trailing HTTP whitespace is stripped, the subtype
    // ends at the first `;` and loses its trailing whitespace.
    let essence = content_type
        .split_once(';')
        .map_or(content_type, |(essence, _)| essence);
    let is_http_whitespace = |c| matches!(c, ' ' | '\t' | '\r' | '\n');
    essence
        .trim_matches(is_http_whitespace)
        .eq_ignore_ascii_case(EVENT_STREAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        for good in [
            "text/event-stream",
            "TEXT/EVENT-STREAM",
            "text/event-stream;",
            "text/event-stream ;charset=windows-1251",
            " text/event-stream; charset=utf-8; x=y",
        ] {
            assert!(is_event_stream(good), "{good:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            ";",
            "text/event-streamX",
            "xtext/event-stream",
            "text/html",
            "text / event-stream",
            "text/event-stream, text/html",
            "application/json; text/event-stream",
        ] {
            assert!(!is_event_stream(bad), "{bad:?}");
        }
    }
}
