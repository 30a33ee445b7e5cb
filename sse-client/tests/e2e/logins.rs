//! The recipes of `docs/security.md` at work: applications in Flask, FastAPI and Express whose logins open the hub, with nginx in
//! front of both, and an application that signs tokens.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::browser;
use crate::clients::reading::Scripts;
use crate::hub::{self, Guard, Hub, self_signed, wait_until};
use crate::proxies::Program;
use crate::recipes::text;

/// An application, and what it has printed.
struct App {
    address: String,
    said: Arc<Mutex<Vec<String>>>,
    _process: Guard,
    _scripts: Scripts,
}

impl App {
    /// Starts one whose answers hold for some seconds.
    fn start(script: &str, seconds: u32, variables: &[(&str, &str)]) -> Self {
        let scripts = Scripts::lay_out();
        let mut command = scripts.command(script);
        command
            .env(
                "SECRET_KEY",
                "as long as it needs to be, and not a real one",
            )
            .env("HUB_EXPIRES_IN", seconds.to_string())
            .envs(variables.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = Guard(child.unwrap_or_else(|error| {
            panic!("{command:?}: {error}; `cargo xtask setup` installs it")
        }));
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it says where it listens").unwrap();
        let address = first.strip_prefix("listening on http://").unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        Self {
            address: address.to_owned(),
            said,
            _process: process,
            _scripts: scripts,
        }
    }

    /// Whether a page has told that it heard this.
    fn was_told(&self, line: &str) -> bool {
        self.said.lock().unwrap().iter().any(|said| said == line)
    }
}

/// The application and the hub behind nginx, started as the page says.
struct Site {
    app: App,
    hub: Hub,
    /// Where programs reach the hub.
    hub_url: String,
    /// What a browser has in its address bar.
    origin: String,
    /// Where management is.
    admin: String,
    folder: TempDir,
    _nginx: Guard,
}

/// Another text in place of one that must be there.
fn replaced(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in {text}");
        text.replace(from, to)
    })
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Settings with the whole paths of these files.
fn in_folder(folder: &TempDir, settings: &str, names: &[&str]) -> String {
    names.iter().fold(settings.to_owned(), |settings, name| {
        let path = format!("{:?}", folder.path().join(name));
        replaced(&settings, &[(&format!("{name:?}"), &path)])
    })
}

/// The hub with these settings and the page's tokens, and where its management is.
fn start_hub(folder: &TempDir, settings: &str) -> (Hub, String) {
    let admin = free_address();
    let settings = replaced(settings, &[("127.0.0.1:9090", &admin)]);
    let settings = in_folder(folder, &settings, &["sse-tokens.json", "audit.jsonl"]);
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, settings).unwrap();
    let prepared = run(folder, &text("tokens.sh"));
    assert!(prepared.status.success(), "{prepared:?}");
    let hub = Hub::start(&["--config", path.to_str().unwrap(), "--retry", "200ms"]);
    (hub, admin)
}

/// nginx in front of both, as the page says, and its origin.
fn start_nginx(folder: &TempDir, hub: &str, app: &str) -> (Guard, String) {
    let listen = free_address();
    let (certificate, key) = self_signed(folder.path());
    let configuration = replaced(
        &text("nginx.conf"),
        &[
            ("127.0.0.1:8080", hub),
            ("127.0.0.1:3000", app),
            ("listen 443", &format!("listen {listen}")),
            ("/etc/ssl/app.pem", &certificate),
            ("/etc/ssl/app-key.pem", &key),
        ],
    );
    let process = Program::Nginx.start(folder.path(), &configuration);
    wait_until("nginx listens", || TcpStream::connect(&listen).is_ok());
    let (_, port) = listen.rsplit_once(':').unwrap();
    (process, format!("https://localhost:{port}"))
}

impl Site {
    /// One whose hub asks the application about cookies, behind the same nginx.
    fn start(script: &str, changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = App::start(script, 4, &[]);
        let settings = replaced(&text("hub.toml"), &[("127.0.0.1:3000", &app.address)]);
        let settings = replaced(&settings, changes);
        let settings = replaced(&settings, &[("app.example", "localhost")]);
        let (hub, admin) = start_hub(&folder, &settings);
        let (nginx, origin) = start_nginx(&folder, hub.address(), &app.address);
        let hub_url = format!("http://{}", hub.address());
        Self {
            app,
            hub,
            hub_url,
            origin,
            admin,
            folder,
            _nginx: nginx,
        }
    }

    /// One whose hub has a name of its own and takes tokens that the application signs.
    fn start_apart(seconds: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("hub-secret");
        std::fs::write(&secret, "long enough, and secret only for a test\n").unwrap();
        let variables = [("HUB_SECRET_FILE", secret.to_str().unwrap())];
        let app = App::start("recipe_fastapi.py", seconds, &variables);
        // Nothing is asked of a hub behind this nginx.
        let (nginx, origin) = start_nginx(&folder, "127.0.0.1:9", &app.address);
        let settings = replaced(
            &text("ticket_hub.toml"),
            &[
                (r#"":443""#, r#""127.0.0.1:0""#),
                ("hub.example", "localhost"),
                ("https://app.example", &origin),
            ],
        );
        let settings = in_folder(
            &folder,
            &settings,
            &["hub.pem", "hub-key.pem", "hub-secret"],
        );
        let (hub, admin) = start_hub(&folder, &settings);
        let (_, port) = hub.address().rsplit_once(':').unwrap();
        let hub_url = format!("https://localhost:{port}");
        Self {
            app,
            hub,
            hub_url,
            origin,
            admin,
            folder,
            _nginx: nginx,
        }
    }

    /// Runs one of the page's scripts against this hub.
    fn runs(&self, script: &str, changes: &[(&str, &str)]) -> Output {
        let script = replaced(&text(script), changes);
        let script = script
            .replace("curl", "curl --cacert hub.pem")
            .replace("http://127.0.0.1:8080", &self.hub_url)
            .replace("127.0.0.1:9090", &self.admin);
        run(&self.folder, &script)
    }

    /// Publishes as the application's backend does.
    fn publish(&self, topic: &str, data: &str) {
        let changes = [("user/ann", topic), ("your report is ready", data)];
        let output = self.runs("publish.sh", &changes);
        assert!(output.status.success(), "{output:?}");
    }

    /// What management says.
    fn manages(&self, path: &str) -> Value {
        let token = std::fs::read_to_string(self.folder.path().join("operator-token")).unwrap();
        let output = Command::new("curl")
            .args(["-fsS", "--noproxy", "*", "--header"])
            .arg(format!("Authorization: Bearer {}", token.trim()))
            .arg(format!("http://{}{path}", self.admin))
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn visitor(&self, name: &str) -> Visitor<'_> {
        Visitor::new(&self.folder, name, &self.origin)
    }
}

/// Runs a script of the page in a folder, with the server's program in the path.
fn run(folder: &TempDir, script: &str) -> Output {
    let server = hub::server();
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder.path())
        .env(
            "PATH",
            format!("{}:{path}", server.parent().unwrap().display()),
        )
        .env("no_proxy", "*")
        .output()
        .unwrap()
}

/// A visitor: curl, with the cookies that it was given.
struct Visitor<'a> {
    cookies: PathBuf,
    certificate: PathBuf,
    origin: &'a str,
    /// Where it comes from.
    address: &'static str,
}

impl<'a> Visitor<'a> {
    fn new(folder: &TempDir, name: &str, origin: &'a str) -> Self {
        Self {
            cookies: folder.path().join(format!("cookies-{name}")),
            certificate: folder.path().join("hub.pem"),
            origin,
            address: "127.0.0.1",
        }
    }

    fn from(self, address: &'static str) -> Self {
        Self { address, ..self }
    }

    fn curl(&self, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sN4", "--noproxy", "*", "--interface", self.address])
            .arg("--cacert")
            .arg(&self.certificate)
            .arg("--cookie")
            .arg(&self.cookies)
            .arg("--cookie-jar")
            .arg(&self.cookies)
            .arg(format!("{}{path}", self.origin));
        curl
    }

    /// The status of an answer, and its text.
    fn answer(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let mut curl = self.curl(path);
        curl.args(["--max-time", "30", "--write-out", "\n%{http_code}"]);
        let output = curl.args(arguments).output();
        let output = output.expect("curl runs; `cargo xtask setup` installs it");
        let output = String::from_utf8(output.stdout).unwrap();
        let (text, status) = output.rsplit_once('\n').unwrap();
        (status.to_owned(), text.to_owned())
    }

    fn gets(&self, path: &str) -> String {
        self.answer(path, &[]).0
    }

    fn posts(&self, path: &str, body: &Value) -> (String, String) {
        let header = "Content-Type: application/json";
        let body = body.to_string();
        self.answer(path, &["--header", header, "--data", &body])
    }

    fn logs_in(&self, name: &str) {
        assert_eq!(self.posts("/login", &json!({"user": name})).0, "200");
    }

    fn logs_out(&self) {
        assert_eq!(self.posts("/logout", &json!({})).0, "200");
    }

    /// A stream of the hub's, after its greeting.
    fn opens(&self) -> (Guard, impl Iterator<Item = String> + use<>) {
        self.opens_at("/events")
    }

    fn opens_at(&self, path: &str) -> (Guard, impl Iterator<Item = String> + use<>) {
        let mut curl = self.curl(path);
        // What a visitor writes himself does not count.
        curl.args(["--header", "X-Forwarded-For: 192.0.2.1"]);
        // A stream that should end and does not is no reason to wait for ever.
        curl.args(["--max-time", &(2 * PATIENCE).as_secs().to_string()]);
        let child = curl.stdout(Stdio::piped()).spawn().unwrap();
        let mut process = Guard(child);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let greeting = lines.find(|line| line == "event: connected");
        assert!(greeting.is_some(), "the stream was refused");
        (process, lines)
    }
}

/// The next data that was published, of this test's.
fn next_data(lines: &mut impl Iterator<Item = String>) -> String {
    let found = lines.find_map(|line| line.strip_prefix("data: for ").map(str::to_owned));
    found.expect("the stream ended")
}

/// The code with which a stream ends.
fn last_code(lines: impl Iterator<Item = String>) -> Value {
    let data = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let last = data.last().expect("a last word");
    serde_json::from_str::<Value>(&last).unwrap()["code"].clone()
}

/// Logs in and out, with curl and in a browser.
fn logs_in_and_out(script: &str) {
    let site = Site::start(script, &[]);
    let stranger = site.visitor("stranger");
    for path in ["/events", "/events/poll", "/events?topic=user/ann"] {
        assert_eq!(stranger.gets(path), "401", "{path}");
    }
    for inside in [
        "/hub-access",
        "/HUB-access/",
        "/events/stats",
        "/events/connections",
    ] {
        assert_eq!(stranger.gets(inside), "404", "{inside}");
    }

    let ann = site.visitor("ann");
    ann.logs_in("ann");
    let (_stream, mut lines) = ann.opens();
    site.publish("user/bob", "for bob");
    site.publish("secret", "for nobody");
    site.publish("user/ann", "for ann");
    site.publish("news", "for all");
    assert_eq!(next_data(&mut lines), "ann");
    assert_eq!(next_data(&mut lines), "all");
    for foreign in ["user/bob", "secret"] {
        let path = format!("/events?topic={foreign}");
        assert_eq!(ann.gets(&path), "403", "{foreign}");
    }
    let event = json!({"topic": "news", "data": "for all"});
    assert_eq!(ann.posts("/events", &event).0, "403");
    assert_eq!(ann.gets("/hub-access"), "404");

    // A browser with a session of its own, on a page of the application.
    let page = format!("{}/start?user=bob&script=page.js", site.origin);
    let browser = browser::show(&page);
    wait_until("the page has heard what is its user's", || {
        site.publish("user/ann", "for ann");
        site.publish("user/bob", "for bob");
        site.app.was_told("heard bob for bob")
    });
    assert!(!site.app.was_told("heard bob for ann"));
    drop(browser);

    // What was copied is of no use after the logout either.
    let copy = site.visitor("copy");
    std::fs::copy(&ann.cookies, &copy.cookies).unwrap();
    ann.logs_out();
    assert_eq!(ann.gets("/events"), "401", "the cookie is gone");
    assert_eq!(last_code(lines), "revoked");
    wait_until("a copied cookie is of no use", || {
        copy.gets("/events/poll") == "401"
    });
    assert!(site.hub.ends_well());
}

#[test]
fn the_sessions_of_a_flask_application_open_the_hub() {
    logs_in_and_out("recipe_flask.py");
}

#[test]
fn the_sessions_of_a_fastapi_application_open_the_hub() {
    logs_in_and_out("recipe_fastapi.py");
}

#[test]
fn the_sessions_of_an_express_application_open_the_hub() {
    logs_in_and_out("recipe_express.mjs");
}

#[test]
fn each_user_behind_nginx_has_an_address_and_a_limit_of_its_own() {
    let change = [(
        "max-connections-per-user = 20",
        "max-connections-per-user = 2",
    )];
    let site = Site::start("recipe_flask.py", &change);
    let ann = site.visitor("ann").from("127.1.0.1");
    ann.logs_in("ann");
    let _streams = [ann.opens(), ann.opens()];
    let elsewhere = Visitor {
        cookies: ann.cookies.clone(),
        ..site.visitor("elsewhere").from("127.1.0.2")
    };
    for visitor in [&ann, &elsewhere] {
        let (status, text) = visitor.answer("/events", &[]);
        assert_eq!(status, "503", "{text}");
        assert!(text.contains("user_full"), "{text}");
    }
    // Another user of the same address has places of its own.
    let bob = site.visitor("bob").from("127.1.0.1");
    bob.logs_in("bob");
    let _stream = bob.opens();
    let answer = site.manages("/events/connections");
    let connections = answer["connections"].as_array().unwrap();
    let mut seen: Vec<_> = connections
        .iter()
        .map(|it| {
            (
                it["user_id"].as_str().unwrap(),
                it["user_ip"].as_str().unwrap(),
            )
        })
        .collect();
    seen.sort_unstable();
    let expected = ["ann", "ann", "bob"].map(|user| (user, "127.1.0.1"));
    assert_eq!(seen, expected);
}

#[test]
fn rights_are_checked_and_taken_back_as_the_page_says() {
    let site = Site::start("recipe_flask.py", &[]);
    let checked = site.runs("rights.sh", &[]);
    assert!(checked.status.success(), "{checked:?}");

    let ann = site.visitor("ann");
    ann.logs_in("ann");
    let (_stream, lines) = ann.opens();
    let taken = site.runs("revoke_user.sh", &[]);
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(last_code(lines), "revoked");
    let again = site.visitor("again");
    again.logs_in("ann");
    let poll = "/events/poll?topic=news";
    assert_eq!(again.gets(poll), "200", "who logs in again gets in");
    wait_until("so does a login that was not ended", || {
        ann.gets(poll) == "200"
    });

    site.publish("news", "for all");
    let token = std::fs::read_to_string(site.folder.path().join("backend-token")).unwrap();
    let id = token.split('_').nth(1).unwrap().to_owned();
    let taken = site.runs("revoke_token.sh", &[("$ID", &id)]);
    assert!(taken.status.success(), "{taken:?}");
    wait_until("the backend's token is of no use", || {
        !site.runs("publish.sh", &[]).status.success()
    });
}

/// Has a page read with tickets, and disturbs it once it does.
fn reads_with_tickets(seconds: u32, disturb: impl FnOnce(&mut Site)) {
    let mut site = Site::start_apart(seconds);
    let page = format!(
        "{}/start?user=bob&hub={}&script=page_ticket.js",
        site.origin, site.hub_url
    );
    let _browser = browser::show(&page);
    wait_until("the page has heard what is its user's", || {
        site.publish("user/ann", "for ann");
        site.publish("user/bob", "for bob");
        site.app.was_told("heard bob for bob")
    });
    disturb(&mut site);
    site.publish("news", "for all");
    wait_until("the page goes on", || {
        site.app.was_told("heard bob for all")
    });
    assert!(!site.app.was_told("heard bob for ann"));
}

#[test]
fn a_page_whose_ticket_is_used_gets_another_and_misses_nothing() {
    reads_with_tickets(300, |site| {
        site.hub.kill();
        site.hub.start_again();
    });
}

#[test]
fn a_page_whose_token_is_over_gets_another() {
    reads_with_tickets(3, |_| std::thread::sleep(Duration::from_secs(5)));
}

#[test]
fn a_stream_with_a_ticket_has_its_users_rights_and_ends_soon_after_the_logout() {
    let site = Site::start_apart(3);
    let checked = site.runs("rights_signed.sh", &[("ticket_hub.toml", "hub.toml")]);
    assert!(checked.status.success(), "{checked:?}");
    let ann = site.visitor("ann");
    assert_eq!(ann.posts("/hub-token", &json!({})).0, "401");
    ann.logs_in("ann");
    let of = |answer: (String, String), name: &str| {
        let said: Value = serde_json::from_str(&answer.1).unwrap();
        said[name].as_str().unwrap().to_owned()
    };
    let token = of(ann.posts("/hub-token", &json!({})), "token");
    let hub = Visitor::new(&site.folder, "nobody", &site.hub_url);
    let header = format!("Authorization: Bearer {token}");
    let asked = ["--request", "POST", "--header", &header];
    let ticket = of(hub.answer("/events/tickets", &asked), "ticket");
    let (_stream, lines) = hub.opens_at(&format!("/events?ticket={ticket}"));
    ann.logs_out();
    assert_eq!(ann.posts("/hub-token", &json!({})).0, "401");
    assert_eq!(last_code(lines), "expired");
}
