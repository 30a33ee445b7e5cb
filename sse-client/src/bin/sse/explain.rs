//! Errors for a person at a terminal: what happened, and what to look at.

use std::error::Error as _;

use sse_client::{Cause, Error};

/// The error on one line, with a hint when there is something that can be done about it.
pub(crate) fn explain(error: &Error) -> String {
    let report = error.report();
    match hint(error) {
        Some(hint) => format!("{report} ({hint})"),
        None => report,
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Connect { .. } if is_refused(error) => "is it running, and on that port?",
        Error::Connect { .. } if error.is_untrusted() => {
            "give the certificate of its authority with --ca-cert or SSE_CA_CERT"
        }
        Error::Connect { .. } | Error::Transport { .. } if is_not_what_was_spoken(error) => {
            "is it an HTTP server, and is http or https right?"
        }
        Error::HeaderTimeout { .. } => "it accepts connections and does not answer",
        Error::Impassable { .. } => {
            "give --max-event a larger size, or skip the event with --last-event-id and the id of a later one"
        }
        Error::ContentType(_) => {
            "the URL is not that of an event stream; a host without a path means its /events"
        }
        Error::Answer { .. } => {
            "the URL is not that of a hub; a host without a path means its /events"
        }
        Error::Status(refusal) => match refusal.status().as_u16() {
            300..=399 => "give the URL that the redirect leads to",
            401 => "give a token with --bearer or SSE_TOKEN",
            403 => "the token given with --bearer or SSE_TOKEN lacks the right",
            404 | 405 => "is the path right? a host without a path means its /events",
            407 => "the proxy needs credentials: http://USER:PASSWORD@PROXY",
            _ => return None,
        },
        _ => return None,
    })
}

fn is_refused(error: &Error) -> bool {
    causes(error).any(|cause| {
        let io: Option<&std::io::Error> = cause.downcast_ref();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// Whether the other side speaks something else: no HTTP, or TLS where we do not, or the other way round.
fn is_not_what_was_spoken(error: &Error) -> bool {
    causes(error).any(|cause| {
        let http: Option<&hyper::Error> = cause.downcast_ref();
        let io: Option<&std::io::Error> = cause.downcast_ref();
        http.is_some_and(hyper::Error::is_parse)
            || io.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
    })
}

/// The causes below `error`, the outermost first, without the `Arc`s that they are shared in.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        let cause = match cause.downcast_ref::<Cause>() {
            Some(shared) => &**shared as &(dyn std::error::Error + 'static),
            None => cause,
        };
        next = cause.source();
        Some(cause)
    })
}
