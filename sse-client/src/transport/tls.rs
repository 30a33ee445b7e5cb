//! TLS by rustls. No switch turns verification off. To trust other certificates than the platform's, a caller
//! passes a whole `rustls::ClientConfig`.

#[cfg(feature = "tls")]
pub(super) use with_tls::Config;

#[cfg(not(feature = "tls"))]
pub(super) type Config = std::convert::Infallible;

#[cfg(feature = "tls")]
mod with_tls {
    use std::sync::Arc;

    use rustls::ClientConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::ServerName;
    use rustls_platform_verifier::BuilderVerifierExt as _;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use url::Url;

    use super::super::io::{Io, cause, text};
    use super::super::version::HttpVersion;
    use crate::error::Cause;

    #[derive(Clone, Debug)]
    pub(crate) struct Config {
        client: Arc<ClientConfig>,
    }

    impl Config {
        /// The platform's certificates.
        pub(crate) fn platform(version: HttpVersion) -> Result<Self, Cause> {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(cause)?
                .with_platform_verifier()
                .map_err(cause)?
                .with_no_client_auth();
            Ok(Self::with(Arc::new(client), version))
        }

        pub(crate) fn with(client: Arc<ClientConfig>, version: HttpVersion) -> Self {
            let mut client = Arc::unwrap_or_clone(client);
            client.alpn_protocols = match version {
                HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
                HttpVersion::Http2 => vec![b"h2".to_vec()],
            };
            Self {
                client: Arc::new(client),
            }
        }

        /// Encrypts `stream`; says whether HTTP/2 was agreed on.
        pub(crate) async fn connect(
            &self,
            url: &Url,
            stream: TcpStream,
        ) -> Result<(Box<dyn Io>, bool), Cause> {
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| text(format!("{host:?} is not a valid server name")))?;
            let connector = TlsConnector::from(Arc::clone(&self.client));
            let stream = connector.connect(name, stream).await.map_err(cause)?;
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((Box::new(stream), h2))
        }
    }
}
