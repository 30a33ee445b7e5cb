//! Client certificates over HTTPS, the oldest version that is spoken, and the end of a certificate's time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::access::{secret_file, token};
use crate::client::eventually;
use crate::secure::Files;
use crate::server::{Server, command};

/// An authority that signs the certificates of clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = name("the authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate with this common name and serial number.
    fn sign(&self, common_name: &str, serial: u8) -> Shown {
        self.sign_until(common_name, serial, 2100)
    }

    fn sign_until(&self, common_name: &str, serial: u8, year: i32) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name);
        params.serial_number = Some(SerialNumber::from(vec![serial]));
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Shown {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        }
    }

    fn list(&self, revoked: &[u8], next_year: i32) -> String {
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(next_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(vec![*serial]),
                    revocation_time: rcgen::date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// What a client shows of itself.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// A hub that takes certificates of clients.
struct Hub {
    files: Files,
    authority: Authority,
    server: Server,
}

type Client = StreamOwned<ClientConnection, TcpStream>;

impl Hub {
    fn start(flags: &[&str]) -> Self {
        Self::with(Authority::new(), Files::new(), flags)
    }

    fn with(authority: Authority, files: Files, flags: &[&str]) -> Self {
        let ca = files.path("clients.pem");
        std::fs::write(&ca, authority.0.pem()).unwrap();
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--ephemeral", "--tls-cert"])
            .arg(files.certificate())
            .arg("--tls-key")
            .arg(files.key())
            .arg("--tls-client-ca")
            .arg(ca)
            .args(flags);
        let server = Server::spawn(command);
        Self {
            files,
            authority,
            server,
        }
    }

    /// What a client with this certificate, or with none, goes by. Sessions are resumed where the server offers that.
    fn client(&self, shown: Option<&Shown>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.files.certificate()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
                .unwrap(),
        })
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let socket = TcpStream::connect(self.server.address).unwrap();
        socket
            .set_read_timeout(Some(crate::client::DEADLINE))
            .unwrap();
        StreamOwned::new(session, socket)
    }

    /// Sends a request and reads all of the answer, or fails as the handshake does.
    fn ask(&self, config: &Arc<ClientConfig>, request: &str) -> std::io::Result<String> {
        let mut client = self.connect(config);
        client.write_all(request.as_bytes())?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The status of a request, 0 where the handshake fails.
    fn status(&self, config: &Arc<ClientConfig>, request: &str) -> u16 {
        let answer = self.ask(config, request);
        answer.map_or(0, |answer| answer[9..12].parse().unwrap())
    }

    /// Opens a stream and reads its first event.
    fn open(&self, config: &Arc<ClientConfig>, topic: &str) -> Client {
        let mut client = self.connect(config);
        let request = format!("GET /events?topic={topic} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        until(&mut client, "event: connected");
        client
    }
}

fn until(client: &mut Client, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut space = [0; 4096];
        let count = client.read(&mut space).unwrap();
        let so_far = String::from_utf8_lossy(&read);
        assert!(count > 0, "it ended before {text:?} came: {so_far}");
        read.extend_from_slice(&space[..count]);
    }
    String::from_utf8(read).unwrap()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

fn publish(topic: &str, headers: &str) -> String {
    let body = json!({"topic": topic, "data": "hello"}).to_string();
    format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn poll(topic: &str) -> String {
    get(&format!("/events/poll?topic={topic}"), "")
}

const GRANTS: &str = r#"--tls-client-grants={"backend": {"publish": ["*"], "admin": true}}"#;

#[test]
fn a_client_certificate_names_a_user_that_no_token_can_name() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret_file(&folder);
    let secret = format!("--jwt-secret={}", secret.display());
    let hub = Hub::start(&[
        &secret,
        GRANTS,
        r#"--authenticated={"subscribe": ["news"]}"#,
        "--tls-client-auth=optional",
    ]);
    let client = |name, serial| hub.client(Some(&hub.authority.sign(name, serial)));
    let (ann, backend, nobody) = (client("ann", 1), client("backend", 2), hub.client(None));
    let mut own = hub.open(&ann, "user/cert:ann");
    assert_eq!(hub.status(&backend, &publish("user/cert:ann", "")), 200);
    assert!(until(&mut own, "data: hello").contains("data: hello"));
    for (who, request, status) in [
        (&ann, poll("news"), 200),
        (&ann, poll("user/ann"), 403),
        (&ann, publish("news", ""), 403),
        (&backend, poll("user/cert:ann"), 403),
        (&nobody, poll("news"), 401),
        (&nobody, poll("user/cert:ann"), 401),
    ] {
        assert_eq!(hub.status(who, &request), status, "{request}");
    }
    // A token that a request shows says who it is from, with a certificate or without.
    let bearer = |sub: &str| format!("Authorization: Bearer {}\r\n", token(json!({"sub": sub})));
    for who in [&ann, &nobody] {
        for (sub, topic, status) in [
            ("bob", "user/bob", 200),
            ("bob", "user/cert:ann", 403),
            ("cert:ann", "user/cert:ann", 403),
            ("cert:ann", "user/cert%253Aann", 200),
        ] {
            let request = get(&format!("/events/poll?topic={topic}"), &bearer(sub));
            assert_eq!(hub.status(who, &request), status, "{sub} {topic}");
        }
        let wrong = get("/events/poll?topic=news", "Authorization: Bearer x\r\n");
        assert_eq!(hub.status(who, &wrong), 401);
    }
    // Two names are nobody, and so is none.
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().unwrap();
    let unnamed = Shown {
        chain: vec![
            params
                .signed_by(&key, &hub.authority.0)
                .unwrap()
                .der()
                .clone(),
        ],
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    };
    assert_eq!(hub.status(&hub.client(Some(&unnamed)), &poll("news")), 401);
}

#[test]
fn a_certificate_that_is_foreign_expired_or_missing_is_refused_in_the_handshake() {
    let hub = Hub::start(&[r#"--authenticated={"subscribe": ["news"]}"#]);
    let status = |shown: Option<&Shown>| hub.status(&hub.client(shown), &poll("news"));
    assert_eq!(status(Some(&hub.authority.sign("ann", 1))), 200);
    assert_eq!(status(None), 0);
    assert_eq!(status(Some(&Authority::new().sign("ann", 1))), 0);
    assert_eq!(status(Some(&hub.authority.sign_until("ann", 1, 2002))), 0);
    // Somebody else's certificate, with a key of one's own.
    let stolen = Shown {
        key: hub.authority.sign("eve", 2).key,
        ..hub.authority.sign("ann", 1)
    };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(stolen.key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(stolen.chain, key);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(hub.files.certificate()).unwrap())
        .unwrap();
    let thief = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    assert_eq!(hub.status(&Arc::new(thief), &poll("news")), 0);
}

#[test]
fn a_certificate_that_is_revoked_loses_its_streams_its_connections_and_its_sessions() {
    let (authority, files) = (Authority::new(), Files::new());
    let list: PathBuf = files.path("revoked.pem");
    std::fs::write(&list, authority.list(&[9], 2100)).unwrap();
    let flag = format!("--tls-client-crl={}", list.display());
    let hub = Hub::with(
        authority,
        files,
        &[&flag, GRANTS, r#"--authenticated={"subscribe": ["news"]}"#],
    );
    let client = |name, serial| hub.client(Some(&hub.authority.sign(name, serial)));
    let (ann, bob) = (client("ann", 1), client("bob", 2));
    assert_eq!(hub.status(&client("eve", 9), &poll("news")), 0);
    let mut anns = hub.open(&ann, "news");
    let mut bobs = hub.open(&bob, "news");
    // A connection that stays, with a first request.
    let mut kept = hub.connect(&ann);
    let again = "GET /events/poll?topic=news HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.write_all(again.as_bytes()).unwrap();
    until(&mut kept, "\"events\"");
    std::fs::write(&list, hub.authority.list(&[1, 9], 2100)).unwrap();
    hub.server.signal("HUP");
    until(&mut anns, "event: unavailable");
    kept.write_all(again.as_bytes()).unwrap();
    assert!(until(&mut kept, "\r\n\r\n").contains("HTTP/1.1 401"));
    // A new handshake, and one that resumes the old session.
    let (stranger, request) = (client("ann", 1), poll("news"));
    eventually("handshakes are refused", || {
        let statuses = [&stranger, &ann].map(|who| hub.status(who, &request));
        assert!(statuses.iter().all(|it| [0, 401].contains(it)));
        (statuses == [0, 0]).then_some(())
    });
    // Nobody else is touched.
    let backend = client("backend", 3);
    assert_eq!(hub.status(&backend, &publish("news", "")), 200);
    until(&mut bobs, "data: hello");
    assert_eq!(hub.status(&bob, &poll("news")), 200);
    // By hand it goes without a list.
    let body = r#"{"jti": "cert:02"}"#;
    let revoke = format!(
        "POST /admin/revocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(hub.status(&backend, &revoke), 200);
    until(&mut bobs, "event: unavailable");
    assert_eq!(hub.status(&bob, &poll("news")), 401);
    // A list that has expired says nothing of those that were revoked since.
    std::fs::write(&list, hub.authority.list(&[1], 2021)).unwrap();
    hub.server.signal("HUP");
    eventually("it is read", || {
        (hub.status(&backend, &poll("news")) == 0).then_some(())
    });
    eventually("it is said", || {
        let said = hub.server.stderr();
        said.contains("has expired at 2021-01-01").then_some(())
    });
}

#[test]
fn a_foreign_page_cannot_use_its_visitors_certificate() {
    let hub = Hub::start(&[
        r#"--authenticated={"subscribe": ["news"], "publish": ["news"]}"#,
        "--allowed-origin=https://app.example",
    ]);
    let ann = hub.client(Some(&hub.authority.sign("ann", 1)));
    for (headers, status) in [
        ("", 200),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-origin\r\n", 200),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: https://app.example\r\n", 200),
        ("Origin: https://localhost\r\n", 200),
        ("Referer: https://evil.example/\r\n", 403),
    ] {
        let read = get("/events/poll?topic=news", headers);
        assert_eq!(hub.status(&ann, &read), status, "read with {headers}");
        let write = publish("news", headers);
        assert_eq!(hub.status(&ann, &write), status, "publish with {headers}");
    }
    let answer = hub
        .ask(
            &ann,
            &get("/events/poll?topic=news", "Origin: https://app.example\r\n"),
        )
        .unwrap();
    assert!(answer.contains("access-control-allow-credentials: true"));
    assert!(answer.contains("access-control-allow-origin: https://app.example"));
}

#[test]
fn an_older_version_than_the_oldest_is_refused() {
    let files = Files::new();
    let start = |flags: &[&str]| {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--ephemeral", "--tls-cert"])
            .arg(files.certificate())
            .arg("--tls-key")
            .arg(files.key())
            .args(flags);
        Server::spawn(command)
    };
    let speaks = |server: &Server, version: &'static rustls::SupportedProtocolVersion| {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(files.certificate()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(server.address).unwrap();
        let mut client = StreamOwned::new(session, socket);
        let mut answer = String::new();
        client.write_all(get("/livez", "").as_bytes()).is_ok()
            && client.read_to_string(&mut answer).is_ok()
    };
    use rustls::version::{TLS12, TLS13};
    for (flags, oldest) in [
        (&[][..], true),
        (&["--tls-min-version=1.2"], true),
        (&["--tls-min-version=1.3"], false),
    ] {
        let server = start(flags);
        assert!(speaks(&server, &TLS13), "{flags:?}");
        assert_eq!(speaks(&server, &TLS12), oldest, "{flags:?}");
    }
}

#[test]
fn certificate_and_key_are_renewed_together_or_not_at_all() {
    let files = Files::new();
    let mut command = command();
    command
        .args(["--listen", "127.0.0.1:0", "--ephemeral", "--tls-cert"])
        .arg(files.certificate())
        .arg("--tls-key")
        .arg(files.key());
    let server = Server::spawn(command);
    let old = files.client(b"http/1.1");
    // It has no session that it could resume.
    let stranger = files.client(b"http/1.1");
    let takes = |config: &Arc<ClientConfig>| {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let socket = TcpStream::connect(server.address).unwrap();
        let mut client = StreamOwned::new(session, socket);
        client.write_all(get("/livez", "").as_bytes()).is_ok()
            && client.read_to_string(&mut String::new()).is_ok()
    };
    assert!(takes(&old));
    let other = Files::new();
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let (certificate, key) = (read(other.certificate()), read(other.key()));
    let own_key = read(files.key());
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    // The new certificate and the old key, and what a renewal has written by half.
    for (number, (certificate, key)) in [
        (certificate.clone(), own_key),
        (half(&certificate), key.clone()),
        (certificate.clone(), half(&key)),
        (certificate.clone(), Vec::new()),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(files.certificate(), certificate).unwrap();
        std::fs::write(files.key(), key).unwrap();
        server.signal("HUP");
        let lines = || server.stderr().matches("nothing was changed").count();
        eventually("it complains", || (lines() > number).then_some(()));
        assert!(takes(&old), "{}", server.stderr());
        assert_eq!(lines(), number + 1);
    }
    std::fs::write(files.key(), key).unwrap();
    server.signal("HUP");
    let renewed = files.client(b"http/1.1");
    eventually("the new one is used", || takes(&renewed).then_some(()));
    // One that trusts the old one alone.
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(stranger, name).unwrap();
    let mut client = StreamOwned::new(session, TcpStream::connect(server.address).unwrap());
    let asked = client.write_all(get("/livez", "").as_bytes());
    assert!(asked.is_err() || client.read_to_string(&mut String::new()).is_err());
}

#[test]
fn the_end_of_a_certificate_is_a_metric_and_said_in_time() {
    let files = Files::new();
    let write = |days: u64| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        let until = now + Duration::from_secs(days * 86_400 + 5_400);
        params.not_after = until.into();
        let made = params.self_signed(&key).unwrap();
        std::fs::write(files.certificate(), made.pem()).unwrap();
        std::fs::write(files.key(), key.serialize_pem()).unwrap();
        until
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let mut until = write(20);
    let mut command = command();
    command
        .args(["--listen", "127.0.0.1:0", "--ephemeral", "--tls-cert"])
        .arg(files.certificate())
        .arg("--tls-key")
        .arg(files.key());
    let server = Server::spawn(command);
    let metric = |until: u64| {
        let config = files.client(b"http/1.1");
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config, name).unwrap();
        let socket = TcpStream::connect(server.address).unwrap();
        let mut client = StreamOwned::new(session, socket);
        // Until it is read again, the server has another one than the client trusts.
        let request = get("/metrics", "");
        client.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        client.read_to_string(&mut text).ok()?;
        let line = format!("sse_certificate_expiry_seconds{{of=\"server\"}} {until}\n");
        text.contains(&line).then_some(())
    };
    for (days, said) in [
        (20, Some("expires in 20 days")),
        (5, Some("expires in 5 days")),
        (0, Some("expires in 1 h,")),
        (90, None),
    ] {
        if days != 20 {
            until = write(days);
            server.signal("HUP");
        }
        eventually("the metric is there", || metric(until));
        let Some(said) = said else { continue };
        eventually("it is said", || {
            server.stderr().contains(said).then_some(())
        });
    }
    assert_eq!(server.stderr().matches("WARN").count(), 3);
}

#[test]
fn what_is_wrong_with_the_options_of_client_certificates_is_one_line() {
    let files = Files::new();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (certificate, key) = (text(files.certificate()), text(files.key()));
    let own = ["--tls-cert", &certificate, "--tls-key", &key];
    let absent = text(files.path("absent.pem"));
    let rows: &[(&[&str], &[&str])] = &[
        (&["--tls-client-ca", &certificate], &["--tls-cert"]),
        (&["--tls-min-version", "1.3"], &["--tls-cert"]),
        (&["--tls-min-version", "1.1"], &["1.2", "1.3"]),
        (&["--tls-client-auth", "optional"], &["--tls-cert"]),
    ];
    let with: &[(&[&str], &[&str])] = &[
        (&["--tls-client-ca", &absent], &[&absent, "--tls-client-ca"]),
        (&["--tls-client-ca", &key], &[&key, "BEGIN CERTIFICATE"]),
        (&["--tls-client-auth", "optional"], &["--tls-client-ca"]),
        (&["--tls-client-crl", &absent], &["--tls-client-ca"]),
        (
            &["--tls-client-ca", &certificate, "--tls-client-crl", &key],
            &[&key, "X509 CRL"],
        ),
        (
            &["--tls-client-ca", &certificate, "--tls-client-grants", "{"],
            &["--tls-client-grants"],
        ),
        (
            &[
                "--tls-client-ca",
                &certificate,
                "--tls-client-user-prefix",
                "a/",
            ],
            &["--tls-client-user-prefix"],
        ),
    ];
    let complaint = |flags: &[&str]| {
        let output = command()
            .args(["--ephemeral", "--listen", "127.0.0.1:0"])
            .args(flags)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let with = with
        .iter()
        .map(|(flags, words)| ([&own[..], flags].concat(), words));
    for (flags, words) in rows
        .iter()
        .map(|(it, words)| (it.to_vec(), words))
        .chain(with)
    {
        let said = complaint(&flags);
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in *words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
}
