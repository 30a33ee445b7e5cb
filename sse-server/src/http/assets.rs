//! What a browser loads: the client, the elements, the React hook and the pages, as they stand in `web/`.
//!
//! A release carries the files in itself. A debug build reads them from the folder, so that a page that is worked on is reloaded
//! and there.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::body::Body;
use super::problem::Problem;
use super::request::Request;

#[derive(RustEmbed)]
#[folder = "../web"]
#[include = "client/src/*.js"]
#[include = "elements/*.js"]
#[include = "react/src/*.js"]
#[include = "static/*"]
#[exclude = "*/test/*"]
struct Web;

/// A file of a folder of `web/`. It is asked for anew each time, and sent only if it is another one than the browser has.
pub(super) fn file(
    request: &Request<'_>,
    folder: &str,
    name: &str,
) -> Result<Response<Body>, Problem> {
    let missing = || Problem::not_found(format!("there is no file {name}"));
    let media_type = media_type(name).ok_or_else(missing)?;
    let file = Web::get(&format!("{folder}/{name}")).ok_or_else(missing)?;
    let tag = tag(&file);
    let has_it = request
        .headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|known| is_listed(known, &tag));
    let mut response = match has_it {
        true => {
            let mut unchanged = Response::new(Body::full(""));
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        }
        false => Response::new(Body::full(file.data.into_owned())),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    // An application's page, wherever it is from, may load the client.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    Ok(response)
}

/// By its ending; what has none of these is not served.
fn media_type(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => return None,
    })
}

/// The first half of the content's SHA-256.
fn tag(file: &EmbeddedFile) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let digits: String = hash[..16].iter().map(|it| format!("{it:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).expect("digits may stand in a header")
}

/// Whether `If-None-Match` names a tag. Only its text counts (RFC 9110, section 13.1.2).
fn is_listed(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(known), Ok(tag)) = (known.to_str(), tag.to_str()) else {
        return false;
    };
    known
        .split(',')
        .map(|it| it.trim().trim_start_matches("W/"))
        .any(|it| it == tag)
}

/// No script, style or request but the hub's own; text is never taken for a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
