//! Heads that are larger than any request needs, and bodies behind which a connection ends.

use http::{Request, StatusCode, Version, header};

use super::problem::Problem;

/// Refuses them. What stands here has been parsed; what cannot be parsed at all, hyper refuses.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.len() > MAX_HEADERS {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!(
                "the request has {} headers, and {MAX_HEADERS} are taken",
                headers.len()
            ),
        ));
    }
    let target = request.uri().path_and_query();
    let bytes = target.map_or(0, |target| target.as_str().len());
    if bytes > MAX_TARGET_BYTES {
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            format!("the request's target has {bytes} bytes, and {MAX_TARGET_BYTES} are taken"),
        ));
    }
    Ok(())
}

/// Whether the connection ends with the answer: behind a body in chunks. hyper goes by `Transfer-Encoding` where a
/// `Content-Length` stands beside it, and does not show that one. RFC 9112, section 6.1, lets a server do so if it closes the
/// connection then, so that nothing behind the body is taken for a request.
pub(super) fn closes<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Headers of one request. Browsers send twenty, and proxies add some. Over HTTP/1, hyper takes as many.
const MAX_HEADERS: usize = 100;
/// Bytes of a path and its query. Over HTTP/1, hyper takes 16 KiB of a head in all.
const MAX_TARGET_BYTES: usize = 14 << 10;
