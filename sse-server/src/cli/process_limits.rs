//! The limits that the system sets a process: open files, of which every socket is one, and core dumps.

use sse_server::hub::HubConfig;

/// Raises the process's own limit as far as it may. When that is not enough for all sockets, there are fewer of them: some files are
/// kept back for the log, and some sockets for requests, so that publishers get in when all streams are open.
#[cfg(unix)]
pub(crate) fn make_room_for(hub: &mut HubConfig) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let sockets = hub.max_connections.saturating_add(hub.max_requests);
    let wanted = u64::try_from(sockets)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is written as none.
    let Some(current) = limit.current else { return };
    let reachable = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let raised = Rlimit {
        current: Some(reachable),
        maximum: limit.maximum,
    };
    let is_raised = reachable > current && setrlimit(Resource::Nofile, raised).is_ok();
    let now = if is_raised { reachable } else { current };
    if now < wanted {
        let asked = hub.max_connections;
        share_out(hub, now);
        tracing::warn!(
            open_files = now,
            max_connections = hub.max_connections,
            max_sockets = hub.max_sockets,
            "the limit of open files is too low for {asked} connections and {} requests at once, and fewer are taken: raise it \
             with `ulimit -n {wanted}`",
            hub.max_requests,
        );
    }
}

/// Keeps the memory of this process, and the secrets in it, out of files when it crashes.
#[cfg(unix)]
pub(crate) fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be forbidden");
    }
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
pub(crate) fn forbid_core_dumps() {}

/// Elsewhere there is no such limit to raise.
#[cfg(not(unix))]
pub(crate) fn make_room_for(_hub: &mut HubConfig) {}

/// Fits sockets and streams into so many open files.
#[cfg(unix)]
fn share_out(hub: &mut HubConfig, open_files: u64) {
    let sockets = open_files - OTHER_FILES.min(open_files / 2);
    let sockets = usize::try_from(sockets).unwrap_or(usize::MAX).max(2);
    let for_requests = (sockets / REQUESTS_PART)
        .max(MIN_FOR_REQUESTS)
        .min(sockets / 2);
    hub.max_connections = hub.max_connections.min(sockets - for_requests);
    hub.max_requests = hub.max_requests.min(sockets);
    hub.max_sockets = Some(sockets);
}

/// Files beside sockets: the log, the listeners, the runtimes' own, sockets that are just being closed. A stated guess.
#[cfg(unix)]
const OTHER_FILES: u64 = 256;
/// Of few sockets every thirty-second is for requests alone, and no fewer than four. A stated guess: requests are short.
#[cfg(unix)]
const REQUESTS_PART: usize = 32;
#[cfg(unix)]
const MIN_FOR_REQUESTS: usize = 4;

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_shared_out_so_that_requests_get_in() {
        for (open_files, max_sockets, max_connections) in [
            (1, 2, 1),
            (48, 24, 20),
            (1024, 768, 744),
            (20_000, 19_744, 10_000),
        ] {
            let mut hub = HubConfig::default();
            share_out(&mut hub, open_files);
            assert_eq!(hub.max_sockets, Some(max_sockets), "{open_files}");
            assert_eq!(hub.max_connections, max_connections, "{open_files}");
            assert!(hub.max_requests <= max_sockets);
        }
    }
}
