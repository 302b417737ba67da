//! Workloads: what operators declare, and what is done so that it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Coordinator, Timer, autonomy::Aim};
use crate::{
    autonomy::{Alternative, Evidence, Proposal},
    ctx::outbox::Then,
    node::{Admission, NodeIndex},
    placement::{self, Fleet, Node, Place, Plan},
    time::Time,
    workload::{Assignment, AssignmentId, Declared, Goal, Held, Kind, Numbers, Resources, Spec, Workload},
};

/// Moves that a decision lists at most; its events have them all.
const LISTED: usize = 32;

/// How long work waits while the store is behind.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// Workloads of which something changed.
    pub(super) dirty: BTreeSet<Arc<str>>,
    /// When to look at a workload though nothing changes.
    pub(super) wakes: BTreeMap<Arc<str>, Time>,
    /// Instances placed in this epoch.
    pub(super) placed: u64,
    /// The newest timer.
    timer: u64,
    due: Option<Time>,
}

impl Coordinator {
    /// Takes in what the store kept.
    pub(super) fn recall_work(&mut self, workloads: Vec<Arc<Workload>>, assignments: Vec<Arc<Assignment>>) {
        let now = self.ctx.clock.now;
        for mut record in workloads {
            // What an earlier version accepted is told to agents as they accept it today.
            if record
                .revisions
                .values()
                .any(|spec| spec.restart != spec.restart.clamped())
            {
                for spec in Arc::make_mut(&mut record).revisions.values_mut() {
                    *spec = Arc::new(Spec::clone(spec).clamped());
                }
            }
            if let Some(name) = record.spec().map(|spec| spec.name.clone()) {
                self.table.declare(&name, record);
            }
        }
        for record in assignments {
            let index = match (self.ctx.registry.find(record.node), &record.end) {
                (Some(index), _) => index,
                // Its node was forgotten; it is kept for the record.
                (None, Some(_)) => NodeIndex::NOWHERE,
                (None, None) => continue,
            };
            let id = record.id;
            self.table.hold(record, index, now);
            self.table.kept(id);
            self.table.recall(id);
        }
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.call_apart(&name);
            self.recall_lost(&name);
            self.dirty(name);
        }
        self.ctx.view_soon();
    }

    /// What became of leases that the coordinator before this one gave is not known.
    fn recall_lost(&mut self, name: &str) {
        let until = self.leases_are_over();
        let newest = self
            .table
            .declared(name)
            .and_then(|declared| self.table.instances(declared).last());
        let lost = newest.filter(|held| !held.is_there() && held.status.unknown);
        if let Some(id) = lost.map(|held| held.record.id) {
            self.note_lost(name, id, until);
        }
    }

    /// A workload is looked at again.
    pub(super) fn dirty(&mut self, name: Arc<str>) {
        self.agenda.dirty.insert(name);
        self.look_at_work(self.ctx.clock.now);
    }

    /// A node is otherwise than before: what it has, or what waits for one like it, is looked at again.
    pub(super) fn node_changed(&mut self, index: NodeIndex) {
        let mut names: BTreeSet<Arc<str>> = self
            .table
            .of_node(index)
            .map(|held| Arc::clone(&held.record.workload))
            .collect();
        names.extend(self.waiting());
        let daemons = self
            .table
            .workloads()
            .filter(|(_, declared)| declared.record.spec().is_some_and(|spec| spec.kind == Kind::Daemon));
        names.extend(daemons.map(|(name, _)| Arc::clone(name)));
        for name in names {
            self.dirty(name);
        }
    }

    /// Some node has more room than before.
    pub(super) fn room_changed(&mut self) {
        for name in self.waiting() {
            self.dirty(name);
        }
    }

    fn waiting(&self) -> Vec<Arc<str>> {
        let waits = self
            .table
            .workloads()
            .filter(|(_, declared)| !declared.waiting.is_empty());
        waits.map(|(name, _)| Arc::clone(name)).collect()
    }

    pub(super) fn look_at_work(&mut self, at: Time) {
        if self.agenda.due.is_none_or(|due| at < due) {
            self.agenda.due = Some(at);
            self.agenda.timer += 1;
            self.ctx.timers.set(at, Timer::Reconcile(self.agenda.timer));
        }
    }

    /// Brings what runs closer to what was declared.
    pub(super) fn reconcile(&mut self, token: u64) {
        if token != self.agenda.timer {
            return;
        }
        self.agenda.due = None;
        if self.ctx.stopping {
            return;
        }
        if self.ctx.outbox.is_behind() {
            self.look_at_work(self.ctx.clock.now + LOOK_AGAIN);
            return;
        }
        let now = self.ctx.clock.now;
        let over: Vec<Arc<str>> = self
            .agenda
            .wakes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let mut names = std::mem::take(&mut self.agenda.dirty);
        names.extend(over);
        for name in &names {
            self.agenda.wakes.remove(name);
        }
        self.steering.begin(self.table.desired());
        let mut fleet = self.fleet();
        let mut order: Vec<(u8, Arc<str>)> = names.into_iter().map(|name| (self.priority(&name), name)).collect();
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        for (_, name) in order {
            self.reconcile_one(&name, &mut fleet);
        }
        if let Some(next) = self.agenda.wakes.values().min().copied() {
            self.look_at_work(next);
        }
        self.ctx.view_soon();
    }

    /// Earlier versions called a daemon's instances by their nodes' places, so that two could have one name: the later one gets another.
    fn call_apart(&mut self, name: &str) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        if declared.record.spec().is_none_or(|spec| spec.replicas().is_some()) {
            return;
        }
        let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
        for held in self.table.instances(declared).filter(|held| held.is_there()) {
            if !seen.insert(held.record.slot) {
                twice.push(held.record.id);
            }
        }
        let mut numbers = Numbers::of(self.table.instances(declared));
        for id in twice {
            let number = numbers.take(None);
            if let Some(held) = self.table.held_mut(id) {
                Arc::make_mut(&mut held.record).slot = number;
                self.ctx.outbox.keep_assignment(id);
            }
        }
    }

    pub(super) fn priority(&self, name: &str) -> u8 {
        let spec = self.table.declared(name).and_then(|declared| declared.record.spec());
        spec.map_or(0, |spec| spec.priority)
    }

    fn reconcile_one(&mut self, name: &Arc<str>, fleet: &mut Fleet) {
        self.adopt(name);
        let ambiguous = self.guardian.climate(&mut self.ctx).ambiguous;
        self.table.prune_failures(name, self.ctx.clock.now);
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        let plan = self.plan(declared, ambiguous, fleet);
        self.hold_back(name, &plan);
        self.ask_for_room(name, &plan);
        let more = self.budget_returns(&plan);
        if let Some(wake) = plan.wake.into_iter().chain(more).min() {
            self.agenda.wakes.insert(Arc::clone(name), wake);
        }
        self.carry_out_plan(name, plan);
        let may_run = self.table.declared(name).filter(|declared| declared.record.deleted);
        if let Some((_, until)) = may_run.and_then(|declared| declared.may_still_run(self.ctx.clock.now)) {
            // Its name would be free for another one.
            self.agenda.wakes.insert(Arc::clone(name), until);
            return;
        }
        let over = self.table.declared(name).is_some_and(|declared| {
            // Of a node that was shut out nothing more is heard.
            let counts = |held: &Held| self.ctx.registry[held.index].record.admission != Admission::Revoked;
            let mut left = self.table.instances(declared).filter(|held| held.is_there());
            declared.record.deleted && !left.any(counts)
        });
        if over {
            let ended = self.table.forget_workload(name);
            self.forget(ended);
            self.ctx.outbox.keep_workload(name);
            self.agenda.wakes.remove(name);
            self.ctx.record_workload(name, format!("{name} is gone"));
        }
    }

    pub(super) fn plan(&self, declared: &Declared, ambiguous: bool, fleet: &mut Fleet) -> Plan {
        let places = self.places(declared, |index| self.place(index));
        let input = placement::Input {
            now: self.ctx.clock.now,
            table: &self.table,
            places: &places,
            ambiguous,
            may: self.allowance(),
        };
        let plan = placement::plan(&input, declared, fleet);
        self.until_heard(declared, plan)
    }

    /// What is known of the nodes of a workload's instances.
    pub(super) fn places(&self, declared: &Declared, place: impl Fn(NodeIndex) -> Place) -> BTreeMap<NodeIndex, Place> {
        let mut places = BTreeMap::new();
        let somewhere = |held: &&Held| held.index != NodeIndex::NOWHERE;
        for held in self.table.instances(declared).filter(somewhere) {
            places.entry(held.index).or_insert_with(|| place(held.index));
        }
        places
    }

    /// The nodes, as placement sees them.
    pub(super) fn fleet(&self) -> Fleet {
        let nodes = self.ctx.registry.iter().map(|(index, node)| {
            let (record, facts) = (&node.record, &node.record.facts);
            let load = node.session.as_ref().map_or(0.0, |session| session.load) * 100.0;
            Node {
                index,
                record: Arc::clone(record),
                admission: record.admission,
                liveness: node.liveness,
                eligibility: record.eligibility,
                capacity: Resources {
                    cpu_millis: facts.capacity.cpu_millis,
                    memory_bytes: facts.capacity.memory_bytes,
                },
                promised: self.table.promised(index),
                taken: self.table.taken(index).to_vec(),
                load_percent: (load.round() as u32).max(self.outlook(index)),
                trust_percent: 100,
                coordinate: node.coordinate,
            }
        });
        let mut fleet = Fleet::new(nodes.collect());
        for claim in self.table.claims() {
            fleet.claim(claim);
        }
        if self.table.has_fixed_ports() {
            self.hand_out(&mut fleet);
        }
        fleet
    }

    /// Tells placement which ports agents have handed out: whoever has a fixed one does not get the same.
    pub(super) fn hand_out(&self, fleet: &mut Fleet) {
        for (index, _) in self.ctx.registry.iter() {
            let ports = self.table.of_node(index).flat_map(Held::handed_out);
            fleet.hand_out(index, ports);
        }
    }

    /// The load that a node is expected to have, in hundredths; 0 where that is not known.
    fn outlook(&self, index: NodeIndex) -> u32 {
        self.outlooks.get(&index).copied().unwrap_or(0)
    }

    pub(super) fn carry_out_plan(&mut self, name: &Arc<str>, mut plan: Plan) {
        let known = self.table.declared(name).map(|declared| &declared.record.rolled_back);
        if plan.failed.is_some() && plan.failed.as_ref() == known {
            // That was said, and done about what can be.
            plan.failed = None;
        }
        let decision = match plan.is_idle() {
            true => 0,
            false => self.decide_placement(name, &plan),
        };
        self.healed(&plan);
        self.preempted(&plan);
        for (id, reason) in &plan.stops {
            self.set_goal(*id, Goal::Stop, reason);
        }
        let revision = self.table.declared(name).map_or(0, |declared| declared.record.revision);
        for id in &plan.revised {
            if let Some(held) = self.table.held_mut(*id) {
                Arc::make_mut(&mut held.record).revision = revision;
                self.ctx.outbox.keep_assignment(*id);
            }
        }
        for start in &plan.starts {
            self.start_instance(name, start, decision);
        }
        if let Some(declared) = self.table.declared_mut(name) {
            declared.waiting.clone_from(&plan.waiting);
            declared.claims.clone_from(&plan.claims);
            declared.absent = plan.absent;
            let (revision, now) = (declared.record.revision, self.ctx.clock.now);
            let was = declared.unplaced.take().filter(|(of, ..)| *of == revision);
            let since = was.map_or(now, |(_, since, _)| since);
            declared.unplaced = plan.unplaced.take().map(|why| (revision, since, why));
        }
        self.judge_update(name, &plan);
        self.prune_revisions(name);
    }

    /// The id of the instance that is placed next: all others have lower ones.
    pub(super) fn next_assignment(&self) -> AssignmentId {
        AssignmentId(self.ctx.term.epoch << 32 | (self.agenda.placed + 1))
    }

    fn start_instance(&mut self, name: &Arc<str>, start: &placement::Start, decision: u64) {
        let id = self.next_assignment();
        self.agenda.placed += 1;
        let record = Assignment {
            id,
            workload: Arc::clone(name),
            slot: start.slot,
            revision: start.revision,
            node: self.ctx.registry[start.node].record.id(),
            goal: Goal::Run,
            placed: self.ctx.wall_now(),
            reason: start.reason.clone(),
            score: start.score,
            decision,
            replaces: start.replaces,
            attempt: start.attempt,
            stop_reason: String::new(),
            leaving: String::new(),
            end: None,
            orphan: None,
        };
        let now = self.ctx.clock.now;
        self.table.hold(Arc::new(record), start.node, now);
        self.ctx.outbox.keep_assignment(id);
        self.ctx.outbox.then(Then::Tell(start.node));
    }

    /// An update that is over, or has failed.
    fn judge_update(&mut self, name: &Arc<str>, plan: &Plan) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        let record = &declared.record;
        if plan.settled {
            let mut record = Arc::clone(record);
            let own = Arc::make_mut(&mut record);
            (own.stable, own.restarted) = (own.revision, None);
            own.rolled_back.clear();
            let revision = own.revision;
            self.table.declare(name, record);
            self.ctx.outbox.keep_workload(name);
            self.ctx
                .record_workload(name, format!("{name}: all instances of revision {revision} are well"));
            return;
        }
        let Some(why) = &plan.failed else { return };
        let stable = record.revisions.get(&record.stable).cloned();
        let (Some(spec), Some(stable)) = (record.spec(), stable) else {
            return;
        };
        if *record.rolled_back == **why {
            return;
        }
        let mut record = Arc::clone(record);
        let own = Arc::make_mut(&mut record);
        own.rolled_back.clone_from(why);
        own.failed = Some((own.revision, why.clone()));
        let back = spec.update.rollback && !spec.equals_but_for_count(&stable);
        let summary = if back {
            let (failed, to) = (own.revision, own.stable);
            // How many there should be is no part of what failed.
            let mut spec = Spec::clone(&stable);
            spec.kind = own.spec().map_or(spec.kind, |now| now.kind);
            own.revision += 1;
            own.revisions.insert(own.revision, Arc::new(spec));
            // It was well before: nobody need look at it first.
            own.promoted = own.revision;
            format!(
                "{name}: revision {failed} failed and is taken back to {to}, as revision {}: {why}",
                own.revision
            )
        } else {
            format!(
                "{name}: the update to revision {} has failed and goes no further: {why}",
                own.revision
            )
        };
        self.table.declare(name, record);
        if let Some(declared) = self.table.declared_mut(name) {
            // What was well need not wait for what failed.
            declared.not_before.clear();
        }
        self.ctx.outbox.keep_workload(name);
        self.ctx.record_workload(name, summary);
        self.dirty(Arc::clone(name));
    }

    /// Declarations that nothing runs by and nothing goes back to are not kept.
    fn prune_revisions(&mut self, name: &Arc<str>) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        let batch = declared.record.spec().is_some_and(|spec| spec.kind.is_batch());
        let used: BTreeSet<u64> = self
            .table
            .instances(declared)
            // What of a batch is done is done by the declaration that it ran by.
            .filter(|held| held.is_there() || batch)
            .map(|held| held.record.revision)
            .chain([declared.record.revision, declared.record.stable])
            .collect();
        if declared.record.revisions.keys().all(|revision| used.contains(revision)) {
            return;
        }
        let mut record = Arc::clone(&declared.record);
        Arc::make_mut(&mut record)
            .revisions
            .retain(|revision, _| used.contains(revision));
        self.table.declare(name, record);
        self.ctx.outbox.keep_workload(name);
    }

    /// Why it is done: the decision that the instances' records name.
    fn decide_placement(&mut self, name: &Arc<str>, plan: &Plan) -> u64 {
        let wall = self.ctx.wall_now();
        let mut evidence = Vec::new();
        for start in plan.starts.iter().take(LISTED) {
            let node = self.ctx.registry[start.node].name();
            let score = start.score.total;
            let fact = format!(
                "start {name}.{} on {node} (score {score}): {}",
                start.slot, start.reason
            );
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        for (id, reason) in plan.stops.iter().take(LISTED) {
            let Some(held) = self.table.held(*id) else { continue };
            let (of, slot) = (&held.record.workload, held.record.slot);
            let node = self.ctx.registry[held.index].name();
            let fact = format!("stop {of}.{slot} on {node}: {reason}");
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        for id in plan.revised.iter().take(LISTED) {
            let Some(held) = self.table.held(*id) else { continue };
            let (slot, node) = (held.record.slot, self.ctx.registry[held.index].name());
            let fact = format!(
                "keep {name}.{slot} on {node}: it runs by revision {}, which differs in nothing that it would have to start anew for",
                held.record.revision
            );
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        if let Some(why) = &plan.failed {
            evidence.push(Evidence::new(wall, "update", why.as_str()));
        }
        for waiting in &plan.waiting {
            let fact = {
                let verb = if waiting.slots == 1 { "waits" } else { "wait" };
                format!("{} {verb}: {}", waiting.slots, waiting.reason)
            };
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        let about = match (plan.starts.as_slice(), plan.stops.as_slice()) {
            ([one], []) => Some(one.node),
            ([], [(id, _)]) => self.table.held(*id).map(|held| held.index),
            _ => None,
        };
        let mut parts = Vec::new();
        for (verb, count) in [
            ("start", plan.starts.len()),
            ("stop", plan.stops.len()),
            ("carry over", plan.revised.len()),
        ] {
            if count > 0 {
                parts.push(format!("{verb} {count}"));
            }
        }
        if let Some(why) = &plan.failed {
            parts.push(format!("take the update back: {why}"));
        }
        let alternatives = plan.considered.iter();
        let proposal = Proposal {
            index: about,
            node: about.map(|index| self.ctx.registry[index].record.id()),
            time: wall,
            cycle: self.ctx.clock.cycle,
            rule: "declared-runs",
            action: format!("{name}: {}", parts.join(", ")),
            evidence,
            alternatives: alternatives
                .map(|(what, why)| Alternative::new(what, why.as_str()))
                .collect(),
        };
        let decision = self.autonomy.placement(name, proposal, &plan.healed, &plan.preempted);
        let id = decision.id;
        let mut slots = plan.roomed.clone();
        if !plan.healed.is_empty() {
            slots.extend(plan.starts.iter().map(|start| start.slot));
        }
        let mends = !plan.healed.is_empty() || !plan.preempted.is_empty();
        if mends && !slots.is_empty() {
            self.check_later(Arc::clone(&decision), Aim::Runs(Arc::clone(name), slots));
        }
        self.ctx.record_decision(about, decision);
        id
    }

    /// Readers see what changed.
    pub(super) fn view(&mut self) {
        self.ctx.outbox.viewed();
        self.view_now();
    }
}
