use serde_json::Value;
use sse_protocol::message::Message;

use super::*;

fn job() -> Job {
    Job::new(
        "42".into(),
        NewJob {
            total: Some(10.into()),
            ..NewJob::default()
        },
        0,
    )
}

fn progress(n: u64) -> JobChange {
    JobChange::Progress(Progress {
        progress: Some(n.into()),
        message: Some("working".into()),
        ..Progress::default()
    })
}

fn data(event: &JobEvent) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

#[test]
fn a_reader_is_shown_the_state_as_an_event_that_it_wants() {
    let kind = |job: &Job, types: &[&str]| {
        let types: Vec<String> = types.iter().map(|&name| name.to_owned()).collect();
        job.snapshot_event(&types).map(|event| event.kind)
    };
    let new = job();
    assert_eq!(kind(&new, &[]), Some(MessageEvent::Status));
    assert_eq!(kind(&new, &["complete"]), None);
    let (begun, _) = new.apply(progress(1), 0).unwrap();
    assert_eq!(
        kind(&begun, &["complete", "status"]),
        Some(MessageEvent::Status)
    );
    assert_eq!(kind(&begun, &["progress"]), Some(MessageEvent::Progress));
    let result = JsonText::from(serde_json::Value::Null);
    let message = None;
    let (done, _) = begun
        .apply(JobChange::Complete { result, message }, 0)
        .unwrap();
    assert_eq!(
        kind(&done, &["progress", "complete"]),
        Some(MessageEvent::Complete)
    );
    assert_eq!(kind(&done, &["progress", "status"]), None);
}

#[test]
fn a_job_is_between_its_beginning_and_its_end() {
    let big = 9_007_199_254_740_993_u64;
    let number = |text: &str| serde_json::from_str::<Number>(text).unwrap();
    for (progress, total, is_good) in [
        ("0", Some("0"), true),
        ("10", Some("10"), true),
        ("10.0", Some("10"), true),
        ("99", Some("10"), false),
        ("10.5", Some("10"), false),
        ("-1", Some("10"), false),
        ("-0.5", None, false),
        ("0", Some("-1"), false),
        ("100", None, true),
        ("100.5", None, true),
        (&*big.to_string(), Some(&*big.to_string()), true),
        (&*big.to_string(), Some(&*(big - 1).to_string()), false),
        (&*u64::MAX.to_string(), Some(&*u64::MAX.to_string()), true),
    ] {
        let mut job = job();
        job.progress = number(progress);
        job.total = total.map(number);
        assert_eq!(
            job.check_progress().is_ok(),
            is_good,
            "{progress} of {total:?}"
        );
    }
}

#[test]
fn a_job_goes_from_pending_over_progress_to_its_end() {
    let (job, event) = job().apply(progress(3), 1_705_314_600_000).unwrap();
    assert_eq!(
        (job.status, event.kind),
        (JobState::InProgress, MessageEvent::Progress)
    );
    assert_eq!(
        data(&event),
        serde_json::json!({"job_id": "42", "status": "in_progress", "progress": 3, "total": 10,
            "message": "working", "timestamp": "2024-01-15T10:30:00Z"})
    );
    let (job, event) = job
        .apply(
            JobChange::Complete {
                result: serde_json::json!({"url": "/x"}).into(),
                message: None,
            },
            0,
        )
        .unwrap();
    assert_eq!(
        (job.status, job.progress, event.kind),
        (JobState::Completed, 10.into(), MessageEvent::Complete)
    );
    assert_eq!(data(&event)["result"]["url"], "/x");
}

#[test]
fn a_job_that_has_ended_takes_no_more() {
    let (job, event) = job().apply(JobChange::Cancel { message: None }, 0).unwrap();
    assert_eq!(
        (event.kind, data(&event)["status"].as_str()),
        (MessageEvent::Status, Some("cancelled"))
    );
    assert_eq!(
        job.apply(progress(4), 0),
        Err(JobEnded(JobState::Cancelled))
    );
}

#[test]
fn the_snapshot_of_an_ended_job_is_its_last_event() {
    let (job, _) = job()
        .apply(
            JobChange::Error {
                error: "no disk".into(),
                message: None,
            },
            0,
        )
        .unwrap();
    let snapshot = job.snapshot_event(&[]).unwrap();
    assert_eq!(
        (snapshot.kind, data(&snapshot)["error"].as_str()),
        (MessageEvent::Error, Some("no disk"))
    );
}

#[test]
fn educational_content_alone_is_an_educational_event() {
    let mut details = Details::default();
    let lesson = serde_json::json!({"title": "Did you know"});
    details.insert("educational_content", lesson);
    let (_, event) = job()
        .apply(
            JobChange::Progress(Progress {
                details,
                ..Progress::default()
            }),
            0,
        )
        .unwrap();
    assert_eq!(event.kind, MessageEvent::Educational);
}

#[test]
fn details_never_overwrite_the_job_itself() {
    let mut details = Details::default();
    details.insert("job_id", Value::from("forged"));
    let (_, event) = job()
        .apply(
            JobChange::Progress(Progress {
                details,
                ..Progress::default()
            }),
            0,
        )
        .unwrap();
    assert_eq!(data(&event)["job_id"], "42");
}

#[test]
fn numbers_and_steps_are_told_as_they_were_reported() {
    let exact = 9_007_199_254_740_993_u64;
    let mut reported = Progress {
        progress: Some(exact.into()),
        ..Progress::default()
    };
    let step = Value::from("2 of 5");
    reported.details.insert("step", step);
    let (job, event) = job().apply(JobChange::Progress(reported), 0).unwrap();
    assert_eq!(data(&event)["progress"], exact);
    assert_eq!(data(&event)["step"], "2 of 5");
    let stored = serde_json::to_vec(&job).unwrap();
    assert_eq!(serde_json::from_slice::<Job>(&stored).unwrap(), job);
}

#[test]
fn the_events_data_is_that_of_the_standard_envelope() {
    let mut reported = Progress {
        progress: Some(3.into()),
        message: Some("third".into()),
        ..Progress::default()
    };
    for (name, json) in [
        ("b", "[1]"),
        ("step", "2"),
        ("timestamp", "\"forged\""),
        ("a", "{}"),
    ] {
        let json: Value = serde_json::from_str(json).unwrap();
        reported.details.insert(name, json);
    }
    let (_, event) = job().apply(JobChange::Progress(reported), 0).unwrap();
    let event = event.into_event();
    assert_eq!(
        &*event.data,
        r#"{"step":2,"progress":3,"message":"third","timestamp":"1970-01-01T00:00:00Z","b":[1],"a":{},"job_id":"42","status":"in_progress","total":10}"#
    );
    let message = Message::parse("progress", &event.data).unwrap();
    assert_eq!(message.data.to_json(), *event.data);
}
