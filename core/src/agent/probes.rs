//! Probes: each target once an interval, their phases spread over it.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt;

use super::{Agent, Effect, Timer};
use crate::{
    coordinator::ProbePlan,
    id::{ClusterId, NodeId},
    mesh::{LinkMeter, LinkReport},
    time::Time,
};

/// Longest wait for a probe's answer; never longer than the probe interval.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Targets of one agent at most; a plan's further ones are passed over.
const MAX_TARGETS: usize = 64;

#[derive(Debug)]
struct Target {
    address: String,
    meter: LinkMeter,
    /// Token of its newest timer.
    timer: u64,
    under_way: bool,
}

/// The targets and what is known of the links to them.
#[derive(Debug, Default)]
pub(super) struct Probes {
    cluster: Option<ClusterId>,
    plan: ProbePlan,
    targets: BTreeMap<NodeId, Target>,
    tokens: u64,
    sequence: u64,
}

impl Probes {
    /// A new session begins: its plans count from the start, and it has heard of no link yet.
    pub(super) fn new_session(&mut self, cluster: ClusterId) {
        self.cluster = Some(cluster);
        self.plan = ProbePlan::default();
        for target in self.targets.values_mut() {
            target.meter.forget_reports();
        }
    }

    /// A probe ended.
    pub(super) fn ended(&mut self, now: Time, target: NodeId, rtt: Option<Duration>) {
        let Some(target) = self.targets.get_mut(&target) else {
            return;
        };
        target.under_way = false;
        match rtt {
            Some(rtt) => target.meter.answer(now, rtt),
            None => target.meter.miss(),
        }
    }

    /// Links that changed enough to be reported, at most `most`; the others' turn comes with the next heartbeat.
    pub(super) fn changed(&mut self, now: Time, most: usize) -> Vec<(NodeId, LinkReport)> {
        let changed = self
            .targets
            .iter_mut()
            .filter_map(|(&id, target)| Some((id, target.meter.changed(now)?)));
        changed.take(most).collect()
    }
}

impl Agent {
    /// A new plan: targets that stay keep what is known of them.
    pub(super) fn plan(&mut self, mut plan: ProbePlan) {
        if plan.version < self.probes.plan.version {
            return;
        }
        plan.targets.truncate(MAX_TARGETS);
        let mut before = std::mem::take(&mut self.probes.targets);
        for (id, address) in &plan.targets {
            let kept = before.remove(id).filter(|target| target.address == *address);
            let is_new = kept.is_none();
            let target = kept.unwrap_or_else(|| {
                let (address, meter) = (address.clone(), LinkMeter::default());
                Target {
                    address,
                    meter,
                    timer: 0,
                    under_way: false,
                }
            });
            self.probes.targets.insert(*id, target);
            if is_new || plan.interval != self.probes.plan.interval {
                // Somewhere in the interval, so that an agent's probes are spread over it.
                let phase = plan.interval.mul_f64(self.rng.random_range(0.0..1.0));
                self.probe_at(*id, self.now + phase);
            }
        }
        self.probes.plan = plan.clone();
        self.effects.push_back(Effect::Targets(plan));
    }

    fn probe_at(&mut self, id: NodeId, at: Time) {
        let Some(target) = self.probes.targets.get_mut(&id) else {
            return;
        };
        self.probes.tokens += 1;
        target.timer = self.probes.tokens;
        self.timers.set(at, Timer::Probe(id, target.timer));
    }

    pub(super) fn probe(&mut self, id: NodeId, token: u64) {
        let interval = self.probes.plan.interval;
        let Some(cluster) = self.probes.cluster else { return };
        let Some(target) = self.probes.targets.get_mut(&id).filter(|target| target.timer == token) else {
            return;
        };
        if !target.under_way {
            target.under_way = true;
            self.probes.sequence += 1;
            let (address, sequence, timeout) = (target.address.clone(), self.probes.sequence, TIMEOUT.min(interval));
            self.effects.push_back(Effect::Probe {
                cluster,
                target: id,
                address,
                sequence,
                timeout,
            });
        }
        self.probe_at(id, self.now + interval);
    }
}
