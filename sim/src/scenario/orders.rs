//! Operator commands.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::{autonomy::Mode, coordinator::WorkloadVerb};

use crate::span::{some_span, span};

/// Verb of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Cordon the targets.
    Cordon,
    /// Uncordon the targets.
    Uncordon,
    /// Make the targets measure and report now.
    Refresh,
    /// Set the targets' heartbeat interval to `interval`, or to the cluster's default if absent.
    SetHeartbeat,
    /// Forget the targets, where allowed.
    Forget,
    /// Drain the targets within `deadline`.
    Drain,
    /// Scale `workload` to `replicas` instances.
    Scale,
    /// Restart `workload`.
    Restart,
    /// Continue the update of `workload` beyond its canaries.
    Promote,
    /// Delete `workload`.
    Delete,
    /// Set the policy of `heal`, `rebalance` and `preempt`.
    Autonomy,
    /// Approve all pending decisions.
    Approve,
}

/// A command.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Time since the start of the scenario.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// Verb of the command.
    pub verb: Verb,
    /// For commands about nodes: the nodes concerned, as for faults.
    #[serde(default)]
    pub targets: Vec<String>,
    /// For commands about workloads: the name.
    #[serde(default)]
    pub workload: String,
    /// For `scale`: number of instances.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// For `autonomy`: mode of healing.
    #[serde(default)]
    pub heal: Option<Mode>,
    /// For `autonomy`: mode of rebalancing.
    #[serde(default)]
    pub rebalance: Option<Mode>,
    /// For `autonomy`: mode of preemption.
    #[serde(default)]
    pub preempt: Option<Mode>,
    /// For `drain`: the deadline.
    #[serde(default, deserialize_with = "some_span")]
    pub deadline: Option<Duration>,
    /// For `set-heartbeat`: the interval.
    #[serde(default, deserialize_with = "some_span")]
    pub interval: Option<Duration>,
}

impl Order {
    /// The workload command, if it is one.
    pub(crate) fn on_workload(&self) -> Option<WorkloadVerb> {
        let name = self.workload.clone();
        match self.verb {
            Verb::Scale => Some(WorkloadVerb::Scale {
                name,
                replicas: self.replicas.unwrap_or_default(),
            }),
            Verb::Restart => Some(WorkloadVerb::Restart { name }),
            Verb::Promote => Some(WorkloadVerb::Promote { name }),
            Verb::Delete => Some(WorkloadVerb::Delete { name }),
            _ => None,
        }
    }
}
