//! `sse-server config …`.

use std::process::Output;

use serde_json::Value;

use crate::server::{Server, command, folder};

fn config(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command();
    command.arg("config").args(args);
    for (name, value) in variables {
        command.env(name, value);
    }
    command.output().unwrap()
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_with_its_line() {
    let folder = folder();
    let path = folder.path().join("hub.toml");
    std::fs::write(
        &path,
        "max-conections = 5\nlog = \"info\"\nheartbeat = \"soon\"\nretain = 7\n",
    )
    .unwrap();
    let file = ["--config", path.to_str().unwrap()];
    let output = config(&[&["check"], &file[..]].concat(), &[]);
    let (_, errors) = told(&output);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    for (line, words) in lines.iter().zip([
        "line 1: there is no setting max-conections; did you mean max-connections?",
        "line 3: heartbeat",
        "line 4: retain",
    ]) {
        assert!(
            line.starts_with("error: ") && line.contains(words),
            "{line}"
        );
    }
    // The files that it names are looked at too, and flags and variables count.
    for (text, flags, variables, words) in [
        (
            "tls-cert = \"/nowhere\"\ntls-key = \"/nowhere\"",
            &[][..],
            &[][..],
            "/nowhere",
        ),
        ("jwt-secret = \"/nowhere\"", &[], &[], "--jwt-secret"),
        ("", &["--listen", ":0"], &[], "--allow-anonymous"),
        ("", &[], &[("SSE_HEARTBEAT", "soon")], "heartbeat"),
        ("", &[], &[("SSE_HEARTBAET", "30s")], "SSE_HEARTBEAT"),
        ("not toml", &[], &[], "line 1"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = config(&[&["check"], &file[..], flags].concat(), variables);
        let (_, errors) = told(&output);
        assert!(
            !output.status.success() && errors.contains(words),
            "{text}: {errors}"
        );
    }
    std::fs::write(&path, "max-connections = 5").unwrap();
    let output = config(&[&["check"], &file[..]].concat(), &[]);
    assert!(output.status.success(), "{:?}", told(&output));
}

#[test]
fn what_holds_is_shown_with_its_origin_and_can_be_used_as_a_file() {
    let folder = folder();
    let path = folder.path().join("hub.toml");
    std::fs::write(
        &path,
        "max-jobs = 9\nheartbeat = \"20s\"\n[anonymous]\nsubscribe = [\"news\"]\n",
    )
    .unwrap();
    let args = [
        "print",
        "--origin",
        "--config",
        path.to_str().unwrap(),
        "--heartbeat",
        "10s",
        "--auth-url",
        "https://app.example/check?key=hunter2",
        "--listen",
        "8080",
        "--listen",
        "unix:/run/hub.sock",
    ];
    let (text, errors) = told(&config(&args, &[("SSE_LOG", "warn")]));
    assert_eq!(errors, "");
    for line in [
        "heartbeat = \"10s\"  # --heartbeat",
        "max-jobs = 9  # file",
        "log = \"warn\"  # SSE_LOG",
        "#max-body = \"4MiB\"  # default",
        "#tls-cert is not set  # default",
        "listen = [\"8080\", \"unix:/run/hub.sock\"]  # --listen",
        "auth-url = \"https://app.example/check?hidden\"  # --auth-url",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"));
    let copy = folder.path().join("copy.toml");
    std::fs::write(&copy, &text).unwrap();
    let output = config(&["check", "--config", copy.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{:?}", told(&output));
}

#[test]
fn a_file_to_begin_with_is_written_once_and_starts_a_hub() {
    let folder = folder();
    let path = folder.path().join("hub.toml");
    let path = path.to_str().unwrap();
    for profile in ["development", "production"] {
        let _ = std::fs::remove_file(path);
        assert!(
            config(&["init", "--profile", profile, "--output", path], &[])
                .status
                .success()
        );
        assert!(config(&["check", "--config", path], &[]).status.success());
        let server = Server::with(&["--config", path]);
        let stats = server.get("/events/stats").ok();
        let expected = if profile == "development" { 100 } else { 1000 };
        assert_eq!(stats["max_connections"], expected);
    }
    let (_, errors) = told(&config(&["init", "--output", path], &[]));
    assert!(errors.contains(path), "what is there is kept: {errors}");
    let (printed, _) = told(&config(&["init"], &[]));
    assert_eq!(printed, std::fs::read_to_string(path).unwrap());
    let (schema, _) = told(&config(&["schema"], &[]));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["max-connections"].is_object());
}
