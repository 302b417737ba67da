//! Operator commands to the coordinator.

use std::sync::Arc;

use wyneos_core::{
    autonomy::PolicyChange,
    coordinator::{Command, Input, RequestId, WorkloadCommand, WorkloadVerb},
};

use super::Host;
use crate::{machines::Machines, names::name, scenario::Verb, scene::Scene};

fn on_workload(verb: WorkloadVerb) -> Command {
    Command::Workload(Box::new(WorkloadCommand {
        plan: false,
        at: None,
        keep_replicas: false,
        force: false,
        verb,
    }))
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
            self.command(scene, machines, number as u64, Command::SetPolicy(change));
            return;
        }
        if order.verb == Verb::Approve {
            for id in scene.witness.pending.clone() {
                self.command(scene, machines, id, Command::Decide { id, approve: true });
            }
            return;
        }
        if let Some(verb) = order.on_workload() {
            self.command(scene, machines, number as u64, on_workload(verb));
            return;
        }
        for (count, target) in scene.stage.nodes_of(&order.targets).into_iter().enumerate() {
            let node = name(target);
            let command = match order.verb {
                Verb::Cordon => Command::Cordon { node },
                Verb::Uncordon => Command::Uncordon { node },
                Verb::Refresh => Command::Refresh { node },
                Verb::Forget => Command::Forget {
                    node,
                    plan: false,
                    reason: String::new(),
                },
                Verb::Drain => Command::Drain {
                    keep_daemons: false,
                    node,
                    deadline: order.deadline,
                    plan: false,
                },
                // Handled above.
                Verb::Scale | Verb::Restart | Verb::Promote | Verb::Delete | Verb::Autonomy | Verb::Approve => continue,
                Verb::SetHeartbeat => Command::SetHeartbeat {
                    node,
                    interval: order.interval,
                },
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

    fn command(&mut self, scene: &mut Scene<'_>, machines: &Machines, request: u64, command: Command) {
        let (request, by) = (RequestId(request), "operator".into());
        self.tell(scene, machines, Input::Command { request, command, by });
    }
}
