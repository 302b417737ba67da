//! Configuration of the coordinator.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use wyneos_shell::{
    config::{BadConfig, LogFormat, Span, number, span},
    log,
};

wyneos_shell::config! {
    /// Address to serve agents, operators and SDKs on. Without TLS it must be a loopback address, unless `insecure` is set.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7400)), "listen", "WYNEOS_COORDINATOR_LISTEN";
    /// Address to serve Prometheus metrics on, at /metrics. Without TLS it must be a loopback address, unless `insecure` is set.
    metrics_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7401)), "metrics-listen", "WYNEOS_COORDINATOR_METRICS_LISTEN";
    /// Directory of the store and of the signing key; made if it is not there.
    data_dir: PathBuf = PathBuf::from("/var/lib/wyneos-coordinator"), "data-dir", "WYNEOS_COORDINATOR_DATA_DIR";
    /// Time between two cycles, 100ms to 1h. Longer: less work, older snapshots.
    cycle: Span = Span(Duration::from_secs(6)), "cycle", "WYNEOS_COORDINATOR_CYCLE";
    /// Time between two heartbeats, 100ms to 60s. Longer: less load, later detection.
    heartbeat: Span = Span(Duration::from_secs(2)), "heartbeat", "WYNEOS_COORDINATOR_HEARTBEAT";
    /// From suspect to offline, 100ms to 1h. Longer: fewer false verdicts, later ones.
    suspect_grace: Span = Span(Duration::from_secs(10)), "suspect-grace", "WYNEOS_COORDINATOR_SUSPECT_GRACE";
    /// After a start: how long nodes that do not come back are waited for, 1s to 1d.
    restart_grace: Span = Span(Duration::from_secs(60)), "restart-grace", "WYNEOS_COORDINATOR_RESTART_GRACE";
    /// Time between two probes of one target, 100ms to 60s. Longer: less load, later evidence.
    probe_interval: Span = Span(Duration::from_secs(1)), "probe-interval", "WYNEOS_COORDINATOR_PROBE_INTERVAL";
    /// Telemetry samples kept a series, one a cycle; 10 to 10000. Each costs 56 bytes a node.
    telemetry_history: usize = 120, "telemetry-history", "WYNEOS_COORDINATOR_TELEMETRY_HISTORY";
    /// Nodes known at most; 1 to 1000000.
    max_nodes: usize = 100_000, "max-nodes", "WYNEOS_COORDINATOR_MAX_NODES";
    /// Sealed snapshots are kept for this long, 1s or more.
    history_max_age: Span = Span(Duration::from_secs(24 * 3600)), "history-max-age", "WYNEOS_COORDINATOR_HISTORY_MAX_AGE";
    /// Sealed snapshots kept at most; 2 or more. Each takes about 400 bytes a node on disk.
    history_max_count: u64 = 2_000, "history-max-count", "WYNEOS_COORDINATOR_HISTORY_MAX_COUNT";
    /// Events kept at most; 1000 or more. Each takes about 600 bytes on disk.
    events_max_count: u64 = 100_000, "events-max-count", "WYNEOS_COORDINATOR_EVENTS_MAX_COUNT";
    /// Subscribers of WatchSnapshots and WatchEvents at most, together; 1 to 100000.
    max_subscribers: usize = 10_000, "max-subscribers", "WYNEOS_COORDINATOR_MAX_SUBSCRIBERS";
    /// Allow addresses beyond loopback without TLS: whoever reaches them can read everything, and command everything.
    insecure: bool = false, "insecure", "WYNEOS_COORDINATOR_INSECURE", num_args = 0..=1, default_missing_value = "true";
    /// What is logged: error, warn, info, debug or trace, or a filter such as "info,wyneos_coordinator=debug".
    log: String = "info".to_owned(), "log", "WYNEOS_COORDINATOR_LOG";
    /// How log lines look.
    log_format: LogFormat = LogFormat::Text, "log-format", "WYNEOS_COORDINATOR_LOG_FORMAT";
}

impl Config {
    /// True when others than this host's processes can reach it, and no TLS protects that.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.listen.ip().is_loopback()
    }

    fn check_fields(&self) -> Result<(), BadConfig> {
        let second = Duration::from_secs(1);
        let (tenth, minute, hour) = (second / 10, second * 60, second * 3600);
        span("cycle", self.cycle, tenth, hour)?;
        span("heartbeat", self.heartbeat, tenth, minute)?;
        span("suspect_grace", self.suspect_grace, tenth, hour)?;
        span("restart_grace", self.restart_grace, second, hour * 24)?;
        span("probe_interval", self.probe_interval, tenth, minute)?;
        span("history_max_age", self.history_max_age, second, hour * 24 * 3650)?;
        number("telemetry_history", self.telemetry_history as u64, 10, 10_000)?;
        number("max_nodes", self.max_nodes as u64, 1, 1_000_000)?;
        number("history_max_count", self.history_max_count, 2, u64::MAX)?;
        number("events_max_count", self.events_max_count, 1_000, u64::MAX)?;
        number("max_subscribers", self.max_subscribers as u64, 1, 100_000)?;
        for (field, address) in [("listen", self.listen), ("metrics_listen", self.metrics_listen)] {
            if !self.insecure && !address.ip().is_loopback() {
                let reason =
                    format!("{address} is not a loopback address, and this server has no TLS; --insecure allows it");
                return Err(BadConfig::field(field, reason));
            }
        }
        log::check(&self.log)
    }
}
