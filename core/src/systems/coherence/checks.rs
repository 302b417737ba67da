//! The coherence stage: checks of invariants across systems.

use std::time::Duration;

use super::Seen;
use crate::{
    coherence::{Check, Report, Severity},
    node::{Liveness, Node, NodeIndex, Session},
    telemetry::{Channel, Reading, load},
    text::Span,
    workload::Kind,
};

/// Maximum tolerated difference between the wall clocks of an agent and the coordinator.
const SKEW: Duration = Duration::from_secs(1);

/// Maximum tolerated difference between a stated load and the one computed from telemetry.
const LOAD_TOLERANCE: f32 = 0.02;

/// Tolerance for timer granularity, beyond 1.5 heartbeat intervals of silence.
const SLACK: Duration = Duration::from_millis(250);

/// Number of newest cycles whose seals an agent may not have acknowledged yet.
const UNACKNOWLEDGED: u64 = 3;

/// An invariant of every online node. Conditions on the node's row are evaluated before those on data that the row
/// points to.
struct Rule {
    id: &'static str,
    severity: Severity,
    meaning: &'static str,
    /// Returns whether the node violates the invariant.
    broken: fn(&Seen<'_>, &Looked<'_>) -> bool,
    /// Describes the violation; called for the first violating node.
    detail: fn(&Seen<'_>, &Looked<'_>) -> String,
}

/// An online node under evaluation, and the data that all rules use.
struct Looked<'a> {
    index: NodeIndex,
    node: &'a Node,
    session: &'a Session,
    reading: Reading,
    /// Whether the major or minor version of any agent differs from the coordinator's.
    versions_differ: bool,
}

/// Invariants of every online node, evaluated in a single pass over the nodes.
const RULES: [Rule; 7] = [
    Rule {
        id: "registry-mesh-agree",
        severity: Severity::Warning,
        meaning: "registry and mesh agree: no node is online that all its observers have lost",
        broken: |seen, looked| matches!(seen.guardian.seen_by_peers(looked.index), (0, 1..)),
        detail: |seen, looked| {
            let (_, down) = seen.guardian.seen_by_peers(looked.index);
            format!(
                "{} sends heartbeats, but none of its {down} observers reaches it",
                looked.node.name()
            )
        },
    },
    Rule {
        id: "heartbeats-fresh",
        severity: Severity::Critical,
        meaning: "every online node was heard within 1.5 heartbeat intervals, or is heard by its peers",
        broken: |seen, looked| {
            seen.ctx.clock.now.since(seen.ctx.heard_at(looked.index)) > seen.ctx.silence_limit(looked.index) + SLACK
                && !seen.guardian.is_vouched_for(seen.ctx, looked.index)
        },
        detail: |seen, looked| {
            format!(
                "{} has been silent for {}",
                looked.node.name(),
                Span(seen.ctx.clock.now.since(seen.ctx.heard_at(looked.index)))
            )
        },
    },
    Rule {
        id: "telemetry-fresh",
        severity: Severity::Warning,
        meaning: "every online node that sent a heartbeat has a value for some channel that it announced",
        broken: |_, looked| {
            let announced = || looked.session.channels.iter().any(Option::is_some);
            looked.session.heartbeats > 0 && looked.reading.iter().all(Option::is_none) && announced()
        },
        detail: |_, looked| format!("{} sends heartbeats without telemetry", looked.node.name()),
    },
    Rule {
        id: "load-agrees",
        severity: Severity::Notice,
        meaning: "every node's stated load is what the formula makes of its telemetry",
        broken: |_, looked| {
            let all = || looked.session.channels.iter().flatten().count() == Channel::COUNT;
            let differs = (load(&looked.reading) - looked.session.load).abs() > LOAD_TOLERANCE;
            looked.session.heartbeats > 0 && differs && all()
        },
        detail: |_, looked| {
            let from_telemetry = load(&looked.reading);
            format!(
                "{} states {:.2}, its telemetry makes {from_telemetry:.2}",
                looked.node.name(),
                looked.session.load
            )
        },
    },
    Rule {
        id: "clock-skew-bounded",
        severity: Severity::Notice,
        meaning: "every agent's wall clock is within 1 s of the coordinator's",
        broken: |_, looked| {
            let skew = u128::from(looked.session.clock_skew_millis.unsigned_abs());
            looked.session.heartbeats > 0 && skew > SKEW.as_millis()
        },
        detail: |_, looked| {
            format!(
                "{} is off by {} ms",
                looked.node.name(),
                looked.session.clock_skew_millis
            )
        },
    },
    Rule {
        id: "agent-versions",
        severity: Severity::Notice,
        meaning: "every online agent's version has the coordinator's major and minor number",
        broken: |seen, looked| {
            let differs = |own: &str, version: &str| version != own && series(version) != series(own);
            looked.versions_differ && differs(&seen.ctx.config.version, &looked.node.record.facts.agent_version)
        },
        detail: |_, looked| format!("{} runs {}", looked.node.name(), looked.node.record.facts.agent_version),
    },
    Rule {
        id: "snapshots-acknowledged",
        severity: Severity::Notice,
        meaning: "every online agent has acknowledged a snapshot of the last three cycles and two heartbeats",
        broken: |seen, looked| {
            // A seal arrives with one heartbeat and is acknowledged with the next: the rule holds only for agents that
            // were online for that long. The first condition is a cheap check: fewer cycles have passed than an agent
            // may lag behind.
            if looked.session.acknowledged.1.after(UNACKNOWLEDGED) >= seen.ctx.clock.cycle {
                return false;
            }
            let patience = seen.ctx.config.cycle * UNACKNOWLEDGED as u32 + seen.ctx.silence_limit(looked.index) * 2;
            let cycles = patience.as_nanos().div_ceil(seen.ctx.config.cycle.as_nanos().max(1)) as u64;
            looked.session.acknowledged.1.after(cycles) < seen.ctx.clock.cycle
                && seen.ctx.clock.now.since(looked.node.since()) > patience
        },
        detail: |_, looked| {
            format!(
                "{} acknowledged cycle {} last",
                looked.node.name(),
                looked.session.acknowledged.1
            )
        },
    },
];

impl Seen<'_> {
    /// Checks all invariants across systems.
    pub(super) fn checked(&self) -> Report {
        let (on_nodes, sessions, settled) = self.check_nodes();
        let others = [
            self.check_incarnations(),
            sessions,
            self.check_directives(),
            self.check_subscribers(),
            self.check_store(),
            self.check_work(),
            self.check_pace(),
            self.check_transport(),
            self.check_observed(),
            settled,
        ];
        Report::new(on_nodes.into_iter().chain(others))
    }

    /// Checks all per-node invariants in a single pass over the nodes.
    fn check_nodes(&self) -> ([Check; RULES.len()], Check, Check) {
        let mut on_nodes = RULES.map(|rule| Check::new(rule.id, rule.severity, rule.meaning));
        let meaning = "every session belongs to one node and every node has one session at most";
        let mut sessions = Check::new("sessions-unique", Severity::Critical, meaning);
        let meaning = "every node's liveness is settled: none is suspect or not seen since the start";
        let mut settled = Check::new("liveness-settled", Severity::Notice, meaning);
        let registry = &self.ctx.registry;
        let census = registry.settled();
        let is_open = |index: &NodeIndex| matches!(registry[*index].liveness(), Liveness::Suspect | Liveness::Unseen);
        let open: Vec<NodeIndex> = census.notable().into_iter().filter(is_open).collect();
        settled.many((registry.len() - open.len()) as u32, 0, None::<fn() -> String>);
        for index in open {
            let node = &registry[index];
            let detail = || format!("{} is {}", node.name(), node.liveness().name());
            settled.node(node.record.id(), Some(detail));
        }
        let astray: Vec<NodeIndex> = census.astray().collect();
        let with_session = census.sessions();
        sessions.many((with_session - astray.len()) as u32, 0, None::<fn() -> String>);
        for index in astray {
            let node = &registry[index];
            let detail = || format!("{}'s session is not its own", node.name());
            sessions.node(node.record.id(), Some(detail));
        }
        let own = &*self.ctx.config.version;
        let versions_differ = census.versions().any(|version| series(version) != series(own));
        let (mut online, mut broken) = (0, [0; RULES.len()]);
        for (index, node) in registry.iter() {
            let (Some(session), Liveness::Online) = (&node.session, node.liveness()) else {
                continue;
            };
            let looked = Looked {
                index,
                node,
                session,
                reading: self.matrix.reading(index),
                versions_differ,
            };
            online += 1;
            for (at, rule) in RULES.iter().enumerate() {
                if (rule.broken)(self, &looked) {
                    on_nodes[at].node(node.record.id(), Some(|| (rule.detail)(self, &looked)));
                    broken[at] += 1;
                }
            }
        }
        for (check, broken) in on_nodes.iter_mut().zip(broken) {
            check.many(online - broken, 0, None::<fn() -> String>);
        }
        let conns = registry.conns();
        let surplus = conns.abs_diff(with_session) as u32;
        sessions.many(
            surplus,
            surplus,
            Some(|| format!("{conns} transports, {with_session} sessions")),
        );
        (on_nodes, sessions, settled)
    }

    fn check_incarnations(&self) -> Check {
        let meaning = "incarnations only grow: no agent came with one older than known since the cycle before";
        let mut check = Check::new("incarnations-grow", Severity::Warning, meaning);
        let stale = self.stale_hellos;
        let checked = (self.ctx.registry.len() as u32).max(stale);
        check.many(
            checked,
            stale,
            Some(|| format!("{stale} sessions were refused as stale")),
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
        let awaited = self.ctx.outbox.awaited();
        let behind = u32::from(self.ctx.outbox.is_behind());
        check.many(1, behind, Some(|| format!("{awaited} changes wait for the store")));
        check
    }

    fn check_work(&self) -> Check {
        let meaning = "what is declared runs and is healthy, or starts for the first time";
        let mut check = Check::new("work-runs", Severity::Warning, meaning);
        for row in &self.work.view().workloads {
            let batch = row
                .record
                .spec()
                .is_some_and(|spec| matches!(spec.kind, Kind::Batch { .. }));
            let broken = row.unwell.min(row.desired);
            let detail = || match batch {
                true => format!("{broken} of {} of {} failed", row.desired, row.name()),
                false => format!("{broken} of {} of {} are not well", row.desired, row.name()),
            };
            check.many(row.desired, broken, Some(detail));
        }
        check
    }

    fn check_pace(&self) -> Check {
        let meaning = "the cycle began within a tenth of its interval, and none was skipped before it";
        let mut check = Check::new("cycle-on-time", Severity::Warning, meaning);
        let (late, skipped) = (self.pace.lateness, self.pace.skipped);
        let broken = u32::from(late > self.ctx.config.cycle / 10 || skipped > 0);
        check.many(1, broken, Some(|| format!("{} late, {skipped} skipped", Span(late))));
        check
    }

    fn check_transport(&self) -> Check {
        let meaning = "what crosses a network is protected by TLS";
        let mut check = Check::new("transport-protected", Severity::Warning, meaning);
        let reason = "the coordinator listens beyond loopback without TLS (--insecure)";
        check.many(1, u32::from(self.ctx.config.exposed), Some(|| reason.to_owned()));
        check
    }

    fn check_observed(&self) -> Check {
        let meaning = "every link that the mesh plans is reported on";
        let mut check = Check::new("mesh-observed", Severity::Notice, meaning);
        let (planned, unobserved) = (self.topology.planned, self.topology.unobserved);
        check.many(
            planned,
            unobserved,
            Some(|| format!("{unobserved} of {planned} links are not reported on")),
        );
        check
    }
}

/// Returns the `major.minor` part of a version.
fn series(version: &str) -> Option<(&str, &str)> {
    let mut parts = version.split('.');
    Some((parts.next()?, parts.next()?))
}
