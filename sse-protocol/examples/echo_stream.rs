//! Reads an event stream from standard input and prints what it means; with `--encode`, writes it anew.
//!
//! ```text
//! printf 'id: 1\nevent: greeting\ndata: hello\ndata: world\n\n' | cargo run -p sse-protocol --example echo_stream
//! curl -sN http://127.0.0.1:8080/events | cargo run -q -p sse-protocol --example echo_stream
//! ```
//!
//! This is all that a client has to do around the decoder: read, feed, look.

use std::io::{self, Read, Write};

use sse_protocol::{Decoded, Decoder, Ending, encoder};

fn main() -> io::Result<()> {
    let encode = std::env::args().any(|arg| arg == "--encode");
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut decoder = Decoder::new();
    let mut chunk = vec![0; 16 * 1024];
    let mut bytes = Vec::new();
    loop {
        let len = input.read(&mut chunk)?;
        if len == 0 {
            break;
        }
        let mut feed = decoder.feed(&chunk[..len]);
        while let Some(decoded) = feed.next() {
            if encode {
                bytes.clear();
                match decoded {
                    Decoded::Event(event) => {
                        encoder::event(event.to_event().as_event_ref(), &mut bytes);
                    }
                    Decoded::Comment(text) => encoder::comment(text, &mut bytes),
                    _ => {}
                }
                output.write_all(&bytes)?;
                continue;
            }
            match decoded {
                Decoded::Event(event) => {
                    let (id, event_type) = (event.last_event_id(), event.event_type());
                    writeln!(
                        output,
                        "{event_type} (last event id {id:?}): {:?}",
                        event.data()
                    )?;
                }
                Decoded::Comment(text) => writeln!(output, "comment: {text}")?,
                Decoded::Retry(retry) => writeln!(output, "reconnect after {retry} ms")?,
                Decoded::Dropped(limit) => writeln!(output, "event dropped: {limit}")?,
                other => writeln!(output, "{other:?}")?,
            }
        }
        output.flush()?;
    }
    if decoder.finish() == Ending::Truncated {
        eprintln!("the stream ended within an event, which is dropped");
    }
    eprintln!("to resume: Last-Event-ID: {}", decoder.last_event_id());
    Ok(())
}
