//! What an operator asks of the coordinator.

use std::sync::Arc;

use wyneos_core::{
    autonomy::PolicyChange,
    coordinator::{Command, Input, RequestId, WorkloadCommand, WorkloadVerb},
};

use crate::{names::name, scenario::Verb, world::World};

fn on_workload(verb: WorkloadVerb) -> Command {
    Command::Workload(Box::new(WorkloadCommand {
        plan: false,
        at: None,
        keep_replicas: false,
        force: false,
        verb,
    }))
}

impl World<'_> {
    /// An operator gives a command, a request each target.
    pub(crate) fn order(&mut self, number: usize) {
        let order = &self.scenario.commands[number];
        if order.verb == Verb::Autonomy {
            let change = PolicyChange {
                heal: order.heal,
                rebalance: order.rebalance,
                preempt: order.preempt,
            };
            self.command(number as u64, Command::SetPolicy(change));
            return;
        }
        if order.verb == Verb::Approve {
            for id in self.pending.clone() {
                self.command(id, Command::Decide { id, approve: true });
            }
            return;
        }
        if let Some(verb) = order.on_workload() {
            self.command(number as u64, on_workload(verb));
            return;
        }
        for (count, target) in self.nodes_of(&order.targets).into_iter().enumerate() {
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
                // See above.
                Verb::Scale | Verb::Restart | Verb::Promote | Verb::Delete | Verb::Autonomy | Verb::Approve => continue,
                Verb::SetHeartbeat => Command::SetHeartbeat {
                    node,
                    interval: order.interval,
                },
            };
            self.command((number as u64) << 32 | count as u64, command);
        }
    }

    /// A workload is declared.
    pub(crate) fn declare(&mut self, number: usize) {
        let spec = self.scenario.workloads[number].spec();
        self.command(
            u64::MAX - number as u64,
            on_workload(WorkloadVerb::Apply(Arc::new(spec))),
        );
    }

    fn command(&mut self, request: u64, command: Command) {
        let (request, by) = (RequestId(request), "operator".into());
        self.tell_coordinator(Input::Command { request, command, by });
    }
}
