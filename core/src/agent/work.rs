//! Instances assigned to this node: start, stop and status reports.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    config::{Begun, Found},
    ctx::Ctx,
    io::Effect,
    timer::Timer,
};
use crate::{
    id::ClusterId,
    protocol::{FromAgent, Work as Told},
    time::Time,
    workload::{Assigned, AssignmentId, Phase, Status, log},
};

/// Delay by which status changes are batched.
const GATHER: Duration = Duration::from_millis(20);

/// Maximum number of instances per message.
const TOLD: usize = 64;

#[derive(Debug)]
struct Local {
    /// `None` when the instance's order cannot be read.
    assigned: Option<Arc<Assigned>>,
    status: Status,
    /// Whether the instance was told to end.
    halted: bool,
}

/// Detail of an instance that is missing and may have been started here.
const MISSING: &str = "its node may have begun it before, and has lost what it wrote of that";

/// Detail of an instance that belongs to another identity of this node.
const OF_ANOTHER: &str = "the instance was given to another node: node-id was replaced";

/// Instances of this node and their pending reports.
#[derive(Debug, Default)]
pub(super) struct Work {
    local: BTreeMap<AssignmentId, Local>,
    /// Instances with an unreported status.
    news: BTreeSet<AssignmentId>,
    /// Set until the full report at the start of a session is complete.
    all: bool,
    timer: u64,
    gathering: bool,
    /// Whether the coordinator knows all instances of this node, in this session or in the previous one: unwanted
    /// instances are told to end before leases are passed on.
    agreed: bool,
    /// Unknown instances that may have been started here.
    begun: Begun,
    /// Cluster of the coordinator that welcomed this agent.
    cluster: Option<ClusterId>,
}

impl Local {
    /// Returns whether the instance is a known singleton. Others receive no lease: they run without one, or end in time.
    fn is_singleton(&self) -> bool {
        self.assigned.as_ref().is_some_and(|assigned| assigned.spec.singleton)
    }
}

impl Work {
    pub(super) fn new(found: Vec<Found>, begun: Begun) -> Work {
        let local = found.into_iter().map(|found| {
            let local = Local {
                assigned: found.assigned,
                status: found.status,
                halted: found.of_another,
            };
            (found.id, local)
        });
        Work {
            local: local.collect(),
            begun,
            ..Work::default()
        }
    }

    /// Returns whether a process of an unknown instance may exist here.
    fn may_be_begun(&self, id: AssignmentId) -> bool {
        match self.begun {
            Begun::None => false,
            Begun::Below(cluster, below) => self.cluster == Some(cluster) && id < below,
            Begun::Any => true,
        }
    }

    /// Instances of this node with their status.
    pub(super) fn instances(&self) -> impl Iterator<Item = (&Assigned, &Status)> {
        self.local
            .values()
            .filter_map(|local| Some((local.assigned.as_deref()?, &local.status)))
    }

    /// Starts a session: all instances are reported.
    pub(super) fn new_session(&mut self, ctx: &mut Ctx) {
        self.news = self.local.keys().copied().collect();
        self.all = true;
        self.agreed = false;
        self.tell_soon(ctx);
    }

    fn tell_soon(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.gathering, true) {
            self.timer += 1;
            let at = ctx.now + GATHER;
            ctx.timers.set(at, Timer::Work(self.timer));
        }
    }

    /// Reports changed instances in messages of bounded size.
    pub(super) fn tell(&mut self, ctx: &mut Ctx, token: u64) {
        if self.timer != token {
            return;
        }
        self.gathering = false;
        let Some(conn) = ctx.link.conn else { return };
        let mut instances = Vec::new();
        while instances.len() < TOLD
            && let Some(id) = self.news.pop_first()
        {
            if let Some(local) = self.local.get(&id) {
                instances.push((id, local.status.clone()));
            }
        }
        let rest = !self.news.is_empty();
        let all = !rest && std::mem::take(&mut self.all);
        if !instances.is_empty() || all {
            let report = FromAgent::Instances { instances, all };
            ctx.send(conn, report);
        }
        if rest {
            self.tell_soon(ctx);
        }
    }

    /// Stops instances that belong to another identity of this node. The coordinator does not know them here, so nobody else would stop them.
    pub(super) fn end_what_is_of_another(&self, ctx: &mut Ctx) {
        // Before the first welcome, nothing else was told to end.
        let local = self.local.iter().filter(|(_, local)| local.halted);
        for (id, _) in local.filter(|(_, local)| local.status.phase != Phase::Ended) {
            let reason = OF_ANOTHER.to_owned();
            ctx.effects.push_back(Effect::Halt { id: *id, reason });
        }
    }

    /// Bounds the unknown instances to those that the welcoming coordinator assigned before.
    pub(super) fn reckon_begun(&mut self, ctx: &mut Ctx, cluster: ClusterId, next: AssignmentId) {
        self.cluster = Some(cluster);
        if self.begun == Begun::Any && next != AssignmentId::default() {
            self.presume(ctx, cluster, next);
        }
    }

    /// Derives the bound from the first order when a coordinator of an earlier version does not state it.
    fn presume_told(&mut self, ctx: &mut Ctx, assign: &[Assigned]) {
        if let (Begun::Any, Some(cluster)) = (self.begun, self.cluster) {
            let newest = assign.iter().map(|assigned| assigned.id).max();
            self.presume(
                ctx,
                cluster,
                AssignmentId(newest.map_or(0, |id| id.0.saturating_add(1))),
            );
        }
    }

    fn presume(&mut self, ctx: &mut Ctx, cluster: ClusterId, below: AssignmentId) {
        self.begun = Begun::Below(cluster, below);
        ctx.effects.push_back(Effect::Presume { cluster, below });
    }

    /// Records an assigned instance as lost when it may have been started here before: a process may exist, or it may have completed. It is
    /// not run under this id again.
    fn lost(&mut self, ctx: &mut Ctx, assigned: Arc<Assigned>) {
        let (id, halted) = (assigned.id, true);
        let status = Status {
            phase: Phase::Ended,
            since: ctx.wall_time(),
            unknown: true,
            detail: MISSING.to_owned(),
            ..Status::default()
        };
        let assigned = Some(assigned);
        let local = Local {
            assigned,
            status,
            halted,
        };
        self.local.insert(id, local);
        self.news.insert(id);
    }

    /// Applies an order of the coordinator; `lent` is the end of the singletons' lease.
    pub(super) fn told(&mut self, ctx: &mut Ctx, told: Told, lent: Option<Time>) {
        let first = !std::mem::replace(&mut self.agreed, true);
        self.presume_told(ctx, &told.assign);
        // The coordinator knows that this node reported these instances before, whatever the node has recorded.
        let repeated: BTreeSet<AssignmentId> = told.repeated.into_iter().collect();
        for assigned in told.assign {
            let id = assigned.id;
            if self.local.contains_key(&id) {
                self.news.insert(id);
                continue;
            }
            let assigned = Arc::new(assigned);
            if repeated.contains(&id) || self.may_be_begun(id) {
                self.lost(ctx, assigned);
                continue;
            }
            let status = Status {
                since: ctx.wall_time(),
                ..Status::default()
            };
            ctx.effects.push_back(Effect::Run(Arc::clone(&assigned)));
            if assigned.spec.singleton {
                lend(ctx, id, lent);
            }
            let (halted, assigned) = (false, Some(assigned));
            self.local.insert(
                id,
                Local {
                    assigned,
                    status,
                    halted,
                },
            );
        }
        for (id, reason) in told.refused {
            self.not_here(
                ctx,
                id,
                Some(false),
                format!("its declaration cannot be accepted by its agent: {reason}"),
            );
        }
        for (id, reason) in told.stop {
            let may_be_begun = repeated.contains(&id) || self.may_be_begun(id);
            match self.local.get_mut(&id) {
                Some(local) => {
                    local.halted = true;
                    ctx.effects.push_back(Effect::Halt { id, reason });
                }
                None if may_be_begun => self.not_here(ctx, id, None, MISSING.to_owned()),
                None => self.not_here(ctx, id, Some(true), reason),
            }
        }
        for id in told.forget {
            let ended = self
                .local
                .get(&id)
                .is_some_and(|local| local.status.phase == Phase::Ended);
            if ended {
                self.local.remove(&id);
                self.news.remove(&id);
                ctx.effects.push_back(Effect::Discard { id });
            }
        }
        for id in told.describe {
            self.describe(ctx, id);
        }
        if !self.news.is_empty() {
            self.tell_soon(ctx);
        }
        if first {
            self.lend_all(ctx, lent);
        }
    }

    /// Describes an instance that the coordinator does not know. One per message: declarations may be large.
    fn describe(&self, ctx: &mut Ctx, id: AssignmentId) {
        let assigned = self.local.get(&id).and_then(|local| local.assigned.as_deref());
        if let (Some(assigned), Some(conn)) = (assigned, ctx.link.conn) {
            let report = FromAgent::Described {
                instances: vec![assigned.clone()],
                refused: Vec::new(),
            };
            ctx.send(conn, report);
        }
    }

    /// Reports an instance as ended that is not here or cannot run; `complete` is `None` when unknown.
    fn not_here(&self, ctx: &mut Ctx, id: AssignmentId, complete: Option<bool>, detail: String) {
        let Some(conn) = ctx.link.conn else { return };
        let status = Status {
            phase: Phase::Ended,
            since: ctx.wall_time(),
            complete: complete.unwrap_or(false),
            unknown: complete.is_none(),
            detail,
            ..Status::default()
        };
        let report = FromAgent::Instances {
            instances: vec![(id, status)],
            all: false,
        };
        ctx.send(conn, report);
    }

    /// Records a status reported by a supervisor.
    pub(super) fn instance(&mut self, ctx: &mut Ctx, id: AssignmentId, status: Status) {
        let Some(local) = self.local.get_mut(&id) else {
            return;
        };
        if local.status == status || local.status.phase == Phase::Ended {
            return;
        }
        local.status = status;
        self.news.insert(id);
        self.tell_soon(ctx);
    }

    /// Passes a renewed lease on to all singletons.
    pub(super) fn lend_all(&self, ctx: &mut Ctx, lent: Option<Time>) {
        if !self.agreed {
            return;
        }
        let singletons = self.local.iter().filter(|(_, local)| local.is_singleton());
        for (id, _) in singletons.filter(|(_, local)| local.status.phase != Phase::Ended && !local.halted) {
            lend(ctx, *id, lent);
        }
    }
}

fn lend(ctx: &mut Ctx, id: AssignmentId, lent: Option<Time>) {
    if let Some(until) = lent {
        ctx.effects.push_back(Effect::Lease { id, until });
    }
}

/// Sends a chunk of an instance's log to the coordinator.
pub(super) fn log_read(ctx: &mut Ctx, chunk: log::Chunk) {
    if let Some(conn) = ctx.link.conn {
        let report = FromAgent::Log(chunk);
        ctx.send(conn, report);
    }
}
