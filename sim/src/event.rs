//! Everything that can happen.

use wyneos_core::{
    id::ClusterId,
    node::ConnId,
    standing::{Question, Standing},
    supervisor::Input,
    time::Time,
    workload::{AssignmentId, Exit},
};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum What {
    /// An agent's timer is due, unless the number is not its newest.
    Wake(usize, u64),
    /// The coordinator's timer is due.
    WakeCoordinator(u64),
    /// A stream tries to deliver what waits in it.
    Pump(StreamId, Way),
    /// A stream stands, as its agent learns.
    Stands(StreamId),
    /// The oldest of what is on its way in a stream arrives.
    Arrive(StreamId, Way),
    /// A stream's keep-alive.
    KeepAlive(StreamId),
    /// An agent asks for a transport: its machine, generation and name for it, and how often it tried.
    Dial(usize, u32, ConnId, u32),
    /// A connection for a probe is opened: observer, subject, number, attempt.
    Connect(usize, usize, u64, u32),
    /// A probe leaves: observer, subject, number, attempt.
    ProbeOut(usize, usize, u64, u32),
    /// It arrives.
    ProbeIn(usize, usize, u64),
    /// Its answer leaves.
    ReplyOut(usize, usize, u64, u32),
    /// It arrives: was there somebody to answer?
    ReplyIn(usize, usize, u64, bool),
    /// The observer waits no longer.
    ProbeTimeout(usize, usize, u64),
    /// A beacon arrives: its sender and receiver, and whether the sender observes.
    Beacon(usize, usize, bool),
    /// A question for a standing reaches a peer.
    Ask(Box<Ask>),
    /// What came of it reaches the asker.
    Answered(Box<(Ask, Option<Standing>)>),
    /// The coordinator's disk is done with the oldest of what it was asked.
    DiskDone(u32),
    /// A fault begins or ends.
    Fault(usize, bool),
    /// The lease of a node that was declared offline must be over.
    LeaseOver(usize, Time),
    /// An operator gives a command.
    Order(usize),
    /// A flapping cut goes on or off.
    Flap(usize, bool),
    /// An agent's disk is done with a write; its machine and generation.
    Written(usize, u32),
    /// An agent lies again, by this fault.
    Lie(usize, usize),
    /// A starving agent stops or goes on.
    Starve(usize, usize),
    /// Something happens to an instance on a machine.
    Step(Box<(usize, AssignmentId, Step)>),
    /// A workload is declared.
    Declare(usize),
    /// A backup is made, for the fault that restores it.
    BackUp(usize),
}

/// A transport.
pub(crate) type StreamId = u64;

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the coordinator.
    Up,
    /// To the agent.
    Down,
}

/// A question for a standing, on its way by a peer.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Who asks, for itself or for another node.
    pub(crate) caller: usize,
    pub(crate) via: usize,
    pub(crate) cluster: ClusterId,
    pub(crate) question: Box<Question>,
    pub(crate) number: u64,
}

/// What happens to an instance.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Its supervisor's timer is due, unless the number is not its newest.
    Wake(u64),
    /// Its program runs.
    Started(u64),
    /// It cannot run.
    NotStarted(u64),
    /// It ends by itself, or because it was told to.
    Ended(u64, Exit),
    /// Nothing of it is left.
    Cleared,
    /// Its health was asked for.
    Checked(usize),
    /// A message reaches the instance's supervisor.
    Told(Input),
    /// The kernel's timer of its supervisor goes off, unless the number is not its newest lease's.
    Expired(u64),
    /// The kernel is done with what ends with its supervisor.
    Torn,
    /// The agent notices that the supervisor is gone.
    Missed,
    /// An agent that does not find its directory kills its supervisor, if that still lives.
    GivenUp,
}
