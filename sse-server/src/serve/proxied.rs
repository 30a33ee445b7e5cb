//! Connections that a trusted proxy begins with the PROXY protocol.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use super::http1::{Client, Ended};
use super::socket::Socket;
use super::stage::{Stage, reached};
use crate::access::{Peer, proxy_protocol};

/// Serves a socket whose first bytes are the header.
pub(super) async fn serve<S: Socket, F: Future<Output = Ended>>(
    mut socket: S,
    client: Client,
    within: Duration,
    mut stage: watch::Receiver<Stage>,
    serve: impl FnOnce(S, Client) -> F,
) -> Ended {
    match begin(&mut socket, client, within, &mut stage).await {
        Some(client) => Box::pin(serve(socket, client)).await,
        None => Ended::Done,
    }
}

/// Reads the header that a proxy sends first, and makes its client the peer. `None` when the connection is to be closed.
async fn begin<S: AsyncRead + Unpin>(
    socket: &mut S,
    mut client: Client,
    within: Duration,
    stage: &mut watch::Receiver<Stage>,
) -> Option<Client> {
    let proxy = client.peer;
    let address = tokio::select! {
        read = tokio::time::timeout(within, read(socket)) => match read {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => {
                tracing::debug!(%proxy, %error, "connection closed: --trusted-proxy-header is PROXY");
                return None;
            }
            Err(_) => {
                tracing::debug!(%proxy, "no whole PROXY protocol header came in time");
                return None;
            }
        },
        () = reached(stage, Stage::Draining) => return None,
        () = std::future::poll_fn(|cx| client.place.poll_evicted(cx)) => return None,
    };
    if let Some(address) = address {
        client.peer = Peer::Ip(address);
        client.is_told = true;
        if let Err(refused) = client.place.count_for(address) {
            tracing::debug!(peer = %address, %refused, "connection refused");
            return None;
        }
    }
    Some(client)
}

/// The address in the header; `None` when it tells of none. Nothing behind the header is read.
async fn read<S: AsyncRead + Unpin>(socket: &mut S) -> io::Result<Option<IpAddr>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut header = Vec::new();
    loop {
        let missing = proxy_protocol::missing_bytes(&header).map_err(invalid)?;
        if missing == 0 {
            return proxy_protocol::address(&header).map_err(invalid);
        }
        let mut part = (&mut *socket).take(missing as u64);
        if part.read_buf(&mut header).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_behind_the_header_is_left_in_the_socket() {
        for header in [
            &b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\0\x01\0\x02",
        ] {
            let all = [header, b"GET / HTTP/1.1\r\n"].concat();
            let mut socket = &all[..];
            let address = read(&mut socket).await.unwrap();
            assert_eq!(address, Some([192, 0, 2, 1].into()));
            assert_eq!(socket, b"GET / HTTP/1.1\r\n");
        }
    }
}
