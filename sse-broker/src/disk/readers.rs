//! The few threads that read the log.
//!
//! They are few on purpose: they are how much replay may take from live traffic.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::panics::caught;
use crate::ReadError;
use crate::broker::BoxFuture;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that read.
pub(super) struct Readers {
    shared: Arc<Shared>,
    /// One for each read that waits or runs. Who finds none waits for it in its own future.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_over: bool,
}

/// How much lower their priority is. With as much as this, one that wants a processor gets a tenth of it beside a thread that wants it
/// too.
#[cfg(target_os = "linux")]
const READERS_NICENESS: i32 = 10;
/// How many reads may wait for a thread.
const MAX_WAITING: usize = 64;

impl Readers {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let readers = Self {
            shared,
            permits: Arc::new(Semaphore::new(MAX_WAITING)),
        };
        for n in 0..threads.max(1) {
            let shared = Arc::clone(&readers.shared);
            std::thread::Builder::new()
                .name(format!("sse-log-read-{n}"))
                .spawn(move || {
                    give_way();
                    work(&shared);
                })?;
        }
        Ok(readers)
    }

    /// Runs `read` on one of the threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ReadError>> {
        let shared = Arc::clone(&self.shared);
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| ReadError::Closed)?;
            let (answer, answered) = oneshot::channel();
            let job: Job = Box::new(move || {
                let _permit = permit;
                if !answer.is_closed() {
                    let _ = answer.send(caught(read, |reason| ReadError::Storage {
                        reason: reason.into(),
                    }));
                }
            });
            {
                let mut jobs = shared.jobs.lock();
                if jobs.is_over {
                    return Err(ReadError::Closed);
                }
                jobs.waiting.push_back(job);
            }
            shared.changed.notify_one();
            answered.await.unwrap_or(Err(ReadError::Closed))
        })
    }
}

/// Where processors are short, live traffic and commits go before replays.
fn give_way() {
    // Elsewhere than on Linux a priority is the whole process's. Without it, replays only cost the others more.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(READERS_NICENESS);
}

impl Drop for Readers {
    fn drop(&mut self) {
        let waiting = {
            let mut jobs = self.shared.jobs.lock();
            jobs.is_over = true;
            std::mem::take(&mut jobs.waiting)
        };
        self.shared.changed.notify_all();
        drop(waiting);
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut jobs = shared.jobs.lock();
            loop {
                if let Some(job) = jobs.waiting.pop_front() {
                    break job;
                }
                if jobs.is_over {
                    return;
                }
                shared.changed.wait(&mut jobs);
            }
        };
        job();
    }
}
