//! File descriptors: the number of connections that the limit of the process permits, and their distribution over the
//! listeners.
//!
//! Each listener has a reserved share, and some descriptors are reserved for files: a flood at one port neither closes
//! another port nor stops the store.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::metrics;

/// Descriptors reserved for files and connections that the process itself opens at run time.
const KEPT: usize = 16;

/// Minimum number of connections with which a server is usable.
const LEAST: usize = 4;

/// The shares of a process with two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Maximum connections at the main port.
    pub main: usize,
    /// Maximum connections at the metrics port.
    pub metrics: usize,
}

/// The limit of open files leaves too few descriptors for the connections that a server needs.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {open} are open: too few are left for connections; raise it to {} at least (ulimit -n, LimitNOFILE)",
    open + KEPT + 2 * LEAST
)]
pub struct TooFew {
    limit: usize,
    open: usize,
}

impl From<TooFew> for io::Error {
    fn from(error: TooFew) -> io::Error {
        io::Error::other(error)
    }
}

/// Raises the limit of open files to the maximum permitted for this process. Child processes inherit it.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // If this fails, fewer connections are available, which `share` reports.
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// Distributes the descriptors that remain once all permanent ones are open. The main port receives `1 / part` of them,
/// at most `wanted`.
///
/// # Errors
/// The remaining descriptors are too few for both ports.
pub fn share(wanted: usize, part: usize) -> Result<Shares, TooFew> {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    shares(limit, open, wanted, part)
}

fn shares(limit: usize, open: usize, wanted: usize, part: usize) -> Result<Shares, TooFew> {
    let left = limit.saturating_sub(open + KEPT);
    if left < 2 * LEAST {
        return Err(TooFew { limit, open });
    }
    let metrics = metrics::CONNECTIONS.min(left / 4).max(2);
    let main = wanted.min(((left - metrics) / part).max(LEAST));
    Ok(Shares { main, metrics })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_never_exceed_what_the_limit_leaves(
            limit in 0usize..100_000, open in 0usize..1_000, wanted in 1usize..1_000_000, part in 1usize..8,
        ) {
            match shares(limit, open, wanted, part) {
                Ok(Shares { main, metrics }) => {
                    prop_assert!(main + metrics + open + KEPT <= limit);
                    prop_assert!(main >= LEAST.min(wanted) && metrics >= 2 && main <= wanted);
                }
                Err(_) => prop_assert!(limit < open + KEPT + 2 * LEAST),
            }
        }
    }

    #[test]
    fn sixty_four_descriptors_leave_room_for_both_ports() {
        let shares = shares(64, 26, 20_000, 1).unwrap();
        assert_eq!(shares, Shares { main: 17, metrics: 5 });
    }
}
