//! Execution of the scenario's faults, and the machines they affected.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::RngExt;

use crate::{
    event::What,
    host::Host,
    machines::Machines,
    net::{Harm, Rule},
    scenario::Kind,
    scene::Scene,
};

/// Affected nodes of each fault.
pub(crate) type Met = BTreeMap<usize, BTreeSet<usize>>;

/// Active parts affected by faults.
pub(crate) struct Cast<'a> {
    pub(crate) machines: &'a mut Machines,
    pub(crate) host: &'a mut Host,
}

/// The faults of a scenario.
#[derive(Default)]
pub(crate) struct Script {
    met: Met,
}

impl Script {
    /// Affected nodes of all faults.
    pub(crate) fn met(&self) -> &Met {
        &self.met
    }

    pub(crate) fn fault(&mut self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, number: usize, begins: bool) {
        let fault = &scene.stage.scenario.faults[number];
        if begins {
            let nodes = scene.stage.nodes_of(&fault.targets);
            self.met.insert(number, nodes);
            if let Some(lasts) = fault.lasts {
                scene.stage.later(lasts, What::Fault(number, false));
            }
        }
        let met: Vec<usize> = self.met.get(&number).into_iter().flatten().copied().collect();
        match fault.kind {
            Kind::Crash => met.into_iter().for_each(|node| self.power(scene, cast, node, !begins)),
            Kind::Kill => met
                .into_iter()
                .for_each(|node| self.process(scene, cast, node, !begins)),
            Kind::KillAll => {
                for node in met {
                    self.process(scene, cast, node, !begins);
                    if begins {
                        cast.machines.kill_supervisors(scene, node);
                    }
                }
            }
            Kind::SupervisorKill => met
                .into_iter()
                .for_each(|node| cast.machines.kill_supervisors(scene, node)),
            Kind::Misplace => met.into_iter().for_each(|node| cast.machines.misplace(scene, node)),
            Kind::SupervisorPause if begins => met
                .into_iter()
                .for_each(|node| cast.machines.freeze_supervisors(node, number)),
            Kind::SupervisorPause => met
                .into_iter()
                .for_each(|node| cast.machines.thaw_supervisors(scene, node, number)),
            Kind::Pause if begins => met.into_iter().for_each(|node| cast.machines.freeze_agent(scene, node)),
            Kind::Pause => met.into_iter().for_each(|node| cast.machines.thaw_agent(scene, node)),
            Kind::Starve => met
                .into_iter()
                .for_each(|node| self.starvation(scene, cast, node, number, begins)),
            Kind::Restart => met
                .into_iter()
                .for_each(|node| cast.machines.restart_agent(scene, node)),
            Kind::Cut | Kind::Loss | Kind::LargeLoss | Kind::Delay | Kind::CoordinatorCut => {
                self.network_fault(scene, number, begins)
            }
            Kind::Flap => self.flap(scene, number, begins),
            Kind::ClockJump => self.jump(scene, cast, number, met),
            Kind::Load => {
                let load = fault.load.filter(|_| begins).map(|load| load as f32);
                for node in met {
                    cast.machines.of_mut(node).loaded = load;
                }
            }
            Kind::Lie => met
                .into_iter()
                .for_each(|node| self.lying(scene, cast, node, number, begins)),
            Kind::DiskStall if begins && !met.is_empty() => {
                let until = scene.stage.now + fault.lasts.unwrap_or_default();
                for node in met {
                    cast.machines.of_mut(node).disk_stalled_until = until;
                }
            }
            Kind::DiskStall if begins => cast.host.stall_disk(scene.stage.now + fault.lasts.unwrap_or_default()),
            Kind::DiskStall => met.into_iter().for_each(|node| cast.machines.go_on(scene, node)),
            Kind::DiskFail if !met.is_empty() => {
                for node in met {
                    cast.machines.of_mut(node).disk_fails = begins;
                }
            }
            Kind::DiskFail if begins => cast.host.fail_disk(),
            Kind::DiskFail if !cast.host.runs() => cast.host.start(scene, cast.machines),
            Kind::DiskFail => cast.host.mend_disk(),
            Kind::CoordinatorCrash if begins => cast.host.kill(scene),
            Kind::CoordinatorCrash => cast.host.start(scene, cast.machines),
            Kind::CoordinatorRestore if begins => {
                cast.host.kill(scene);
                cast.host.restore(scene, number);
            }
            Kind::CoordinatorRestore => cast.host.start(scene, cast.machines),
            Kind::CoordinatorPause if begins => cast.host.freeze(scene),
            Kind::CoordinatorPause => cast.host.thaw(scene, cast.machines),
        }
    }

    fn power(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, node: usize, on: bool) {
        if on && !cast.machines.of(node).powered {
            cast.machines.of_mut(node).powered = true;
            cast.machines.start_agent(scene, node);
        } else if !on && cast.machines.of(node).powered {
            cast.machines.of_mut(node).powered = false;
            cast.machines.lose_instances(scene, node);
            scene.witness.deaths.push((scene.stage.now, node));
            cast.machines.kill_agent(scene, node);
        }
    }

    fn process(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, node: usize, on: bool) {
        let machine = cast.machines.of(node);
        if on && machine.powered && !machine.runs() {
            cast.machines.start_agent(scene, node);
        } else if !on && machine.runs() {
            scene.witness.deaths.push((scene.stage.now, node));
            cast.machines.kill_agent(scene, node);
        }
    }

    fn lying(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, node: usize, fault: usize, begins: bool) {
        let machine = cast.machines.of_mut(node);
        if begins {
            machine.lies = Some(fault);
            self.lie(scene, cast.machines, node, fault);
        } else if machine.lies == Some(fault) {
            machine.lies = None;
        }
    }

    /// Makes an agent lie, and schedules the repetition a second later.
    pub(crate) fn lie(&self, scene: &mut Scene<'_>, machines: &mut Machines, node: usize, number: usize) {
        if machines.of(node).lies != Some(number) {
            return;
        }
        let everybody = 0..scene.wires.hub();
        let peers = self.lied_about(scene, number).unwrap_or_else(|| everybody.collect());
        machines.lie(scene, node, peers);
        scene.stage.later(Duration::from_secs(1), What::Lie(node, number));
    }

    /// Nodes that a fault lies about, if it names them.
    fn lied_about(&self, scene: &mut Scene<'_>, number: usize) -> Option<Vec<usize>> {
        let peers = &scene.stage.scenario.faults[number].peers;
        (!peers.is_empty()).then(|| scene.stage.nodes_of(peers).into_iter().collect())
    }

    fn starvation(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, node: usize, fault: usize, begins: bool) {
        let machine = cast.machines.of_mut(node);
        if begins && machine.starving.is_none() {
            machine.starving = Some(fault);
            self.starve(scene, cast, node, fault);
        } else if !begins && machine.starving == Some(fault) {
            machine.starving = None;
            if std::mem::take(&mut machine.standing) {
                cast.machines.thaw_agent(scene, node);
            }
        }
    }

    /// Stops a starved process, or lets it continue for a while.
    pub(crate) fn starve(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, node: usize, number: usize) {
        let fault = &scene.stage.scenario.faults[number];
        if cast.machines.of(node).starving != Some(number) {
            return;
        }
        let (pause, speed) = (
            fault.pause.unwrap_or_default(),
            fault.speed.unwrap_or_default().max(0.01),
        );
        let still = pause.mul_f64(scene.stage.rng.random_range(0.0..1.0));
        let machine = cast.machines.of_mut(node);
        let stands = machine.standing;
        machine.standing = !stands;
        let wait = if stands {
            cast.machines.thaw_agent(scene, node);
            // At speed ¼ it runs for a third of the time that it is stopped.
            still
                .mul_f64(speed / (1.0 - speed).max(0.01))
                .max(Duration::from_millis(1))
        } else {
            cast.machines.freeze_agent(scene, node);
            still
        };
        scene.stage.later(wait, What::Starve(node, number));
    }

    fn network_fault(&self, scene: &mut Scene<'_>, number: usize, begins: bool) {
        scene.witness.truth.stale = true;
        if !begins {
            scene.wires.net.heal(number);
            return;
        }
        let fault = &scene.stage.scenario.faults[number];
        let (hub, every) = (scene.wires.hub(), scene.wires.hub() + 1);
        let side = |nodes: &BTreeSet<usize>, coordinator: bool| -> Vec<bool> {
            (0..every)
                .map(|machine| nodes.contains(&machine) || (machine == hub && coordinator))
                .collect()
        };
        let names_hub = |names: &[String]| names.iter().any(|name| name == "coordinator");
        let targets = self.met.get(&number).cloned().unwrap_or_default();
        let from = side(&targets, names_hub(&fault.targets));
        let to: Vec<bool> = if fault.kind == Kind::CoordinatorCut {
            side(&BTreeSet::new(), true)
        } else if fault.peers.is_empty() {
            from.iter().map(|met| !met).collect()
        } else {
            let peers = scene.stage.nodes_of(&fault.peers);
            side(&peers, names_hub(&fault.peers))
        };
        let harm = match fault.kind {
            Kind::Loss => Harm::Lose(fault.loss.unwrap_or_default()),
            Kind::Delay => Harm::Delay(fault.delay.unwrap_or_default()),
            Kind::LargeLoss => Harm::DropLarge,
            _ => Harm::Drop,
        };
        let mut rules = vec![Rule {
            from: from.clone(),
            to: to.clone(),
            harm,
        }];
        if !fault.one_way {
            rules.push(Rule {
                from: to,
                to: from,
                harm,
            });
        }
        scene.wires.net.harm(number, rules);
    }

    /// Switches a flapping cut on or off until the end of the fault.
    pub(crate) fn flap(&self, scene: &mut Scene<'_>, number: usize, begins: bool) {
        let fault = &scene.stage.scenario.faults[number];
        let over = fault
            .lasts
            .is_some_and(|lasts| scene.stage.now >= wyneos_core::time::Time(0) + fault.at + lasts);
        let period = fault.period.unwrap_or_default();
        self.network_fault(scene, number, begins && !over);
        if !over {
            scene.stage.later(period, What::Flap(number, !begins));
        }
    }

    fn jump(&self, scene: &mut Scene<'_>, cast: &mut Cast<'_>, number: usize, met: Vec<usize>) {
        let fault = &scene.stage.scenario.faults[number];
        let millis = fault.jump.unwrap_or_default().as_millis() as i64;
        let millis = if fault.back { -millis } else { millis };
        for node in met {
            cast.machines.of_mut(node).clock.jumped += millis;
        }
        if fault.targets.iter().any(|name| name == "coordinator") {
            cast.host.jump(scene, cast.machines, millis);
        }
    }
}
