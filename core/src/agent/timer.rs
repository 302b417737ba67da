//! The timers of an agent.

use std::time::Duration;

use crate::{id::NodeId, node::ConnId, timer::Kinds};

/// A timer this much late says that this process itself stood still: whoever did not answer meanwhile gets his time anew.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// Every timer of the agent's logic. Each carries a token; one that is not the newest of its kind is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next attempt at a session.
    Reconnect(u64),
    /// The hello was not answered.
    Opening(ConnId),
    /// The next heartbeat.
    Heartbeat(u64),
    /// No seal for too long.
    Quiet(u64),
    /// The next probe of a node.
    Probe(NodeId, u64),
    /// A probe should have been answered by now: the node, and the probe's number.
    Missed(NodeId, u64),
    /// The next beacons.
    Beacons,
    /// Is the coordinator heard, and does the lease still run?
    Membership(u64),
    /// A peer's question is passed on, unless the coordinator answered it: its number.
    PassOn(u64),
    /// The disk is looked at.
    Disk,
    /// A write should be done by now: its number.
    DiskLate(u64),
    /// Changes of instances are told.
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
