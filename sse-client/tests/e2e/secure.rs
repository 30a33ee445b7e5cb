//! The real hub behind a certificate that only we know, and the `sse` program with that certificate in hand.

use std::process::{Command, Output};

use crate::hub::{Hub, self_signed};
use crate::{SSE, data, next, subscriber};

fn publish(url: &str, text: &str, more: &[&str]) -> Output {
    Command::new(SSE)
        .args(["pub", "--quiet", "--no-proxy"])
        .args(more)
        .args([url, text])
        .output()
        .unwrap()
}

/// The one line that a command that failed says.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_private_certificate_is_trusted_by_who_is_told_to_and_by_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = self_signed(folder.path());
    let hub = Hub::start(&["--tls-cert", &certificate, "--tls-key", &key]);
    let (_, port) = hub.address().rsplit_once(':').unwrap();
    let url = format!("https://localhost:{port}/events?topic=a");
    let trust = ["--ca-cert", certificate.as_str(), "--topic", "a"];

    // What is published before it is read is there too.
    let first = publish(&url, "first", &trust);
    assert!(first.status.success(), "{first:?}");
    let from_the_first = [
        "--no-proxy",
        "--ca-cert",
        &certificate,
        "--last-event-id",
        "earliest",
    ];
    let (_reader, mut lines) = subscriber(&url, &from_the_first);
    let mut events = vec![next(&mut lines)];
    assert!(publish(&url, "second", &trust).status.success());
    events.push(next(&mut lines));
    assert_eq!(data(&events), ["first", "second"]);

    let untrusted = complaint(&publish(&url, "third", &[]));
    assert!(untrusted.contains("certificate"), "{untrusted}");
    let absent = complaint(&publish(&url, "third", &["--ca-cert", "/absent.pem"]));
    assert!(
        absent.contains("cannot read the certificate /absent.pem"),
        "{absent}"
    );
    let wrong = complaint(&publish(&url, "third", &["--ca-cert", &key]));
    assert!(wrong.contains("BEGIN CERTIFICATE"), "{wrong}");
}
