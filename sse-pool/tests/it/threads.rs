use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

use sse_pool::{Connection, Pool, PoolConfig, Read, Selector, Start};

use crate::support::*;

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, SeqCst);
        self.0.unpark();
    }
}

/// Reads until entry `last`; a lag is made up for from the log, which here is the numbers themselves.
fn read_all(mut connection: Connection<u64>, wanted: impl Fn(u64) -> bool, last: u64) -> Vec<u64> {
    let state = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&state));
    let mut cx = Context::from_waker(&waker);
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    while seen.last() != Some(&last) {
        match connection.poll_read(&mut cx, Instant::now(), 200, &mut out) {
            Poll::Pending => {
                while !state.1.swap(false, SeqCst) {
                    thread::park();
                }
            }
            Poll::Ready(Read::Entries) => seen.extend(out.drain(..).map(|entry| entry.offset)),
            Poll::Ready(Read::Lagged { after, floor }) => {
                seen.extend((after + 1..=floor).filter(|&offset| wanted(offset)));
                connection.rejoin(floor);
            }
            Poll::Ready(Read::Reset { .. } | Read::Moved { .. }) => panic!("nobody resets it"),
            Poll::Ready(Read::Closed(reason)) => panic!("closed: {reason}"),
        }
    }
    seen
}

#[test]
fn every_reader_gets_everything_once_and_in_order_while_the_window_races_past() {
    const LAST: u64 = 30_000;
    let pool = Pool::new(PoolConfig {
        shards: 2,
        ..config(50)
    });
    let connect = |name: &str, selector| {
        let permit = pool.admit(LOCAL).unwrap();
        pool.connect(permit, info(name), selector, Start::Live, Instant::now())
            .unwrap()
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let by_topic = |rest: u64| move |offset: u64| offset % 3 == rest || offset == LAST;
        let mut readers = Vec::new();
        for rest in 0..3 {
            let topics = [format!("t{rest}"), "end".to_owned()];
            let connection = connect(&format!("exact{rest}"), Selector::topics(topics));
            readers.push(scope.spawn(move || {
                let seen = read_all(connection, by_topic(rest), LAST);
                assert!(
                    seen.iter()
                        .copied()
                        .eq((1..=LAST).filter(|&n| by_topic(rest)(n)))
                );
            }));
        }
        let all = connect("all", Selector::all());
        let pattern = connect("pattern", Selector::patterns([prefix("t1"), prefix("end")]));
        readers.push(scope.spawn(move || {
            assert!(read_all(all, |_| true, LAST).into_iter().eq(1..=LAST));
        }));
        readers.push(scope.spawn(move || {
            let seen = read_all(pattern, by_topic(1), LAST);
            assert!(
                seen.iter()
                    .copied()
                    .eq((1..=LAST).filter(|&n| by_topic(1)(n)))
            );
        }));
        scope.spawn(|| {
            for n in 1..=LAST {
                let topic = format!("t{}", n % 3);
                let topics: &[&str] = if n == LAST {
                    &[&topic, "end"]
                } else {
                    &[&topic]
                };
                pool.append(&[entry(n, topics)], Instant::now());
            }
            done.store(true, SeqCst);
        });
        // Others come and go meanwhile.
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let mut passer =
                    Client::connect(&pool, "passer", Selector::topics(["t2"]), Start::Live);
                let _ = passer.read();
                let _ = pool.update_selector(&id("passer"), |_| Selector::patterns([prefix("t")]));
                let _ = passer.read();
                let _ = pool.stats();
                pool.sweep(Instant::now());
            }
        });
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(pool.stats().active, 0);
}
