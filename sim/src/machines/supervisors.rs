//! Killed or stopped supervisors, and the kernel's reaction.
//!
//! The kernel of a machine with containment ends all processes of an instance when its supervisor ends, and ends the
//! supervisor of a singleton 1.5 s before the end of its known lease, whether it is running or stopped. The kernel of
//! another machine ends the supervisor's direct program, but not a process that has left everything that identifies it.

use std::{mem, sync::Arc, time::Duration};

use rand::RngExt;
use wyneos_core::{
    agent,
    workload::{AssignmentId, Phase, Status},
};

use super::{
    Machines,
    instance::{CLEAR, Instance, lost},
};
use crate::{
    declared::Program,
    event::{Step, What},
    scene::Scene,
};

/// Time until an agent notices that a supervisor is gone, once no process is left.
const NOTICED: Duration = Duration::from_millis(20);

impl Machines {
    /// Instances of a machine with a running supervisor.
    fn supervised(&self, node: usize) -> Vec<AssignmentId> {
        let instances = self.all[node].instances.iter();
        let there = |(_, one): &(&AssignmentId, &Instance)| !one.gone && one.told.phase != Phase::Ended;
        instances.filter(there).map(|(id, _)| *id).collect()
    }

    /// Kills all supervisors of a machine.
    pub(crate) fn kill_supervisors(&mut self, scene: &mut Scene<'_>, node: usize) {
        for id in self.supervised(node) {
            self.kill_supervisor(scene, node, id);
        }
    }

    pub(crate) fn kill_supervisor(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) {
        let machine = &mut self.all[node];
        let contained = machine.contained;
        let Some(instance) = machine.instances.get_mut(&id) else {
            return;
        };
        if instance.gone || instance.told.phase == Phase::Ended {
            return;
        }
        instance.gone = true;
        instance.wake += 1;
        instance.waiting.clear();
        let wanders = Program::of(&instance.assigned.spec.command) == Program::Wandering;
        if wanders && !contained && mem::take(&mut instance.runs) {
            instance.life += 1;
            let assigned = Arc::clone(&instance.assigned);
            machine.strays.push(assigned);
        }
        let torn = CLEAR + CLEAR.mul_f64(scene.stage.rng.random_range(0.0..1.0));
        scene.stage.later(torn, What::Step(Box::new((node, id, Step::Torn))));
        scene
            .stage
            .later(torn + NOTICED, What::Step(Box::new((node, id, Step::Missed))));
    }

    /// Removes an instance whose supervisor is gone, except processes that the kernel cannot attribute to it.
    pub(crate) fn tear(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) {
        if let Some(instance) = self.all[node].instances.get_mut(&id)
            && instance.gone
            && mem::take(&mut instance.runs)
        {
            instance.life += 1;
            let assigned = Arc::clone(&instance.assigned);
            self.ran(scene, node, &assigned, false);
        }
    }

    /// Lets a running agent notice that a supervisor is gone.
    pub(crate) fn miss(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) {
        if self.all[node].runs()
            && let Some(mut status) = self.write_off(scene, node, id)
        {
            let machine = &self.all[node];
            if machine
                .instances
                .get(&id)
                .is_some_and(|instance| machine.misses(instance))
            {
                status = lost(&status);
            }
            self.tell_agent(scene, node, agent::Input::Instance { id, status });
        }
    }

    /// Lets a starting agent write off the instances whose supervisors are gone.
    pub(crate) fn find_gone(&mut self, scene: &mut Scene<'_>, node: usize) {
        let ids: Vec<AssignmentId> = self.all[node].instances.keys().copied().collect();
        for id in ids {
            self.tear(scene, node, id);
            self.write_off(scene, node, id);
        }
    }

    /// Record that an agent makes of an instance without a supervisor; `None` if it has one.
    fn write_off(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) -> Option<Status> {
        let wall = self.all[node].clock.wall(scene.stage.now);
        let instance = self.all[node].instances.get_mut(&id)?;
        if !instance.gone || instance.told.phase == Phase::Ended {
            return None;
        }
        let before = mem::take(&mut instance.told);
        instance.told = Status {
            phase: Phase::Ended,
            healthy: false,
            since: wall,
            pid: 0,
            complete: false,
            interrupted: true,
            detail: "its supervisor ended without saying why: killed, or the host was restarted".to_owned(),
            ..before
        };
        Some(instance.told.clone())
    }

    /// Stops (SIGSTOP) all supervisors of a machine because of this fault.
    pub(crate) fn freeze_supervisors(&mut self, node: usize, fault: usize) {
        for id in self.supervised(node) {
            if let Some(instance) = self.all[node].instances.get_mut(&id) {
                instance.still.push(fault);
            }
        }
    }

    /// Resumes the remaining supervisors, with their due timers and queued input in random order.
    pub(crate) fn thaw_supervisors(&mut self, scene: &mut Scene<'_>, node: usize, fault: usize) {
        for id in self.supervised(node) {
            let Some(instance) = self.all[node].instances.get_mut(&id) else {
                continue;
            };
            let stood = instance.stands_still();
            instance.still.retain(|by| *by != fault);
            if !stood || instance.stands_still() {
                continue;
            }
            let waiting = mem::take(&mut instance.waiting);
            if scene.stage.rng.random_bool(0.5) {
                self.turn_instance(scene, node, id);
            }
            for step in waiting {
                self.step(scene, node, id, step);
            }
            self.turn_instance(scene, node, id);
        }
    }
}
