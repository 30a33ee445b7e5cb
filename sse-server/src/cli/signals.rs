//! The signals of a service. INT, TERM and QUIT end it, HUP reads the configuration and the certificate again, and no other ends it.

use std::future::Future;
use std::io::{self, Write as _};

/// SIGHUP, of which each asks for the configuration to be read again.
#[cfg(unix)]
pub(crate) struct Hangups(tokio::signal::unix::Signal);

/// Handles the signals that do not end the server, from now on until the runtime ends. Each of them would end a process
/// that knows nothing of it.
#[cfg(unix)]
pub(crate) fn handle_others() -> io::Result<Hangups> {
    use tokio::signal::unix::{SignalKind, signal};

    let users = [
        ("SIGUSR1", SignalKind::user_defined1()),
        ("SIGUSR2", SignalKind::user_defined2()),
    ];
    for (name, kind) in users {
        let mut user = signal(kind)?;
        tokio::spawn(async move {
            while user.recv().await.is_some() {
                tracing::info!("{name} means nothing here");
            }
        });
    }
    Ok(Hangups(signal(SignalKind::hangup())?))
}

#[cfg(unix)]
impl Hangups {
    /// Does this for each of them, also for one that has come already.
    pub(crate) fn each(mut self, mut act: impl FnMut() + Send + 'static) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                act();
            }
        });
    }
}

/// Elsewhere there are no such signals.
#[cfg(not(unix))]
pub(crate) struct Hangups;

#[cfg(not(unix))]
pub(crate) fn handle_others() -> io::Result<Hangups> {
    Ok(Hangups)
}

#[cfg(not(unix))]
impl Hangups {
    pub(crate) fn each(self, _act: impl FnMut() + Send + 'static) {}
}

/// The signals that end the server: the first lets it drain, the second does not wait.
pub(crate) struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 3],
}

#[cfg(unix)]
impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::quit())?,
            ],
        })
    }

    /// Done with the first of them.
    pub(crate) async fn asked(mut self) {
        self.one().await;
        tokio::spawn(async move {
            self.one().await;
            let _ = writeln!(io::stderr(), "stopped at once");
            std::process::exit(130);
        });
    }

    fn one(&mut self) -> impl Future<Output = ()> {
        std::future::poll_fn(|cx| {
            let is_there =
                |signal: &mut tokio::signal::unix::Signal| signal.poll_recv(cx).is_ready();
            if self.signals.iter_mut().any(is_there) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
    }
}

#[cfg(not(unix))]
impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Done with Ctrl-C.
    pub(crate) async fn asked(self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
