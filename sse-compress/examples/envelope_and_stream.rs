//! What the two ways to compress make of the same events, and how the shared encoder serves a late reader.
//!
//! `cargo run -p sse-compress --example envelope_and_stream`

use bytes::Bytes;
use sse_compress::{
    AcceptEncoding, Coding, CohortEncoder, Level, MessageCompressor, decompress_all, open_envelope,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sentence = "The speaker explains why the second model needs less memory than the first. ";
    let summary = format!(
        r#"{{"video_id":"dQw4w9WgXcQ","summary":"{}"}}"#,
        sentence.repeat(40)
    );

    println!("one message of {} bytes:", summary.len());
    for level in Level::ALL {
        let compressor = MessageCompressor::new(1024, level);
        let envelope = compressor.compress(&summary).ok_or("no gain")?;
        assert_eq!(
            open_envelope(&envelope, 1 << 20)?.as_deref(),
            Some(summary.as_str())
        );
        println!(
            "  {level:8}  envelope {:4} bytes, ratio {:.3}",
            envelope.len(),
            compressor.stats().ratio()
        );
    }

    let coding =
        AcceptEncoding::parse("gzip, deflate, br").choose(&[Coding::Gzip, Coding::Identity]);
    println!(
        "\na browser's stream is coded as {}",
        coding.unwrap_or_default().name()
    );
    let events: Vec<String> = (0..100)
        .map(|n| format!("id: {n}\nevent: progress\ndata: {{\"progress\":{n},\"total\":100,\"message\":\"video {n}\"}}\n\n"))
        .collect();
    let plain = events.concat();
    let mut cohort = CohortEncoder::with_full_flush_after(Level::Fast, 2048);
    let mut early = cohort.join();
    let mut late = None;
    let (mut early_body, mut late_body) = (early.head().to_vec(), Vec::new());
    for (n, event) in events.iter().enumerate() {
        if n == 50 {
            let reader = late.insert(cohort.join());
            late_body.extend_from_slice(reader.head());
        }
        let block = cohort.encode(Bytes::copy_from_slice(event.as_bytes()));
        early_body.extend_from_slice(block.bytes(early.take(&block)));
        if let Some(late) = &mut late {
            late_body.extend_from_slice(block.bytes(late.take(&block)));
        }
    }
    early_body.extend_from_slice(&early.finish());
    let late = late.ok_or("nobody came late")?;
    late_body.extend_from_slice(&late.finish());
    assert_eq!(
        decompress_all(Coding::Gzip, &early_body, 1 << 20)?,
        plain.as_bytes()
    );
    assert_eq!(
        decompress_all(Coding::Gzip, &late_body, 1 << 20)?,
        events[50..].concat().as_bytes()
    );
    println!(
        "  {} events: {} bytes become {} for the first reader, {} for one that came half way",
        events.len(),
        plain.len(),
        early_body.len(),
        late_body.len()
    );
    Ok(())
}
