//! Timers of an agent.

use std::time::Duration;

use crate::{id::NodeId, node::ConnId, timer::Kinds};

/// Lateness of a timer that indicates a stall of this process: pending deadlines of others are then extended.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// All timers of the agent. Each carries a token; a timer whose token is not the newest of its kind is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next attempt at a session.
    Reconnect(u64),
    /// Deadline of a hello.
    Opening(ConnId),
    /// The next heartbeat.
    Heartbeat(u64),
    /// Deadline of the next seal.
    Quiet(u64),
    /// The next probe of a node.
    Probe(NodeId, u64),
    /// Deadline of a probe: target and probe number.
    Missed(NodeId, u64),
    /// The next beacons.
    Beacons,
    /// Membership check: silence of the coordinator, and the lease.
    Membership(u64),
    /// Deadline after which a peer's question is forwarded: its number.
    PassOn(u64),
    /// The next disk check.
    Disk,
    /// Deadline of a disk write: its number.
    DiskLate(u64),
    /// Report of changed instances.
    Work(u64),
}

impl Kinds for Timer {
    const NAMES: &'static [&'static str] = &[
        "agent.reconnect",
        "agent.opening",
        "agent.heartbeat",
        "agent.quiet",
        "agent.probe",
        "agent.missed",
        "agent.beacons",
        "agent.membership",
        "agent.disk",
        "agent.disk-late",
        "agent.work",
        "agent.pass-on",
    ];

    fn kind(&self) -> usize {
        match self {
            Timer::Reconnect(_) => 0,
            Timer::Opening(_) => 1,
            Timer::Heartbeat(_) => 2,
            Timer::Quiet(_) => 3,
            Timer::Probe(..) => 4,
            Timer::Missed(..) => 5,
            Timer::Beacons => 6,
            Timer::Membership(_) => 7,
            Timer::Disk => 8,
            Timer::DiskLate(..) => 9,
            Timer::Work(_) => 10,
            Timer::PassOn(_) => 11,
        }
    }
}
