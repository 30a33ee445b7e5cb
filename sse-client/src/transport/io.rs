//! What a connection's bytes go through, and the causes of its failures.

use std::error::Error as StdError;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Cause;

/// Anything bytes go through.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) fn cause(error: impl StdError + Send + Sync + 'static) -> Cause {
    Arc::new(error)
}

pub(super) fn text(message: String) -> Cause {
    Arc::from(Box::<dyn StdError + Send + Sync>::from(message))
}
