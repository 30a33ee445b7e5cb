//! Reading a request's body, within bounds of size and time.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::Problem;

/// Reads a body of at most `max_bytes`.
pub(super) async fn read<B>(
    body: B,
    headers: &HeaderMap,
    max_bytes: usize,
) -> Result<Bytes, Problem>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body may have {max_bytes} bytes at most"),
        )
    };
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    if let Some(coding) = headers
        .get(header::CONTENT_ENCODING)
        .filter(|coding| *coding != "identity")
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body is encoded as {coding:?}; send it without a Content-Encoding"),
        ));
    }
    let body = std::pin::pin!(Limited::new(body, max_bytes));
    match tokio::time::timeout(BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(collected)) => {
            let mut buffer = collected.aggregate();
            let mut body = buffer.copy_to_bytes(buffer.remaining());
            // Editors and shells of some systems put a byte order mark before text.
            if body.starts_with(BYTE_ORDER_MARK) {
                body.advance(BYTE_ORDER_MARK.len());
            }
            Ok(body)
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::bad_request(format!(
            "the body could not be read: {error}"
        ))),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the body did not arrive within {} seconds",
                BODY_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// How long a body may take to arrive. A stated guess: 4 MiB over a slow mobile line.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
