//! Configuration of the coordinator.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use wyneos_shell::{
    config::{BadConfig, Listen, LogFormat, Span, number, span},
    log,
};

/// Names and addresses, separated by commas on the command line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl FromStr for Names {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Names, Self::Err> {
        let names = text.split(',').map(|name| name.trim().to_owned());
        Ok(Names(names.filter(|name| !name.is_empty()).collect()))
    }
}

const THREE_MONTHS: Duration = Duration::from_secs(91 * 86_400);

wyneos_shell::config! {
    /// TLS: agents and operators are identified by certificates of the cluster's own CA. Without it no caller is authenticated, and everyone who reaches the server has all permissions.
    tls: bool = true, "tls", "WYNEOS_COORDINATOR_TLS", num_args = 0..=1, default_missing_value = "true";
    /// Names and addresses in the coordinator's certificate, comma-separated, in addition to localhost, this host's name and `listen`; for clients that verify host names, such as grpcurl.
    names: Names = Names::default(), "names", "WYNEOS_COORDINATOR_NAMES";
    /// Certificate (PEM) of an operator's own CA, which may only sign for this cluster; empty: the cluster's own CA, created at the first start.
    ca_cert: PathBuf = PathBuf::new(), "ca-cert", "WYNEOS_COORDINATOR_CA_CERT";
    /// Private key (PEM) of that CA; only its owner may read the file.
    ca_key: PathBuf = PathBuf::new(), "ca-key", "WYNEOS_COORDINATOR_CA_KEY";
    /// Lifetime of certificates of agents and of the coordinator, 10s to 366d; they are renewed at two thirds. Longer: less work, but a stolen key remains valid for longer.
    certificate_ttl: Span = Span(Duration::from_secs(24 * 3600)), "certificate-ttl", "WYNEOS_COORDINATOR_CERTIFICATE_TTL";
    /// Time after its expiry in which a node's certificate is still renewed automatically, up to 3650d; 0s: never, the node must join again. Longer: machines may be off for longer.
    late_renewal: Span = Span(THREE_MONTHS), "late-renewal", "WYNEOS_COORDINATOR_LATE_RENEWAL";
    /// Time limit for a TLS handshake, 100ms to 60s. Longer: slower hosts succeed, but half-open connections are held for longer.
    handshake_timeout: Span = Span(Duration::from_secs(10)), "handshake-timeout", "WYNEOS_COORDINATOR_HANDSHAKE_TIMEOUT";
    /// Maximum number of connections, handshakes included; 1 to 1000000.
    max_connections: usize = 20_000, "max-connections", "WYNEOS_COORDINATOR_MAX_CONNECTIONS";
    /// Maximum number of connections from one source address (for IPv6 a network of 64 bits); 1 to 1000000. Agents behind one address translation share it.
    max_connections_per_source: usize = 2_048, "max-connections-per-source", "WYNEOS_COORDINATOR_MAX_CONNECTIONS_PER_SOURCE";
    /// Maximum number of attempts to join from one source address per minute; 1 to 1000000.
    enrolments_per_minute: u32 = 120, "enrolments-per-minute", "WYNEOS_COORDINATOR_ENROLMENTS_PER_MINUTE";
    /// Maximum number of audit entries retained; 1000 or more. Each takes about 400 bytes on disk.
    audit_max_count: u64 = 100_000, "audit-max-count", "WYNEOS_COORDINATOR_AUDIT_MAX_COUNT";
    /// Address on which agents, operators and SDKs are served. Without TLS it must be a loopback address, unless `insecure` is set.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7400)), "listen", "WYNEOS_COORDINATOR_LISTEN";
    /// Address on which Prometheus metrics are served, at /metrics; "off" for none. It is served without TLS, so it must be a loopback address, unless `insecure` is set.
    metrics_listen: Listen = Listen(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7401))), "metrics-listen", "WYNEOS_COORDINATOR_METRICS_LISTEN";
    /// Directory of the store, of the signing key and of the CA; created if it does not exist.
    data_dir: PathBuf = PathBuf::from("/var/lib/wyneos-coordinator"), "data-dir", "WYNEOS_COORDINATOR_DATA_DIR";
    /// Longest wait at start for a clock that is behind the build date, the CA or the newest snapshot, 0s to 1h. Longer: tolerates slower time synchronisation.
    clock_wait: Span = Span(Duration::from_secs(60)), "clock-wait", "WYNEOS_COORDINATOR_CLOCK_WAIT";
    /// Time between two cycles, 100ms to 1h. Longer: less work, older snapshots.
    cycle: Span = Span(Duration::from_secs(6)), "cycle", "WYNEOS_COORDINATOR_CYCLE";
    /// Time between two heartbeats, 100ms to 60s. Longer: less load, later detection.
    heartbeat: Span = Span(Duration::from_secs(2)), "heartbeat", "WYNEOS_COORDINATOR_HEARTBEAT";
    /// Grace period from suspect to offline, 100ms to 1h. Longer: fewer false verdicts, but later ones.
    suspect_grace: Span = Span(Duration::from_secs(10)), "suspect-grace", "WYNEOS_COORDINATOR_SUSPECT_GRACE";
    /// Time after a start for which nodes that have not reconnected are waited for, 1s to 1d.
    restart_grace: Span = Span(Duration::from_secs(60)), "restart-grace", "WYNEOS_COORDINATOR_RESTART_GRACE";
    /// Time between two probes of one target, 100ms to 60s. Longer: less load, later evidence.
    probe_interval: Span = Span(Duration::from_secs(1)), "probe-interval", "WYNEOS_COORDINATOR_PROBE_INTERVAL";
    /// Number of telemetry samples retained per series, one per cycle; 10 to 10000. Each costs 56 bytes per node.
    telemetry_history: usize = 120, "telemetry-history", "WYNEOS_COORDINATOR_TELEMETRY_HISTORY";
    /// Maximum number of known nodes; 1 to 1000000.
    max_nodes: usize = 100_000, "max-nodes", "WYNEOS_COORDINATOR_MAX_NODES";
    /// Age at which nodes that are offline, left, revoked or were never admitted are forgotten, 1m to 3650d; 0s: never. Counts only time in which the coordinator runs. Longer: a repaired machine is still known. Shorter: lists are shorter.
    forget_after: Span = Span(Duration::ZERO), "forget-after", "WYNEOS_COORDINATOR_FORGET_AFTER";
    /// Retention of sealed snapshots, 1s or more, in running time of the coordinator: changing a clock deletes none.
    history_max_age: Span = Span(Duration::from_secs(24 * 3600)), "history-max-age", "WYNEOS_COORDINATOR_HISTORY_MAX_AGE";
    /// Maximum number of sealed snapshots retained; 2 or more. Each takes about 400 bytes per node on disk.
    history_max_count: u64 = 2_000, "history-max-count", "WYNEOS_COORDINATOR_HISTORY_MAX_COUNT";
    /// Maximum number of events retained; 1000 or more. Each takes about 600 bytes on disk.
    events_max_count: u64 = 100_000, "events-max-count", "WYNEOS_COORDINATOR_EVENTS_MAX_COUNT";
    /// Maximum size of the retained events in MiB, of their records; 1 to 1048576. Beyond it the node or workload with the most bytes loses its oldest events. The file takes up to twice as much.
    events_max_mib: u64 = 256, "events-max-mib", "WYNEOS_COORDINATOR_EVENTS_MAX_MIB";
    /// Maximum number of subscribers (watches, and readers of logs and sealed snapshots) in total; 1 to 100000.
    max_subscribers: usize = 4_096, "max-subscribers", "WYNEOS_COORDINATOR_MAX_SUBSCRIBERS";
    /// Maximum number of subscribers of one identity, which is the name in a certificate or bearer token, or otherwise the source address; 1 to 100000.
    max_subscribers_per_identity: usize = 1_024, "max-subscribers-per-identity", "WYNEOS_COORDINATOR_MAX_SUBSCRIBERS_PER_IDENTITY";
    /// Maximum memory in MiB for answers that clients have not read, in addition to the two newest states; 64 to 65536. At the limit, the answers that hold the oldest data end. Larger: tolerates slower readers, costs memory.
    answer_memory_mib: usize = 224, "answer-memory-mib", "WYNEOS_COORDINATOR_ANSWER_MEMORY_MIB";
    /// Permits addresses beyond loopback without TLS: everyone who reaches them can read everything, and, for `listen`, command everything.
    insecure: bool = false, "insecure", "WYNEOS_COORDINATOR_INSECURE", num_args = 0..=1, default_missing_value = "true";
    /// Log level (error, warn, info, debug or trace), or a filter such as "info,wyneos_coordinator=debug".
    log: String = "info".to_owned(), "log", "WYNEOS_COORDINATOR_LOG";
    /// Format of log lines.
    log_format: LogFormat = LogFormat::Text, "log-format", "WYNEOS_COORDINATOR_LOG_FORMAT";
}

impl Config {
    /// Returns whether it can be reached from other hosts without the protection of TLS.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.tls && !self.listen.ip().is_loopback()
    }

    /// There is no layer below the file.
    fn base(&self) -> Option<PathBuf> {
        None
    }

    fn check_fields(&self) -> Result<(), BadConfig> {
        let second = Duration::from_secs(1);
        let (tenth, minute, hour) = (second / 10, second * 60, second * 3600);
        span("cycle", self.cycle, tenth, hour)?;
        span("heartbeat", self.heartbeat, tenth, minute)?;
        span("suspect_grace", self.suspect_grace, tenth, hour)?;
        span("restart_grace", self.restart_grace, second, hour * 24)?;
        span("probe_interval", self.probe_interval, tenth, minute)?;
        span("clock_wait", self.clock_wait, Duration::ZERO, hour)?;
        span("history_max_age", self.history_max_age, second, hour * 24 * 3650)?;
        number("telemetry_history", self.telemetry_history as u64, 10, 10_000)?;
        number("max_nodes", self.max_nodes as u64, 1, 1_000_000)?;
        if !self.forget_after.0.is_zero() {
            span("forget_after", self.forget_after, minute, hour * 24 * 3650)?;
        }
        number("history_max_count", self.history_max_count, 2, u64::MAX)?;
        number("events_max_count", self.events_max_count, 1_000, u64::MAX)?;
        number("events_max_mib", self.events_max_mib, 1, 1 << 20)?;
        number("max_subscribers", self.max_subscribers as u64, 1, 100_000)?;
        let of_one = self.max_subscribers_per_identity as u64;
        number("max_subscribers_per_identity", of_one, 1, 100_000)?;
        number("answer_memory_mib", self.answer_memory_mib as u64, 64, 65_536)?;
        span("certificate_ttl", self.certificate_ttl, second * 10, hour * 24 * 366)?;
        span("late_renewal", self.late_renewal, Duration::ZERO, hour * 24 * 3650)?;
        span("handshake_timeout", self.handshake_timeout, tenth, minute)?;
        number("max_connections", self.max_connections as u64, 1, 1_000_000)?;
        let of_one = self.max_connections_per_source as u64;
        number("max_connections_per_source", of_one, 1, 1_000_000)?;
        number("enrolments_per_minute", self.enrolments_per_minute.into(), 1, 1_000_000)?;
        number("audit_max_count", self.audit_max_count, 1_000, u64::MAX)?;
        if self.ca_cert.as_os_str().is_empty() != self.ca_key.as_os_str().is_empty() {
            let reason = "ca_cert and ca_key must be set together: set both, or neither";
            return Err(BadConfig::field("ca_key", reason));
        }
        let listens = [
            ("listen", Some(self.listen), self.tls),
            ("metrics_listen", self.metrics_listen.0, false),
        ];
        for (field, address, tls) in listens {
            let Some(address) = address else { continue };
            if !tls && !self.insecure && !address.ip().is_loopback() {
                let reason =
                    format!("{address} is not a loopback address, and is served without TLS; --insecure permits it");
                return Err(BadConfig::field(field, reason));
            }
        }
        log::check(&self.log)
    }
}

#[cfg(test)]
mod tests {
    use wyneos_shell::config::Layered as _;

    use super::*;

    #[test]
    fn fuzz_configurations() {
        let example = include_str!("../../deploy/config/coordinator.toml");
        let in_effect = example.replace("\n#", "\n");
        let seeds = [
            example,
            &in_effect,
            "listen = \"127.0.0.1:1\"\ncycle = \"3s\"\nnames = [\"a\", \"b\"]\ntls = false",
        ]
        .map(|text| text.as_bytes().to_vec());
        wyneos_fuzz::run("configurations", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let overrides: Overrides = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
            let mut config = Config::default();
            config.apply(overrides);
            config.check().map_err(|error| error.to_string())
        });
    }
}
