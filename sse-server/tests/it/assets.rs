//! What a browser loads: files that are the hub's own, and nothing else.

use crate::server::Server;

const CLIENT: &str = "/client/index.js";

#[test]
fn a_file_comes_with_its_type_and_with_what_a_browser_must_not_do() {
    let server = Server::start();
    for (path, media_type) in [
        (CLIENT, "text/javascript; charset=utf-8"),
        (
            "/static/js/sse/enhanced_sse_client.js",
            "text/javascript; charset=utf-8",
        ),
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type"), Some(media_type));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("require-trusted-types-for 'script'"));
    }
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let server = Server::start();
    let tag = server.get(CLIENT).header("etag").unwrap().to_owned();
    for known in [tag.clone(), format!("\"other\", W/{tag}")] {
        let reply = server.request("GET", CLIENT, &[("If-None-Match", &known)], b"");
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{known}");
        assert_eq!(reply.header("etag"), Some(&*tag));
    }
    let reply = server.request("GET", CLIENT, &[("If-None-Match", "\"other\"")], b"");
    assert_eq!(reply.status, 200);
}

#[test]
fn nothing_else_is_found() {
    let server = Server::start();
    for path in [
        "/client/",
        "/client/nothing.js",
        "/client/../package.json",
        "/client/../../Cargo.toml",
        "/client/%2e%2e/%2e%2e/package.json",
        "/client/..%2f..%2fpackage.json",
        "/client/%2fetc%2fpasswd",
        "/client//etc/passwd",
        "/client/..%5c..%5cpackage.json",
        "/client/index.js%00",
        "/static/test/console.test.js",
        "/static/js",
        "/react/..",
    ] {
        let status = server.get(path).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(server.request(method, CLIENT, &[], b"").status, 405);
    }
}
