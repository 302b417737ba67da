//! The cycle: one pass through the systems, each stage reading what came before it and writing its own part.

use std::{collections::BTreeMap, sync::Arc};

use super::{Coordinator, Effect, Pace, Published, Timer};
use crate::{
    coherence::{BehaviourOverview, IntegrityOverview, NodeDetail, PendingRow, Snapshot, TelemetryOverview},
    integrity::Digest,
    node::{Liveness, Node, NodeIndex},
    telemetry::{self, Sample},
};

/// Directives under way that a snapshot lists at most.
const PENDING_LISTED: usize = 64;

/// Digests that a snapshot lists at most.
const DIGESTS_LISTED: usize = 16;

impl Coordinator {
    /// The pulse: starts a cycle, unless the snapshot before is still on its way.
    pub(super) fn pulse(&mut self) {
        self.pace.lateness = self.ctx.clock.now.since(self.next_pulse);
        // On the grid, so that lateness does not add up; what was missed is not made up for.
        while self.next_pulse <= self.ctx.clock.now {
            self.next_pulse = self.next_pulse + self.ctx.config.cycle;
        }
        self.ctx.timers.set(self.next_pulse, Timer::Pulse);
        // Behind a batch that the store does not take yet a snapshot would show what a crash takes back.
        if self.pace.publishing || self.ctx.stopping || self.ctx.outbox.is_behind() {
            self.pace.skipped += 1;
            return;
        }
        self.run_cycle();
    }

    fn run_cycle(&mut self) {
        self.ctx.record_repeated(false);
        self.ctx.clock.cycle += 1;
        self.forget_stage();
        let (sample, telemetry) = self.telemetry_stage();
        let (forecasts, predictive) = self.predictive.cycle(&sample, self.ctx.config.cycle);
        let (mesh, links) = (self.guardian.topology(), self.guardian.links());
        self.autonomy.foresee(&mut self.ctx, &sample, &forecasts);
        self.rebalance_stage();
        let behaviour = self.behaviour_stage();
        let integrity = self.integrity_stage();
        let nodes = self.node_stage();
        let coherence = self.coherence_stage();
        self.view_now();
        // What the cycle decided is durable before the snapshot that shows it.
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
            predictive,
            mesh,
            findings: self.guardian.open_findings(&self.ctx),
            links,
            autonomy: self.autonomy.overview(),
            behaviour,
            integrity,
            coherence,
            work: self.work.table().view(),
            history: self.matrix.history().clone(),
            forecasts,
            details: self
                .ctx
                .registry
                .places()
                .map(|(index, node)| node.map_or_else(NodeDetail::default, |node| self.detail(index, node)))
                .collect(),
        };
        self.pace = Pace {
            publishing: true,
            subscribers: self.pace.subscribers,
            lagging: 0,
            ..Pace::default()
        };
        self.ctx.outbox.push(Effect::Publish(Arc::new(snapshot)));
    }

    fn telemetry_stage(&mut self) -> (Arc<Sample>, TelemetryOverview) {
        let sample = self.matrix.sample(self.ctx.clock.cycle, self.ctx.wall_now());
        let channels = telemetry::statistics(&sample, &mut self.scratch);
        let overview = TelemetryOverview {
            channels,
            history: self.matrix.keep() as u32,
            values_received: self.matrix.received(),
        };
        (sample, overview)
    }

    fn behaviour_stage(&self) -> BehaviourOverview {
        let named = |directive: &crate::behaviour::Pending| PendingRow {
            directive: *directive,
            node: self.ctx.registry[directive.node].record.id(),
        };
        let pending = self.behaviour.pending().take(PENDING_LISTED).map(named).collect();
        BehaviourOverview {
            counts: self.behaviour.counts(),
            pending,
        }
    }

    fn integrity_stage(&self) -> IntegrityOverview {
        let online = || {
            self.ctx
                .registry
                .iter()
                .filter(|(_, node)| node.liveness == Liveness::Online)
        };
        IntegrityOverview {
            public_key: self.ctx.config.public_key,
            previous: self.last_seal,
            binaries: frequencies(online().map(|(_, node)| node.record.facts.binary_digest)),
            configs: frequencies(online().map(|(_, node)| node.record.facts.config_digest)),
        }
    }

    fn detail(&self, index: NodeIndex, node: &Node) -> NodeDetail {
        let session = node.session.as_ref();
        NodeDetail {
            last_heartbeat: node.last_seen.map(|at| self.ctx.clock.wall.at(at)),
            heartbeat_interval: self.ctx.heartbeat_interval(index),
            clock_skew_millis: session.map_or(0, |session| session.clock_skew_millis),
            acknowledged_cycle: session.map_or(0, |session| session.acknowledged.1),
            heartbeats: session.map_or(0, |session| session.heartbeats),
            coordinate: node.coordinate,
            relayed: node
                .relayed
                .map(|(via, at)| (self.ctx.registry[via].record.id(), self.ctx.clock.wall.at(at))),
        }
    }

    /// The snapshot was published: agents hear of its seal.
    pub(super) fn published(&mut self, published: Published) {
        let Published {
            seal,
            subscribers,
            lagging,
        } = published;
        self.last_seal = (seal.epoch, seal.cycle, seal.chain);
        (self.pace.publishing, self.pace.subscribers, self.pace.lagging) = (false, subscribers, lagging);
        self.ctx.outbox.push(Effect::Announce(seal));
    }
}

fn frequencies(digests: impl Iterator<Item = Digest>) -> Vec<(Digest, u32)> {
    let mut counts: BTreeMap<Digest, u32> = BTreeMap::new();
    // Most nodes have what the node before has: those are counted without a look-up.
    let mut run: Option<(Digest, u32)> = None;
    for digest in digests {
        match &mut run {
            Some((same, count)) if *same == digest => *count += 1,
            _ => {
                if let Some((digest, count)) = run.replace((digest, 1)) {
                    *counts.entry(digest).or_default() += count;
                }
            }
        }
    }
    if let Some((digest, count)) = run {
        *counts.entry(digest).or_default() += count;
    }
    let mut counts: Vec<(Digest, u32)> = counts.into_iter().collect();
    counts.sort_by_key(|&(digest, count)| (std::cmp::Reverse(count), digest));
    counts.truncate(DIGESTS_LISTED);
    counts
}
