//! The limit of open files: every connection is one.

/// Raises the process's own limit as far as it may, and warns when that is not enough for so many
/// connections.
#[cfg(unix)]
pub(crate) fn make_room_for(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let wanted = u64::try_from(connections)
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
        tracing::warn!(
            open_files = now,
            max_connections = connections,
            "the limit of open files is too low for max-connections: raise it with `ulimit -n {wanted}`"
        );
    }
}

/// Elsewhere there is no such limit to raise.
#[cfg(not(unix))]
pub(crate) fn make_room_for(_connections: usize) {}

/// Files beside connections: the log, the listener, the runtime's own, requests under way. A stated guess.
#[cfg(unix)]
const OTHER_FILES: u64 = 256;
