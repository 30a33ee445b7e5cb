//! What a browser loads: files that are the hub's own, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::server::Server;

const CLIENT: &str = "/client/index.js";

#[test]
fn a_file_comes_with_its_type_and_with_what_a_browser_must_not_do() {
    let server = Server::start();
    for (path, media_type) in [
        ("/console", "text/html; charset=utf-8"),
        ("/sse-test", "text/html; charset=utf-8"),
        (CLIENT, "text/javascript; charset=utf-8"),
        ("/static/page.js", "text/javascript; charset=utf-8"),
        ("/static/design.css", "text/css; charset=utf-8"),
        ("/static/favicon.svg", "image/svg+xml"),
        (
            "/static/js/sse/enhanced_sse_client.js",
            "text/javascript; charset=utf-8",
        ),
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type"), Some(media_type), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for promise in [
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(policy.contains(promise), "{path}: {promise} in {policy}");
        }
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

/// A pattern that leaves a file out of the binary is noticed here, and not by the first page that misses it. The patterns hold in a
/// debug build too, which reads the files from the folder.
#[test]
fn every_file_of_the_pages_and_modules_is_served_as_it_is() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
    let server = Server::start();
    for (folder, route, at_least) in [
        ("static", "/static", 20),
        ("client/src", "/client", 10),
        ("elements", "/elements", 5),
        ("react/src", "/react", 5),
    ] {
        let folder = web.join(folder);
        let mut served = 0;
        for file in files(&folder) {
            let name = file.strip_prefix(&folder).unwrap().to_str().unwrap();
            let ending = file.extension().and_then(|it| it.to_str());
            let is_test = name.split('/').any(|part| part == "test");
            let is_for_browsers = matches!(ending, Some("html" | "js" | "css" | "svg" | "png"));
            let path = format!("{route}/{name}");
            let reply = server.get(&path);
            if is_test || !is_for_browsers {
                assert_eq!(reply.status, 404, "{path}");
            } else {
                assert_eq!(reply.status, 200, "{path}");
                assert!(reply.body == fs::read(&file).unwrap(), "{path} differs");
                served += 1;
            }
        }
        assert!(served >= at_least, "{route}: {served}");
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
