//! Rebalancing: hot nodes shed work to cool ones; unevenly spread workloads are [spread again](super::spread).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Autonomy, WINDOW, approvals::Wish, looking_back::Aim};
use crate::{
    autonomy::{Alternative, Evidence, Fact, Kind, Mode, Proposal, Source},
    command::{Changed, PlannedStart, PlannedStop},
    ctx::Ctx,
    id,
    node::{Liveness, NodeIndex},
    placement::{Fleet, Placed},
    systems::fleet::Cluster,
    time::Time,
    workload::{AssignmentId, Kind as WorkKind, Table},
};

/// Budget of moves per window: `MOVES`, or one in `MOVES_SHARE` of all instances if that is more.
const MOVES: usize = 1;

const MOVES_SHARE: usize = 50;

/// Load in percent, observed or predicted, from which a node is hot once it lasted for `HOT_CYCLES` cycles; and the
/// load up to which a node receives work.
const HOT: u32 = 85;

const HOT_CYCLES: u32 = 3;

const COOL: u32 = 60;

/// Minimum difference in load, in percentage points, between the two nodes after a move.
const GAIN: u32 = 20;

/// Time for which a moved instance is not moved again, and for which a node is not relieved again.
pub(crate) const REST: Duration = Duration::from_secs(1_800);

const NODE_REST: Duration = Duration::from_secs(60);

/// The reason for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// The node is hot, with this load in percent.
    Hot(u32),
    /// The workload is spread unevenly.
    Uneven,
}

/// A proposed move of an instance.
pub(crate) struct Shift {
    pub(crate) id: AssignmentId,
    pub(crate) from: NodeIndex,
    pub(crate) to: Placed,
    pub(crate) fact: Fact,
    pub(crate) because: Because,
}

/// Consequences of a proposed move.
#[derive(Debug, Default)]
pub(crate) struct Proposed {
    /// The instance that is to move, the reason and the decision.
    pub(crate) leaves: Option<(AssignmentId, String, id::Because)>,
    /// A workload to reconcile.
    pub(crate) again: Option<Arc<str>>,
}

impl Autonomy {
    /// Whether a node with this load, in hundredths, is hot.
    pub(crate) fn is_hot(heat: u32) -> bool {
        heat >= HOT
    }

    /// Counts the consecutive cycles in which nodes have been hot. `hot` are those of this cycle.
    pub(crate) fn watch_heat(&mut self, hot: &[NodeIndex]) {
        let cycles = |index: &NodeIndex| self.hot.get(index).copied().unwrap_or(0).saturating_add(1);
        self.hot = hot.iter().map(|index| (*index, cycles(index))).collect();
    }

    /// Moves due now: off nodes that have been hot for long enough, and of unevenly spread workloads.
    pub(crate) fn shifts_due(&self, cluster: Cluster<'_>) -> Vec<Shift> {
        let hot = self.hot.iter().filter(|(_, cycles)| **cycles >= HOT_CYCLES);
        let hot: BTreeSet<NodeIndex> = hot.map(|(index, _)| *index).collect();
        self.all_shifts(cluster, &hot, COOL)
    }

    /// Moves for an operator who requests rebalancing now.
    pub(crate) fn shifts_wanted(&self, cluster: Cluster<'_>) -> Vec<Shift> {
        let nodes = cluster.ctx.registry.iter();
        let online = nodes.filter(|(_, node)| node.liveness() == Liveness::Online);
        let heats: Vec<(NodeIndex, u32)> = online.map(|(index, _)| (index, cluster.heat(index))).collect();
        let mean = heats.iter().map(|(_, heat)| heat).sum::<u32>() / (heats.len() as u32).max(1);
        let sources = heats.iter().filter(|(_, heat)| *heat > mean + GAIN / 2);
        let sources: BTreeSet<NodeIndex> = sources.map(|(index, _)| *index).collect();
        self.all_shifts(cluster, &sources, mean)
    }

    fn all_shifts(&self, cluster: Cluster<'_>, sources: &BTreeSet<NodeIndex>, below: u32) -> Vec<Shift> {
        let mut shifts = self.shifts(cluster, sources, below);
        let left = self.moves_left(cluster.ctx.clock.now);
        shifts.extend(self.uneven(cluster, left.saturating_sub(shifts.len())));
        shifts
    }

    /// Number of instances that may be moved now.
    fn moves_left(&self, now: Time) -> usize {
        let budget = MOVES.max(self.instances / MOVES_SHARE);
        let recent = |at: &&Time| now.since(**at) < WINDOW;
        budget.saturating_sub(self.moves.iter().filter(recent).count())
    }

    /// Selects one instance to move off each source node, and a target, within the budget. Nodes with a load above
    /// `below` are no targets.
    fn shifts(&self, cluster: Cluster<'_>, sources: &BTreeSet<NodeIndex>, below: u32) -> Vec<Shift> {
        let (now, mut left) = (cluster.ctx.clock.now, self.moves_left(cluster.ctx.clock.now));
        if sources.is_empty() || left == 0 {
            return Vec::new();
        }
        let mut order: Vec<NodeIndex> = sources.iter().copied().collect();
        order.sort_by_key(|index| std::cmp::Reverse(cluster.heat(*index)));
        let rests = |from: &NodeIndex| self.left.get(from).is_some_and(|at| now.since(*at) < NODE_REST);
        let rested = order.into_iter().filter(|from| !rests(from));
        let movable = rested.map(|from| (from, self.movable(cluster, from)));
        let mut movable = movable.filter(|(_, movable)| !movable.is_empty()).peekable();
        // Building the fleet covers all nodes, and most often nothing on a hot node is movable.
        if movable.peek().is_none() {
            return Vec::new();
        }
        let mut fleet = cluster.fleet();
        for (index, _) in cluster.ctx.registry.iter() {
            if sources.contains(&index) || cluster.heat(index) > below {
                fleet.close(index);
            }
        }
        let mut shifts = Vec::new();
        for (from, movable) in movable {
            if left == 0 {
                break;
            }
            if let Some(shift) = self.shift(cluster, from, &movable, &mut fleet) {
                left -= 1;
                shifts.push(shift);
            }
        }
        shifts
    }

    /// Movable instances of a node, largest CPU reservation first.
    fn movable(&self, cluster: Cluster<'_>, from: NodeIndex) -> Vec<(u64, AssignmentId)> {
        let now = cluster.ctx.clock.now;
        let mut movable: Vec<(u64, AssignmentId)> = cluster
            .table
            .of_node(from)
            .filter(|held| {
                let Some(declared) = cluster.table.declared(&held.record.workload) else {
                    return false;
                };
                let record = &declared.record;
                let Some(spec) = record.spec() else { return false };
                let service = matches!(spec.kind, WorkKind::Service { .. }) && !spec.singleton;
                let quiet = record.stable == record.revision && declared.waiting.is_empty();
                let rests = self.moved.get(&held.record.workload);
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
        movable
    }

    /// Selects the instance to move off a node, and its target.
    fn shift(
        &self,
        cluster: Cluster<'_>,
        from: NodeIndex,
        movable: &[(u64, AssignmentId)],
        fleet: &mut Fleet,
    ) -> Option<Shift> {
        let now = cluster.ctx.clock.now;
        let heat = cluster.heat(from);
        for &(cpu, id) in movable {
            let held = cluster.table.held(id)?;
            let declared = cluster.table.declared(&held.record.workload)?;
            let spec = declared.record.spec()?;
            let mut trial = fleet.clone();
            let mut standing = trial.standing(cluster.table, declared, now);
            let Some(to) = trial.place(spec, &mut standing, 1).placed.first().copied() else {
                continue;
            };
            let share = |index: NodeIndex| {
                let capacity = cluster.ctx.registry[index].record.facts.capacity.cpu_millis.max(1);
                (cpu * 100 / capacity) as u32
            };
            let after = cluster.heat(to.node) + share(to.node);
            if heat.saturating_sub(share(from)) < after + GAIN {
                continue;
            }
            *fleet = trial;
            let fact = Fact::Load {
                here: cluster.ctx.registry[from].named(),
                load: heat,
                there: cluster.ctx.registry[to.node].named(),
                after,
            };
            return Some(Shift {
                id,
                from,
                to,
                fact,
                because: Because::Hot(heat),
            });
        }
        None
    }

    /// Records a decision about a move and returns its consequences.
    #[must_use]
    pub(crate) fn propose_shift(&mut self, ctx: &mut Ctx, table: &Table, shift: Shift) -> Proposed {
        let mut proposed = Proposed::default();
        let Some(held) = table.held(shift.id) else {
            return proposed;
        };
        let (name, slot) = (Arc::clone(&held.record.workload), held.record.slot);
        let mode = self.policy.rebalance;
        let (wall, now) = (ctx.wall_now(), ctx.clock.now);
        let (from, to) = (
            ctx.registry[shift.from].name().to_owned(),
            ctx.registry[shift.to.node].name().to_owned(),
        );
        let (rule, evidence, alternative) = match shift.because {
            Because::Hot(_) => {
                let cycles = self.hot.get(&shift.from).copied().unwrap_or(0);
                let node = ctx.registry[shift.from].named();
                let evidence = vec![
                    Evidence::new(wall, Source::Telemetry, shift.fact.clone()),
                    Evidence::new(wall, Source::Telemetry, Fact::Hot { node, cycles }),
                ];
                (
                    "hot-sheds-work",
                    evidence,
                    format!("the loads would differ by more than {GAIN}%"),
                )
            }
            Because::Uneven => {
                let evidence = vec![Evidence::new(wall, Source::Placement, shift.fact.clone())];
                (
                    "spread-is-evened-out",
                    evidence,
                    "the workload stays spread unevenly".to_owned(),
                )
            }
        };
        let proposal = Proposal {
            index: Some(shift.from),
            node: Some(ctx.registry[shift.from].record.id()),
            time: wall,
            cycle: ctx.clock.cycle,
            rule,
            action: format!("{name}: move {name}.{slot} from {from} to {to}"),
            evidence,
            alternatives: vec![Alternative::new("leave it where it is", alternative)],
            caused_by: Vec::new(),
        };
        let decision = self.ledger.about(&name, Kind::Rebalance, mode, proposal);
        self.left.retain(|_, at| now.since(*at) < NODE_REST);
        self.left.insert(shift.from, now);
        self.moved.retain(|_, slots| {
            slots.retain(|_, at| now.since(*at) < REST);
            !slots.is_empty()
        });
        let slots = self.moved.entry(Arc::clone(&name)).or_default();
        slots.insert(slot, now);
        let reason = match shift.because {
            Because::Hot(_) => format!("its node is hot: {}", shift.fact),
            Because::Uneven => format!("it is spread evenly: {}", shift.fact),
        };
        match mode {
            Mode::Observe => {}
            Mode::Advise => {
                proposed.again = self.wait_for_approval(ctx, mode, &decision, Wish::Move(shift.id, reason));
            }
            Mode::Act => {
                let aim = match shift.because {
                    Because::Hot(load) => Aim::Cools(shift.from, load),
                    Because::Uneven => Aim::Runs(Arc::clone(&name), vec![slot]),
                };
                self.check_later(now, Arc::clone(&decision), aim);
                proposed.leaves = Some((shift.id, reason, id::Because::Decision(decision.id)));
            }
        }
        ctx.record_decision(Some(shift.from), decision);
        proposed
    }

    /// Charges a move to the budget.
    pub(crate) fn moves(&mut self, now: Time) {
        self.moves.retain(|at| now.since(*at) < WINDOW);
        self.moves.push_back(now);
    }
}

impl Shift {
    /// The move as a plan for an operator; `None` if the instance is gone.
    pub(crate) fn told(&self, ctx: &Ctx, table: &Table, applied: bool) -> Option<Changed> {
        let held = table.held(self.id)?;
        let (to, from) = (&ctx.registry[self.to.node], &ctx.registry[self.from]);
        Some(Changed {
            name: held.record.workload.to_string(),
            revision: held.record.revision,
            applied,
            changed: true,
            starts: vec![PlannedStart {
                workload: held.record.workload.to_string(),
                slot: held.record.slot,
                node: to.record.id(),
                node_name: to.name().to_owned(),
                score: self.to.score,
                reason: self.fact.to_string(),
            }],
            stops: vec![PlannedStop {
                id: self.id,
                slot: held.record.slot,
                node_name: from.name().to_owned(),
                reason: self.fact.to_string(),
                unreplaced: false,
            }],
            ..Changed::default()
        })
    }

    /// Reason for a move that an operator requested.
    pub(crate) fn wanted_because(&self) -> String {
        let what = match self.because {
            Because::Hot(_) => "load is evened out",
            Because::Uneven => "it is spread evenly",
        };
        format!("{what}: {}", self.fact)
    }
}
