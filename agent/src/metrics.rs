//! Metrics; docs/metrics.md lists them.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use wyneos_core::agent::ProbeOutcome;

use crate::host::Own;

/// The agent's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) heartbeats: Counter,
    pub(crate) sessions: Counter,
    pub(crate) relayed: Counter,
    pub(crate) member: Gauge,
    pub(crate) certificate_ends: Gauge,
    pub(crate) connections_refused: Counter,
    probes_failed: Counter,
    probe_seconds: Histogram,
    memory: Gauge,
    cpu: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// The metrics, and the registry that serves them.
    pub(crate) fn new() -> (Arc<Metrics>, Arc<Registry>) {
        let metrics = Metrics {
            heartbeats: Counter::default(),
            sessions: Counter::default(),
            relayed: Counter::default(),
            member: Gauge::default(),
            certificate_ends: Gauge::default(),
            connections_refused: Counter::default(),
            probes_failed: Counter::default(),
            // 50 µs to 1.6 s.
            probe_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            memory: Gauge::default(),
            cpu: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("wyneos_agent");
        registry.register("heartbeats", "Heartbeats sent", metrics.heartbeats.clone());
        registry.register("sessions", "Established sessions", metrics.sessions.clone());
        registry.register(
            "standings_relayed",
            "Reports of this node's standing that arrived by way of a peer",
            metrics.relayed.clone(),
        );
        registry.register(
            "member",
            "1 while the lease of this node's membership is valid, otherwise 0",
            metrics.member.clone(),
        );
        registry.register(
            "certificate_ends_seconds",
            "Expiry of the certificate, in seconds of Unix time; 0 without TLS",
            metrics.certificate_ends.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections from others closed before any message",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "probes_failed",
            "Probes without a correct answer in time",
            metrics.probes_failed.clone(),
        );
        registry.register(
            "probe_seconds",
            "Round-trip time of answered probes",
            metrics.probe_seconds.clone(),
        );
        registry.register(
            "memory_bytes",
            "Resident memory of this process",
            metrics.memory.clone(),
        );
        registry.register("cpu_seconds", "CPU time of this process", metrics.cpu.clone());
        (Arc::new(metrics), Arc::new(registry))
    }

    /// Counts a probe's result.
    pub(crate) fn probe(&self, outcome: ProbeOutcome) {
        match outcome {
            ProbeOutcome::Answered(rtt, _) => self.probe_seconds.observe(rtt.as_secs_f64()),
            ProbeOutcome::Refused | ProbeOutcome::Failed(_) => drop(self.probes_failed.inc()),
        }
    }

    /// Updates the resource use of this process.
    pub(crate) fn own(&self, own: &Own) {
        self.memory.set(own.rss_bytes as i64);
        self.cpu.set(own.cpu_seconds);
    }
}
