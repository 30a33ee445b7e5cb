//! Publishes one event and then many: `cargo run --example publish -- http://127.0.0.1:8080/events`.

use sse_client::{EventType, Publication, Publisher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:8080/events".to_owned());
    let mut publisher = Publisher::new(url)?;
    let hello = Publication::text("hello").event_type(EventType::new("greeting")?);
    let receipt = publisher.publish(hello).await?;
    println!("{} is stored: {:?}", receipt.id, receipt.durability);

    let steps =
        (1..=10).map(|n| Publication::json(&serde_json::json!({ "progress": n, "total": 10 })));
    let steps: Vec<_> = steps.collect::<Result<_, _>>()?;
    for result in publisher.publish_all(steps).await? {
        println!("{}", result?.id);
    }
    Ok(())
}
