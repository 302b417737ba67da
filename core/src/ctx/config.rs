//! Configuration of the coordinator's logic.

use std::{sync::Arc, time::Duration};

use super::rules::Rules;
use crate::integrity::PublicKey;

/// What the coordinator's logic is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Version of the coordinator, for display and for comparing agents' versions.
    pub version: Arc<str>,
    /// The key that seals snapshots.
    pub public_key: PublicKey,
    /// Time between two cycles; at least 100 ms. Longer: less work, older snapshots.
    pub cycle: Duration,
    /// Time between two heartbeats of a node that has no interval of its own; 100 ms to 60 s. Longer: less load, later
    /// detection, since a node is suspect after 1.5 of them.
    pub heartbeat: Duration,
    /// From `suspect` to `offline`. Longer: fewer false verdicts, later ones.
    pub suspect_grace: Duration,
    /// After a start: how long nodes that do not come back are `unseen` before they are `offline`.
    pub restart_grace: Duration,
    /// Time between two probes of one target. Longer: less load, later evidence.
    pub probe_interval: Duration,
    /// Telemetry samples kept a series, one a cycle. Each costs 56 bytes a node.
    pub history: usize,
    /// Nodes known at most; a further one is refused.
    pub max_nodes: usize,
    /// Nodes that are offline, left, revoked or were never admitted are forgotten after this time; `None`: never. Longer: a node that is
    /// repaired comes back as the one that it was; shorter: lists and the room for nodes are free of it sooner.
    pub forget_after: Option<Duration>,
    /// The longest time after its request for which a node's certificate can be used, including late renewal.
    pub certificate_life: Duration,
    /// The server can be reached from other hosts, without TLS.
    pub exposed: bool,
    /// Orders the mesh's rings.
    pub seed: u64,
    /// Thresholds of verdicts; tests alone set others than the defaults.
    pub rules: Rules,
}

impl Config {
    /// The defaults.
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
