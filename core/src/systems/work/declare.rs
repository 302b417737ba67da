//! Changes of workloads by operators, and planning of node loss and draining.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Work, place::place};
use crate::{
    command::{Changed, Limit, PlannedStart, PlannedStop, Refusal, WorkloadVerb},
    ctx::Ctx,
    id::{NodeId, Revision},
    node::{Cause, NodeIndex},
    placement::{self, Allowance, Fleet, Place, Plan},
    systems::fleet::Cluster,
    text::count,
    time::Time,
    workload::{Declared, Held, Kind, Spec, Workload},
};

/// Maximum number of workloads.
const WORKLOADS: usize = 10_000;

/// Maximum number of unreplaced instances named in a refusal.
const NAMED: usize = 16;

/// Maximum number of unsuitable nodes listed in a plan.
const REJECTIONS: usize = 1_000;

/// The specification with the current replica count; `None` if the verb needs no such change.
pub(crate) fn keeping(verb: &WorkloadVerb, before: Option<&Workload>) -> Option<WorkloadVerb> {
    let WorkloadVerb::Apply(wanted) = verb else { return None };
    let now = before.and_then(Workload::spec)?.replicas()?;
    let mut wanted = Spec::clone(wanted);
    match &mut wanted.kind {
        Kind::Service { replicas } | Kind::Batch { replicas, .. } => *replicas = now,
        Kind::Daemon => return None,
    }
    Some(WorkloadVerb::Apply(Arc::new(wanted)))
}

impl Work {
    /// The refusal of a specification that would stop instances without replacement, which is usually a mistake.
    pub(crate) fn refuse_unreplaced(&self, ctx: &Ctx, plan: &Plan) -> Refusal {
        let named = plan.unreplaced.iter().take(NAMED).filter_map(|id| {
            let held = self.table.held(*id)?;
            let node = ctx.registry[held.index].name();
            Some(format!("{}.{} on {node}", held.record.workload, held.record.slot))
        });
        let named: Vec<String> = named.collect();
        let more = plan.unreplaced.len() - named.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Refusal::NotYet {
            reason: "UNREPLACED",
            detail: format!(
                "by these constraints {} would stop and not be replaced: {}{more}; --force (`force`) applies it all the same",
                count(plan.unreplaced.len() as u64, "instance"),
                named.join(", ")
            ),
        }
    }

    /// Checks that `near` references form no cycle: one of the workloads has to be placed first.
    pub(crate) fn check_near(&self, name: &str, record: &Workload) -> Result<(), Refusal> {
        let mut chain = vec![name.to_owned()];
        let mut next = record.spec().map(|spec| spec.near.clone());
        while let Some(near) = next.filter(|near| !near.is_empty()) {
            if chain.contains(&near) {
                if near != name {
                    break;
                }
                let (field, reason) = ("near", format!("a cycle: {} and again {name}", chain.join(", ")));
                return Err(Refusal::Invalid { field, reason });
            }
            let spec = self.table.declared(&near).and_then(|declared| declared.record.spec());
            next = spec.map(|spec| spec.near.clone());
            chain.push(near);
        }
        Ok(())
    }

    pub(crate) fn declared_as(&self, name: &str, record: &Arc<Workload>) -> Declared {
        match self.table.declared(name) {
            Some(declared) => {
                let mut declared = declared.clone();
                declared.record = Arc::clone(record);
                declared
            }
            None => Declared::new(Arc::clone(record)),
        }
    }

    /// Computes a workload's record after a change.
    pub(crate) fn changed_record(
        &self,
        ctx: &Ctx,
        verb: &WorkloadVerb,
        before: Option<&Arc<Workload>>,
        by: &str,
    ) -> Result<Arc<Workload>, Refusal> {
        let unknown = || Refusal::Unknown {
            what: "workload",
            name: verb.workload().to_owned(),
        };
        let invalid = |field: &'static str, reason: String| Refusal::Invalid { field, reason };
        if before.is_some_and(|record| record.deleted) && !matches!(verb, WorkloadVerb::Delete { .. }) {
            return Err(Refusal::Deleting(verb.workload().to_owned()));
        }
        if let (WorkloadVerb::Apply(spec), None) = (verb, before) {
            if self.table.workloads().count() >= WORKLOADS {
                let full = "there are 10,000 workloads, the limit; delete those that are not needed";
                return Err(Refusal::Overloaded(Limit::stands(full)));
            }
            return Ok(Arc::new(Workload {
                revisions: BTreeMap::from([(Revision(1), Arc::clone(spec))]),
                revision: Revision(1),
                stable: Revision(0),
                time: ctx.wall_now(),
                by: by.to_owned(),
                deleted: false,
                restarted: None,
                promoted: Revision(0),
                rolled_back: String::new(),
                run: 1,
                failed: None,
                run_from: None,
            }));
        }
        let before = before.ok_or_else(unknown)?;
        let spec = before.spec().ok_or_else(unknown)?;
        let mut record = Workload::clone(before);
        let declare = |record: &mut Workload, spec: Arc<Spec>| {
            record.revision = record.revision.next();
            record.revisions.insert(record.revision, spec);
            record.rolled_back.clear();
        };
        match verb {
            WorkloadVerb::Apply(wanted) if wanted == spec => return Ok(Arc::clone(before)),
            WorkloadVerb::Apply(wanted) => {
                if spec.kind.is_batch() != wanted.kind.is_batch()
                    || (spec.kind == Kind::Daemon) != (wanted.kind == Kind::Daemon)
                {
                    let reason = "a workload stays what it is: delete it first".to_owned();
                    return Err(invalid("kind", reason));
                }
                declare(&mut record, Arc::clone(wanted));
            }
            WorkloadVerb::Scale { replicas, .. } => {
                let mut wanted = Spec::clone(spec);
                wanted.kind = match wanted.kind {
                    Kind::Service { .. } => Kind::Service { replicas: *replicas },
                    Kind::Batch { retries, .. } => Kind::Batch {
                        replicas: *replicas,
                        retries,
                    },
                    Kind::Daemon => return Err(invalid("replicas", "a daemon has one on every node".to_owned())),
                };
                wanted.check().map_err(|bad| invalid("replicas", bad.to_string()))?;
                if wanted == **spec {
                    return Ok(Arc::clone(before));
                }
                declare(&mut record, Arc::new(wanted));
            }
            WorkloadVerb::Restart { .. } if spec.kind.is_batch() => {
                let next = self.next_assignment(ctx);
                record.run += 1;
                record.restarted = Some((ctx.wall_now(), next));
                // Completed parts of a batch stay completed unless all of them are.
                if self.is_all_done(verb.workload()) {
                    record.run_from = Some(next);
                }
            }
            WorkloadVerb::Restart { .. } => {
                record.restarted = Some((ctx.wall_now(), self.next_assignment(ctx)));
                if record.stable == record.revision {
                    // The update settles only once all instances were replaced.
                    record.revisions.insert(record.revision.next(), Arc::clone(spec));
                    record.revision = record.revision.next();
                }
            }
            WorkloadVerb::Promote { .. } => record.promoted = record.revision,
            WorkloadVerb::Delete { .. } => record.deleted = true,
        }
        if record == **before {
            return Ok(Arc::clone(before));
        }
        (record.time, record.by) = (ctx.wall_now(), by.to_owned());
        Ok(Arc::new(record))
    }

    /// Whether every part of a batch is completed.
    fn is_all_done(&self, name: &str) -> bool {
        let Some(declared) = self.table.declared(name) else {
            return false;
        };
        let record = &declared.record;
        let done = self
            .table
            .instances(declared)
            .filter(|held| record.is_done(held) && !record.is_outdated(held.record.revision));
        let done: BTreeSet<u32> = done.map(|held| held.record.slot).collect();
        let replicas = declared.record.spec().and_then(|spec| spec.replicas());
        replicas.is_some_and(|replicas| (0..replicas).all(|slot| done.contains(&slot)))
    }

    pub(crate) fn tell_plan(&self, ctx: &Ctx, name: &str, plan: &Plan) -> Changed {
        let starts = plan.starts.iter().map(|start| PlannedStart {
            workload: name.to_owned(),
            slot: start.slot,
            node: ctx.registry[start.node].record.id(),
            node_name: ctx.registry[start.node].name().to_owned(),
            score: start.score,
            reason: start.why.to_string(),
        });
        let stops = plan.stops.iter().map(|(id, why)| {
            let held = self.table.held(*id);
            PlannedStop {
                id: *id,
                slot: held.map_or(0, |held| held.record.slot),
                node_name: held.map_or_else(String::new, |held| ctx.registry[held.index].name().to_owned()),
                reason: why.to_string(),
                unreplaced: plan.unreplaced.contains(id),
            }
        });
        Changed {
            name: name.to_owned(),
            starts: starts.collect(),
            stops: stops.collect(),
            later: plan.later,
            waiting: plan.waiting.clone(),
            ..Changed::default()
        }
    }

    pub(crate) fn rejections(
        &self,
        ctx: &Ctx,
        spec: &Spec,
        declared: &Declared,
        plan: &Plan,
        fleet: &Fleet,
    ) -> Vec<(NodeId, String, String)> {
        let mut standing = fleet.standing(&self.table, declared, ctx.clock.now);
        for start in &plan.starts {
            *standing.instances.entry(start.node).or_default() += 1;
        }
        let mut rejections: Vec<_> = fleet
            .nodes()
            .iter()
            .filter(|node| !standing.instances.contains_key(&node.index) || !plan.waiting.is_empty())
            .filter_map(|node| {
                let unfit = fleet.unfit(spec, &standing, node)?;
                Some((node.id(), node.name().to_owned(), unfit.to_string()))
            })
            .collect();
        rejections.sort_unstable();
        rejections.truncate(REJECTIONS);
        rejections
    }

    /// Plans the first actions for all workloads with instances on `gone` if these nodes were lost or drained, without
    /// the limit on parallel replacement.
    pub(crate) fn without(
        &self,
        cluster: Cluster<'_>,
        gone: &BTreeSet<NodeIndex>,
        lost: bool,
        keep_daemons: bool,
    ) -> Vec<Changed> {
        let ctx = cluster.ctx;
        let mut fleet = cluster.fleet();
        for index in gone {
            fleet.close(*index);
        }
        let names: BTreeSet<&Arc<str>> = gone
            .iter()
            .flat_map(|index| self.table.of_node(*index))
            .map(|held| &held.record.workload)
            .collect();
        let now = ctx.clock.now;
        let place = |index: NodeIndex| match place(ctx, index) {
            Place::There | Place::Leaves(_) | Place::LeavesUnlessDaemon(_) if gone.contains(&index) && lost => {
                Place::Lost {
                    // Any waiting period counts as over, because the plan shows the outcome.
                    since: Time(0),
                    cause: Cause::HostSilent,
                    lease: now,
                    decision: None,
                }
            }
            Place::There if gone.contains(&index) && keep_daemons => Place::LeavesUnlessDaemon(None),
            Place::There if gone.contains(&index) => Place::Leaves(None),
            place => place,
        };
        let mut order: Vec<(u8, &Arc<str>)> = names
            .into_iter()
            .map(|name| (self.table.priority(name), name))
            .collect();
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let mut told = Vec::new();
        for (_, name) in order {
            let Some(mut declared) = self.table.declared(name).cloned() else {
                continue;
            };
            if let Some(spec) = declared.record.spec() {
                let mut spec = Spec::clone(spec);
                spec.update.max_parallel = u32::MAX;
                let record = Arc::make_mut(&mut declared.record);
                record.revisions.insert(record.revision, Arc::new(spec));
            }
            let input = placement::Input {
                now,
                table: &self.table,
                places: &self.places(&declared, place),
                ambiguous: false,
                may: Allowance {
                    heals: usize::MAX,
                    approved: &BTreeMap::new(),
                    evictions: usize::MAX,
                },
            };
            let moves = placement::plan(&input, &declared, &mut fleet);
            let mut change = self.tell_plan(ctx, name, &moves);
            (change.revision, change.changed) = (declared.record.revision, true);
            told.push(change);
        }
        told
    }

    /// Whether an instance of a current singleton workload was started before the workload became one, so that no lease
    /// ends it.
    pub(crate) fn never_ends(&self, held: &Held) -> bool {
        let Some(declared) = self.table.declared(&held.record.workload) else {
            return false;
        };
        let record = &declared.record;
        let by_lease = record
            .revisions
            .get(&held.record.revision)
            .is_some_and(|spec| spec.singleton);
        let singleton = record.spec().is_some_and(|spec| spec.singleton);
        held.record.orphan.is_none() && !record.deleted && singleton && !by_lease
    }
}
