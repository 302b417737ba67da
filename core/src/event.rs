//! Events: numbered, durable records of what happened.

mod bounded;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    autonomy::Decision,
    behaviour::DirectiveRecord,
    id::{Cycle, Epoch, EventNo, NodeId},
    mesh::Finding,
    node::{Cause, Liveness},
    time::WallTime,
    workload::AssignmentId,
};

impl Event {
    /// Name of the workload concerned; empty for none.
    pub fn workload(&self) -> &str {
        match &self.body {
            EventBody::Workload { workload, .. } => workload,
            EventBody::Decision(decision) => &decision.workload,
            _ => "",
        }
    }

    /// Key of the event's subject: a workload, a node, the mesh, or (empty) the cluster. Each subject has its own share
    /// of the history.
    pub fn subject(&self) -> String {
        match (self.workload(), self.node, &self.body) {
            ("", Some(node), _) => format!("node {node}"),
            ("", None, EventBody::Finding { .. }) => "mesh".to_owned(),
            ("", None, _) => String::new(),
            (workload, ..) => format!("workload {workload}"),
        }
    }
}

fn once() -> u32 {
    1
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Sequence number, starting at 1 in each cluster without gaps.
    pub sequence: EventNo,
    /// Time of the event.
    pub time: WallTime,
    /// Epoch of the event.
    pub epoch: Epoch,
    /// The last cycle that began before the event.
    pub cycle: Cycle,
    /// The node concerned.
    pub node: Option<NodeId>,
    /// Name of the node at the time.
    pub node_name: String,
    /// One human-readable sentence.
    pub summary: String,
    /// The details.
    pub body: EventBody,
    /// Occurrences since the previous such event; 1 for an event that does not repeat.
    #[serde(default = "once")]
    pub times: u32,
}

/// Details of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// A node's liveness changed.
    Liveness {
        /// Previous liveness; `None` for a node that was unknown.
        from: Option<Liveness>,
        /// New liveness.
        to: Liveness,
        /// Cause of the change.
        cause: Cause,
    },
    /// A decision was taken, or its outcome changed.
    Decision(Arc<Decision>),
    /// The state of a directive changed.
    Directive(DirectiveRecord),
    /// An operator's command was executed.
    Command {
        /// Verb of the command.
        verb: String,
        /// Description of the change, human-readable.
        detail: String,
        /// Author of the command.
        #[serde(default)]
        by: String,
    },
    /// A finding of the mesh was opened or closed.
    Finding {
        /// The finding.
        finding: Finding,
        /// Whether it was opened.
        open: bool,
    },
    /// Two processes claim to be one node, or a node came from another machine.
    Impostor {
        /// Description of the processes or machines.
        detail: String,
    },
    /// A session ended because of its content.
    Session {
        /// The rejected content, human-readable.
        detail: String,
    },
    /// Concerns a workload or one of its instances; see the summary.
    Workload {
        /// Name of the workload; empty if unknown.
        workload: String,
        /// The instance.
        assignment: Option<AssignmentId>,
        /// Author of the change; empty for the coordinator.
        by: String,
    },
    /// The coordinator started or stopped.
    Coordinator {
        /// Whether it started.
        started: bool,
        /// Version of the coordinator.
        version: String,
    },
}
