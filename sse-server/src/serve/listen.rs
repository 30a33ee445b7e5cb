//! A listening socket, with the options that every accepted one inherits: no connection pays a system call for them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::server::ServerConfig;

/// Listens on an address; `is_shared` lets several sockets of this process take its connections in turn.
pub(super) fn listen(
    address: SocketAddr,
    config: &ServerConfig,
    is_shared: bool,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(config.peer_timeout))?;
    socket.set_tcp_user_timeout(Some(config.peer_timeout))?;
    #[cfg(target_os = "linux")]
    linux::set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use nix::sys::socket::setsockopt;
    use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
    use socket2::Socket;

    sockopt_impl!(
        /// A connection is given to the server only when its first bytes are there.
        TcpDeferAccept,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        u32
    );
    sockopt_impl!(
        /// So many bytes may wait in the kernel for a reader that does not read.
        TcpNotsentLowat,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_NOTSENT_LOWAT,
        u32
    );

    pub(super) fn set_options(socket: &Socket) -> io::Result<()> {
        setsockopt(socket, TcpDeferAccept, &DEFER_ACCEPT_SECONDS)?;
        setsockopt(socket, TcpNotsentLowat, &NOTSENT_LOWAT_BYTES)?;
        Ok(())
    }

    /// Who has sent nothing for so long is accepted nevertheless, and the header's timeout begins.
    const DEFER_ACCEPT_SECONDS: u32 = 1;
    /// One chunk: enough to keep a fast reader busy while the next one is written.
    const NOTSENT_LOWAT_BYTES: u32 = 32 << 10;
}

/// Connections that may wait to be accepted: a restart brings them all at once.
const BACKLOG: i32 = 4096;
