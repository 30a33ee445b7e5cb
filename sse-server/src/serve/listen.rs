//! Listening sockets, with the options that every accepted one inherits: no connection pays a system call for them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::config::ServerConfig;
use super::endpoint::{BoundAddress, Endpoint};
#[cfg(unix)]
use super::socket_file::{self, Access, SocketFile};

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: BoundAddress,
    #[source]
    reason: io::Error,
}

impl ListenError {
    /// The address.
    #[must_use]
    pub fn address(&self) -> &BoundAddress {
        &self.address
    }

    /// What the system says.
    #[must_use]
    pub fn reason(&self) -> &io::Error {
        &self.reason
    }

    pub(super) fn into_reason(self) -> io::Error {
        self.reason
    }
}

/// One listening socket of one worker.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// An address that is listened on.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: BoundAddress,
    /// One for each worker.
    pub(super) listeners: Vec<Listener>,
    /// Removes a Unix socket's file when it is dropped.
    #[cfg(unix)]
    pub(super) _file: Option<SocketFile>,
}

/// Listens there, with a socket for each worker.
pub(super) fn bind(endpoint: &Endpoint, config: &ServerConfig) -> Result<Vec<Bound>, ListenError> {
    match endpoint {
        Endpoint::Address(address) => Ok(vec![tcp(*address, config, Family::AsItIs)?]),
        Endpoint::Localhost(port) => both(
            (Ipv4Addr::LOCALHOST, *port).into(),
            Ipv6Addr::LOCALHOST,
            config,
        ),
        Endpoint::Everywhere(port) => both(
            (Ipv4Addr::UNSPECIFIED, *port).into(),
            Ipv6Addr::UNSPECIFIED,
            config,
        ),
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let address = BoundAddress::Unix(path.clone());
            unix(path, config.workers, Access::Umask)
                .map_err(|reason| ListenError { address, reason })
        }
        #[cfg(not(unix))]
        Endpoint::Unix(path) => Err(ListenError {
            address: BoundAddress::Unix(path.clone()),
            reason: io::ErrorKind::Unsupported.into(),
        }),
    }
}

/// Listens there for administrators, with one socket. A Unix socket is its owner's alone.
pub(super) fn bind_for_admins(
    endpoint: &Endpoint,
    config: &ServerConfig,
) -> Result<Vec<Bound>, ListenError> {
    match endpoint {
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let address = BoundAddress::Unix(path.clone());
            unix(path, 1, Access::Owner).map_err(|reason| ListenError { address, reason })
        }
        _ => {
            let config = ServerConfig {
                workers: 1,
                ..config.clone()
            };
            bind(endpoint, &config)
        }
    }
}

/// Listens on an IPv4 address and on the same port of an IPv6 one, if this machine has IPv6.
fn both(v4: SocketAddr, v6: Ipv6Addr, config: &ServerConfig) -> Result<Vec<Bound>, ListenError> {
    let mut tries = 0;
    loop {
        let first = tcp(v4, config, Family::AsItIs)?;
        let BoundAddress::Tcp(address) = first.address else {
            return Ok(vec![first]);
        };
        match tcp((v6, address.port()).into(), config, Family::Own) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if lacks_ipv6(&error.reason) => {
                tracing::debug!(error = %error.reason, "no IPv6 here, listening on {address} alone");
                return Ok(vec![first]);
            }
            // The free port that was picked for one is not free for the other.
            Err(error) if v4.port() == 0 && is_in_use(&error.reason) && tries < MAX_TRIES => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Which peers a socket of IPv6 takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Those that the system gives it: `[::]` usually takes IPv4 too.
    AsItIs,
    /// Only IPv6, as there is one for IPv4 beside it.
    Own,
}

fn tcp(address: SocketAddr, config: &ServerConfig, family: Family) -> Result<Bound, ListenError> {
    let bound = || {
        if config.workers <= 1 {
            let listener = listen(address, config, family, Share::No)?;
            return Ok((listener.local_addr()?, vec![Listener::Tcp(listener)]));
        }
        // Sockets that share a port would share it with another program's too. The first one binds as if it did not
        // share, which tells whether the address is free, and keeps it.
        let first = listen(address, config, family, Share::Later)?;
        let address = first.local_addr()?;
        let mut listeners = vec![Listener::Tcp(first)];
        for _ in 1..config.workers {
            let next = listen(address, config, family, Share::Now)?;
            listeners.push(Listener::Tcp(next));
        }
        Ok((address, listeners))
    };
    match bound() {
        Ok((address, listeners)) => Ok(Bound {
            address: BoundAddress::Tcp(address),
            listeners,
            #[cfg(unix)]
            _file: None,
        }),
        Err(reason) => Err(ListenError {
            address: BoundAddress::Tcp(address),
            reason,
        }),
    }
}

/// Whether several sockets of this process take the connections of an address in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    No,
    /// With those that bind after this one.
    Later,
    /// With one that is bound.
    Now,
}

/// Listens on an address.
fn listen(
    address: SocketAddr,
    config: &ServerConfig,
    family: Family,
    share: Share,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if family == Family::Own {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if share == Share::Now {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let idle = config.peer_timeout.min(MAX_KEEPALIVE);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    socket.set_tcp_user_timeout(Some(config.peer_timeout.min(MAX_USER_TIMEOUT)))?;
    #[cfg(target_os = "linux")]
    linux::set_options(&socket)?;
    socket.bind(&address.into())?;
    #[cfg(unix)]
    if share == Share::Later {
        socket.set_reuse_port(true)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// All workers take connections from the same queue: Unix sockets cannot share a path.
#[cfg(unix)]
fn unix(path: &std::path::Path, workers: usize, access: Access) -> io::Result<Vec<Bound>> {
    let (listener, file) = socket_file::listen(path, BACKLOG, access)?;
    let mut listeners = Vec::new();
    for _ in 1..workers {
        listeners.push(Listener::Unix(listener.try_clone()?));
    }
    listeners.push(Listener::Unix(listener));
    Ok(vec![Bound {
        address: BoundAddress::Unix(path.to_owned()),
        listeners,
        _file: Some(file),
    }])
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// The system has no IPv6, or no such address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_unknown = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    #[cfg(not(unix))]
    let is_unknown = error.kind() == io::ErrorKind::Unsupported;
    is_unknown || error.kind() == io::ErrorKind::AddrNotAvailable
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
/// The most that Linux takes for `TCP_KEEPIDLE` (tcp(7)), and for `TCP_USER_TIMEOUT` in milliseconds.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
/// How often a free port is looked for that is free for both families. A guess.
const MAX_TRIES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn workers_share_a_port_that_no_other_server_gets() {
        let config = ServerConfig {
            workers: 4,
            ..ServerConfig::default()
        };
        let any = Endpoint::Address((Ipv4Addr::LOCALHOST, 0).into());
        let bound = bind(&any, &config).unwrap();
        assert_eq!(bound[0].listeners.len(), 4);
        let BoundAddress::Tcp(address) = bound[0].address else {
            panic!("{:?}", bound[0].address);
        };
        for workers in [1, 2] {
            let config = ServerConfig {
                workers,
                ..ServerConfig::default()
            };
            let error = bind(&Endpoint::Address(address), &config).unwrap_err();
            assert!(is_in_use(&error.reason), "{error:?}");
        }
        // Each of them gets some of so many connections: all missing one has a chance of 4 × 0.75^200.
        let clients: Vec<_> = (0..200)
            .map(|_| {
                use std::io::Write as _;
                let mut client = std::net::TcpStream::connect(address).unwrap();
                client.write_all(b"x").unwrap();
                client
            })
            .collect();
        let taken = |listener: &Listener| {
            let Listener::Tcp(listener) = listener else {
                return 0;
            };
            std::iter::from_fn(|| listener.accept().ok()).count()
        };
        let mut counts = [0; 4];
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while counts.iter().sum::<usize>() < clients.len() && std::time::Instant::now() < deadline {
            for (count, listener) in counts.iter_mut().zip(&bound[0].listeners) {
                *count += taken(listener);
            }
        }
        assert_eq!(counts.iter().sum::<usize>(), clients.len(), "{counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    /// What systems say that were built or started without IPv6, and what is wrong with a port and not with IPv6.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_machine_without_ipv6_is_told_from_a_port_that_is_taken() {
        let error = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(lacks_ipv6(&error(rustix::io::Errno::AFNOSUPPORT)));
        assert!(lacks_ipv6(&error(rustix::io::Errno::ADDRNOTAVAIL)));
        assert!(!lacks_ipv6(&error(rustix::io::Errno::ADDRINUSE)));
        assert!(!lacks_ipv6(&error(rustix::io::Errno::ACCESS)));
    }
}
