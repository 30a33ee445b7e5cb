//! Reads a hub and tells what happens: `cargo run --example subscribe -- http://127.0.0.1:8080/events`.

use std::time::Duration;

use sse_client::{
    CloseReason, EventSource, FilePosition, Gap, Notice, ReconnectPolicy, is_heartbeat,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:8080/events".to_owned());
    let mut events = EventSource::builder(url)
        .position(FilePosition::new(
            std::env::temp_dir().join("subscribe-example.position"),
        ))
        .reconnect(ReconnectPolicy::default().max_elapsed(Duration::from_secs(60)))
        .dedupe(1000)
        .build()?;
    while let Some(notice) = events.next_notice().await {
        match notice {
            Notice::Open(opened) => println!("open: {}", opened.url()),
            Notice::Event(event) if is_heartbeat(&event) => {}
            Notice::Event(event) => {
                if let Some(gap) = Gap::of(&event) {
                    println!("events may be missing: {gap:?}");
                }
                println!("{} {:?}: {}", event.event_type(), event.id(), event.data());
            }
            Notice::Interrupted(what) => {
                println!("{}; again in {:?}", what.error().report(), what.retry_in());
            }
            Notice::Closed(CloseReason::Failed { error, .. }) => return Err(error.into()),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
