//! Effects held up by a stalled disk of an agent: starts and removals of instances, in order. Orders to running
//! instances need no disk.

use std::mem;

use wyneos_core::{
    agent::{Effect, Input},
    time::Time,
    workload::{AssignmentId, Phase, Status},
};

use super::{Machines, machine::Machine};
use crate::scene::Scene;

impl Machine {
    /// Whether an effect has to wait for the disk; it is then queued.
    pub(super) fn holds_up(&mut self, now: Time, effect: &Effect) -> bool {
        let waits = match effect {
            Effect::Run(_) | Effect::Presume { .. } | Effect::Discard { .. } => {
                self.disk_stalled_until > now || !self.held_up.is_empty()
            }
            // Also queued for an instance that has not been started yet.
            Effect::Halt { id, .. } | Effect::Lease { id, .. } => self.is_held_up(*id),
            _ => false,
        };
        if waits {
            self.held_up.push(effect.clone());
        }
        waits
    }

    fn is_held_up(&self, id: AssignmentId) -> bool {
        let is_its = |effect: &Effect| matches!(effect, Effect::Run(assigned) if assigned.id == id);
        self.held_up.iter().any(is_its)
    }
}

impl Machines {
    /// Ends a stall of a machine's disk. Instances told to stop meanwhile are not started.
    pub(crate) fn go_on(&mut self, scene: &mut Scene<'_>, node: usize) {
        let machine = &mut self.all[node];
        if machine.disk_stalled_until > scene.stage.now {
            return;
        }
        let wall = machine.clock.wall(scene.stage.now);
        let held_up = mem::take(&mut machine.held_up);
        let halted = |id: AssignmentId| {
            held_up.iter().find_map(|effect| match effect {
                Effect::Halt { id: other, reason } if *other == id => Some(reason.clone()),
                _ => None,
            })
        };
        for effect in &held_up {
            let ended = match effect {
                Effect::Run(assigned) => halted(assigned.id).map(|reason| (assigned.id, reason)),
                _ => None,
            };
            let Some((id, detail)) = ended else {
                self.do_for_instances(scene, node, effect.clone());
                continue;
            };
            let status = Status {
                phase: Phase::Ended,
                complete: true,
                since: wall,
                detail,
                ..Status::default()
            };
            self.tell_agent(scene, node, Input::Instance { id, status });
        }
    }
}
