//! A batch of which one event is refused.

use serde_json::json;

use crate::server::Server;

#[test]
fn a_batch_with_a_conflict_tells_each_events_fate() {
    let server = Server::start();
    server.publish(&json!({"id": "a", "data": 1}));
    let mut stream = server.open("/events");
    let results = server.publish(&json!([
        {"id": "b", "data": 2},
        {"id": "a", "data": "other"},
        {"id": "a", "data": 1},
        {"data": 3},
    ]));
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert_eq!(results[0]["id"], "b");
    assert_eq!(
        (&results[1]["status"], &results[1]["field"]),
        (&json!(409), &json!("id"))
    );
    assert_eq!(
        (&results[2]["id"], &results[2]["duplicate"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(results[3]["id"], results[3]["position"]);
    let data: Vec<_> = stream.take(2).into_iter().map(|event| event.data).collect();
    assert_eq!(data, ["2", "3"]);
    server.assert_nothing_came(&mut [&mut stream], "message");
}
