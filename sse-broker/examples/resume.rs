//! A publisher, a reader that leaves and comes back, and a log that outlives them both.
//!
//! `cargo run -p sse-broker --example resume`

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sse_broker::{
    Bounds, Broker, DiskBroker, DiskConfig, NewRecord, ReadRequest, Record, ResumeFrom, Scope,
    Splice, Step, Tail, Topic,
};
use sse_protocol::{Event, EventId};

/// Stands for the live window, which a hub keeps: here it only says what it hears.
struct Window;

impl Tail for Window {
    fn epoch_changed(&self, _: Bounds) {}

    fn committed(&self, records: &[Arc<Record>]) {
        for record in records {
            println!(
                "  live:   {} {}",
                record.position, record.content.event.data
            );
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let job = Topic::new("job/42")?;
    let now = || {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };

    println!("a publisher says three things, and one of them twice:");
    let broker = DiskBroker::open(folder.path(), DiskConfig::default())?;
    broker.follow(Arc::new(Window));
    for (id, data) in [
        ("a", "started"),
        ("b", "50 %"),
        ("b", "50 %"),
        ("c", "done"),
    ] {
        let event = Event::new(data).with_id(EventId::new(id)?);
        let answer = broker
            .append(vec![NewRecord::new(job.clone(), event, now())])
            .await?;
        println!("  answer: {answer:?}, {}", broker.durability());
    }
    broker.close().await;

    println!("the hub starts again, and a reader that had seen `a` comes back:");
    let broker = DiskBroker::open(folder.path(), DiskConfig::default())?;
    let from = ResumeFrom::last_event_id(&*broker, "a").await?;
    follow_up(&*broker, &job, from).await?;

    println!("a reader of another log comes by mistake:");
    let from = ResumeFrom::last_event_id(&*broker, "0123456789abcdef-7").await?;
    follow_up(&*broker, &job, from).await?;
    broker.close().await;
    Ok(())
}

/// Reads from the log until the window takes over.
async fn follow_up(
    broker: &dyn Broker,
    topic: &Topic,
    from: ResumeFrom,
) -> Result<(), Box<dyn std::error::Error>> {
    let bounds = broker.bounds();
    let (mut splice, mut gap) = Splice::begin(from, bounds);
    // The window of a hub that has just started holds nothing yet.
    let window_floor = bounds.head;
    loop {
        if let Some(gap) = gap.take() {
            println!("  gap:    {}, goes on after {}", gap.reason, gap.to);
        }
        match splice.step() {
            Step::Join { .. } => gap = splice.handle_window(window_floor),
            Step::Read { after } => {
                let scope = Scope::Topics([topic.clone()].into());
                let request = ReadRequest {
                    after,
                    scope,
                    max_records: 100,
                    max_bytes: 1 << 20,
                    now: 0,
                };
                let page = broker.read(request).await?;
                if let Some(gap) = splice.handle_page(&page) {
                    println!("  gap:    {}, goes on after {}", gap.reason, gap.to);
                }
                for record in page.records {
                    println!(
                        "  replay: {} {}",
                        record.position, record.content.event.data
                    );
                }
            }
            Step::Live { after } => {
                println!("  live after {after}");
                return Ok(());
            }
        }
    }
}
