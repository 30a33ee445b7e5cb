//! What a request makes the hub hold is a few times its own size.

use std::net::{IpAddr, Ipv4Addr};

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use sse_server::http::{Body, HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig};
use tokio::runtime::{Builder, Runtime};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A hub in this thread alone, whose allocations can be counted.
struct Service {
    runtime: Runtime,
    service: HubService,
}

/// An answer, and what it took: at most at one moment, and in the end.
struct Answer {
    response: Response<Body>,
    peak: usize,
    kept: i64,
}

impl Service {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let hub = runtime
            .block_on(Hub::in_memory(HubConfig::default()))
            .unwrap();
        Self {
            runtime,
            service: HubService::new(hub, HttpConfig::default()),
        }
    }

    fn send(&self, method: Method, path: &str, body: &str) -> Answer {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        self.ask(&request)
    }

    fn ask(&self, request: &Request<Full<Bytes>>) -> Answer {
        let mut response = None;
        let info = measure(|| {
            let answered = self.service.handle(request.clone(), LOCALHOST);
            response = Some(self.runtime.block_on(answered));
        });
        Answer {
            response: response.unwrap(),
            peak: usize::try_from(info.bytes_max).unwrap(),
            kept: info.bytes_current,
        }
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, body)
    }

    fn json(&self, answer: Answer) -> Value {
        let body = self.runtime.block_on(answer.response.into_body().collect());
        serde_json::from_slice(&body.unwrap().to_bytes()).unwrap()
    }
}

/// As a tree of values, an array of numbers took forty times its text, and a job was several of those trees for a moment.
#[test]
fn a_jobs_json_is_held_as_text() {
    let service = Service::start();
    for job in ["p", "c"] {
        service.post("/jobs", &format!(r#"{{"job_id": "{job}"}}"#));
    }
    let zeros = vec!["0"; 30_000].join(",");
    for (path, body) in [
        (
            "/jobs/p/progress",
            format!(r#"{{"progress": 1, "zeros": [{zeros}]}}"#),
        ),
        ("/jobs/c/complete", format!(r#"{{"result": [{zeros}]}}"#)),
    ] {
        let answer = service.post(path, &body);
        assert_eq!(answer.response.status(), StatusCode::OK);
        let (peak, kept) = (answer.peak, answer.kept);
        assert!(peak < 12 * body.len(), "{path} takes {peak} bytes at once");
        // The log has the event and the state, the window has the event, and the table the state; and there is the answer.
        let kept_at_most = i64::try_from(8 * body.len()).unwrap();
        assert!(kept < kept_at_most, "{path} takes {kept} bytes");
    }
}

/// A text that needs escapes was told in full, twice, and each character of it was six.
#[test]
fn a_problem_does_not_repeat_all_that_was_wrong() {
    let service = Service::start();
    let name = "\u{7f}".repeat(100_000);
    let body = format!(r#"{{"data": 1, "{name}": 1}}"#);
    let answer = service.post("/events", &body);
    assert_eq!(answer.response.status(), StatusCode::BAD_REQUEST);
    let peak = answer.peak;
    assert!(
        peak < 8 * body.len(),
        "the problem takes {peak} bytes at once"
    );
    let problem = service.json(answer);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.len() < 4 << 10, "{} bytes", detail.len());
    assert!(detail.contains("no such field"), "the reason is told");
}

/// The JSON library's error repeats a text that stands where something else is expected, each character in up to six.
#[test]
fn a_text_in_the_wrong_place_is_not_told_in_full() {
    let service = Service::start();
    service.post("/jobs", r#"{"job_id": "j"}"#);
    let text = "\u{7f}".repeat(50_000);
    for (path, body) in [
        ("/events", format!(r#""{text}""#)),
        ("/events", format!(r#"{{"data": 1, "retry": "{text}"}}"#)),
        (
            "/events",
            format!(r#"{{"data": 1, "ttl_seconds": "{text}"}}"#),
        ),
        ("/events/subscriptions", format!(r#""{text}""#)),
        (
            "/events/subscriptions",
            format!(r#"{{"event_types": "{text}"}}"#),
        ),
        ("/events/subscriptions/s/ack", format!(r#""{text}""#)),
        ("/jobs", format!(r#""{text}""#)),
        ("/jobs/j/progress", format!(r#"{{"progress": "{text}"}}"#)),
    ] {
        let answer = service.post(path, &body);
        assert_eq!(answer.response.status(), StatusCode::BAD_REQUEST);
        let peak = answer.peak;
        assert!(peak < 6 * body.len(), "{path} takes {peak} bytes at once");
    }
}

/// To find the name that was meant, a table was made whose size is that of both names, multiplied.
#[test]
fn a_parameters_long_name_is_not_measured_against_every_known_one() {
    let service = Service::start();
    let path = format!("/events?{}=1", "topic".repeat(2_000));
    let answer = service.send(Method::GET, &path, "");
    assert_eq!(answer.response.status(), StatusCode::BAD_REQUEST);
    let peak = answer.peak;
    assert!(peak < 8 * path.len() + (16 << 10), "{peak} bytes at once");
}

/// A header whose bytes need escapes was told in full, each of them in four or more, and that twice.
#[test]
fn a_long_header_that_is_wrong_is_not_told_in_full() {
    let service = Service::start();
    for name in ["host", "content-encoding"] {
        let value = HeaderValue::from_bytes(&[0xff; 30_000]).unwrap();
        let mut request = Request::post("/jobs")
            .body(Full::new(Bytes::new()))
            .unwrap();
        request.headers_mut().insert(name, value);
        let answer = service.ask(&request);
        assert!(answer.response.status().is_client_error());
        let peak = answer.peak;
        assert!(peak < 8 * 30_000, "{name} takes {peak} bytes at once");
    }
}

/// Each mention of a job in the query was answered by the job's whole state.
#[test]
fn a_job_that_is_named_often_is_told_once() {
    let service = Service::start();
    service.post("/jobs", r#"{"job_id": "j"}"#);
    let text = "x".repeat(50_000);
    service.post("/jobs/j/progress", &format!(r#"{{"message": "{text}"}}"#));
    let path = format!("/events?{}topic_exact=job/j", "topic=job/j&".repeat(60));
    let mut stream = service.send(Method::GET, &path, "").response.into_body();
    let first = service.runtime.block_on(stream.frame());
    let first = first.unwrap().unwrap().into_data().unwrap();
    let states = first
        .windows(text.len())
        .filter(|part| *part == text.as_bytes());
    assert_eq!(states.count(), 1);
}
