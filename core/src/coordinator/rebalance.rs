//! Moves: nodes that are hot shed work to those that are cool; what is spread unevenly is [evened out](super::spread).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Answer, Changed, Coordinator, PlannedStart, PlannedStop, Refusal,
    autonomy::{Aim, WINDOW, Wish},
};
use crate::{
    autonomy::{Alternative, Evidence, Kind, Mode, Outcome, Proposal},
    event::EventBody,
    node::{Liveness, NodeIndex},
    placement::{Fleet, Placed},
    text::count,
    time::Time,
    workload::{AssignmentId, Kind as WorkKind},
};

/// Instances that are moved in a window because of load: so many in any case, and one in so many of all.
const MOVES: usize = 1;

const MOVES_SHARE: usize = 50;

/// A node is hot from this load on, observed or expected, when it was so for so many cycles; and work goes to nodes below the other.
const HOT: u32 = 85;

const HOT_CYCLES: u32 = 3;

const COOL: u32 = 60;

/// Hundredths of load that two nodes must differ by after a move, at least.
const GAIN: u32 = 20;

/// How long what was moved stays where it is, and how long a node is left alone after something left it.
pub(super) const REST: Duration = Duration::from_secs(1_800);

const NODE_REST: Duration = Duration::from_secs(60);

/// Why an instance had better be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Its node is hot, with this load.
    Hot(u32),
    /// Its workload is not spread evenly.
    Uneven,
}

/// A move.
pub(super) struct Shift {
    pub(super) id: AssignmentId,
    pub(super) from: NodeIndex,
    pub(super) to: Placed,
    pub(super) reason: String,
    pub(super) because: Because,
}

impl Coordinator {
    /// What is looked at every cycle: decisions that nobody answered, those that were carried out, and nodes that are hot.
    pub(super) fn rebalance_stage(&mut self) {
        let now = self.ctx.clock.now;
        let late: Vec<u64> = self
            .steering
            .pending
            .iter()
            .filter(|(_, pending)| pending.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(pending) = self.steering.pending.remove(&id) {
                self.give_up(&pending, Outcome::Expired);
            }
        }
        self.look_back();
        self.watch_heat();
        if self.guardian.climate(&mut self.ctx).ambiguous {
            return;
        }
        let hot: BTreeSet<NodeIndex> = self
            .steering
            .hot
            .iter()
            .filter(|(_, cycles)| **cycles >= HOT_CYCLES)
            .map(|(index, _)| *index)
            .collect();
        let shifts = self.shifts(&hot, COOL);
        let uneven = self.uneven(self.moves_left().saturating_sub(shifts.len()));
        for shift in shifts.into_iter().chain(uneven) {
            self.propose_shift(shift);
        }
    }

    /// A node's load, observed or expected, whichever is higher, in hundredths.
    pub(super) fn heat(&self, index: NodeIndex) -> u32 {
        let load = self.ctx.registry[index]
            .session
            .as_ref()
            .map_or(0.0, |session| session.load)
            * 100.0;
        (load.round() as u32).max(self.outlooks.get(&index).copied().unwrap_or(0))
    }

    fn watch_heat(&mut self) {
        let heats: Vec<(NodeIndex, u32)> = self
            .ctx
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Online)
            .map(|(index, _)| (index, self.heat(index)))
            .collect();
        let mut hot = BTreeMap::new();
        for (index, heat) in heats {
            if heat >= HOT {
                let before = self.steering.hot.get(&index).copied().unwrap_or(0);
                hot.insert(index, before.saturating_add(1));
            }
        }
        self.steering.hot = hot;
    }

    /// How many instances may be moved now.
    fn moves_left(&self) -> usize {
        let steering = &self.steering;
        let budget = MOVES.max(steering.instances / MOVES_SHARE);
        let recent = |at: &&Time| self.ctx.clock.now.since(**at) < WINDOW;
        budget.saturating_sub(steering.moves.iter().filter(recent).count())
    }

    /// One instance of each of these nodes that had better be elsewhere, and where; as many as the budget has left. Nodes with a load
    /// above `below` take none.
    fn shifts(&self, sources: &BTreeSet<NodeIndex>, below: u32) -> Vec<Shift> {
        let (now, steering, mut left) = (self.ctx.clock.now, &self.steering, self.moves_left());
        if sources.is_empty() || left == 0 {
            return Vec::new();
        }
        let mut fleet = self.fleet();
        for (index, _) in self.ctx.registry.iter() {
            if sources.contains(&index) || self.heat(index) > below {
                fleet.close(index);
            }
        }
        let mut order: Vec<NodeIndex> = sources.iter().copied().collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.heat(*index)));
        let mut shifts = Vec::new();
        for from in order {
            let rests = steering.left.get(&from).is_some_and(|at| now.since(*at) < NODE_REST);
            if left == 0 || rests {
                continue;
            }
            if let Some(shift) = self.shift(from, &mut fleet) {
                left -= 1;
                shifts.push(shift);
            }
        }
        shifts
    }

    /// The instance of a node that is promised most of those that may be moved, and its place.
    fn shift(&self, from: NodeIndex, fleet: &mut Fleet) -> Option<Shift> {
        let now = self.ctx.clock.now;
        let mut movable: Vec<(u64, AssignmentId)> = self
            .table
            .of_node(from)
            .filter(|held| {
                let Some(declared) = self.table.declared(&held.record.workload) else {
                    return false;
                };
                let record = &declared.record;
                let Some(spec) = record.spec() else { return false };
                let service = matches!(spec.kind, WorkKind::Service { .. }) && !spec.singleton;
                let quiet = record.stable == record.revision && declared.waiting.is_empty();
                let rests = self.steering.moved.get(&held.record.workload);
                let rests = rests.and_then(|slots| slots.get(&held.record.slot));
                let rests = rests.is_some_and(|at| now.since(*at) < REST);
                service
                    && quiet
                    && !rests
                    && held.is_wanted()
                    && held.healthy_since.is_some()
                    && held.record.leaving.is_empty()
            })
            .map(|held| (held.resources.cpu_millis, held.record.id))
            .collect();
        movable.sort_by_key(|(cpu, id)| (std::cmp::Reverse(*cpu), *id));
        let heat = self.heat(from);
        for (cpu, id) in movable {
            let held = self.table.held(id)?;
            let declared = self.table.declared(&held.record.workload)?;
            let spec = declared.record.spec()?;
            let mut trial = fleet.clone();
            let mut standing = trial.standing(&self.table, declared, now);
            let Some(to) = trial.place(spec, &mut standing, 1).placed.first().copied() else {
                continue;
            };
            let share = |index: NodeIndex| {
                let capacity = self.ctx.registry[index].record.facts.capacity.cpu_millis.max(1);
                (cpu * 100 / capacity) as u32
            };
            let after = self.heat(to.node) + share(to.node);
            if heat.saturating_sub(share(from)) < after + GAIN {
                continue;
            }
            *fleet = trial;
            let (here, there) = (self.ctx.registry[from].name(), self.ctx.registry[to.node].name());
            let reason = format!("{here} has a load of {heat}%, {there} would have {after}%");
            return Some(Shift {
                id,
                from,
                to,
                reason,
                because: Because::Hot(heat),
            });
        }
        None
    }

    fn propose_shift(&mut self, shift: Shift) {
        let Some(held) = self.table.held(shift.id) else { return };
        let (name, slot) = (Arc::clone(&held.record.workload), held.record.slot);
        let mode = self.steering.policy.rebalance;
        let (wall, now) = (self.ctx.wall_now(), self.ctx.clock.now);
        let (from, to) = (
            self.ctx.registry[shift.from].name().to_owned(),
            self.ctx.registry[shift.to.node].name().to_owned(),
        );
        let (rule, evidence, alternative) = match shift.because {
            Because::Hot(_) => {
                let cycles = self.steering.hot.get(&shift.from).copied().unwrap_or(0);
                let evidence = vec![
                    Evidence::new(wall, "telemetry", shift.reason.clone()),
                    Evidence::new(wall, "telemetry", format!("{from} was hot for {cycles} cycles")),
                ];
                (
                    "hot-sheds-work",
                    evidence,
                    format!("the loads would differ by more than {GAIN}%"),
                )
            }
            Because::Uneven => {
                let evidence = vec![Evidence::new(wall, "placement", shift.reason.clone())];
                (
                    "spread-is-evened-out",
                    evidence,
                    "the workload stays spread unevenly".to_owned(),
                )
            }
        };
        let proposal = Proposal {
            index: Some(shift.from),
            node: Some(self.ctx.registry[shift.from].record.id()),
            time: wall,
            cycle: self.ctx.clock.cycle,
            rule,
            action: format!("{name}: move {name}.{slot} from {from} to {to}"),
            evidence,
            alternatives: vec![Alternative::new("leave it where it is", alternative)],
        };
        let decision = self.autonomy.about(&name, Kind::Rebalance, mode, proposal);
        self.steering.left.retain(|_, at| now.since(*at) < NODE_REST);
        self.steering.left.insert(shift.from, now);
        self.steering.moved.retain(|_, slots| {
            slots.retain(|_, at| now.since(*at) < REST);
            !slots.is_empty()
        });
        let slots = self.steering.moved.entry(Arc::clone(&name)).or_default();
        slots.insert(slot, now);
        let reason = match shift.because {
            Because::Hot(_) => format!("its node is hot: {}", shift.reason),
            Because::Uneven => format!("it is spread evenly: {}", shift.reason),
        };
        match mode {
            Mode::Observe => {}
            Mode::Advise => self.wait_for_approval(mode, &decision, Wish::Move(shift.id, reason)),
            Mode::Act => {
                let aim = match shift.because {
                    Because::Hot(load) => Aim::Cools(shift.from, load),
                    Because::Uneven => Aim::Runs(Arc::clone(&name), vec![slot]),
                };
                self.check_later(Arc::clone(&decision), aim);
                self.leave(shift.id, &reason);
            }
        }
        self.ctx.record_decision(Some(shift.from), decision);
    }

    /// Has an instance leave its node, when another one has taken its place.
    pub(super) fn leave(&mut self, id: AssignmentId, reason: &str) {
        let now = self.ctx.clock.now;
        let Some(held) = self.table.held_mut(id) else { return };
        if !held.is_wanted() {
            return;
        }
        let name = Arc::clone(&held.record.workload);
        reason.clone_into(&mut Arc::make_mut(&mut held.record).leaving);
        self.ctx.outbox.keep_assignment(id);
        self.steering.moves.retain(|at| now.since(*at) < WINDOW);
        self.steering.moves.push_back(now);
        self.dirty(name);
    }

    /// An operator wants load evened out.
    pub(super) fn rebalance_now(&mut self, plan: bool, by: &str) -> Result<Answer, Refusal> {
        let online = self
            .ctx
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Online);
        let heats: Vec<(NodeIndex, u32)> = online.map(|(index, _)| (index, self.heat(index))).collect();
        let mean = heats.iter().map(|(_, heat)| heat).sum::<u32>() / (heats.len() as u32).max(1);
        let sources = heats.iter().filter(|(_, heat)| *heat > mean + GAIN / 2);
        let sources: BTreeSet<NodeIndex> = sources.map(|(index, _)| *index).collect();
        let mut shifts = self.shifts(&sources, mean);
        shifts.extend(self.uneven(self.moves_left().saturating_sub(shifts.len())));
        let mut told = Vec::new();
        for shift in &shifts {
            let Some(held) = self.table.held(shift.id) else {
                continue;
            };
            told.push(Changed {
                name: held.record.workload.to_string(),
                revision: held.record.revision,
                applied: !plan,
                changed: true,
                starts: vec![PlannedStart {
                    workload: held.record.workload.to_string(),
                    slot: held.record.slot,
                    node: self.ctx.registry[shift.to.node].record.id(),
                    node_name: self.ctx.registry[shift.to.node].name().to_owned(),
                    score: shift.to.score,
                    reason: shift.reason.clone(),
                }],
                stops: vec![PlannedStop {
                    id: shift.id,
                    slot: held.record.slot,
                    node_name: self.ctx.registry[shift.from].name().to_owned(),
                    reason: shift.reason.clone(),
                    unreplaced: false,
                }],
                ..Changed::default()
            });
        }
        if !plan && !shifts.is_empty() {
            let detail = format!("{} to be moved", count(shifts.len() as u64, "instance"));
            let summary = format!("rebalance: {detail}");
            let (verb, by) = ("rebalance".to_owned(), by.to_owned());
            let event = self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
            told.iter_mut().for_each(|change| change.event = event);
            for shift in shifts {
                let what = match shift.because {
                    Because::Hot(_) => "load is evened out",
                    Because::Uneven => "it is spread evenly",
                };
                let reason = format!("{what}: {}", shift.reason);
                self.leave(shift.id, &reason);
            }
        }
        Ok(Answer::Workloads(told))
    }
}
