//! Faults: how each kind begins and ends.

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;

use crate::{
    event::What,
    net::{Harm, Rule},
    scenario::{self, Kind},
    world::World,
};

impl World<'_> {
    pub(crate) fn fault(&mut self, number: usize, begins: bool) {
        let fault = &self.scenario.faults[number];
        if begins {
            let nodes = self.nodes_of(&fault.targets);
            self.met.insert(number, nodes);
            if let Some(lasts) = fault.lasts {
                self.later(lasts, What::Fault(number, false));
            }
        }
        let met: Vec<usize> = self.met.get(&number).into_iter().flatten().copied().collect();
        match fault.kind {
            Kind::Crash => met.into_iter().for_each(|node| self.power(node, !begins)),
            Kind::Kill => met.into_iter().for_each(|node| self.process(node, !begins)),
            Kind::KillAll => {
                for node in met {
                    self.process(node, !begins);
                    if begins {
                        self.kill_supervisors(node);
                    }
                }
            }
            Kind::SupervisorKill => met.into_iter().for_each(|node| self.kill_supervisors(node)),
            Kind::Misplace => met.into_iter().for_each(|node| self.misplace(node)),
            Kind::SupervisorPause if begins => met.into_iter().for_each(|node| self.freeze_supervisors(node, number)),
            Kind::SupervisorPause => met.into_iter().for_each(|node| self.thaw_supervisors(node, number)),
            Kind::Pause if begins => met.into_iter().for_each(|node| self.freeze_agent(node)),
            Kind::Pause => met.into_iter().for_each(|node| self.thaw_agent(node)),
            Kind::Starve => met.into_iter().for_each(|node| self.starvation(node, number, begins)),
            Kind::Restart => met.into_iter().for_each(|node| self.restart_agent(node)),
            Kind::Cut | Kind::Loss | Kind::LargeLoss | Kind::Delay | Kind::CoordinatorCut => {
                self.network_fault(number, begins)
            }
            Kind::Flap => self.flap(number, begins),
            Kind::ClockJump => self.jump(number, met),
            Kind::Load => {
                let load = fault.load.filter(|_| begins).map(|load| load as f32);
                for node in met {
                    self.machines[node].loaded = load;
                }
            }
            Kind::Lie => met.into_iter().for_each(|node| self.lying(node, number, begins)),
            Kind::DiskStall if begins && !met.is_empty() => {
                let until = self.now + fault.lasts.unwrap_or_default();
                for node in met {
                    self.machines[node].disk_stalled_until = until;
                }
            }
            Kind::DiskStall if begins => self.host.stall_disk(self.now + fault.lasts.unwrap_or_default()),
            Kind::DiskStall => {}
            Kind::DiskFail if !met.is_empty() => {
                for node in met {
                    self.machines[node].disk_fails = begins;
                }
            }
            Kind::DiskFail if begins => self.host.fail_disk(),
            Kind::DiskFail if !self.host.runs() => self.start_coordinator(),
            Kind::DiskFail => self.host.mend_disk(),
            Kind::CoordinatorCrash if begins => self.kill_coordinator(),
            Kind::CoordinatorCrash => self.start_coordinator(),
            Kind::CoordinatorRestore if begins => {
                self.kill_coordinator();
                self.restore_coordinator(number);
            }
            Kind::CoordinatorRestore => self.start_coordinator(),
            Kind::CoordinatorPause if begins => self.freeze_coordinator(),
            Kind::CoordinatorPause => self.thaw_coordinator(),
        }
    }

    /// The nodes that names stand for; shares are drawn.
    pub(crate) fn nodes_of(&mut self, names: &[String]) -> BTreeSet<usize> {
        let nodes = self.machines.len();
        let rng = &mut self.rng;
        let mut draw = |many: usize| {
            let mut drawn = BTreeSet::new();
            while drawn.len() < many.min(nodes) {
                drawn.insert(rng.random_range(0..nodes));
            }
            drawn
        };
        scenario::resolve(names, &self.scenario.cluster, &mut draw).0
    }

    fn power(&mut self, node: usize, on: bool) {
        if on && !self.machines[node].powered {
            self.machines[node].powered = true;
            self.start_agent(node);
        } else if !on && self.machines[node].powered {
            self.machines[node].powered = false;
            self.lose_instances(node);
            self.deaths.push((self.now, node));
            self.kill_agent(node);
        }
    }

    fn process(&mut self, node: usize, on: bool) {
        let machine = &self.machines[node];
        if on && machine.powered && !machine.runs() {
            self.start_agent(node);
        } else if !on && machine.runs() {
            self.deaths.push((self.now, node));
            self.kill_agent(node);
        }
    }

    fn lying(&mut self, node: usize, fault: usize, begins: bool) {
        let machine = &mut self.machines[node];
        if begins {
            machine.lies = Some(fault);
            self.lie(node, fault);
        } else if machine.lies == Some(fault) {
            machine.lies = None;
        }
    }

    /// Whom a liar lies about, where the fault names them.
    pub(crate) fn lied_about(&mut self, number: usize) -> Option<Vec<usize>> {
        let peers = &self.scenario.faults[number].peers;
        (!peers.is_empty()).then(|| self.nodes_of(peers).into_iter().collect())
    }

    fn starvation(&mut self, node: usize, fault: usize, begins: bool) {
        let machine = &mut self.machines[node];
        if begins && machine.starving.is_none() {
            machine.starving = Some(fault);
            self.starve(node, fault);
        } else if !begins && machine.starving == Some(fault) {
            machine.starving = None;
            if std::mem::take(&mut machine.standing) {
                self.thaw_agent(node);
            }
        }
    }

    /// A starving process stops, or goes on for a while.
    pub(crate) fn starve(&mut self, node: usize, number: usize) {
        let fault = &self.scenario.faults[number];
        if self.machines[node].starving != Some(number) {
            return;
        }
        let (pause, speed) = (
            fault.pause.unwrap_or_default(),
            fault.speed.unwrap_or_default().max(0.01),
        );
        let still = pause.mul_f64(self.rng.random_range(0.0..1.0));
        let machine = &mut self.machines[node];
        let stands = machine.standing;
        machine.standing = !stands;
        let wait = if stands {
            self.thaw_agent(node);
            // At speed ¼ it runs for a third of the time that it stands still.
            still
                .mul_f64(speed / (1.0 - speed).max(0.01))
                .max(Duration::from_millis(1))
        } else {
            self.freeze_agent(node);
            still
        };
        self.later(wait, What::Starve(node, number));
    }

    fn network_fault(&mut self, number: usize, begins: bool) {
        self.truth.stale = true;
        if !begins {
            self.net.heal(number);
            return;
        }
        let fault = &self.scenario.faults[number];
        let (hub, every) = (self.hub(), self.hub() + 1);
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
            let peers = self.nodes_of(&fault.peers);
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
        self.net.harm(number, rules);
    }

    /// On and off; every turn of it is this fault's beginning again, until its end.
    pub(crate) fn flap(&mut self, number: usize, begins: bool) {
        let fault = &self.scenario.faults[number];
        let over = fault
            .lasts
            .is_some_and(|lasts| self.now >= wyneos_core::time::Time(0) + fault.at + lasts);
        let period = fault.period.unwrap_or_default();
        self.network_fault(number, begins && !over);
        if !over {
            self.later(period, What::Flap(number, !begins));
        }
    }

    fn jump(&mut self, number: usize, met: Vec<usize>) {
        let fault = &self.scenario.faults[number];
        let millis = fault.jump.unwrap_or_default().as_millis() as i64;
        let millis = if fault.back { -millis } else { millis };
        for node in met {
            self.machines[node].clock.jumped += millis;
        }
        if fault.targets.iter().any(|name| name == "coordinator") {
            self.jump_coordinator(millis);
        }
    }
}
