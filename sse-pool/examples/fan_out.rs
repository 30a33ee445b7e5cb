//! One publisher, many readers, and one reader that is too slow.
//!
//! `cargo run -p sse-pool --example fan_out`

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use sse_pool::{
    Connection, ConnectionInfo, Entry, Pool, PoolConfig, Read, Selector, Start, WindowConfig,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A window of eight events, so that falling behind is quick.
    let window = WindowConfig {
        max_bytes: 64 * 1024,
        max_entries: 8,
    };
    let pool: Pool<String> = Pool::new(PoolConfig {
        window,
        ..PoolConfig::default()
    });
    let now = Instant::now();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let connect = |name: &str, topic: &str| -> Result<_, Box<dyn std::error::Error>> {
        let permit = pool.admit(ip)?;
        let info = ConnectionInfo::new(name.parse()?, ip);
        Ok(pool.connect(permit, info, Selector::topics([topic]), Start::Live, now)?)
    };
    let (mut quick, mut slow, mut quiet) = (
        connect("quick", "news")?,
        connect("slow", "news")?,
        connect("quiet", "weather")?,
    );
    read(&mut quiet, now); // it has seen everything, and waits

    for offset in 1..=20 {
        let text = format!("id: {offset}\ndata: headline {offset}\n\n");
        let size_bytes = text.len();
        let topics = vec![Arc::from("news")];
        pool.append(
            &[Arc::new(Entry::new(offset, text, size_bytes, topics))],
            now,
        );
        read(&mut quick, now);
    }
    // It lags; a hub would now read its log after 0, and rejoin the window.
    if let Some(Read::Lagged { floor, .. }) = read(&mut slow, now) {
        slow.rejoin(floor);
        read(&mut slow, now);
    }
    // Twelve evicted events later, the quiet reader has lost nothing, for none of them was its own.
    read(&mut quiet, now);
    println!("{:#?}", pool.stats());
    Ok(())
}

fn read(connection: &mut Connection<String>, now: Instant) -> Option<Read> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let read = connection.poll_read(&mut cx, now, 64 * 1024, &mut batch);
    let offsets: Vec<u64> = batch.iter().map(|entry| entry.offset).collect();
    println!("{}: {read:?} {offsets:?}", connection.id());
    match read {
        Poll::Ready(read) => Some(read),
        Poll::Pending => None,
    }
}
