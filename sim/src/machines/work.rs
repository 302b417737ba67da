//! Instances on their machines: real supervisors, simulated programs.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use rand::RngExt;
use wyneos_core::{
    agent,
    supervisor::{Effect, Input, Supervisor},
    workload::{Assigned, AssignmentId, Exit, Phase, Resources, Status},
};

use super::{
    Machines,
    instance::{CAPACITY, CLEAR, Instance, lost},
};
use crate::{
    declared::Program,
    event::{Step, What},
    names::name,
    pins::Pin,
    scene::Scene,
};

/// Minimum time that a program takes to start and to end; at most twice as long.
const START: Duration = Duration::from_millis(5);
const END: Duration = Duration::from_millis(50);
impl Machines {
    /// Instances that a new agent process finds on its machine.
    pub(crate) fn left_on(&mut self, scene: &mut Scene<'_>, node: usize) -> Vec<agent::Found> {
        let ids: Vec<AssignmentId> = self.all[node].instances.keys().copied().collect();
        ids.into_iter()
            .filter_map(|id| self.found_of(scene, node, id))
            .collect()
    }

    /// Ends everything on a machine that loses power. Instances found later had no time to record how they ended.
    pub(crate) fn lose_instances(&mut self, scene: &mut Scene<'_>, node: usize) {
        let wall = self.all[node].clock.wall(scene.stage.now);
        let mut ended = Vec::new();
        for instance in self.all[node].instances.values_mut() {
            instance.life += 1;
            instance.wake += 1;
            instance.gone = true;
            instance.waiting.clear();
            if mem::take(&mut instance.runs) {
                ended.push(Arc::clone(&instance.assigned));
            }
            if instance.told.phase != Phase::Ended {
                instance.told = Status {
                    phase: Phase::Ended,
                    healthy: false,
                    pid: 0,
                    since: wall,
                    interrupted: true,
                    detail: "its host was restarted".to_owned(),
                    ..instance.told.clone()
                };
            }
        }
        ended.append(&mut self.all[node].strays);
        for assigned in ended {
            self.ran(scene, node, &assigned, false);
        }
    }

    pub(crate) fn do_for_instances(&mut self, scene: &mut Scene<'_>, node: usize, effect: agent::Effect) {
        let clock = self.all[node].clock;
        let (local, wall) = (clock.local(scene.stage.now), clock.wall(scene.stage.now));
        match effect {
            agent::Effect::Run(assigned) => {
                let id = assigned.id;
                let core = Supervisor::new(local, wall, &assigned, Vec::new());
                let instance = Instance {
                    core,
                    assigned,
                    wake: 0,
                    wake_at: None,
                    life: 0,
                    runs: false,
                    told: Status::default(),
                    gone: false,
                    still: Vec::new(),
                    waiting: Vec::new(),
                    misplaced: None,
                    lease: None,
                    leases: 0,
                };
                if self.all[node].instances.insert(id, instance).is_some() {
                    scene.stage.fail(format!("{} begins {id} a second time", name(node)));
                }
                self.turn_instance(scene, node, id);
            }
            agent::Effect::Halt { id, reason } => self.tell_instance(scene, node, id, Input::Stop { reason }),
            agent::Effect::Lease { id, until } => self.tell_instance(scene, node, id, Input::Lease(until)),
            agent::Effect::Presume { cluster, below } => {
                let machine = &mut self.all[node];
                (machine.presumed, machine.listless) = (Some((cluster, below)), false);
            }
            agent::Effect::Discard { id } => {
                self.all[node].instances.remove(&id);
            }
            _ => {}
        }
    }

    fn tell_instance(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId, input: Input) {
        let machine = &self.all[node];
        if machine
            .instances
            .get(&id)
            .is_some_and(|instance| machine.misses(instance))
        {
            return;
        }
        self.step(scene, node, id, Step::Told(input));
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId, step: Step) {
        let machine = &mut self.all[node];
        let powered = machine.powered;
        let Some(instance) = machine.instances.get_mut(&id).filter(|_| powered) else {
            return;
        };
        match step {
            Step::Expired(lease) if lease == instance.leases => self.kill_supervisor(scene, node, id),
            Step::Expired(_) => {}
            Step::Torn => self.tear(scene, node, id),
            Step::Missed => self.miss(scene, node, id),
            Step::GivenUp => self.kill_supervisor(scene, node, id),
            // No supervisor is left to be informed.
            _ if instance.gone => {}
            Step::Ended(life, exit) => {
                if life == instance.life && instance.runs {
                    instance.runs = false;
                    instance.life += 1;
                    let assigned = Arc::clone(&instance.assigned);
                    if exit.is_success() {
                        let done = scene.witness.done.entry(assigned.spec.name.clone()).or_default();
                        done.insert(assigned.slot);
                    }
                    self.ran(scene, node, &assigned, false);
                    self.step(scene, node, id, Step::Told(Input::Exited(exit)));
                }
            }
            Step::Wake(_) if instance.stands_still() => {}
            step if instance.stands_still() => instance.waiting.push(step),
            step => self.supervise(scene, node, id, step),
        }
    }

    /// Delivers an event to a running supervisor.
    fn supervise(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId, step: Step) {
        let now = scene.stage.now;
        let machine = &mut self.all[node];
        let (clock, local) = (machine.clock, machine.clock.local(now));
        let Some(instance) = machine.instances.get_mut(&id) else {
            return;
        };
        match step {
            Step::Told(_) if instance.told.phase == Phase::Ended => return,
            Step::Told(input) => {
                let expires = instance.expires(&input).map(|expires| clock.moment(expires));
                let lease = instance.leases;
                instance.core.handle(local, input);
                if let Some(expires) = expires {
                    scene
                        .stage
                        .at(expires.max(now), What::Step(Box::new((node, id, Step::Expired(lease)))));
                }
            }
            Step::Wake(wake) if wake == instance.wake => {
                instance.wake_at = None;
                instance.core.handle_timeout(local);
            }
            Step::Started(life) if life == instance.life => {
                instance.runs = true;
                instance.core.handle(local, Input::Started { pid: life as u32 });
                let assigned = Arc::clone(&instance.assigned);
                self.ran(scene, node, &assigned, true);
            }
            Step::NotStarted(life) if life == instance.life => {
                let reason = "there is no such program".to_owned();
                instance.core.handle(local, Input::NotStarted { reason });
            }
            Step::Cleared => {
                if mem::take(&mut instance.runs) {
                    instance.life += 1;
                    instance.core.handle(local, Input::Exited(Exit::Signal(9)));
                    let assigned = Arc::clone(&instance.assigned);
                    self.ran(scene, node, &assigned, false);
                }
                if let Some(instance) = self.all[node].instances.get_mut(&id) {
                    instance.core.handle(local, Input::Cleared);
                }
            }
            Step::Checked(check) => {
                let failure = match Program::of(&instance.assigned.spec.command) {
                    Program::Unhealthy => Some("no".to_owned()),
                    _ => None,
                };
                instance.core.handle(local, Input::Checked { check, failure });
            }
            _ => return,
        }
        self.turn_instance(scene, node, id);
    }

    pub(crate) fn turn_instance(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) {
        let now = scene.stage.now;
        let mut asked = Vec::new();
        let machine = &mut self.all[node];
        let clock = machine.clock;
        let Some(instance) = machine.instances.get_mut(&id).filter(|one| one.acts()) else {
            return;
        };
        let local = clock.local(now);
        if instance.core.poll_timeout().is_some_and(|due| due <= local) {
            instance.core.handle_timeout(local);
        }
        while let Some(effect) = instance.core.poll_effect() {
            asked.push(effect);
        }
        instance.told.clone_from(instance.core.status());
        let (life, program, told) = (
            instance.life,
            Program::of(&instance.assigned.spec.command),
            instance.told.clone(),
        );
        let due = instance.core.poll_timeout().map(|due| clock.moment(due));
        if due != instance.wake_at {
            instance.wake += 1;
            instance.wake_at = due;
            let wake = instance.wake;
            if let Some(due) = due {
                scene
                    .stage
                    .at(due.max(now), What::Step(Box::new((node, id, Step::Wake(wake)))));
            }
        }
        for effect in asked {
            self.do_for_instance(scene, (node, id), life, program, effect, &told);
        }
    }

    fn do_for_instance(
        &mut self,
        scene: &mut Scene<'_>,
        (node, id): (usize, AssignmentId),
        life: u64,
        program: Program,
        effect: Effect,
        told: &Status,
    ) {
        let mut takes = |least: Duration| least + least.mul_f64(scene.stage.rng.random_range(0.0..1.0));
        let (start, end, clear) = (takes(START), takes(END), takes(CLEAR));
        let mut later = |after: Duration, step: Step| scene.stage.later(after, What::Step(Box::new((node, id, step))));
        match effect {
            Effect::Spawn if program == Program::Missing => later(start, Step::NotStarted(life)),
            Effect::Spawn => {
                later(start, Step::Started(life));
                match program {
                    Program::Crashing => later(start + Duration::from_millis(500), Step::Ended(life, Exit::Code(1))),
                    Program::Once => later(start + Duration::from_secs(2), Step::Ended(life, Exit::Code(0))),
                    _ => {}
                }
            }
            Effect::Signal(signal) if program != Program::Stubborn => {
                later(end, Step::Ended(life, Exit::Signal(signal)))
            }
            Effect::Clear => later(clear, Step::Cleared),
            Effect::Check(check) => later(clear, Step::Checked(check)),
            Effect::Signal(_) | Effect::Ended => {}
            Effect::Changed => {
                let machine = &self.all[node];
                let missed = machine
                    .instances
                    .get(&id)
                    .is_some_and(|instance| machine.misses(instance));
                let status = match missed {
                    true if told.phase == Phase::Ended => lost(told),
                    true => return,
                    false => told.clone(),
                };
                self.tell_agent(scene, node, agent::Input::Instance { id, status });
            }
        }
    }

    /// Records a start or end of a program, and checks that it is allowed.
    pub(crate) fn ran(&mut self, scene: &mut Scene<'_>, node: usize, assigned: &Assigned, started: bool) {
        let workload = assigned.spec.name.clone();
        scene.stage.note(
            Pin::Programs,
            if started { "starts" } else { "ends" },
            workload.as_bytes(),
        );
        scene
            .witness
            .runs
            .push((scene.stage.now, workload.clone(), node, started));
        let count = scene.witness.running.entry(workload.clone()).or_default();
        *count = if started { *count + 1 } else { count.saturating_sub(1) };
        if !started {
            return;
        }
        if assigned.spec.singleton && *count > 1 {
            let nodes: BTreeSet<String> = (0..scene.wires.hub())
                .filter(|one| {
                    let machine = &self.all[*one];
                    let instances = machine.instances.values().filter(|instance| instance.runs);
                    let mut run = instances.map(|instance| &instance.assigned).chain(&machine.strays);
                    run.any(|assigned| assigned.spec.name == workload)
                })
                .map(name)
                .collect();
            scene
                .stage
                .fail(format!("two of the singleton {workload} run, on {nodes:?}"));
        }
        let promised = self.all[node]
            .instances
            .values()
            .filter(|instance| instance.runs)
            .fold(Resources::default(), |sum, instance| {
                sum.plus(instance.assigned.spec.resources)
            });
        let mut ports = BTreeSet::new();
        let instances = self.all[node].instances.values().filter(|instance| instance.runs);
        let fixed = instances.flat_map(|instance| instance.assigned.spec.fixed_ports.values());
        if let Some(twice) = fixed.copied().find(|port| !ports.insert(*port)) {
            scene
                .stage
                .fail(format!("two programs on {} have port {twice}", name(node)));
        }
        if !CAPACITY.has(promised) {
            scene
                .stage
                .fail(format!("{} runs more than it has: {promised:?}", name(node)));
        }
    }
}
