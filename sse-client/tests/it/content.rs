//! Compressed streams.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use sse_client::{ContentError, Error, Notice};

use crate::rogue::{Rogue, soon, take};

const GZIP: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n";

fn squeeze(compress: &mut Compress, text: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1024);
    compress.compress_vec(text, &mut out, flush).unwrap();
    out
}

#[tokio::test]
async fn a_gzip_stream_delivers_each_event_as_it_is_flushed() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write(GZIP).await;
        let mut compress = Compress::new_gzip(Compression::fast(), 15);
        for n in 0..3 {
            let event = format!("data: {n}\n\n");
            peer.write(squeeze(
                &mut compress,
                event.as_bytes(),
                FlushCompress::Sync,
            ))
            .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    assert_eq!(
        take(&mut events, 3).await,
        ["0", "1", "2"],
        "while the stream stays open"
    );
    assert!(
        rogue.requests()[0]
            .header("accept-encoding")
            .unwrap()
            .contains("gzip")
    );
    let mut events = rogue.source().no_compression().build().unwrap();
    take(&mut events, 1).await;
    assert_eq!(rogue.requests()[1].header("accept-encoding"), None);
}

#[tokio::test]
async fn each_connection_has_a_decoder_of_its_own() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write(GZIP).await;
        let mut compress = Compress::new_gzip(Compression::best(), 15);
        let flush = if peer.n == 0 {
            FlushCompress::Sync
        } else {
            FlushCompress::Finish
        };
        peer.write(squeeze(&mut compress, b"id: 1\ndata: a\n\n", flush))
            .await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    assert_eq!(take(&mut events, 1).await, ["a"]);
    let cut = loop {
        if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
            break what.error().clone();
        }
    };
    assert!(
        matches!(
            cut,
            Error::Content(ContentError::CutShort { coding: "gzip" })
        ),
        "{cut:?}"
    );
    assert_eq!(take(&mut events, 1).await, ["a"]);
    let end = loop {
        if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
            break what.error().clone();
        }
    };
    assert!(
        matches!(end, Error::Ended),
        "with a right trailer it is a clean end: {end:?}"
    );
}

#[tokio::test]
async fn a_bomb_is_given_up_early() {
    let rogue = Rogue::start(|mut peer| async move {
        if peer.n > 0 {
            peer.events("data: sane\n\n").await;
            return peer.hang().await;
        }
        peer.write(GZIP).await;
        let mut compress = Compress::new_gzip(Compression::best(), 15);
        let zeros = vec![b'0'; 1 << 18];
        peer.write(squeeze(&mut compress, &zeros, FlushCompress::Sync))
            .await;
        // From the second block on they are all the same: copies of what lies in the window.
        let block = squeeze(&mut compress, &zeros, FlushCompress::Sync);
        for _ in 0..1000 {
            peer.write(&block).await;
        }
        peer.hang().await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let error = loop {
        if let Notice::Interrupted(what) = soon(events.next_notice()).await.unwrap() {
            break what.error().clone();
        }
    };
    assert!(
        matches!(error, Error::Content(ContentError::Bomb { .. })),
        "{error:?}"
    );
    assert_eq!(take(&mut events, 1).await, ["sane"]);
}

#[tokio::test]
async fn a_coding_that_was_not_asked_for_is_an_error() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write(GZIP.replace("gzip", "gzip, gzip")).await;
    })
    .await;
    let mut events = rogue.source().build().unwrap();
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(matches!(
        error,
        Error::Content(ContentError::Unknown { .. })
    ));
}

/// A stream in zstd as it was recorded: forty events, each flushed, in one frame or in many.
#[cfg(feature = "zstd")]
#[tokio::test]
async fn a_recorded_zstd_stream_delivers_each_event_as_it_is_flushed() {
    for recording in [
        include_str!("../recorded/zstd-many-frames.hex"),
        include_str!("../recorded/zstd-one-frame.hex"),
    ] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<()>(1);
        let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
        let rogue = Rogue::start(move |mut peer| {
            let receiver = std::sync::Arc::clone(&receiver);
            async move {
                peer.write(GZIP.replace("gzip", "zstd")).await;
                for piece in recording.lines() {
                    let digit = |at| u8::from_str_radix(&piece[at..at + 2], 16).unwrap();
                    let bytes: Vec<u8> = (0..piece.len()).step_by(2).map(digit).collect();
                    peer.write(bytes).await;
                    // The next one is written only when this one has been read.
                    receiver.lock().await.recv().await;
                }
            }
        })
        .await;
        let mut events = rogue
            .source()
            .reconnect(sse_client::ReconnectPolicy::never())
            .build()
            .unwrap();
        for n in 0..40 {
            let event = soon(events.next()).await.unwrap().unwrap();
            assert_eq!(event.event_type(), "token");
            assert_eq!(event.id(), Some(n.to_string().as_str()));
            assert!(event.data().contains(&format!("wörd{}", n * 7919 % 997)));
            sender.send(()).await.unwrap();
        }
        sender.send(()).await.unwrap();
        drop(sender);
        assert!(soon(events.next()).await.is_none(), "a clean end");
        let accepted = rogue.requests()[0]
            .header("accept-encoding")
            .unwrap()
            .to_owned();
        assert!(accepted.starts_with("zstd"), "{accepted}");
    }
}
