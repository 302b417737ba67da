//! The cycle: a pass through the systems, in which each stage reads the results of earlier ones and writes its own.

use std::sync::Arc;

use super::Coordinator;
use crate::{
    coherence::{NodeDetail, Snapshot},
    ctx::alarm::Timer,
    effect::{Effect, Published},
    id::Cycle,
    node::{Liveness, Node, NodeIndex},
    systems::{autonomy::Autonomy, coherence},
};

impl Coordinator {
    /// Starts a cycle, unless the previous snapshot is not published yet.
    pub(super) fn pulse(&mut self) {
        let (now, interval) = (self.ctx.clock.now, self.ctx.config.cycle);
        let next = self.pulse.beat(now, interval);
        self.ctx.timers.set(next, Timer::Pulse);
        // While a batch waits for the store, a snapshot would show state that a crash may revert.
        if self.pulse.publishing || self.ctx.stopping || self.ctx.outbox.is_behind() {
            self.pulse.pace.skipped += 1;
            return;
        }
        self.run_cycle();
    }

    fn run_cycle(&mut self) {
        self.ctx.record_repeated(false);
        self.ctx.clock.cycle = self.ctx.clock.cycle.next();
        self.forget_stage();
        let (sample, telemetry) = self.telemetry.sample(&self.ctx);
        let foreseen = self.predictive.cycle(&sample, self.ctx.config.cycle);
        let (mesh, links) = (self.guardian.topology(), self.guardian.links());
        self.autonomy.foresee(&mut self.ctx, &sample, &foreseen.crossing);
        let (details, hot) = self.look_over();
        self.review_decisions(&hot);
        let behaviour = self.behaviour.overview(&self.ctx);
        let integrity = self.integrity.overview(&mut self.ctx);
        let nodes = self.rows.all(&mut self.ctx);
        self.ctx.registry.census();
        let coherence = coherence::check(&coherence::Seen {
            ctx: &self.ctx,
            guardian: &self.guardian,
            topology: &mesh,
            matrix: self.telemetry.matrix(),
            behaviour: &self.behaviour,
            work: self.work.table(),
            pace: self.pulse.pace,
            stale_hellos: std::mem::take(&mut self.stale_hellos),
        });
        self.view_now();
        // The cycle's decisions are made durable before the snapshot that shows them.
        self.flush();
        let snapshot = Snapshot {
            cluster: self.ctx.term.cluster,
            epoch: self.ctx.term.epoch,
            cycle: self.ctx.clock.cycle,
            time: self.ctx.wall_now(),
            lived: self.ctx.lived(),
            cycle_interval: self.ctx.config.cycle,
            coordinator_version: Arc::clone(&self.ctx.config.version),
            nodes,
            telemetry,
            predictive: foreseen.overview,
            mesh,
            findings: self.guardian.open_findings(&self.ctx),
            links,
            autonomy: self.autonomy.overview(),
            behaviour,
            integrity,
            coherence,
            work: self.work.table().view(),
            history: self.telemetry.matrix().history().clone(),
            forecasts: foreseen.forecasts,
            details,
        };
        self.pulse.publishes();
        self.ctx.outbox.push(Effect::Publish(Arc::new(snapshot)));
    }

    /// Evaluates all nodes in a single pass, since every pass reads them from memory again. Returns the details for
    /// readers, and the hot nodes.
    fn look_over(&mut self) -> (Arc<Vec<NodeDetail>>, Vec<NodeIndex>) {
        let (mut details, mut hot) = (self.details.take(), Vec::new());
        let cluster = self.cluster();
        for (index, node) in self.ctx.registry.places() {
            let Some(node) = node else {
                details.push(NodeDetail::default());
                continue;
            };
            details.push(self.detail(node));
            if node.liveness() == Liveness::Online && Autonomy::is_hot(cluster.heat(index)) {
                hot.push(index);
            }
        }
        (self.details.share(details), hot)
    }

    fn detail(&self, node: &Node) -> NodeDetail {
        let session = node.session.as_ref();
        NodeDetail {
            last_heartbeat: node.last_seen.map(|at| self.ctx.clock.wall.at(at)),
            clock_skew_millis: session.map_or(0, |session| session.clock_skew_millis),
            acknowledged_cycle: session.map_or(Cycle(0), |session| session.acknowledged.1),
            heartbeats: session.map_or(0, |session| session.heartbeats),
            coordinate: node.coordinate,
            relayed: node
                .relayed
                .map(|(via, at)| (self.ctx.registry[via].record.id(), self.ctx.clock.wall.at(at))),
        }
    }

    /// Handles a published snapshot: its seal is announced to agents.
    pub(super) fn published(&mut self, published: Published) {
        let Published {
            seal,
            subscribers,
            lagging,
        } = published;
        self.integrity.sealed(&seal);
        self.pulse.published(subscribers, lagging);
        self.ctx.outbox.push(Effect::Announce(seal));
    }

    /// Publishes the current nodes, workloads and instances, after the batch that makes them durable. While the store
    /// is behind, readers keep the previous state: a crash must not revert what they were shown.
    pub(super) fn view_now(&mut self) {
        let work = self.work.show(&mut self.ctx);
        if !self.rows.is_changed(&self.ctx) && !work {
            return;
        }
        self.flush();
        if self.ctx.outbox.is_held_back() {
            self.ctx.view_soon();
            return;
        }
        // Nodes come first, since instances are shown with the names of their nodes.
        if let Some(nodes) = self.rows.changed(&mut self.ctx) {
            self.ctx.outbox.push(Effect::Nodes(nodes));
        }
        if let Some(view) = self.work.changed_view() {
            self.ctx.outbox.push(Effect::View(view));
        }
    }
}
