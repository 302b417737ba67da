//! Shares of callers: calls in progress, and bytes of requests that were received and are held.
//!
//! Each kind of callers has a separate share, so that none excludes another: people, agents, hosts that join, and
//! unauthenticated callers of health. Within a share each identity has a part; unauthenticated callers are counted by
//! source address.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tonic::Status;
use wyneos::identity::{Role, Rule};
use wyneos_core::limits;

use super::Caller;
use crate::{
    answers::{Full, Quota, Taken, Who},
    limiter::Limiter,
    metrics::Metrics,
    status,
};

/// The only long-lived rpc of agents.
pub(crate) const SESSION: &str = "wyneos.v1.AgentService/Session";

/// Time limit for a call without a certificate or a bearer token, including its answer.
pub(super) const NOBODYS: Duration = Duration::from_secs(60);

/// The reason for a request for which there is no room.
pub(super) const REQUEST_BYTES: &str = "REQUEST_BYTES";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Upper bounds of a share.
#[derive(Clone, Copy, Debug)]
struct Most {
    /// Calls of one identity, until the last byte of their answers was written: each takes some kilobytes in addition
    /// to the memory of its answer.
    calls_of_one: usize,
    calls: usize,
    /// Bytes of one identity's requests, headers included. Higher: more large requests at once; lower: less memory.
    bytes_of_one: usize,
    bytes: usize,
}

/// Operators, by certificate or bearer token; without TLS all callers.
const PEOPLE: Most = Most {
    calls_of_one: 2_048,
    calls: 16_384,
    bytes_of_one: 8 * MIB,
    bytes: 64 * MIB,
};

/// Agents: their sessions, each of which holds its largest message until it ends, and their renewals.
const AGENTS: Most = Most {
    calls_of_one: 32,
    calls: 16_384,
    bytes_of_one: 2 * limits::AGENT_MESSAGE,
    bytes: 512 * MIB,
};

/// Bytes of agents' requests per possible connection, if [`AGENTS`] has fewer. Lower: agents of a large cluster that
/// report all their instances at once would be refused.
const OF_A_CONNECTION: usize = 24 * KIB;

/// Hosts that join, or recover with an expired certificate.
const JOINING: Most = Most {
    calls_of_one: 64,
    calls: 512,
    bytes_of_one: 2 * MIB,
    bytes: 16 * MIB,
};

/// Health and reflection without a certificate: calls with one answer.
const ASKING: Most = Most {
    calls_of_one: 64,
    calls: 1_024,
    bytes_of_one: 512 * KIB,
    bytes: 4 * MIB,
};

/// Health and reflection without a certificate: streams.
const WATCHING: Most = Most {
    calls_of_one: 32,
    calls: 512,
    bytes_of_one: 512 * KIB,
    bytes: 4 * MIB,
};

/// Answers to calls that were refused before they had a place, until they are written. Beyond it, connections are closed instead.
const REFUSED_OF_ONE: usize = 512;
const REFUSED: usize = 8_192;

/// Maximum number of calls of one source, per minute and at once, that present no credential or are refused because of
/// it; beyond it, the connection is closed. Higher: more hosts behind one address may reconnect at once; a flood costs
/// more.
const UNPROVEN: u32 = 3_000;
const UNPROVEN_AT_ONCE: u32 = 300;

/// A kind of callers, and its share.
#[derive(Debug)]
pub(super) struct Share {
    calls: Arc<Quota>,
    bytes: Arc<Quota>,
}

/// All shares.
#[derive(Debug)]
pub(crate) struct Shares {
    people: Share,
    agents: Share,
    joining: Share,
    asking: Share,
    watching: Share,
    refused: Arc<Quota>,
    unproven: Limiter<Who>,
}

impl Share {
    fn new(most: Most) -> Share {
        Share {
            calls: Quota::new(most.calls_of_one, most.calls),
            bytes: Quota::new(most.bytes_of_one, most.bytes),
        }
    }

    /// Takes a place for a call.
    pub(super) fn place(&self, caller: &Caller) -> Result<Taken, Status> {
        self.calls.take(caller.who()).map_err(|full| {
            let message = match full {
                Full::OfOne(most) => {
                    format!(
                        "{caller} has {most} calls of this kind in progress, the limit of one identity or source address"
                    )
                }
                Full::OfAll(most) => format!("{most} calls of this kind are in progress, the limit"),
            };
            status::exhausted("CALLS", message)
        })
    }

    /// Makes room for a request whose headers were received.
    pub(super) fn receive(&self, who: Who, headers: usize, metrics: &Arc<Metrics>) -> Result<Arc<Received>, Status> {
        let taken = self.bytes.take_many(who, headers).map_err(full)?;
        metrics.request_bytes.inc_by(headers as i64);
        Ok(Arc::new(Received {
            taken: Mutex::new(taken),
            metrics: Arc::clone(metrics),
        }))
    }
}

impl Shares {
    /// Creates the shares of a coordinator with this maximum number of connections.
    pub(crate) fn new(connections: usize) -> Arc<Shares> {
        let agents = Most {
            bytes: AGENTS.bytes.max(connections.saturating_mul(OF_A_CONNECTION)),
            ..AGENTS
        };
        Arc::new(Shares {
            people: Share::new(PEOPLE),
            agents: Share::new(agents),
            joining: Share::new(JOINING),
            asking: Share::new(ASKING),
            watching: Share::new(WATCHING),
            refused: Quota::new(REFUSED_OF_ONE, REFUSED),
            unproven: Limiter::with_burst(UNPROVEN, UNPROVEN_AT_ONCE),
        })
    }

    /// Takes a place for the answer to a refused call.
    pub(super) fn refused(&self, caller: &Caller) -> Option<Taken> {
        self.refused.take(caller.who()).ok()
    }

    /// Counts a call without a credential, or a refused one; returns the time to wait if there were too many.
    pub(super) fn unproven(&self, caller: &Caller) -> Result<(), Duration> {
        self.unproven.take(caller.who(), Instant::now())
    }

    /// The share that a call takes from.
    pub(super) fn of(&self, caller: &Caller, rule: &Rule) -> &Share {
        let method = rule.rpc.rsplit('/').next().unwrap_or_default();
        match (caller.role, method) {
            _ if rule.rpc == SESSION => &self.agents,
            (Some(Role::Agent), _) => &self.agents,
            (Some(_), _) => &self.people,
            (None, "Enroll" | "Recover") => &self.joining,
            (None, "Check" | "List") => &self.asking,
            (None, _) => &self.watching,
        }
    }
}

/// A request's bytes, which are counted until this is dropped: when nothing of the request is held any more.
#[derive(Debug)]
pub(super) struct Received {
    taken: Mutex<Taken>,
    metrics: Arc<Metrics>,
}

impl Received {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts further bytes, or returns the reason for which there is no room.
    pub(super) fn grow(&self, more: usize) -> Result<(), Status> {
        self.taken().grow(more).map_err(full)?;
        self.metrics.request_bytes.inc_by(more as i64);
        Ok(())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let count = self.taken().count();
        self.metrics.request_bytes.dec_by(count as i64);
    }
}

/// The reason for which there is no room for a request.
fn full(full: Full) -> Status {
    let message = match full {
        Full::OfOne(most) => format!(
            "requests in progress of one identity or source address may have {} KiB in total, and this one would exceed that; send fewer at once",
            most / KIB
        ),
        Full::OfAll(most) => format!(
            "requests in progress may have {} KiB in total, and this one would exceed that; retry",
            most / KIB
        ),
    };
    status::exhausted(REQUEST_BYTES, message)
}

#[cfg(test)]
pub(super) mod tests;
