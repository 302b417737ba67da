//! What operators ask for.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::{autonomy::Mode, coordinator::WorkloadVerb};

use crate::span::{some_span, span};

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// No new work on the targets.
    Cordon,
    /// Takes a cordon back.
    Uncordon,
    /// The targets measure and report now.
    Refresh,
    /// The targets' heartbeat interval becomes `interval`; the cluster's own, when that is absent.
    SetHeartbeat,
    /// The targets are forgotten, where that is allowed.
    Forget,
    /// The targets are emptied of their work, within `deadline`.
    Drain,
    /// `workload` has `replicas` instances from now on.
    Scale,
    /// The instances of `workload` are replaced.
    Restart,
    /// The update of `workload` goes on beyond its canaries.
    Promote,
    /// `workload` does not run any more.
    Delete,
    /// Lost work is replaced as `heal` says, hot nodes shed work as `rebalance` says, room is made as `preempt` says.
    Autonomy,
    /// Every decision that waits is approved.
    Approve,
}

/// A command.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When it is given, since the start.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// What is asked for.
    pub verb: Verb,
    /// Whom it is about, as for faults; for commands about nodes.
    #[serde(default)]
    pub targets: Vec<String>,
    /// For commands about workloads: its name.
    #[serde(default)]
    pub workload: String,
    /// For `scale`.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// For `autonomy`.
    #[serde(default)]
    pub heal: Option<Mode>,
    /// For `autonomy`.
    #[serde(default)]
    pub rebalance: Option<Mode>,
    /// For `autonomy`.
    #[serde(default)]
    pub preempt: Option<Mode>,
    /// For `drain`.
    #[serde(default, deserialize_with = "some_span")]
    pub deadline: Option<Duration>,
    /// For `set-heartbeat`.
    #[serde(default, deserialize_with = "some_span")]
    pub interval: Option<Duration>,
}

impl Order {
    /// What becomes of a workload, when it is about one.
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
