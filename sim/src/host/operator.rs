//! Operator commands to the coordinator.

use std::sync::Arc;

use wyneos_core::{
    autonomy::PolicyChange,
    command::{
        Asked, ChangeWorkload, Cordon, Decide, Drain, Forget, Refresh, SetHeartbeat, SetPolicy, Uncordon, WorkloadVerb,
    },
    coordinator::{Input, RequestId},
};

use super::Host;
use crate::{machines::Machines, names::name, scenario::Verb, scene::Scene};

fn on_workload(verb: WorkloadVerb) -> ChangeWorkload {
    ChangeWorkload {
        plan: false,
        at: None,
        keep_replicas: false,
        force: false,
        verb,
    }
}

impl Host {
    /// Issues a command, with one request per target.
    pub(crate) fn order(&mut self, scene: &mut Scene<'_>, machines: &Machines, number: usize) {
        let order = &scene.stage.scenario.commands[number];
        if order.verb == Verb::Autonomy {
            let change = PolicyChange {
                heal: order.heal,
                rebalance: order.rebalance,
                preempt: order.preempt,
            };
            self.command(scene, machines, number as u64, SetPolicy(change));
            return;
        }
        if order.verb == Verb::Approve {
            for id in scene.witness.pending.clone() {
                self.command(scene, machines, id.0, Decide { id, approve: true });
            }
            return;
        }
        if let Some(verb) = order.on_workload() {
            self.command(scene, machines, number as u64, on_workload(verb));
            return;
        }
        for (count, target) in scene.stage.nodes_of(&order.targets).into_iter().enumerate() {
            let node = name(target);
            let command: Asked = match order.verb {
                Verb::Cordon => Cordon { node }.into(),
                Verb::Uncordon => Uncordon { node }.into(),
                Verb::Refresh => Refresh { node }.into(),
                Verb::Forget => Forget {
                    node,
                    plan: false,
                    reason: String::new(),
                }
                .into(),
                Verb::Drain => Drain {
                    keep_daemons: false,
                    node,
                    deadline: order.deadline,
                    plan: false,
                }
                .into(),
                // Handled above.
                Verb::Scale | Verb::Restart | Verb::Promote | Verb::Delete | Verb::Autonomy | Verb::Approve => continue,
                Verb::SetHeartbeat => SetHeartbeat {
                    node,
                    interval: order.interval,
                }
                .into(),
            };
            self.command(scene, machines, (number as u64) << 32 | count as u64, command);
        }
    }

    /// Declares a workload.
    pub(crate) fn declare(&mut self, scene: &mut Scene<'_>, machines: &Machines, number: usize) {
        let spec = scene.stage.scenario.workloads[number].spec();
        self.command(
            scene,
            machines,
            u64::MAX - number as u64,
            on_workload(WorkloadVerb::Apply(Arc::new(spec))),
        );
    }

    fn command(&mut self, scene: &mut Scene<'_>, machines: &Machines, request: u64, command: impl Into<Asked>) {
        let (request, command, by) = (RequestId(request), command.into(), "operator".into());
        self.tell(scene, machines, Input::Command { request, command, by });
    }
}
