//! Ctrl-C and SIGTERM.

use std::time::Duration;

use tokio::sync::watch;

/// Tells when the user wants to stop.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Begins to listen. When the program has not ended a moment after it was asked to, for example because
    /// the reader of its output does not read, it is ended.
    pub(crate) fn listen() -> Self {
        let (sender, asked) = watch::channel(false);
        tokio::spawn(async move {
            wait_for_signal().await;
            let _ = sender.send(true);
            tokio::select! {
                () = wait_for_signal() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                () = sender.closed() => return,
            }
            std::process::exit(130);
        });
        Self { asked }
    }

    /// Completes when the user has asked; never, when signals cannot be heard.
    pub(crate) async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

const PATIENCE: Duration = Duration::from_secs(2);
