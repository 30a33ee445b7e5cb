//! Reads a language model's answer; here from a server of its own, so that it runs anywhere.

use sse_client::{EventSource, llm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            .await?;
        for word in ["Events", " come", " one", " by", " one."] {
            let chunk =
                serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": word } }] });
            stream
                .write_all(format!("data: {chunk}\n\n").as_bytes())
                .await?;
        }
        stream.write_all(b"data: [DONE]\n\n").await
    });

    let body = serde_json::json!({ "model": "any", "stream": true, "messages": [] });
    let mut answer = llm::openai(EventSource::builder(url).json(&body).build()?);
    while let Some(chunk) = answer.next().await {
        print!("{}", chunk?.text().unwrap_or_default());
    }
    println!();
    Ok(())
}
