//! Metrics; docs/metrics.md lists them.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use wyneos_core::{coherence::Snapshot, node::Liveness};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OfLiveness {
    liveness: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OfInvariant {
    invariant: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Because {
    reason: &'static str,
}

/// The coordinator's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) heartbeats: Counter,
    pub(crate) sessions: Gauge,
    pub(crate) sessions_overrun: Counter,
    pub(crate) sessions_silent: Counter,
    pub(crate) messages_invalid: Counter,
    pub(crate) engine_batch: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) publish_seconds: Histogram,
    pub(crate) apply_seconds: Histogram,
    pub(crate) snapshot_bytes: Gauge,
    pub(crate) subscribers: Gauge,
    pub(crate) events: Counter,
    pub(crate) certificates: Counter,
    pub(crate) audit: crate::audit::Counters,
    pub(crate) answer_bytes: Gauge,
    pub(crate) request_bytes: Gauge,
    answers_ended: Family<Because, Counter>,
    connections_refused: Family<Because, Counter>,
    calls_refused: Family<Because, Counter>,
    nodes: Family<OfLiveness, Gauge>,
    broken: Family<OfInvariant, Gauge>,
    cycle: Gauge,
    score: Gauge<f64, std::sync::atomic::AtomicU64>,
}

fn seconds() -> Histogram {
    // 0.1 ms to 13 s.
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

impl Metrics {
    /// The metrics, and the registry that serves them.
    pub(crate) fn new() -> (Arc<Metrics>, Arc<Registry>) {
        let metrics = Metrics {
            heartbeats: Counter::default(),
            sessions: Gauge::default(),
            sessions_overrun: Counter::default(),
            sessions_silent: Counter::default(),
            messages_invalid: Counter::default(),
            engine_batch: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            commit_seconds: seconds(),
            publish_seconds: seconds(),
            apply_seconds: seconds(),
            snapshot_bytes: Gauge::default(),
            subscribers: Gauge::default(),
            events: Counter::default(),
            certificates: Counter::default(),
            audit: crate::audit::Counters::default(),
            answer_bytes: Gauge::default(),
            request_bytes: Gauge::default(),
            answers_ended: Family::default(),
            connections_refused: Family::default(),
            calls_refused: Family::default(),
            nodes: Family::default(),
            broken: Family::default(),
            cycle: Gauge::default(),
            score: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("wyneos_coordinator");
        let m = &metrics;
        registry.register("heartbeats", "Heartbeats received", m.heartbeats.clone());
        registry.register("sessions", "Open session transports", m.sessions.clone());
        registry.register(
            "sessions_overrun",
            "Sessions closed because their agent did not read",
            m.sessions_overrun.clone(),
        );
        registry.register(
            "sessions_silent",
            "Sessions ended because they sent no hello",
            m.sessions_silent.clone(),
        );
        registry.register(
            "messages_invalid",
            "Messages from agents that could not be accepted",
            m.messages_invalid.clone(),
        );
        registry.register(
            "engine_batch",
            "Inputs that the engine processed at once",
            m.engine_batch.clone(),
        );
        registry.register("commit_seconds", "Time of a durable commit", m.commit_seconds.clone());
        registry.register(
            "publish_seconds",
            "Time to encode, seal, store and publish a snapshot",
            m.publish_seconds.clone(),
        );
        registry.register(
            "apply_seconds",
            "Time from a sampled heartbeat's arrival to its application",
            m.apply_seconds.clone(),
        );
        registry.register(
            "snapshot_bytes",
            "Size of the newest snapshot",
            m.snapshot_bytes.clone(),
        );
        registry.register("subscribers", "Subscribers of WatchSnapshots", m.subscribers.clone());
        registry.register(
            "answer_bytes",
            "Bytes of unread answers, including the newest states",
            m.answer_bytes.clone(),
        );
        registry.register(
            "request_bytes",
            "Bytes of requests that were received and are held",
            m.request_bytes.clone(),
        );
        registry.register(
            "answers_ended",
            "Answers and connections ended because clients did not read",
            m.answers_ended.clone(),
        );
        registry.register("events", "Events recorded", m.events.clone());
        registry.register("certificates", "Certificates issued", m.certificates.clone());
        registry.register(
            "audit_dropped",
            "Refusals omitted from the audit because too many arrived at once",
            m.audit.dropped.clone(),
        );
        registry.register(
            "audit_failures",
            "Failed writes of the audit; changes are refused meanwhile",
            m.audit.failures.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed before any message, or for too many refused calls",
            m.connections_refused.clone(),
        );
        registry.register(
            "calls_refused",
            "Calls refused because of the caller, or at a limit",
            m.calls_refused.clone(),
        );
        registry.register("nodes", "Nodes by liveness", m.nodes.clone());
        registry.register(
            "invariant_broken",
            "Objects that break a coherence invariant",
            m.broken.clone(),
        );
        registry.register("cycle", "Number of the newest cycle", m.cycle.clone());
        registry.register("coherence_score", "Coherence score, 0 to 100", m.score.clone());
        (Arc::new(metrics), Arc::new(registry))
    }

    /// Counts a call that was refused because of its caller.
    pub(crate) fn call_refused(&self, reason: &'static str) {
        self.calls_refused.get_or_create(&Because { reason }).inc();
    }

    /// Counts answers that were ended, and connections that were closed, to bound the memory of clients that do not
    /// read.
    pub(crate) fn answers_ended(&self, answers: u64, connections: u64) {
        for (reason, count) in [("memory", answers), ("connection", connections)] {
            self.answers_ended.get_or_create(&Because { reason }).inc_by(count);
        }
    }

    /// Counts a refused connection.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.get_or_create(&Because { reason }).inc();
    }

    /// Updates metrics from a snapshot.
    pub(crate) fn observe_snapshot(&self, snapshot: &Snapshot) {
        for liveness in Liveness::ALL {
            let nodes = snapshot
                .nodes
                .iter()
                .filter(|row| row.state.liveness == liveness)
                .count();
            self.nodes
                .get_or_create(&OfLiveness {
                    liveness: liveness.name(),
                })
                .set(nodes as i64);
        }
        for invariant in &snapshot.coherence.invariants {
            self.broken
                .get_or_create(&OfInvariant {
                    invariant: invariant.id,
                })
                .set(i64::from(invariant.broken));
        }
        self.cycle.set(snapshot.cycle.0 as i64);
        self.score.set(f64::from(snapshot.coherence.score));
    }
}
