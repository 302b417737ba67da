//! File descriptors: how many connections the process's limit leaves room for, and whose they are.
//!
//! Each listener gets a share that the others cannot take, and some descriptors are kept for files: a flood at one port neither closes
//! another port nor keeps the store from working.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::metrics;

/// Descriptors kept for files and connections that the process opens itself while it runs.
const KEPT: usize = 16;

/// Connections without which a server is of no use.
const LEAST: usize = 4;

/// The shares of a process with two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections at the main port.
    pub main: usize,
    /// Connections at the metrics port.
    pub metrics: usize,
}

/// The limit leaves no room for the connections that a server needs.
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

/// Raises the limit to what the system allows this process. What it starts later inherits that.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Without it there is less room, which `share` tells.
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// Shares out what is left when everything that stays open is open. The main port gets a `part`-th of it, `wanted` at most.
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
