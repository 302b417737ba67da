//! Probes: each target once per interval, with phases spread over it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    ctx::Ctx,
    io::{Effect, ProbeOutcome},
    table::Table,
    timer::{LATE, Timer},
};
use crate::{
    id::{ClusterId, NodeId},
    mesh::{Coordinate, DIMENSIONS, LinkFailure, LinkMeter, LinkReport, Observation, Sight},
    protocol::ProbePlan,
    time::Time,
};

/// Maximum wait for an answer; a late answer revokes a missed probe.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Multiple of the link's smoothed round-trip time after which a probe counts as missed.
const PATIENCE: u32 = 4;

/// Bounds of the time after which a probe counts as missed. The minimum leaves room for one retransmission
/// (200 ms on Linux).
const MISSED_MIN: Duration = Duration::from_millis(300);
const MISSED_MAX: Duration = Duration::from_secs(1);

/// Number of moments per interval at which an agent sends probes. More spread the probes of one agent more evenly; fewer wake it
/// less often. Probes received by a node come from several agents with different moments, and are spread in any case.
const SLOTS: u32 = 4;

/// Maximum number of probes of one target in flight. While a missed one may still be answered, the next turn probes again: a transport that lost a packet
/// blocks everything behind it and backs off. At this bound a turn is skipped.
const UNDER_WAY: usize = 4;

/// Maximum number of targets; further ones of a plan are ignored.
const MAX_TARGETS: usize = 64;

#[derive(Debug)]
struct Target {
    address: Arc<str>,
    meter: LinkMeter,
    /// Token of the newest timer.
    timer: u64,
    /// Numbers of the probes in flight, oldest first.
    under_way: Vec<u64>,
    /// Number of the newest probe that determined the sight.
    decided: u64,
    /// Number of the newest probe in flight when the last answer arrived. The target was seen after these left: their outcome
    /// indicates loss, not silence.
    answered: u64,
    /// Newest round-trip times, newest first.
    newest: [Option<Duration>; 3],
    /// Current sight; `None` before the first probe ended.
    sight: Option<Sight>,
}

impl Target {
    fn new(address: &str) -> Target {
        Target {
            address: Arc::from(address),
            meter: LinkMeter::default(),
            timer: 0,
            under_way: Vec::new(),
            decided: 0,
            answered: 0,
            newest: [None; 3],
            sight: None,
        }
    }

    /// Time after which a probe counts as missed.
    fn patience(&self) -> Duration {
        let usual = Duration::from_micros(u64::from(self.meter.recent_micros()));
        (usual * PATIENCE).clamp(MISSED_MIN, MISSED_MAX)
    }

    /// Returns whether the target may be probed again: no decisive probe is in flight, or all were missed.
    fn may_ask(&self) -> bool {
        let tells = self.under_way.iter().any(|&number| number > self.answered);
        let missed = self.sight == Some(Sight::Silent);
        (!tells || missed) && self.under_way.len() < UNDER_WAY
    }

    /// Records the result of a probe unless a newer one determined another: a late answer revokes newer misses, as
    /// those may still be answered. Returns true when the sight changes.
    fn show(&mut self, number: u64, sight: Sight) -> bool {
        let is_late = match sight {
            Sight::Heard => self.sight == Some(Sight::Silent),
            Sight::Silent if number <= self.answered => return false,
            Sight::Silent | Sight::Refused => false,
        };
        if sight == Sight::Heard {
            let under_way = self.under_way.last().copied().unwrap_or_default();
            self.answered = under_way.max(number).max(self.answered);
        }
        if number < self.decided && !is_late {
            return false;
        }
        self.decided = self.decided.max(number);
        self.sight.replace(sight) != Some(sight)
    }
}

/// Median of the newest times, the longer of two: a single late answer does not move the coordinate.
fn median(newest: [Option<Duration>; 3]) -> Option<Duration> {
    let [one, two, three] = newest;
    match (one, two, three) {
        (Some(one), Some(two), Some(three)) => Some(one.min(two).max(one.max(two).min(three))),
        _ => one.max(two),
    }
}

/// Targets and the state of the links to them.
#[derive(Debug, Default)]
pub(super) struct Probes {
    cluster: Option<ClusterId>,
    plan: ProbePlan,
    targets: Table<Target>,
    /// Network coordinate of this node.
    coordinate: Coordinate,
    /// Coordinate last reported to the coordinator.
    told: Option<Coordinate>,
    /// Phase of this agent's moments within a slot, 0 to 1.
    phase: Option<f64>,
    tokens: u64,
    sequence: u64,
}

impl Probes {
    /// Starts a session: plan versions start anew, and no link has been reported.
    pub(super) fn new_session(&mut self, cluster: ClusterId) {
        self.cluster = Some(cluster);
        self.plan = ProbePlan::default();
        self.told = None;
        for (_, target) in self.targets.iter_mut() {
            target.meter.forget_reports();
        }
    }

    /// The cluster; `None` before the first session.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Sight of a target; the outer `None` for other nodes.
    pub(super) fn sight_of(&self, id: NodeId) -> Option<Option<Sight>> {
        self.targets.get(id).map(|target| target.sight)
    }

    /// Targets and their addresses.
    pub(super) fn targets(&self) -> impl Iterator<Item = (NodeId, &Arc<str>)> {
        self.targets.iter().map(|(id, target)| (id, &target.address))
    }

    /// Targets that answer, and their addresses.
    pub(super) fn heard(&self) -> impl Iterator<Item = (NodeId, &Arc<str>)> {
        let heard = |(_, target): &(_, &Target)| target.sight == Some(Sight::Heard);
        let targets = self.targets.iter().filter(heard);
        targets.map(|(id, target)| (id, &target.address))
    }

    /// Records a beacon of a target; `after_gap` when previous ones are missing.
    pub(super) fn beacon(&mut self, id: NodeId, now: Time, after_gap: bool) {
        if let Some(target) = self.targets.get_mut(id) {
            target.meter.datagram(now, after_gap);
        }
    }

    /// Silent targets that were heard within `time`.
    pub(super) fn silent_within(&self, time: Duration, now: Time) -> impl Iterator<Item = NodeId> {
        let most = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let silent = self
            .targets
            .iter()
            .filter(|(_, target)| target.sight == Some(Sight::Silent));
        let lately = move |(_, target): &(NodeId, &Target)| {
            target.meter.last_success_age_millis(now).is_some_and(|ago| ago < most)
        };
        silent.filter(lately).map(|(id, _)| id)
    }

    /// Returns whether the probe is in flight.
    fn is_under_way(&self, id: NodeId, number: u64) -> bool {
        self.targets
            .get(id)
            .is_some_and(|target| target.under_way.contains(&number))
    }

    /// Network coordinate of this node.
    pub(super) fn coordinate(&self) -> Coordinate {
        self.coordinate
    }

    /// The coordinate when it should be reported; the caller sends it.
    pub(super) fn moved(&mut self) -> Option<Coordinate> {
        let moved = match &self.told {
            Some(told) => self.coordinate.moved_from(told),
            None => self.coordinate != Coordinate::default(),
        };
        if moved {
            self.told = Some(self.coordinate);
        }
        self.told.filter(|_| moved)
    }

    pub(super) fn observation(&self, id: NodeId, now: Time) -> Option<(NodeId, Observation)> {
        let target = self.targets.get(id)?;
        let observation = Observation {
            sight: target.sight?,
            last_heard_age_millis: target.meter.last_success_age_millis(now),
        };
        Some((id, observation))
    }

    /// Targets that are not heard. Others are reported by heartbeats.
    pub(super) fn lost(&self) -> BTreeSet<NodeId> {
        let lost = |(_, target): &(_, &Target)| matches!(target.sight, Some(Sight::Silent | Sight::Refused));
        self.targets.iter().filter(lost).map(|(id, _)| id).collect()
    }

    /// Observations of all targets.
    pub(super) fn observations(&self, now: Time) -> Vec<(NodeId, Observation)> {
        let targets = self.targets.iter();
        targets.filter_map(|(id, _)| self.observation(id, now)).collect()
    }

    /// Links with reportable changes, at most `most`; the rest follow with the next heartbeat.
    pub(super) fn changed(&mut self, now: Time, most: usize) -> Vec<(NodeId, LinkReport)> {
        let changed = self
            .targets
            .iter_mut()
            .filter_map(|(id, target)| Some((id, target.meter.changed(now)?)));
        changed.take(most).collect()
    }

    /// Drops deadlines of probes that are no longer in flight, so that an agent does not wake up for each.
    pub(super) fn prune(&self, ctx: &mut Ctx) {
        ctx.timers
            .prune(|timer| matches!(timer, Timer::Missed(id, number) if !self.is_under_way(*id, *number)));
    }

    /// Handles the outcome of a probe. Returns whether the sight changes; `None` when the probe is not in flight.
    #[must_use]
    pub(super) fn probed(&mut self, ctx: &mut Ctx, id: NodeId, number: u64, outcome: ProbeOutcome) -> Option<bool> {
        let now = ctx.now;
        let target = self.targets.get_mut(id)?;
        // The probe may have been sent to the node's previous address.
        let at = target.under_way.iter().position(|&other| other == number)?;
        target.under_way.remove(at);
        let sight = match outcome {
            ProbeOutcome::Answered(rtt, coordinate) => {
                target.meter.answer(now, rtt);
                target.newest = [Some(rtt), target.newest[0], target.newest[1]];
                if let (Some(other), Some(rtt)) = (coordinate, median(target.newest)) {
                    let axis = ctx.rng.random_range(0..DIMENSIONS);
                    self.coordinate.update(&other, rtt, axis);
                }
                Sight::Heard
            }
            ProbeOutcome::Refused => {
                target.meter.miss(now, now);
                target.meter.failed(LinkFailure::Refused);
                Sight::Refused
            }
            ProbeOutcome::Failed(failure) => {
                target.meter.miss(now, now - TIMEOUT);
                target.meter.failed(failure);
                Sight::Silent
            }
        };
        Some(target.show(number, sight))
    }

    /// Handles the deadline of a probe. Returns true when the sight changes.
    #[must_use]
    pub(super) fn missed(&mut self, ctx: &mut Ctx, id: NodeId, number: u64, due: Time) -> bool {
        let target = self.targets.get_mut(id);
        let Some(target) = target.filter(|target| target.under_way.contains(&number)) else {
            return false;
        };
        if ctx.now.since(due) > LATE {
            let due = ctx.now + target.patience();
            ctx.timers.set(due, Timer::Missed(id, number));
            return false;
        }
        target.show(number, Sight::Silent)
    }

    /// Applies a plan; targets that remain keep their state. Returns false for an outdated plan.
    #[must_use]
    pub(super) fn plan(&mut self, ctx: &mut Ctx, mut plan: ProbePlan) -> bool {
        if plan.version < self.plan.version {
            return false;
        }
        plan.targets.truncate(MAX_TARGETS);
        let mut before = std::mem::take(&mut self.targets);
        for (id, address) in &plan.targets {
            let kept = before.remove(*id).filter(|target| *target.address == **address);
            let is_new = kept.is_none();
            let mut target = kept.unwrap_or_else(|| Target::new(address));
            if is_new || plan.interval != self.plan.interval {
                let first = self.first_probe(ctx, plan.interval);
                self.tokens += 1;
                target.timer = self.tokens;
                ctx.timers.set(first, Timer::Probe(*id, target.timer));
            }
            self.targets.insert(*id, target);
        }
        self.prune(ctx);
        self.plan = plan.clone();
        ctx.effects.push_back(Effect::Targets(plan));
        true
    }

    /// Time of a new target's first probe: one of this agent's moments in the interval.
    fn first_probe(&mut self, ctx: &mut Ctx, interval: Duration) -> Time {
        let step = u64::try_from((interval / SLOTS).as_nanos()).unwrap_or(u64::MAX).max(1);
        let phase = *self.phase.get_or_insert_with(|| ctx.rng.random_range(0.0..1.0));
        let offset = (step as f64 * phase) as u64;
        let at = ctx.now + interval.mul_f64(ctx.rng.random_range(0.0..1.0));
        let slot = at.0.saturating_sub(offset).div_ceil(step);
        Time(slot.saturating_mul(step).saturating_add(offset))
    }

    /// Sends the next probe of a target unless enough are in flight.
    pub(super) fn probe(&mut self, ctx: &mut Ctx, id: NodeId, token: u64, turn: Time) {
        let interval = self.plan.interval;
        let Some(cluster) = self.cluster else { return };
        let Some(target) = self.targets.get_mut(id).filter(|target| target.timer == token) else {
            return;
        };
        if target.may_ask() {
            self.sequence += 1;
            let sequence = self.sequence;
            target.under_way.push(sequence);
            let (address, timeout) = (Arc::clone(&target.address), TIMEOUT);
            let due = ctx.now + target.patience();
            ctx.timers.set(due, Timer::Missed(id, sequence));
            ctx.effects.push_back(Effect::Probe {
                cluster,
                target: id,
                address,
                sequence,
                timeout,
            });
        }
        self.tokens += 1;
        target.timer = self.tokens;
        let next = turn.next_turn(interval, ctx.now);
        ctx.timers.set(next, Timer::Probe(id, target.timer));
    }
}
