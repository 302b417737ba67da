//! The coherence stage: what must hold across the systems.

use std::time::Duration;

use super::Coordinator;
use crate::{
    coherence::{Check, Report, Severity},
    node::{Liveness, Node, NodeIndex},
    telemetry::{Channel, load},
};

/// Largest difference between an agent's wall clock and ours.
const SKEW: Duration = Duration::from_secs(1);

/// How far a stated load may be from the formula's.
const LOAD_TOLERANCE: f32 = 0.02;

/// Silence beyond 1.5 intervals that the timers' own pace explains.
const SLACK: Duration = Duration::from_millis(250);

impl Coordinator {
    pub(super) fn coherence_stage(&mut self) -> Report {
        let report = Report::new([
            self.check_mesh_agrees(),
            self.check_heartbeats(),
            self.check_telemetry(),
            self.check_load(),
            self.check_skew(),
            self.check_incarnations(),
            self.check_sessions(),
            self.check_directives(),
            self.check_subscribers(),
            self.check_store(),
            self.check_pace(),
            self.check_versions(),
            self.check_acknowledged(),
            self.check_observed(),
            self.check_settled(),
        ]);
        self.stale_hellos = 0;
        report
    }

    fn online(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Online)
    }

    /// A check on every online node.
    fn on_online(&self, mut check: Check, broken: impl Fn(NodeIndex, &Node) -> Option<String>) -> Check {
        for (index, node) in self.online() {
            let finding = broken(index, node);
            check.node(node.record.id(), finding.map(|finding| move || finding));
        }
        check
    }

    fn check_mesh_agrees(&self) -> Check {
        let meaning = "registry and mesh agree: no node is online that all its observers have lost";
        self.on_online(
            Check::new("registry-mesh-agree", Severity::Warning, meaning),
            |index, node| {
                let (live, down) = self.mesh.seen_by_peers(index);
                let lost = live == 0 && down >= 1;
                lost.then(|| {
                    format!(
                        "{} sends heartbeats, but none of its {down} observers reaches it",
                        node.name()
                    )
                })
            },
        )
    }

    fn check_heartbeats(&self) -> Check {
        let meaning = "every online node was heard within 1.5 heartbeat intervals";
        self.on_online(
            Check::new("heartbeats-fresh", Severity::Critical, meaning),
            |index, node| {
                let silent = self.now.since(self.heard_at(index));
                (silent > self.silence_limit(index) + SLACK)
                    .then(|| format!("{} is silent for {silent:?}", node.name()))
            },
        )
    }

    fn check_telemetry(&self) -> Check {
        let meaning = "every online node that sent a heartbeat has a value for some channel that it announced";
        self.on_online(
            Check::new("telemetry-fresh", Severity::Warning, meaning),
            |index, node| {
                let session = node.session.as_ref()?;
                let announced = session.heartbeats > 0 && session.channels.iter().any(Option::is_some);
                let silent = announced && self.matrix.reading(index).iter().all(Option::is_none);
                silent.then(|| format!("{} sends heartbeats without telemetry", node.name()))
            },
        )
    }

    fn check_load(&self) -> Check {
        let meaning = "every node's stated load is what the formula makes of its telemetry";
        self.on_online(Check::new("load-agrees", Severity::Notice, meaning), |index, node| {
            let session = node.session.as_ref().filter(|session| session.heartbeats > 0)?;
            let all = session.channels.iter().flatten().count() == Channel::COUNT;
            let from_telemetry = load(&self.matrix.reading(index));
            let off = all && (from_telemetry - session.load).abs() > LOAD_TOLERANCE;
            off.then(|| {
                format!(
                    "{} states {:.2}, its telemetry makes {from_telemetry:.2}",
                    node.name(),
                    session.load
                )
            })
        })
    }

    fn check_skew(&self) -> Check {
        let meaning = "every agent's wall clock is within 1 s of the coordinator's";
        self.on_online(
            Check::new("clock-skew-bounded", Severity::Notice, meaning),
            |_, node| {
                let skew = node
                    .session
                    .as_ref()
                    .filter(|session| session.heartbeats > 0)?
                    .clock_skew_millis;
                (u128::from(skew.unsigned_abs()) > SKEW.as_millis())
                    .then(|| format!("{} is off by {skew} ms", node.name()))
            },
        )
    }

    fn check_incarnations(&self) -> Check {
        let meaning = "incarnations only grow: no agent came with one older than known since the cycle before";
        let mut check = Check::new("incarnations-grow", Severity::Warning, meaning);
        let stale = self.stale_hellos;
        check.many(
            self.registry.len() as u32,
            stale,
            Some(|| format!("{stale} sessions were refused as stale")),
        );
        check
    }

    fn check_sessions(&self) -> Check {
        let meaning = "every session belongs to one node and every node has one session at most";
        let mut check = Check::new("sessions-unique", Severity::Critical, meaning);
        let (conns, mut sessions) = (self.registry.conns(), 0);
        for (index, node) in self.registry.iter() {
            if let Some(session) = &node.session {
                sessions += 1;
                let astray = self.registry.of_conn(session.conn) != Some(index);
                check.node(
                    node.record.id(),
                    astray.then_some(|| format!("{}'s session is not its own", node.name())),
                );
            }
        }
        let surplus = conns.abs_diff(sessions) as u32;
        check.many(
            surplus,
            surplus,
            Some(|| format!("{conns} transports, {sessions} sessions")),
        );
        check
    }

    fn check_directives(&self) -> Check {
        let meaning = "every directive is under way or ended";
        let mut check = Check::new("directives-accounted", Severity::Critical, meaning);
        let (issued, lost) = (self.behaviour.counts().issued, self.behaviour.unaccounted());
        check.many(
            issued as u32,
            lost as u32,
            Some(|| format!("{lost} of {issued} directives are unaccounted for")),
        );
        check
    }

    fn check_subscribers(&self) -> Check {
        let meaning = "every subscriber has the snapshot before this one";
        let mut check = Check::new("subscribers-current", Severity::Notice, meaning);
        let (all, lagging) = (self.pace.subscribers, self.pace.lagging);
        check.many(
            all,
            lagging,
            Some(|| format!("{lagging} of {all} subscribers are behind")),
        );
        check
    }

    fn check_store(&self) -> Check {
        let meaning = "the store is in step with memory: no change waits for more than a few others";
        let mut check = Check::new("store-in-step", Severity::Warning, meaning);
        let awaited = self.staging.awaited();
        let behind = u32::from(self.staging.is_behind());
        check.many(1, behind, Some(|| format!("{awaited} changes wait for the store")));
        check
    }

    fn check_pace(&self) -> Check {
        let meaning = "the cycle began within a tenth of its interval, and none was skipped before it";
        let mut check = Check::new("cycle-on-time", Severity::Warning, meaning);
        let (late, skipped) = (self.pace.lateness, self.pace.skipped);
        let broken = u32::from(late > self.config.cycle / 10 || skipped > 0);
        check.many(1, broken, Some(|| format!("{late:?} late, {skipped} skipped")));
        check
    }

    fn check_versions(&self) -> Check {
        let meaning = "every online agent's version has the coordinator's major and minor number";
        let own = series(&self.config.version);
        self.on_online(Check::new("agent-versions", Severity::Notice, meaning), |_, node| {
            let version = &node.record.facts.agent_version;
            (series(version) != own).then(|| format!("{} runs {version}", node.name()))
        })
    }

    fn check_acknowledged(&self) -> Check {
        let meaning = "every online agent has acknowledged one of the last three snapshots";
        let patience = self.config.cycle * 3;
        self.on_online(
            Check::new("snapshots-acknowledged", Severity::Notice, meaning),
            |index, node| {
                let session = node.session.as_ref()?;
                // Only agents that were there for long enough and report often enough can have.
                let settled = self.now.since(node.since) > patience + self.silence_limit(index);
                let behind = settled && session.acknowledged.1 + 3 < self.cycle;
                behind.then(|| format!("{} acknowledged cycle {} last", node.name(), session.acknowledged.1))
            },
        )
    }

    fn check_observed(&mut self) -> Check {
        let meaning = "every link that the mesh plans is reported on";
        let mut check = Check::new("mesh-observed", Severity::Notice, meaning);
        let topology = self.mesh.topology();
        let (planned, unobserved) = (topology.planned, topology.unobserved);
        check.many(
            planned,
            unobserved,
            Some(|| format!("{unobserved} of {planned} links are not reported on")),
        );
        check
    }

    fn check_settled(&self) -> Check {
        let meaning = "every node's liveness is settled: none is suspect or not seen since the start";
        let mut check = Check::new("liveness-settled", Severity::Notice, meaning);
        for (_, node) in self.registry.iter() {
            let open = matches!(node.liveness, Liveness::Suspect | Liveness::Unseen);
            check.node(
                node.record.id(),
                open.then_some(|| format!("{} is {}", node.name(), node.liveness.name())),
            );
        }
        check
    }
}

/// `major.minor` of a version.
fn series(version: &str) -> Option<(&str, &str)> {
    let mut parts = version.split('.');
    Some((parts.next()?, parts.next()?))
}
