//! Credentials that are asked for, refused and renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sse_client::{Ask, Error, Notice, bearer};

use crate::rogue::{Rogue, quick, soon, take};

#[tokio::test]
async fn a_refused_token_is_renewed_once_within_the_attempt() {
    let rogue = Rogue::start(|mut peer| async move {
        match peer.request.header("authorization") {
            Some("Bearer fresh") => {
                peer.events("data: in\n\n").await;
                peer.hang().await;
            }
            _ => {
                peer.write("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
                    .await
            }
        }
    })
    .await;
    let provider = |ask: Ask| async move {
        Ok(bearer(if ask.refused.is_some() {
            "fresh"
        } else {
            "stale"
        })?)
    };
    let mut events = rogue.source().credentials(provider).build().unwrap();
    assert!(
        matches!(soon(events.next_notice()).await, Some(Notice::Open(opened)) if opened.attempt() == 1)
    );
    assert_eq!(take(&mut events, 1).await, ["in"]);
    assert_eq!(rogue.requests().len(), 2);
}

#[tokio::test]
async fn a_second_refusal_is_final_and_one_without_a_provider_too() {
    let rogue = Rogue::start(|mut peer| async move {
        peer.write("HTTP/1.1 403 Never\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let provider = move |_: Ask| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok(bearer("x")?) }
    };
    let mut events = rogue.source().credentials(provider).build().unwrap();
    assert_eq!(
        soon(events.next())
            .await
            .unwrap()
            .unwrap_err()
            .status()
            .unwrap(),
        403
    );
    assert_eq!(
        (rogue.requests().len(), asked.load(Ordering::Relaxed)),
        (2, 2)
    );
    let mut events = rogue.source().build().unwrap();
    assert_eq!(
        soon(events.next())
            .await
            .unwrap()
            .unwrap_err()
            .status()
            .unwrap(),
        403
    );
    assert_eq!(rogue.requests().len(), 3);
}

#[tokio::test]
async fn every_attempt_asks_anew_and_a_provider_that_fails_is_tried_again() {
    let rogue = Rogue::start(|mut peer| async move { peer.events("data: x\n\n").await }).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let provider = move |_: Ask| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move {
            if n == 0 {
                return Err("the vault is closed".into());
            }
            Ok(bearer(&format!("token-{n}"))?)
        }
    };
    let mut events = rogue
        .source()
        .credentials(provider)
        .reconnect(quick())
        .build()
        .unwrap();
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert!(matches!(what.error(), Error::Credentials { .. }));
    assert_eq!(
        what.error().report(),
        "the credentials' provider failed: the vault is closed"
    );
    take(&mut events, 2).await;
    let tokens: Vec<_> = rogue
        .requests()
        .iter()
        .map(|r| r.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(tokens[..2], ["Bearer token-1", "Bearer token-2"]);
}
