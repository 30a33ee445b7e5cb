//! The publisher.

use std::time::Duration;

use sse_client::{EventId, Publication, Publisher};

use crate::rogue::{Rogue, direct, quick, read_request, soon};

fn publisher(rogue: &Rogue) -> Publisher {
    Publisher::builder(rogue.url("/events"))
        .connector(direct())
        .retry(quick().max_attempts(4))
        .build()
        .unwrap()
}

fn answer(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn id_of(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_retry_carries_the_same_id_whatever_went_wrong() {
    let rogue = Rogue::start(|mut peer| async move {
        match peer.n {
            0 => peer.reset(),
            1 => {
                let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
                peer.write(busy).await;
            }
            _ => {
                let id = id_of(&peer.request.body);
                let body = format!(
                    r#"{{"id":"{id}","position":"1-1","durability":"fsync","duplicate":true}}"#
                );
                peer.write(answer(&body)).await;
            }
        }
    })
    .await;
    let receipt = soon(publisher(&rogue).publish(Publication::text("x")))
        .await
        .unwrap();
    assert_eq!(receipt.durability.as_deref(), Some("fsync"));
    assert!(receipt.duplicate);
    let ids: Vec<_> = rogue
        .requests()
        .iter()
        .map(|request| id_of(&request.body))
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == receipt.id && id.len() == 36));
}

#[tokio::test]
async fn one_connection_serves_many_and_a_stale_one_is_replaced_without_delay() {
    let rogue = Rogue::start(|mut peer| async move {
        // Two requests on each connection, then it is closed without a word.
        peer.write(answer(r#"{"id":"a"}"#)).await;
        if read_request(&mut peer.stream).await.is_some() {
            peer.write(answer(r#"{"id":"b"}"#)).await;
        }
        let _ = read_request(&mut peer.stream).await;
    })
    .await;
    let mut publisher = publisher(&rogue);
    for _ in 0..6 {
        let id = EventId::new("same").unwrap();
        soon(publisher.publish(Publication::text("x").id(id)))
            .await
            .unwrap();
    }
    assert_eq!(
        rogue.requests().len(),
        3,
        "connections; each carried two requests"
    );
}

#[tokio::test]
async fn what_is_wrong_is_not_repeated() {
    let rogue = Rogue::start(|mut peer| async move {
        let problem = r#"{"title":"Bad","status":400,"detail":"unknown field","field":"topik"}"#;
        let length = problem.len();
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json";
        peer.write(format!(
            "{head}\r\nContent-Length: {length}\r\n\r\n{problem}"
        ))
        .await;
    })
    .await;
    let error = soon(publisher(&rogue).publish(Publication::text("x")))
        .await
        .unwrap_err();
    assert_eq!(
        error.report(),
        "server answered 400 Bad Request: unknown field"
    );
    assert_eq!(rogue.requests().len(), 1);
}

#[tokio::test]
async fn of_many_only_what_failed_for_now_is_sent_again_in_order() {
    let rogue = Rogue::start(|mut peer| async move {
        let lines: Vec<_> = peer
            .request
            .body
            .split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .collect();
        let results: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| {
                if peer.n == 0 && at >= 2 {
                    r#"{"title":"Busy","status":503}"#.to_owned()
                } else if id_of(line).ends_with("-4") {
                    r#"{"title":"Conflict","status":409,"detail":"other content"}"#.to_owned()
                } else {
                    format!(r#"{{"id":"{}","durability":"os"}}"#, id_of(line))
                }
            })
            .collect();
        peer.write(answer(&format!("[{}]", results.join(","))))
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
    let many = (0..6).map(|n| Publication::text(n.to_string()));
    let results = soon(publisher(&rogue).publish_all(many)).await.unwrap();
    assert_eq!(results.len(), 6);
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(receipt) => assert!(receipt.id.ends_with(&format!("-{n}"))),
            Err(error) => assert_eq!((n, error.status().unwrap().as_u16()), (4, 409)),
        }
    }
    let requests = rogue.requests();
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/x-ndjson")
    );
    let again: Vec<_> = requests[0].body.split(|&b| b == b'\n').skip(2).collect();
    assert_eq!(
        requests[1].body.split(|&b| b == b'\n').collect::<Vec<_>>(),
        again
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_carries_nothing_elsewhere() {
    let elsewhere = Rogue::start(|peer| peer.hang()).await;
    let target = elsewhere.url("/steal");
    let rogue = Rogue::start(move |mut peer| {
        let target = target.clone();
        async move {
            peer.write(format!(
                "HTTP/1.1 307 X\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let mut publisher = Publisher::builder(rogue.url("/events"))
        .connector(direct())
        .bearer("secret")
        .build()
        .unwrap();
    let error = soon(publisher.publish(Publication::text("x")))
        .await
        .unwrap_err();
    assert_eq!(error.status().unwrap(), 307);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn attempts_end() {
    let rogue = Rogue::start(|peer| async move { peer.reset() }).await;
    let error = soon(publisher(&rogue).publish(Publication::text("x")))
        .await
        .unwrap_err();
    assert!(matches!(error, sse_client::Error::Transport { .. }));
    assert_eq!(rogue.requests().len(), 4);
}
