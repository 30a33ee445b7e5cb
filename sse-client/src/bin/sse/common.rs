//! What all commands share: the URL, credentials, time limits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use sse_client::http::{HeaderMap, HeaderName, HeaderValue};
use sse_client::{Connector, HttpVersion};

use crate::output::Stop;

/// How to reach the server.
#[derive(Args, Clone)]
pub(crate) struct Reach {
    /// Bearer token to send
    #[arg(long, env = "SSE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) bearer: Option<String>,
    /// Header to send, as `Name: value`; may be given several times
    #[arg(long = "header", short = 'H', value_name = "HEADER", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Time limit for connecting, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds, allow_negative_numbers = true)]
    pub(crate) connect_timeout: Duration,
    /// Use no proxy, even if HTTP_PROXY or a similar variable names one
    #[arg(long)]
    pub(crate) no_proxy: bool,
    /// Speak HTTP/2 even without TLS
    #[arg(long)]
    pub(crate) http2: bool,
    /// Trust the certificates in this PEM file (an authority's or the server's own) instead of the platform's
    #[arg(long, env = "SSE_CA_CERT", value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
}

impl Reach {
    /// All headers to send, credentials included.
    pub(crate) fn header_map(&self) -> Result<HeaderMap, Stop> {
        let mut headers: HeaderMap = self.headers.iter().cloned().collect();
        if let Some(token) = &self.bearer {
            let header = sse_client::bearer(token);
            headers.extend(header.map_err(|_| {
                Stop::Usage(
                    "--bearer: the token has characters that a header cannot carry".to_owned(),
                )
            })?);
        }
        Ok(headers)
    }

    pub(crate) fn connector(&self) -> Result<Connector, Stop> {
        let mut builder = Connector::builder().connect_timeout(self.connect_timeout);
        if self.no_proxy {
            builder = builder.no_proxy();
        }
        if self.http2 {
            builder = builder.version(HttpVersion::Http2);
        }
        if let Some(path) = &self.ca_cert {
            builder = builder.tls(trusting(path).map_err(Stop::Because)?);
        }
        Ok(builder.build())
    }
}

/// What trusts the certificates in this file and no others.
fn trusting(path: &Path) -> Result<Arc<ClientConfig>, String> {
    let pem = std::fs::read(path)
        .map_err(|error| format!("cannot read the certificate {}: {error}", path.display()))?;
    let unusable = |error: &dyn std::fmt::Display| {
        format!(
            "{} cannot be used as a certificate: {error}",
            path.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"it has no -----BEGIN CERTIFICATE-----"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The URL of the hub's events: `localhost:8080` and `http://localhost:8080` mean its `/events`; a URL with a
/// path, be it `/`, is taken as it is.
pub(crate) fn events_url(text: &str) -> Result<String, Stop> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = sse_client::Url::parse(&text)
        .map_err(|error| Stop::Usage(format!("{text:?} is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Stop::Usage(format!("{text:?} is not an http or https URL")));
    }
    let after_scheme = text.split_once("://").map_or("", |(_, rest)| rest);
    if after_scheme.contains('/') || url.path() != "/" {
        return Ok(text);
    }
    let mut url = url;
    url.set_path("/events");
    Ok(url.into())
}

/// Seconds, with a fraction if need be.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a valid number of seconds".to_owned())
}

/// Bytes; `K` and `M` stand for 1024 and 1024² of them.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1024 * 1024),
            None => (text, 1),
        },
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "not a number of bytes, such as 500000, 512K or 64M".to_owned())?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not a size that an event can have".to_owned())
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("it has no colon; write it as `Name: value`")?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("{name:?} is not a header name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value has characters that a header cannot carry".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_means_its_events() {
        for (given, meant) in [
            ("localhost:8080", "http://localhost:8080/events"),
            ("http://hub", "http://hub/events"),
            ("http://hub?topic=a", "http://hub/events?topic=a"),
            ("http://hub/", "http://hub/"),
            ("https://hub/v1/stream?x=1", "https://hub/v1/stream?x=1"),
            ("127.0.0.1:80/sse", "http://127.0.0.1:80/sse"),
        ] {
            assert_eq!(
                events_url(given).map_err(|_| ()),
                Ok(meant.to_owned()),
                "{given}"
            );
        }
    }

    #[test]
    fn bytes_may_have_a_unit() {
        for (given, meant) in [("1", 1), ("512K", 512 << 10), ("64m", 64 << 20)] {
            assert_eq!(parse_bytes(given), Ok(meant));
        }
        for bad in ["", "0", "-1", "1.5M", "M", "64MB", "99999999999999999999"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_but_no_sign() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["-1", "x", "inf", "NaN", ""] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
