//! The memory broker keeps the contract.

use std::sync::Arc;

use sse_broker::{
    AppendError, Bounds, Broker, MemoryBroker, MemoryConfig, Record, Retention, Tail,
};

use crate::contract::{Backend, EPOCH, Reopened, contract};
use crate::support::*;

struct Memory(Arc<MemoryBroker>);

impl Backend for Memory {
    fn new(retention: Retention) -> Self {
        let config = MemoryConfig {
            epoch: EPOCH,
            retention,
            ..MemoryConfig::default()
        };
        Self(MemoryBroker::new(config))
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.0.clone()
    }

    fn reopen(&mut self) -> Reopened {
        Reopened::LeftOpen
    }
}

contract!(Memory);

#[test]
fn an_append_without_contention_finishes_within_the_call() {
    let broker = MemoryBroker::new(MemoryConfig::default());
    drop(broker.append(vec![record("a", "x")]));
    assert_eq!(broker.bounds().head, 1);
}

#[test]
fn what_waits_behind_a_slow_tail_is_bounded() {
    /// Publishes from within the call, which then waits behind it.
    struct Greedy {
        broker: std::sync::Weak<MemoryBroker>,
        refused: parking_lot::Mutex<Option<AppendError>>,
    }

    impl Tail for Greedy {
        fn epoch_changed(&self, _: Bounds) {}

        fn committed(&self, _: &[Arc<Record>]) {
            let Some(broker) = self.broker.upgrade() else {
                return;
            };
            for _ in 0..100 {
                let answer = broker.append(vec![record("a", "waits")]);
                // Refused appends are answered at once, the others only after this call.
                let mut answer = std::pin::pin!(answer);
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                if let std::task::Poll::Ready(Err(error)) = answer.as_mut().poll(&mut context) {
                    *self.refused.lock() = Some(error);
                    return;
                }
            }
        }
    }

    let max_pending_bytes = 10 * record("a", "waits").weight_bytes();
    let broker = MemoryBroker::new(MemoryConfig {
        max_pending_bytes,
        ..MemoryConfig::default()
    });
    let greedy = Arc::new(Greedy {
        broker: Arc::downgrade(&broker),
        refused: parking_lot::Mutex::default(),
    });
    // Else every group would beget the next.
    let once = Arc::new(Once {
        inner: greedy.clone(),
        done: false.into(),
    });
    broker.follow(once);
    drop(broker.append(vec![record("a", "x")]));
    assert!(matches!(*greedy.refused.lock(), Some(AppendError::Busy)));
    assert_eq!(broker.bounds().head, 11);
}

struct Once<T> {
    inner: Arc<T>,
    done: std::sync::atomic::AtomicBool,
}

impl<T: Tail> Tail for Once<T> {
    fn epoch_changed(&self, bounds: Bounds) {
        self.inner.epoch_changed(bounds);
    }

    fn committed(&self, records: &[Arc<Record>]) {
        if !self.done.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.inner.committed(records);
        }
    }
}

#[test]
fn a_tail_that_panics_fences_the_log_and_hangs_nobody() {
    struct Faulty;

    impl Tail for Faulty {
        fn epoch_changed(&self, _: Bounds) {}

        fn committed(&self, _: &[Arc<Record>]) {
            panic!("a fault of the application, on purpose");
        }
    }

    let broker = MemoryBroker::new(MemoryConfig::default());
    broker.follow(Arc::new(Faulty));
    let appending = std::panic::AssertUnwindSafe(|| drop(broker.append(vec![record("a", "x")])));
    assert!(std::panic::catch_unwind(appending).is_err());
    let later = block_on(broker.append(vec![record("a", "y")]));
    assert!(
        matches!(later, Err(AppendError::Fenced { .. })),
        "{later:?}"
    );
    block_on(broker.close());
}
