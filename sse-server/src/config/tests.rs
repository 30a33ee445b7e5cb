use std::ffi::OsString;

use clap::{Args as _, Command};
use sse_broker::Durability;

use super::environment::variable;
use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, text).unwrap();
    Config::new(read_file(&path)?)
}

/// What the file is refused with.
#[track_caller]
fn complaint(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("{text} is taken"),
        Err(error) => error.to_string(),
    }
}

fn options() -> Command {
    Settings::augment_args(Command::new("hub"))
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:8080"]);
    assert_eq!(config.hub.heartbeat, Some(Duration::from_secs(30)));
    assert!(matches!(
        config.storage,
        Storage::Disk {
            durability: Durability::Fsync,
            ..
        }
    ));
}

#[test]
fn values_are_read_with_their_units() {
    let config = parse(
        "max-connections = 500\nheartbeat = \"15s\"\nidle-timeout = 300\nwindow = \"1MiB\"\nmax-jobs = 0x10\n\
         drain-timeout = 0.5",
    )
    .unwrap();
    assert_eq!(config.hub.max_connections, 500);
    assert_eq!(config.hub.heartbeat, Some(Duration::from_secs(15)));
    assert_eq!(config.hub.window_bytes, 1 << 20);
    assert_eq!(config.hub.max_jobs, 16);
    assert_eq!(config.drain_timeout, Duration::from_millis(500));
}

/// A value that each option takes. An option that is not here fails the test.
fn value(option: &str) -> &'static str {
    match option {
        "listen" | "admin-listen" => "localhost:0",
        "tls-min-version" => "1.3",
        "tls-client-auth" => "optional",
        "tls-client-user-prefix" => "client-",
        "tls-client-grants" => r#"{"backend": {"publish": ["*"]}}"#,
        "tls-cert" | "tls-key" | "tls-client-ca" | "tls-client-crl" | "audit-log" | "data-dir"
        | "jwt-key" | "jwt-secret" | "token-file" => "a/path",
        "auth-url" | "jwt-jwks-url" => "https://app.example/authenticate",
        "auth-cookie" => "session",
        "auth-timeout" | "auth-cache" => "7s",
        "jwt-issuer" | "jwt-audience" | "jwt-session-claim" => "text",
        "anonymous" | "authenticated" => r#"{"subscribe": ["news"]}"#,
        "refusals" => "status",
        "ephemeral" | "allow-anonymous" | "core-dumps" | "same-log" | "trust-clock" => "true",
        "durability" => "os",
        "allowed-host" => "*.example.com",
        "allowed-origin" => "https://app.example",
        "trusted-proxy" => "10.1.0.0/16",
        "trusted-proxy-header" => "PROXY",
        "allowed-event-type" => "progress",
        "never-compress" => "secret/*",
        "log" => "debug",
        "log-format" => "json",
        "heartbeat-form" => "comment",
        "overflow" => "drop-oldest",
        "compression-level" => "best",
        "retain" => "a,b;max-age=1h;max-count=2",
        "when-late" => "a,b/*;sample=100ms,key",
        "late-after" => "2s",
        "health-threshold" => "memory=80%,95%",
        "ready-needs" => "log",
        "max-connections"
        | "max-connections-per-ip"
        | "max-connections-per-user"
        | "max-requests"
        | "max-requests-per-ip"
        | "max-subscriptions"
        | "max-jobs"
        | "max-named-subscriptions"
        | "retention-events" => "7",
        "connect-rate" | "publish-rate" | "failed-credential-rate" => "30/m:10",
        "publish-bytes-rate" => "1MiB:8MiB",
        "memory" => "1GiB",
        "max-body"
        | "max-event"
        | "window"
        | "compression-threshold"
        | "stream-compression"
        | "retention-size" => "64KiB",
        "drain-timeout"
        | "heartbeat"
        | "max-heartbeat"
        | "max-linger"
        | "retry"
        | "send-timeout"
        | "idle-timeout"
        | "sweep-interval"
        | "retention-age"
        | "named-subscription-expiry" => "20s",
        other => panic!("no value to try --{other} with"),
    }
}

#[test]
fn every_option_is_a_key_of_the_file_and_a_variable_by_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let mut count = 0;
    for option in options().get_arguments() {
        let Some(name) = option.get_long() else {
            panic!("{option} has no long name");
        };
        if name == "help" {
            continue;
        }
        let value = value(name);
        let matches = options()
            .try_get_matches_from(["hub".to_owned(), format!("--{name}={value}")])
            .unwrap();
        let flag = <Settings as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        std::fs::write(&path, format!("{name} = {value:?}")).unwrap();
        let file = read_file(&path).unwrap();
        assert_eq!(format!("{flag:?}"), format!("{file:?}"), "{name}");
        assert_ne!(
            format!("{file:?}"),
            format!("{:?}", Settings::default()),
            "{name}"
        );
        let variable = variable(name);
        assert_eq!(option.get_env(), Some(variable.as_ref()), "{name}");
        count += 1;
    }
    assert!(count > 35, "{count}");
}

#[test]
fn a_list_in_the_file_is_taken_as_it_is() {
    let config = parse(
        "allowed-host = [\"a.example\", \"*.b.example:1\"]\nallowed-origin = \"https://a, https://b/\"\n\
         never-compress = [\"a,b\"]\nlisten = [\"127.0.0.1:0\", \"localhost:1\"]\nallowed-event-type = [\"x\", \"y\"]",
    )
    .unwrap();
    let hosts: Vec<_> = config
        .http
        .allowed_hosts
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hosts, ["a.example", "*.b.example:1"]);
    let origins: Vec<_> = config
        .http
        .allowed_origins
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(origins, ["https://a", "https://b"]);
    assert!(config.hub.never_compress[0].is_match("a,b"));
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.hub.allowed_event_types.unwrap().len(), 2);
}

#[test]
fn a_mistake_names_its_line_and_key_and_what_was_meant() {
    for (text, words) in [
        (
            "listen = \"127.0.0.1:0\"\nmax-conections = 5",
            "line 2: there is no setting max-conections; did you mean max-connections?",
        ),
        (
            "max_connections = 5",
            "line 1: there is no setting max_connections; did you mean max-connections?",
        ),
        ("allowed-hosts = \"a\"", "did you mean allowed-host?"),
        ("port = 8080", "did you mean listen?"),
        ("[[retention]]\ntopics = \"a\"", "did you mean retain?"),
        (
            "colour = \"red\"",
            "line 1: there is no setting colour; the keys are",
        ),
        (
            "[server]\nlisten = \"8080\"",
            "line 1: there are no sections",
        ),
        (
            "\nheartbeat = \"soon\"",
            "line 2: heartbeat: \"soon\" is not a valid duration; write it like",
        ),
        (
            "heartbeat = true",
            "line 1: heartbeat: \"true\" is not a valid duration",
        ),
        (
            "\n\nmax-connections = \"many\"",
            "line 3: max-connections: \"many\" is not valid: ",
        ),
        (
            "max-connections = -1",
            "line 1: max-connections: \"-1\" is not valid: ",
        ),
        (
            "max-connections = 1.5",
            "line 1: max-connections: \"1.5\" is not valid: ",
        ),
        (
            "max-connections = [1, 2]",
            "line 1: max-connections: takes one value and not a list",
        ),
        (
            "max-connections = {a = 1}",
            "line 1: max-connections: must be text, a number, true or false, and is a table",
        ),
        (
            "max-connections = 1979-05-27",
            "line 1: max-connections: must be text, a number, true or false, and is a date",
        ),
        (
            "ephemeral = \"perhaps\"",
            "line 1: ephemeral: \"perhaps\" is not possible; write true or false",
        ),
        (
            "ephemeral = 1",
            "line 1: ephemeral: \"1\" is not possible; write true or false",
        ),
        (
            "durability = \"\"",
            "line 1: durability needs a value: fsync or os",
        ),
        (
            "log-format = \"xml\"",
            "line 1: log-format: \"xml\" is not possible; write text or json",
        ),
        (
            "allowed-host = [\"a\",\n \"https://b\"]",
            "allowed-host: \"https://b\" has a scheme; write the host name alone, for example b",
        ),
        (
            "allowed-host = [[\"a\"]]",
            "line 1: allowed-host: must be text",
        ),
        (
            "allowed-event-type = [\"a,b\"]",
            "line 1: allowed-event-type: \"a,b\" has a blank, comma or control",
        ),
        (
            "allowed-event-type = [\"a\\nb\"]",
            "line 1: allowed-event-type: \"a\\nb\" has a blank, comma or control",
        ),
        (
            "allowed-event-type = \"\"",
            "line 1: allowed-event-type: \"\" is empty",
        ),
        (
            "allowed-event-type = \"ping\"",
            "line 1: allowed-event-type: \"ping\" is the hub's own",
        ),
        (
            "allowed-event-type = []",
            "line 1: allowed-event-type: is an empty list",
        ),
        (
            "never-compress = \"room/(\"",
            "line 1: never-compress: \"room/(\" is not a valid pattern",
        ),
        ("retain = 5", "line 1: retain: a rule is a text"),
        (
            "retain = [\"a;max-age=soon\"]",
            "line 1: retain: max-age: \"soon\" is not a valid duration",
        ),
        (
            "[[retain]]\ntopics = \"a\"\nmax-aeg = 1",
            "line 3: retain: unknown field `max-aeg`",
        ),
        (
            "[[retain]]\ntopics = \"a\"\nmax-age = \"soon\"",
            "line 3: retain: \"soon\" is not a valid duration",
        ),
        (
            "[[retain]]\nmax-age = 1",
            "line 1: retain: missing field `topics`",
        ),
        (
            "config = \"other.toml\"",
            "line 1: there is no setting config",
        ),
        (
            "ephemeral = true\nephemeral = false",
            "line 2: duplicate key",
        ),
    ] {
        let error = complaint(text);
        assert!(error.contains(words), "{text}\n{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn contradictions_and_what_could_never_work_are_refused() {
    for (text, word) in [
        ("listen = \"0.0.0.0:8080\"", "--allow-anonymous"),
        ("listen = \":8080\"", "--allow-anonymous"),
        ("trusted-proxy = \"private\"", "--allow-anonymous"),
        (
            "listen = \"unix:a\"\ntrusted-proxy = \"unix\"",
            "--allow-anonymous",
        ),
        (
            "listen = [\"8080\", \"[::]:8081\"]",
            "listening on [::]:8081",
        ),
        (
            "listen = [\"8080\", \"127.0.0.1:8080\"]",
            "127.0.0.1:8080 twice",
        ),
        ("listen = [\"unix:a\", \"unix:a\"]", "unix:a twice"),
        ("ephemeral = true\ndurability = \"os\"", "--durability"),
        ("data-dir = \"\"", "data-dir needs a value"),
        ("tls-cert = \"hub.pem\"", "--tls-key"),
        ("tls-key = \"hub-key.pem\"", "--tls-cert"),
        (
            "max-connections = 0",
            "--max-connections must be at least 1",
        ),
        (
            "max-connections-per-ip = 0",
            "--max-connections-per-ip must be at least 1",
        ),
        (
            "max-subscriptions = 0",
            "--max-subscriptions must be at least 1",
        ),
        ("max-jobs = 0", "--max-jobs must be at least 1"),
        ("max-event = 0", "--max-event must be at least 1"),
        ("max-body = 0", "--max-body must be at least 1"),
        ("window = 0", "--window must be at least 1"),
        ("retention-size = 0", "--retention-size must be at least 1"),
        (
            "retention-events = 0",
            "--retention-events must be at least 1",
        ),
        ("retention-age = 0", "--retention-age must be longer than 0"),
        ("retry = 0", "--retry must be longer than 0"),
        ("send-timeout = 0", "--send-timeout must be longer than 0"),
        ("idle-timeout = 0", "--idle-timeout must be longer than 0"),
        (
            "sweep-interval = 0",
            "--sweep-interval must be longer than 0",
        ),
        ("heartbeat = \"99999d\"", "100 years"),
        (
            "heartbeat = \"10m\"",
            "--heartbeat (600s) must be shorter than --idle-timeout",
        ),
        (
            "max-heartbeat = \"10m\"",
            "--max-heartbeat (600s) must be shorter than --idle-timeout",
        ),
        ("max-heartbeat = \"10s\"", "at least --heartbeat"),
        ("heartbeat = 0\nmax-heartbeat = \"10s\"", "--heartbeat is 0"),
        (
            "max-connections-per-user = 0",
            "--max-connections-per-user must be at least 1",
        ),
        ("connect-rate = \"10:0\"", "at least 1 at once"),
        ("connect-rate = \"fast\"", "write it like 10, 10:50 or 30/m"),
        (
            "publish-rate = \"10/day\"",
            "write it like 10, 10:50 or 30/m",
        ),
        ("publish-rate = \"9999999999\"", "which is no limit"),
        ("publish-bytes-rate = \"1MB/s/s\"", "is not a valid rate"),
        (
            "publish-bytes-rate = \"64KiB:512KiB\"",
            "could never be published",
        ),
        ("max-linger = \"2s\"", "--max-linger"),
        ("max-event = \"8MiB\"\nmax-body = \"4MiB\"", "--max-body"),
        ("[[retain]]\ntopics = \"a\"", "asks for nothing"),
        ("[[retain]]\ntopics = []\nmax_age = 1", "names no topic"),
        ("[[retain]]\ntopics = \"room/(\"\nmax_age = 1", "room/("),
        ("[[retain]]\ntopics = \"a\"\nkeep_latest = 0", "keep-latest"),
        ("[[retain]]\ntopics = \"a\"\nkeep_latest = 1001", "1000"),
        ("[[retain]]\ntopics = \"a\"\nmax_count = 0", "max-count"),
        ("[[retain]]\ntopics = \"a\"\nmax_age = 0", "max-age"),
        ("[[retain]]\ntopics = \"a\"\nmax_bytes = 0", "max-bytes"),
    ] {
        let error = complaint(text);
        assert!(error.contains(word), "{text}\n{error}");
    }
    assert!(parse("listen = \":0\"\nallow-anonymous = true").is_ok());
    assert!(parse("trusted-proxy = \"private\"\nallow-anonymous = true").is_ok());
    assert!(parse("max-named-subscriptions = 0\nheartbeat = 0").is_ok());
}

#[test]
fn rules_for_topics_are_read_alike_from_a_table_and_from_text() {
    let tables = parse(
        "[[retain]]\ntopics = \"progress/*\"\nmax_age = \"1h\"\nmax_count = 100\n\
         max_bytes = \"10MiB\"\nkeep_latest = 1\n\n\
         [[retain]]\ntopics = [\"chat/:room\", \"news\"]\nkeep-latest = 50",
    )
    .unwrap();
    let rules = tables.retention.topics.clone();
    let texts: Vec<_> = rules
        .iter()
        .flat_map(|rule| &rule.topics)
        .map(|topic| topic.as_str())
        .collect();
    assert_eq!(texts, ["progress/*", "chat/:room", "news"]);
    assert_eq!(rules[0].max_age, Some(Duration::from_secs(3600)));
    assert_eq!(
        (rules[0].max_records, rules[0].max_bytes),
        (Some(100), Some(10 << 20))
    );
    assert_eq!(rules[1].keep_latest.map(u32::from), Some(50));
    let one = "progress/*;max-age=1h;max-count=100;max-bytes=10MiB;keep-latest=1";
    let other = "chat/:room,news; keep-latest = 50";
    for text in [
        format!("retain = [{one:?}, {other:?}]"),
        format!("retain = \"{one} | {other}\""),
        format!(
            "retain = [{{topics = \"progress/*\", max-age = 3600, max-count = 100, max-bytes = \"10MiB\", keep-latest = 1}}, {other:?}]"
        ),
    ] {
        assert_eq!(parse(&text).unwrap().retention.topics, rules, "{text}");
    }
    let mut flags = Settings::default();
    flags.retention.retain = Some([one, other].map(|text| text.parse().unwrap()).into());
    assert_eq!(Config::new(flags).unwrap().retention.topics, rules);
}

#[test]
fn a_flag_wins_over_the_file() {
    let mut flags = Settings::default();
    flags.limits.max_connections = Some(7);
    let mut file = Settings::default();
    file.limits.max_connections = Some(5);
    file.limits.max_jobs = Some(3);
    let config = Config::new(flags.or(file)).unwrap();
    assert_eq!((config.hub.max_connections, config.hub.max_jobs), (7, 3));
}

#[test]
fn a_variable_that_is_no_setting_is_refused_and_others_pass() {
    let check = |name: &str, value: &str| {
        let variables = [(name, value), ("PATH", "/bin"), ("SSE_LISTEN", "8080")];
        let variables = variables.map(|(name, value)| (OsString::from(name), value.into()));
        check_environment(&options(), variables).map_err(|error| error.to_string())
    };
    for (name, value, words) in [
        (
            "SSE_LISTN",
            "",
            "SSE_LISTN is not a setting of this program; did you mean SSE_LISTEN?",
        ),
        ("SSE_PORT", "8080", "did you mean SSE_LISTEN?"),
        ("SSE_LOG_LEVEL", "info", "did you mean SSE_LOG?"),
        ("SSE_ALLOWED_HOSTS", "a", "did you mean SSE_ALLOWED_HOST?"),
        (
            "SSE_MAX_CONECTIONS",
            "1",
            "did you mean SSE_MAX_CONNECTIONS?",
        ),
        (
            "SSE_COLOUR",
            "red",
            "SSE_COLOUR is not a setting of this program; unset it",
        ),
        ("SSE_", "", "SSE_ is not a setting"),
    ] {
        let error = check(name, value).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (name, value) in [
        ("SSE_MAX_BODY", "1MiB"),
        ("SSELISTEN", ""),
        ("OSSE_LISTN", ""),
        ("SSE_TOKEN", "x"),
        ("SSE_BROKER_SEEDS", "5"),
        // A cluster's service called `sse`, and one called `sse-server`.
        ("SSE_SERVICE_HOST", "10.0.0.1"),
        ("SSE_SERVICE_PORT", "8080"),
        ("SSE_SERVICE_PORT_HTTP", "8080"),
        ("SSE_PORT", "tcp://10.0.0.1:8080"),
        ("SSE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("SSE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SSE_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("SSE_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ("SSE_SERVER_PORT_80_TCP_PROTO", "tcp"),
    ] {
        assert_eq!(check(name, value), Ok(()), "{name}");
    }
}

#[test]
fn a_default_follows_what_was_given() {
    let sizes = |text: &str| {
        let config = parse(text).unwrap();
        (config.http.max_body_bytes, config.hub.max_event_bytes)
    };
    let memory = "memory = \"1GiB\"\n";
    assert_eq!(sizes(memory), (4 << 20, 1 << 20));
    let memory = "memory = \"2GiB\"\n";
    assert_eq!(sizes(&format!("{memory}max-body = 8000")), (8000, 8000));
    let large = format!("{memory}max-event = \"8MiB\"");
    assert_eq!(sizes(&large), (8 << 20, 8 << 20));
}

#[test]
fn what_was_given_is_taken_off_the_memory_and_the_rest_is_shared_out() {
    let config = |text: &str| parse(text).unwrap();
    let size = |config: &Config, account: Account| config.hub.memory[account as usize];
    let even = config("memory = \"80MiB\"\nephemeral = true");
    assert_eq!(size(&even, Account::Bodies), 6 << 20);
    assert_eq!(even.hub.window_bytes, 8 << 20);
    assert_eq!(even.retention.max_bytes, Some(8 << 20));
    let large = config("memory = \"80MiB\"\nephemeral = true\nwindow = \"44MiB\"");
    assert_eq!(large.hub.window_bytes, 44 << 20);
    assert_eq!(size(&large, Account::Bodies), 3 << 20, "36 MiB in 72 parts");
    let all: usize = large.hub.memory.iter().sum();
    assert!(all <= 80 << 20);
    let small = config("memory = \"80MiB\"\nephemeral = true\nwindow = \"1MiB\"");
    assert_eq!(size(&small, Account::Bodies), 6 << 20);
    let many = config("memory = \"80MiB\"\nephemeral = true\nmax-connections = 16384");
    assert_eq!(many.hub.max_connections, 16_384);
    assert_eq!(size(&many, Account::Connections), 16 << 20);
    assert_eq!(config("memory = \"10MiB\"").hub.max_connections, 768);
    assert_eq!(config("memory = \"1GiB\"").hub.max_connections, 10_000);
}

#[test]
fn rates_are_read_with_their_bursts_and_zero_is_none() {
    let hub = |text: &str| parse(text).unwrap().hub;
    let limits = hub("").rates;
    let failed = limits.failed_credentials.unwrap().to_string();
    assert_eq!(failed, "10 a second, and 200 at once");
    let none = crate::access::RateLimits::default();
    assert_eq!(hub("failed-credential-rate = 0").rates, none);
    assert_eq!(hub("connect-rate = 0").rates, limits);
    let shown = |text: &str| {
        let hub = hub(text);
        let rates = [
            hub.rates.connect,
            hub.rates.publish,
            hub.rates.publish_bytes,
        ];
        let one = rates.into_iter().flatten().next().unwrap();
        one.to_string()
    };
    for (text, expected) in [
        ("connect-rate = 10", "10 a second, and 100 at once"),
        ("connect-rate = \"10/s:50\"", "10 a second, and 50 at once"),
        ("publish-rate = \"30/m\"", "30 a minute, and 5 at once"),
        ("publish-rate = \"2/h\"", "2 an hour, and 1 at once"),
        ("publish-rate = \" 7 / h : 3 \"", "7 an hour, and 3 at once"),
        (
            "publish-bytes-rate = \"1MiB:16MiB\"",
            "1048576 a second, and 16777216 at once",
        ),
        // A body of the largest size always fits.
        (
            "publish-bytes-rate = \"1KiB\"\nmax-body = \"2MiB\"",
            "1024 a second, and 2097152 at once",
        ),
        (
            "publish-bytes-rate = \"64KiB:512KiB\"\nmax-event = \"256KiB\"",
            "65536 a second, and 524288 at once",
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    assert_eq!(hub("memory = \"16MiB\"").rates_bytes, 1 << 20);
    assert_eq!(hub("memory = \"4GiB\"").rates_bytes, 64 << 20);
}

#[test]
fn thresholds_and_needs_are_checked() {
    let text = r#"
        health-threshold = ["memory=80%,95%", "latency_p95_ms=50", "errors_per_minute=off"]
        ready-needs = ["LOG"]
    "#;
    let config = parse(text).unwrap();
    let limit = |signal| config.hub.thresholds.limit(signal);
    let memory = limit(sse_health::Signal::Memory).unwrap();
    assert_eq!((memory.warning, memory.critical), (0.8, Some(0.95)));
    let latency = limit(sse_health::Signal::LatencyP95Ms).unwrap();
    assert_eq!((latency.warning, latency.critical), (50.0, None));
    assert_eq!(limit(sse_health::Signal::ErrorsPerMinute), None);
    assert_eq!(config.hub.ready_needs, [crate::hub::Need::Log]);
    for (text, expected) in [
        ("health-threshold = \"heat=1\"", "is no signal"),
        ("health-threshold = \"memory=90%,80%\"", "milder"),
        ("health-threshold = \"memory=soon\"", "is no number"),
        ("ready-needs = [\"none\", \"log\"]", "stands alone"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.contains(expected), "{text}: {complaint}");
    }
}
