//! Applications with a login of their own, in Flask and in Express, whose sessions open the hub: `--auth-url`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::browser;
use crate::clients::reading::Scripts;
use crate::hub::{Guard, Hub, wait_until};

/// An application, and what it has printed.
struct App {
    url: String,
    said: Arc<Mutex<Vec<String>>>,
    _process: Guard,
}

impl App {
    fn start(scripts: &Scripts, script: &str) -> Self {
        let mut command = scripts.command(script);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = Guard(child.unwrap_or_else(|error| {
            panic!("{command:?}: {error}; `cargo xtask setup` installs it")
        }));
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it says where it listens").unwrap();
        let url = first.strip_prefix("listening on ").unwrap().to_owned();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        Self {
            url,
            said,
            _process: process,
        }
    }
}

/// A visitor: curl, with the cookies that it was given.
struct Visitor<'a> {
    cookies: PathBuf,
    hub: &'a Hub,
    app: &'a App,
}

impl<'a> Visitor<'a> {
    fn new(folder: &Path, name: &str, hub: &'a Hub, app: &'a App) -> Self {
        let cookies = folder.join(name);
        Self { cookies, hub, app }
    }

    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sN", "--noproxy", "*", "--cookie"]);
        curl.arg(&self.cookies)
            .arg("--cookie-jar")
            .arg(&self.cookies);
        curl
    }

    /// The status of an answer.
    fn status(&self, arguments: &[&str]) -> String {
        let mut curl = self.curl();
        curl.args([
            "--max-time",
            "30",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        let output = curl.args(arguments).output();
        let output = output.expect("curl runs; `cargo xtask setup` installs it");
        String::from_utf8(output.stdout).unwrap()
    }

    fn logs_in(&self, name: &str) {
        let url = format!("{}/login?user={name}", self.app.url);
        assert_eq!(self.status(&[&url]), "200");
    }

    fn logs_out(&self) {
        assert_eq!(self.status(&[&format!("{}/logout", self.app.url)]), "200");
    }

    fn polls(&self) -> String {
        self.status(&[&format!("{}/poll?topic=news", self.hub.events())])
    }

    fn publishes(&self, topic: &str, data: &str) -> String {
        let event = format!(r#"{{"topic": "{topic}", "data": "{data}"}}"#);
        let header = "Content-Type: application/json";
        self.status(&["--header", header, "--data", &event, &self.hub.events()])
    }

    /// A stream of the hub's, after its greeting.
    fn opens(&self) -> (Guard, impl Iterator<Item = String> + use<>) {
        let url = format!("{}?topic=news", self.hub.events());
        let child = self.curl().arg(url).stdout(Stdio::piped()).spawn().unwrap();
        let mut process = Guard(child);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let greeting = lines.find(|line| line == "event: connected");
        assert!(greeting.is_some(), "the stream was refused");
        (process, lines)
    }
}

/// Logs in and out, with curl and in a browser.
fn logs_in_and_out(script: &str, cookie: &str, keeps_sessions: bool) {
    let scripts = Scripts::lay_out();
    let app = App::start(&scripts, script);
    let hub = Hub::start(&[
        "--auth-url",
        &format!("{}/hub-access", app.url),
        "--auth-cookie",
        cookie,
        "--auth-cache",
        "1s",
        "--allowed-origin",
        &app.url,
    ]);
    let folder = tempfile::tempdir().unwrap();
    let ann = Visitor::new(folder.path(), "ann", &hub, &app);
    assert_eq!(ann.polls(), "401", "nobody has logged in");
    ann.logs_in("ann");
    let (_stream, mut lines) = ann.opens();
    assert_eq!(ann.publishes("news", "hello"), "200");
    assert_eq!(ann.publishes("secret", "hello"), "403");
    assert!(lines.any(|line| line == "data: hello"), "the stream ended");

    // A browser with a session of its own, on a page of the application.
    let page = format!("{}/login?user=bob&hub=http://{}", app.url, hub.address());
    let browser = browser::show(&page);
    wait_until("the page has heard an event", || {
        assert_eq!(ann.publishes("news", "for the page"), "200");
        let said = app.said.lock().unwrap();
        said.iter().any(|line| line == "heard bob for the page")
    });
    drop(browser);

    let copy = Visitor::new(folder.path(), "copy", &hub, &app);
    std::fs::copy(&ann.cookies, &copy.cookies).unwrap();
    ann.logs_out();
    assert_eq!(ann.polls(), "401", "the cookie is gone");
    let url = format!("{}?topic=news", hub.events());
    assert_eq!(ann.status(&[&url]), "401");
    if keeps_sessions {
        wait_until("a copied cookie is of no use", || copy.polls() == "401");
    } else {
        // Flask's session is the cookie: whoever has copied it has it, also when the kept answer is over.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert_eq!(copy.polls(), "200");
    }
    assert!(hub.ends_well());
}

#[test]
fn the_sessions_of_a_flask_application_open_the_hub() {
    logs_in_and_out("login_flask.py", "session", false);
}

#[test]
fn the_sessions_of_an_express_application_open_the_hub() {
    logs_in_and_out("login_express.mjs", "connect.sid", true);
}
