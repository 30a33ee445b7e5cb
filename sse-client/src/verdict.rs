//! What a response head means for the stream.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};

use crate::redirect::is_redirect;

/// How strictly the client follows the browsers' `EventSource`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Temporary refusals (408, 425, 429, 500, 502, 503, 504) are tried again under the
    /// [`ReconnectPolicy`](crate::ReconnectPolicy), `Retry-After` as a lower bound. The default.
    #[default]
    Resilient,
    /// As the standard has it: any status but 200, and any type but `text/event-stream`, fails the
    /// connection for good. Broken connections and refused connects are still tried again.
    Standard,
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Read the stream.
    Open,
    /// 204: the server asks the client not to reconnect.
    NoContent,
    /// Follow it, if the policy allows.
    Redirect,
    /// 200 with another type than wanted.
    WrongType,
    /// Any other status.
    Refused(Remedy),
}

/// What may help after a refusal or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: the next attempt would end the same way, or would do harm.
    None,
    /// To wait and try again.
    Wait,
    /// New credentials, once; without them the same as `None`.
    Refresh,
}

/// Judges a response head; `wanted` is the media type that opens the stream, in lower case.
pub(crate) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    wanted: &str,
    mode: Mode,
    method: &Method,
) -> Verdict {
    match status.as_u16() {
        200 if essence(headers).as_deref() == Some(wanted) => Verdict::Open,
        200 => Verdict::WrongType,
        204 => Verdict::NoContent,
        _ if is_redirect(status) => Verdict::Redirect,
        401 | 403 => Verdict::Refused(Remedy::Refresh),
        // These say that the request was not carried out, so that even a POST may be sent again.
        408 | 425 | 429 | 503 if mode == Mode::Resilient => Verdict::Refused(Remedy::Wait),
        500 | 502 | 504 if mode == Mode::Resilient && is_repeatable(method) => {
            Verdict::Refused(Remedy::Wait)
        }
        _ => Verdict::Refused(Remedy::None),
    }
}

/// What may be done about a refusal that was told within a stream; its sender says that nothing was carried out.
/// In the standard mode a stream that ends is always followed by another attempt.
pub(crate) fn judge_in_band(status: StatusCode, mode: Mode) -> Remedy {
    let is_temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    if is_temporary || mode == Mode::Standard {
        Remedy::Wait
    } else {
        Remedy::None
    }
}

/// Whether a request may be sent again although the first one may have been carried out
/// (RFC 9110 §9.2.2: the idempotent methods).
pub(crate) fn is_repeatable(method: &Method) -> bool {
    method.is_idempotent()
}

/// The media type without its parameters, lower case. Of several headers the last one counts, as in the
/// Fetch standard's "extract a MIME type".
pub(crate) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers
        .get_all(CONTENT_TYPE)
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use sse_protocol::media::EVENT_STREAM;

    fn verdict(status: u16, media: Option<&'static str>, mode: Mode) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(media) = media {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        }
        judge(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            EVENT_STREAM,
            mode,
            &Method::GET,
        )
    }

    #[test]
    fn only_200_with_the_exact_essence_opens_the_stream() {
        for good in [
            "text/event-stream",
            "TEXT/Event-Stream",
            "text/event-stream;",
            "text/event-stream ; charset=latin1",
        ] {
            assert_eq!(
                verdict(200, Some(good), Mode::Standard),
                Verdict::Open,
                "{good}"
            );
        }
        for bad in [
            "text/event-streamX",
            "text/html",
            "text/event-stream, text/html",
            "",
        ] {
            assert_eq!(
                verdict(200, Some(bad), Mode::Standard),
                Verdict::WrongType,
                "{bad}"
            );
        }
        assert_eq!(verdict(200, None, Mode::Resilient), Verdict::WrongType);
        for status in [201, 205, 206, 299, 304, 300, 404, 410, 501] {
            for mode in [Mode::Standard, Mode::Resilient] {
                let refused = Verdict::Refused(Remedy::None);
                assert_eq!(
                    verdict(status, Some("text/event-stream"), mode),
                    refused,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn temporary_refusals_are_tried_again_only_in_the_resilient_mode() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(
                verdict(status, None, Mode::Resilient),
                Verdict::Refused(Remedy::Wait),
                "{status}"
            );
            assert_eq!(
                verdict(status, None, Mode::Standard),
                Verdict::Refused(Remedy::None),
                "{status}"
            );
        }
        for status in [401, 403] {
            assert_eq!(
                verdict(status, None, Mode::Standard),
                Verdict::Refused(Remedy::Refresh)
            );
        }
        assert_eq!(verdict(204, None, Mode::Standard), Verdict::NoContent);
        assert_eq!(verdict(308, None, Mode::Standard), Verdict::Redirect);
    }

    #[test]
    fn a_refusal_within_a_stream_is_final_only_if_waiting_does_not_help() {
        for (status, in_resilient) in [
            (503, Remedy::Wait),
            (507, Remedy::Wait),
            (429, Remedy::Wait),
            (410, Remedy::None),
            (403, Remedy::None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge_in_band(status, Mode::Resilient), in_resilient);
            assert_eq!(judge_in_band(status, Mode::Standard), Remedy::Wait);
        }
    }

    #[test]
    fn a_post_is_repeated_only_after_an_answer_that_says_it_was_not_carried_out() {
        let judge = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            judge(
                status,
                &HeaderMap::new(),
                EVENT_STREAM,
                Mode::Resilient,
                &Method::POST,
            )
        };
        assert_eq!(judge(503), Verdict::Refused(Remedy::Wait));
        assert_eq!(judge(429), Verdict::Refused(Remedy::Wait));
        assert_eq!(judge(500), Verdict::Refused(Remedy::None));
        assert_eq!(judge(504), Verdict::Refused(Remedy::None));
    }
}
