//! Configuration of the coordinator.

use std::{sync::Arc, time::Duration};

use super::rules::Rules;
use crate::integrity::PublicKey;

/// Configuration of the coordinator, fixed at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Version of the coordinator, for display and for comparison with agents' versions.
    pub version: Arc<str>,
    /// Public key of the key that seals snapshots.
    pub public_key: PublicKey,
    /// Interval between cycles; at least 100 ms. A longer interval costs less work and yields older snapshots.
    pub cycle: Duration,
    /// Default interval between heartbeats of a node; 100 ms to 60 s. A longer interval costs less load and delays
    /// detection: a node is suspect after 1.5 intervals.
    pub heartbeat: Duration,
    /// Time from `suspect` to `offline`. A longer time causes fewer false verdicts and later ones.
    pub suspect_grace: Duration,
    /// Time after a start for which nodes that have not returned are `unseen` before they are `offline`.
    pub restart_grace: Duration,
    /// Interval between probes of one target. A longer interval costs less load and yields later evidence.
    pub probe_interval: Duration,
    /// Number of telemetry samples retained per series, one per cycle. Each sample costs 56 bytes per node.
    pub history: usize,
    /// Maximum number of known nodes; a further node is refused.
    pub max_nodes: usize,
    /// Time after which nodes that are offline, left, revoked or never admitted are forgotten; `None` disables it. With
    /// a longer time a repaired node returns under its identity; with a shorter time node lists and node capacity are
    /// freed sooner.
    pub forget_after: Option<Duration>,
    /// Maximum time after its request for which a node's certificate is valid, including late renewal.
    pub certificate_life: Duration,
    /// Whether the server is reachable from other hosts without TLS.
    pub exposed: bool,
    /// Seed of the order of the mesh's rings.
    pub seed: u64,
    /// Thresholds of liveness verdicts; only tests override the defaults.
    pub rules: Rules,
}

impl Config {
    /// Creates a configuration with default values.
    pub fn new(version: &str, public_key: PublicKey) -> Config {
        Config {
            version: version.into(),
            public_key,
            cycle: Duration::from_secs(6),
            heartbeat: Duration::from_secs(2),
            suspect_grace: Duration::from_secs(10),
            restart_grace: Duration::from_secs(60),
            probe_interval: Duration::from_secs(1),
            history: 120,
            max_nodes: 100_000,
            forget_after: None,
            certificate_life: Duration::from_secs(31 * 24 * 3600),
            exposed: false,
            seed: 0,
            rules: Rules::default(),
        }
    }
}
