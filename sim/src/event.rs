//! Events of the simulation.

use wyneos_core::{
    id::ClusterId,
    node::ConnId,
    standing::{Question, Standing},
    supervisor::Input,
    time::Time,
    workload::{AssignmentId, Exit},
};

/// An event.
#[derive(Debug)]
pub(crate) enum What {
    /// An agent's timer is due; stale unless the token is the newest.
    Wake(usize, u64),
    /// The coordinator's timer is due; stale unless the token is the newest.
    WakeCoordinator(u64),
    /// A stream attempts to deliver its queue.
    Pump(StreamId, Way),
    /// A stream is established from its agent's point of view.
    Stands(StreamId),
    /// The oldest item in transit on a stream arrives.
    Arrive(StreamId, Way),
    /// A stream's keep-alive is due.
    KeepAlive(StreamId),
    /// An agent requests a transport: machine, generation, identifier, and number of attempts.
    Dial(usize, u32, ConnId, u32),
    /// A connection for a probe is opened: observer, subject, number, attempt.
    Connect(usize, usize, u64, u32),
    /// A probe is sent: observer, subject, number, attempt.
    ProbeOut(usize, usize, u64, u32),
    /// A probe arrives: observer, subject, number.
    ProbeIn(usize, usize, u64),
    /// The answer to a probe is sent: observer, subject, number, attempt.
    ReplyOut(usize, usize, u64, u32),
    /// The answer to a probe arrives: observer, subject, number, and whether an agent answered.
    ReplyIn(usize, usize, u64, bool),
    /// A probe times out: observer, subject, number.
    ProbeTimeout(usize, usize, u64),
    /// A beacon arrives: sender, receiver, and whether the sender observes the receiver.
    Beacon(usize, usize, bool),
    /// A question about a standing reaches a peer.
    Ask(Box<Ask>),
    /// The answer to a question reaches the asker.
    Answered(Box<(Ask, Option<Standing>)>),
    /// The coordinator's disk completed its oldest request.
    DiskDone(u32),
    /// A fault begins or ends.
    Fault(usize, bool),
    /// The lease of a node that was declared offline must have ended.
    LeaseOver(usize, Time),
    /// An operator gives a command.
    Order(usize),
    /// A flapping cut is switched on or off.
    Flap(usize, bool),
    /// An agent's disk completed a write: machine and generation.
    Written(usize, u32),
    /// An agent lies again because of this fault.
    Lie(usize, usize),
    /// A starved agent stops or continues.
    Starve(usize, usize),
    /// An event concerning an instance on a machine.
    Step(Box<(usize, AssignmentId, Step)>),
    /// A workload is declared.
    Declare(usize),
    /// A backup is made for the fault that restores it.
    BackUp(usize),
}

/// Identifier of a transport.
pub(crate) type StreamId = u64;

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the coordinator.
    Up,
    /// To the agent.
    Down,
}

/// A question about a standing, in transit to a peer.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The machine that sends the question, for itself or for another node.
    pub(crate) caller: usize,
    pub(crate) via: usize,
    pub(crate) cluster: ClusterId,
    pub(crate) question: Box<Question>,
    pub(crate) number: u64,
}

/// An event of an instance.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The supervisor's timer is due; stale unless the token is the newest.
    Wake(u64),
    /// The program was started.
    Started(u64),
    /// The program cannot be started.
    NotStarted(u64),
    /// The program ended, by itself or when told to.
    Ended(u64, Exit),
    /// No process of the instance is left.
    Cleared,
    /// A health check was requested.
    Checked(usize),
    /// A message reaches the supervisor.
    Told(Input),
    /// The kernel's timer on the supervisor's lease expires; stale unless the number is that of the newest lease.
    Expired(u64),
    /// The kernel ended the processes of an instance without a supervisor.
    Torn,
    /// The agent notices that the supervisor is gone.
    Missed,
    /// An agent that does not find the instance's directory kills its supervisor if that still runs.
    GivenUp,
}
