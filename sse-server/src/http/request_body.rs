//! Reading a request's body, within bounds of size and time.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::problem::Problem;
use crate::access::budget::{NoMemory, Permit};
use crate::units::Quoted;

/// Reads a body of at most `max_bytes`, as far as the permit can grow: it is for what has arrived, and not for what was
/// announced. Where memory is short, a body that stands still gives way.
pub(super) async fn read<B>(
    body: B,
    headers: &HeaderMap,
    max_bytes: usize,
    permit: &mut Permit,
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
            format!(
                "the body is encoded as {}; send it without a Content-Encoding",
                Quoted(&String::from_utf8_lossy(coding.as_bytes()))
            ),
        ));
    }
    // First for what hyper holds of it at once: until then it reads nothing.
    let at_once = length.map_or(PIECES_BYTES, |length| {
        usize::try_from(length).map_or(PIECES_BYTES, |length| length.min(PIECES_BYTES))
    });
    permit.grow(at_once).await?;
    let collected = tokio::time::timeout(BODY_TIMEOUT, collect(body, max_bytes, permit)).await;
    permit.shrink_by(at_once);
    match collected {
        Ok(Ok(collected)) => {
            let mut body = Bytes::from(collected);
            // Editors and shells of some systems put a byte order mark before text.
            if body.starts_with(BYTE_ORDER_MARK) {
                body.advance(BYTE_ORDER_MARK.len());
            }
            Ok(body)
        }
        Ok(Err(Unread::TooLarge)) => Err(too_large()),
        Ok(Err(Unread::NoMemory(error))) => Err(error.into()),
        Ok(Err(Unread::Broken(error))) => Err(Problem::bad_request(format!(
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

/// Why a body was not read.
enum Unread {
    TooLarge,
    NoMemory(NoMemory),
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

async fn collect<B>(body: B, max_bytes: usize, permit: &mut Permit) -> Result<Vec<u8>, Unread>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut collected: Vec<u8> = Vec::new();
    loop {
        let Ok(frame) = tokio::time::timeout(STANDSTILL, body.frame()).await else {
            permit.check_not_short().map_err(Unread::NoMemory)?;
            continue;
        };
        let Some(frame) = frame else {
            return Ok(collected);
        };
        let Ok(mut data) = frame
            .map_err(|error| Unread::Broken(error.into()))?
            .into_data()
        else {
            continue;
        };
        let length = collected.len() + data.remaining();
        if length > max_bytes {
            return Err(Unread::TooLarge);
        }
        if length > collected.capacity() {
            // Twice as much each time, but never more than there may be.
            let capacity = length.max(2 * collected.capacity()).min(max_bytes);
            permit
                .grow(capacity - collected.capacity())
                .await
                .map_err(Unread::NoMemory)?;
            collected.reserve_exact(capacity - collected.len());
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            collected.extend_from_slice(chunk);
            let taken = chunk.len();
            data.advance(taken);
        }
    }
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// What hyper may hold of a body: the piece that it gave, and the next one.
const PIECES_BYTES: usize = 32 << 10;
/// A body of which nothing has come for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How long a body may take to arrive. A stated guess: 4 MiB over a slow mobile line.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
