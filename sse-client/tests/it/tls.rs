//! TLS and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sse_client::http::{Response, Version};
use sse_client::{Connector, ConnectorBuilder, Error, EventSource, HttpVersion, Notice};
use tokio::net::TcpListener;

use crate::rogue::{quick, soon};
use crate::transport::tunnel_to;

/// A server with a certificate of its own for `localhost`, and the certificate.
async fn secure_server(
    protocols: &[&str],
) -> (SocketAddr, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(
                    |request: hyper::Request<hyper::body::Incoming>| async move {
                        let authority = request.uri().authority().map(ToString::to_string);
                        let host = authority.or_else(|| {
                            request
                                .headers()
                                .get("host")
                                .map(|h| h.to_str().unwrap().to_owned())
                        });
                        let text = format!("data: {:?} {}\n\n", request.version(), host.unwrap());
                        let mut response = Response::new(Full::new(Bytes::from(text)));
                        let media = "text/event-stream".parse().unwrap();
                        response.headers_mut().insert("content-type", media);
                        Ok::<_, std::convert::Infallible>(response)
                    },
                );
                let io = TokioIo::new(stream);
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(io, service).await;
            });
        }
    });
    (addr, certificate)
}

fn trusting(certificate: &rustls::pki_types::CertificateDer<'static>) -> ConnectorBuilder {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Connector::builder().no_proxy().tls(Arc::new(config))
}

fn source(url: String, connector: Connector) -> EventSource {
    EventSource::builder(url)
        .connector(connector)
        .reconnect(quick())
        .build()
        .unwrap()
}

async fn first(events: &mut EventSource) -> (Version, String) {
    let Some(Notice::Open(opened)) = soon(events.next_notice()).await else {
        panic!()
    };
    let event = soon(events.next()).await.unwrap().unwrap();
    (opened.version(), event.data().to_owned())
}

#[tokio::test]
async fn http_2_is_spoken_where_tls_agrees_on_it_and_http_1_elsewhere() {
    let (addr, certificate) = secure_server(&["h2", "http/1.1"]).await;
    let url = format!("https://localhost:{}/events", addr.port());
    let (version, data) = first(&mut source(url.clone(), trusting(&certificate).build())).await;
    assert_eq!(version, Version::HTTP_2);
    assert_eq!(data, format!("HTTP/2.0 localhost:{}", addr.port()));
    let old = trusting(&certificate).version(HttpVersion::Http1).build();
    let (version, data) = first(&mut source(url, old)).await;
    assert_eq!(version, Version::HTTP_11);
    assert_eq!(data, format!("HTTP/1.1 localhost:{}", addr.port()));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_by_default() {
    let (addr, _) = secure_server(&["http/1.1"]).await;
    let url = format!("https://localhost:{}/", addr.port());
    let mut events = source(url, Connector::builder().no_proxy().build());
    let Some(Notice::Interrupted(what)) = soon(events.next_notice()).await else {
        panic!()
    };
    assert!(
        matches!(what.error(), Error::Connect { .. }),
        "{}",
        what.error().report()
    );
    let report = what.error().report();
    assert!(
        report.contains("certificate") || report.contains("issuer"),
        "{report}"
    );
    assert!(what.error().is_untrusted());
    // A publish does not wait for another certificate.
    let mut publisher =
        sse_client::Publisher::builder(format!("https://localhost:{}/", addr.port()))
            .connector(Connector::builder().no_proxy().build())
            .on_retry(|error, _| panic!("{error}"))
            .build()
            .unwrap();
    let refused = publisher.publish(sse_client::Publication::text("x"));
    assert!(soon(refused).await.unwrap_err().is_untrusted());
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_of_a_proxy() {
    let (addr, certificate) = secure_server(&["h2"]).await;
    let proxy = tunnel_to(addr).await;
    let url = format!("https://localhost:{}/", addr.port());
    let connector = trusting(&certificate)
        .proxy(&format!("http://{}", proxy.addr()))
        .build();
    let (version, _) = first(&mut source(url, connector)).await;
    assert_eq!(version, Version::HTTP_2);
    assert!(proxy.requests()[0].line().starts_with("CONNECT localhost:"));
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_when_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|_| async {
            let mut response = Response::new(Full::new(Bytes::from_static(b"data: h2c\n\n")));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            Ok::<_, std::convert::Infallible>(response)
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let connector = Connector::builder()
        .no_proxy()
        .version(HttpVersion::Http2)
        .build();
    let (version, data) = first(&mut source(format!("http://{addr}/"), connector)).await;
    assert_eq!((version, data.as_str()), (Version::HTTP_2, "h2c"));
}
