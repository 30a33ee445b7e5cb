//! What connections take of the kernel's memory.

use std::fs;
use std::net::SocketAddrV4;
use std::process::Command;

/// A look at the kernel's memory for TCP, in bytes.
///
/// On the loopback both ends of a connection are in it, the reader's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelMemory {
    /// Socket buffers, as TCP accounts for them.
    buffers: u64,
    /// Sockets, files and their like; zero where only root may look.
    objects: u64,
}

impl KernelMemory {
    pub(crate) fn now() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self {
            buffers: tcp_pages(&read("/proc/net/sockstat")).unwrap_or(0) * PAGE_BYTES,
            objects: object_bytes(&read("/proc/slabinfo")),
        }
    }

    /// The bytes that came since `before`.
    pub(crate) fn since(self, before: Self) -> u64 {
        self.buffers.saturating_sub(before.buffers) + self.objects.saturating_sub(before.objects)
    }
}

/// The bytes in the socket buffers of a server's own ends, as `ss` tells; `None` without it.
pub(crate) fn server_buffers(addr: SocketAddrV4) -> Option<u64> {
    let filter = format!("sport = :{}", addr.port());
    let output = Command::new("ss").args(["-tmnH", &filter]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().filter_map(skmem_bytes).sum())
}

/// What is allocated by the `skmem` field of a line of `ss`: received, queued to be written, and
/// set aside.
fn skmem_bytes(line: &str) -> Option<u64> {
    let fields = line.split_once("skmem:(")?.1.split(')').next()?;
    let value = |name: &str| {
        fields
            .split(',')
            .find_map(|field| field.strip_prefix(name)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Some(value("r") + value("w") + value("f"))
}

/// The pages that TCP uses, from `/proc/net/sockstat`.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP: "))?;
    let mut words = line.split(' ').skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// The bytes of the objects that belong to sockets, from `/proc/slabinfo`.
fn object_bytes(slabinfo: &str) -> u64 {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        if !SOCKET_OBJECTS.contains(&name) {
            return None;
        }
        let active: u64 = words.next()?.parse().ok()?;
        let size: u64 = words.nth(1)?.parse().ok()?;
        Some(active * size)
    };
    slabinfo.lines().filter_map(of_line).sum()
}

const SOCKET_OBJECTS: [&str; 6] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
    "tcp_bind_bucket",
];

const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_tcp_are_found() {
        let text =
            "sockets: used 183\nTCP: inuse 9 orphan 0 tw 5 alloc 14 mem 27\nUDP: inuse 1 mem 3\n";
        assert_eq!(tcp_pages(text), Some(27));
    }

    #[test]
    fn only_the_objects_of_sockets_count() {
        let text = "slabinfo - version: 2.1\n\
                    TCP                  100    120   2432   13    8 : tunables 0 0 0\n\
                    dentry              9000   9000    192   21    1 : tunables 0 0 0\n";
        assert_eq!(object_bytes(text), 243_200);
    }

    #[test]
    fn what_a_socket_holds_is_received_queued_and_set_aside() {
        let line = "ESTAB 0 0 127.0.0.1:1 127.0.0.2:2 skmem:(r0,rb131072,t0,tb2626560,f4096,w8704,o0,bl0,d0)";
        assert_eq!(skmem_bytes(line), Some(12_800));
    }
}
