//! What was granted by patterns, which are not asked under a lock.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use sse_pool::{
    Audience, ClientInfo, ConnectionInfo, Entry, Pool, Selector, Start, TopicFilter, Visibility,
};

use crate::support::*;

#[test]
fn what_a_pattern_grants_reaches_only_those_it_grants_it_to() {
    let pool = Pool::new(config(16));
    let with = |name: &str, granted: &str| {
        let client = Arc::new(ClientInfo {
            visibility: Visibility::default().with_granted(TopicFilter::Topics {
                exact: Arc::default(),
                patterns: vec![prefix(granted)].into(),
            }),
            ..ClientInfo::default()
        });
        let info = ConnectionInfo {
            client,
            ..ConnectionInfo::new(id(name), LOCAL)
        };
        let permit = pool.admit(LOCAL).unwrap();
        let now = Instant::now();
        pool.connect(permit, info, Selector::all(), Start::Live, now)
            .unwrap()
    };
    let mut readers = [with("granted", "room/"), with("other", "hall/")];
    let mut private = Entry::new(1, 1, 1, names(&["room/1"]));
    private.audience = Audience::Granted;
    let public = Entry::new(2, 2, 1, names(&["room/1"]));
    pool.append(&[Arc::new(private), Arc::new(public)], Instant::now());
    let got = readers.each_mut().map(|reader| {
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let _read = reader.poll_read(&mut cx, Instant::now(), usize::MAX, &mut out);
        out.iter().map(|entry| entry.offset).collect::<Vec<_>>()
    });
    assert_eq!(got, [vec![1, 2], vec![2]]);
}
