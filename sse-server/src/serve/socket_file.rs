//! The file of a Unix socket: taken over from a hub that died, left to one that lives, removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// A socket's file, which is removed when this is dropped, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whom the umask lets.
    Umask,
    /// The user that the server runs as, and root.
    Owner,
}

/// Listens on a path.
///
/// # Errors
///
/// When somebody listens there, or a file is there that is not a socket, or the system refuses it.
pub(super) fn listen(
    path: &Path,
    backlog: i32,
    access: Access,
) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    if access == Access::Owner {
        // Nobody can connect before it listens.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Removes the file of a socket that nobody listens on.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is there",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that is too busy to answer lives.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Who may not remove it leaves a stale one, which the next start removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sock");
        let (listener, file) = listen(&path, 8, Access::Umask).unwrap();
        let live = listen(&path, 8, Access::Umask).unwrap_err();
        assert_eq!(live.kind(), io::ErrorKind::AddrInUse);
        // The hub dies: its file stays.
        drop(listener);
        std::mem::forget(file);
        assert!(path.exists());
        let (listener, file) = listen(&path, 8, Access::Umask).unwrap();
        drop((listener, file));
        assert!(!path.exists());

        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(listen(&path, 8, Access::Umask).is_err() && path.exists());
        drop(datagrams);
        std::fs::remove_file(&path).unwrap();

        std::fs::write(&path, "precious").unwrap();
        let error = listen(&path, 8, Access::Umask).unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();

        let link_target = folder.path().join("target.sock");
        drop(UnixListener::bind(&link_target).unwrap());
        std::os::unix::fs::symlink(&link_target, &path).unwrap();
        assert!(listen(&path, 8, Access::Umask).is_err());
        assert!(link_target.exists() && fs::symlink_metadata(&path).is_ok());
    }

    #[test]
    fn a_file_that_another_hub_has_put_there_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sock");
        let (listener, file) = listen(&path, 8, Access::Umask).unwrap();
        // Not removed first, so that the new one cannot get the old one's inode.
        std::fs::rename(&path, folder.path().join("moved.sock")).unwrap();
        let (_other, _others) = listen(&path, 8, Access::Umask).unwrap();
        drop((listener, file));
        assert!(path.exists());
    }
}
