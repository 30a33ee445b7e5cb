//! What clap says of a wrong value, as one sentence that names the option.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// `--heartbeat: "soon" is not a valid duration; write it like …`; `None` when it is not a value that is wrong.
#[must_use]
pub fn explain(error: &Error) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let option = context(ContextKind::InvalidArg)?;
    let option = option.split([' ', '[', '=']).next().unwrap_or(option);
    match error.kind() {
        ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue)?;
            let reason = error.source()?.to_string();
            // Our own types speak of the value themselves.
            Some(if reason.starts_with('"') {
                format!("{option}: {reason}")
            } else {
                format!("{option}: {value:?} is not valid: {reason}")
            })
        }
        ErrorKind::InvalidValue => {
            let value = context(ContextKind::InvalidValue)?;
            let Some(ContextValue::Strings(possible)) = error.get(ContextKind::ValidValue) else {
                return None;
            };
            let possible = possible.join(" or ");
            Some(match (value.is_empty(), possible.is_empty()) {
                (true, true) => format!("{option} needs a value"),
                (true, false) => format!("{option} needs a value: {possible}"),
                (false, _) => format!("{option}: {value:?} is not possible; write {possible}"),
            })
        }
        ErrorKind::ArgumentConflict => Some(format!("{option} takes one value")),
        _ => None,
    }
}
