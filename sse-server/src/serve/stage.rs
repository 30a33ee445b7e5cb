//! How far the server is, from its start to its end.

use tokio::sync::watch;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    /// Nothing new is taken; streams and requests end.
    Draining,
    /// The time for that is over: what is left is cut.
    Over,
}

/// Waits until the server is so far. A server that is gone is at every stage.
pub(super) async fn reached(stage: &mut watch::Receiver<Stage>, at_least: Stage) {
    let _ = stage.wait_for(|stage| *stage >= at_least).await;
}
