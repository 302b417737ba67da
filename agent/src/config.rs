//! Configuration of the agent.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use wyneos_core::{limits, text::is_hidden, workload::is_user};
use wyneos_shell::{
    config::{BadConfig, Listen, LogFormat},
    log,
};

use crate::instance::Ports;

/// Addresses of coordinators, separated by commas on the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

impl FromStr for Addresses {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Addresses, Self::Err> {
        Ok(Addresses(
            text.split(',').map(|address| address.trim().to_owned()).collect(),
        ))
    }
}

/// Labels; on the command line `key=value`, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Labels(pub(crate) BTreeMap<String, String>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Labels, String> {
        let pair = |pair: &str| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not key=value"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        };
        text.split(',').map(pair).collect::<Result<_, String>>().map(Labels)
    }
}

/// A list of users of the host, by name or number; comma-separated on the command line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UserNames(pub(crate) Vec<String>);

impl FromStr for UserNames {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<UserNames, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(UserNames(names.map(str::to_owned).collect()))
    }
}

/// A control group by its path from the root of the hierarchies, or `off`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cgroup(pub(crate) Option<String>);

impl FromStr for Cgroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Cgroup, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits);
        match text {
            "off" => Ok(Cgroup(None)),
            path if path.len() <= limits::NAME && path.split('/').all(is_part) => Ok(Cgroup(Some(path.to_owned()))),
            _ => Err(format!(
                "{text:?} is neither off nor a path such as \"wyneos\", without a slash at its ends, of letters, digits and ._-@:"
            )),
        }
    }
}

impl TryFrom<String> for Cgroup {
    type Error = String;

    fn try_from(text: String) -> Result<Cgroup, String> {
        text.parse()
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("off"))
    }
}

impl From<Cgroup> for String {
    fn from(cgroup: Cgroup) -> String {
        cgroup.to_string()
    }
}

wyneos_shell::config! {
    /// Coordinators, as host:port, comma-separated; tried in turn.
    coordinators: Addresses = Addresses(vec!["127.0.0.1:7400".to_owned()]), "coordinators", "WYNEOS_AGENT_COORDINATORS";
    /// TLS with the certificate that `wyneos-agent join` obtained; the agent, its coordinator and its peers authenticate one another.
    tls: bool = true, "tls", "WYNEOS_AGENT_TLS", num_args = 0..=1, default_missing_value = "true";
    /// Address on which peers' probes are answered. Without TLS it must be a loopback address, unless `insecure` is set.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7402)), "listen", "WYNEOS_AGENT_LISTEN";
    /// Address that peers are told to probe, as host:port; empty: the address of `listen`, or, if that is a wildcard address, the one with which this host reaches the first coordinator.
    advertise: String = String::new(), "advertise", "WYNEOS_AGENT_ADVERTISE";
    /// Address on which Prometheus metrics are served, at /metrics; "off" for none. It is served without TLS, so it must be a loopback address, unless `insecure` is set.
    metrics_listen: Listen = Listen(None), "metrics-listen", "WYNEOS_AGENT_METRICS_LISTEN";
    /// Directory of the node's id, incarnation, key and certificate; created if it does not exist.
    data_dir: PathBuf = PathBuf::from("/var/lib/wyneos-agent"), "data-dir", "WYNEOS_AGENT_DATA_DIR";
    /// Name of the node, 1 to 253 printable characters; empty: the host name.
    name: String = String::new(), "name", "WYNEOS_AGENT_NAME";
    /// Permits addresses beyond loopback without TLS: everyone who reaches them can read everything, and command everything.
    insecure: bool = false, "insecure", "WYNEOS_AGENT_INSECURE", num_args = 0..=1, default_missing_value = "true";
    /// Range of ports that are allocated to instances of workloads, as FIRST-LAST.
    ports: Ports = Ports(20_000..=29_999), "ports", "WYNEOS_AGENT_PORTS";
    /// Control group below which each instance has its own, as a path from the root of the hierarchies; "off" for none: the resource use of instances is then unlimited.
    cgroup: Cgroup = Cgroup(Some("wyneos".to_owned())), "cgroup", "WYNEOS_AGENT_CGROUP";
    /// Default user, by name or number, for programs of workloads whose declaration names none. An agent that is not root runs all of them as its own user.
    work_user: String = "nobody".to_owned(), "work-user", "WYNEOS_AGENT_WORK_USER";
    /// Further users, by name or number, that declarations may name; comma-separated. With root listed, everyone who may apply a declaration controls this host.
    users: UserNames = UserNames::default(), "users", "WYNEOS_AGENT_USERS";
    /// Log level (error, warn, info, debug or trace), or a filter such as "info,wyneos_agent=debug".
    log: String = "info".to_owned(), "log", "WYNEOS_AGENT_LOG";
    /// Format of log lines.
    log_format: LogFormat = LogFormat::Text, "log-format", "WYNEOS_AGENT_LOG_FORMAT";
    /// Labels of the node, as key=value, comma-separated.
    labels: Labels = Labels::default(), "labels", "WYNEOS_AGENT_LABELS";
}

impl Config {
    /// The file that joining wrote.
    fn base(&self) -> Option<PathBuf> {
        let joined = self.data_dir.join("joined.toml");
        (self.tls && !wyneos_shell::files::is_missing(&joined)).then_some(joined)
    }

    fn check_fields(&self) -> Result<(), BadConfig> {
        if self.coordinators.0.is_empty() {
            return Err(BadConfig::field(
                "coordinators",
                "empty; at least one host:port is required",
            ));
        }
        if let Some(wrong) = self.coordinators.0.iter().find(|address| !is_address(address)) {
            return Err(BadConfig::field("coordinators", format!("{wrong:?} is not host:port")));
        }
        if !self.advertise.is_empty() && !is_address(&self.advertise) {
            return Err(BadConfig::field(
                "advertise",
                format!("{:?} is not host:port", self.advertise),
            ));
        }
        let listen = (!self.tls).then_some(self.listen);
        for (field, address) in [("listen", listen), ("metrics_listen", self.metrics_listen.0)] {
            if let Some(address) = address.filter(|address| !self.insecure && !address.ip().is_loopback()) {
                let reason =
                    format!("{address} is not a loopback address, and is served without TLS; --insecure permits it");
                return Err(BadConfig::field(field, reason));
            }
        }
        if self.name.len() > limits::NAME || self.name.chars().any(is_hidden) {
            let reason = format!("at most {} bytes, without control characters", limits::NAME);
            return Err(BadConfig::field("name", reason));
        }
        self.check_labels()?;
        self.check_users()?;
        log::check(&self.log)
    }

    fn check_users(&self) -> Result<(), BadConfig> {
        let wrong = |name: &str| format!("{name:?} is not the name of a user, nor a number from 0 to 4294967294");
        if !is_user(&self.work_user) {
            return Err(BadConfig::field("work_user", wrong(&self.work_user)));
        }
        let users = &self.users.0;
        if users.len() > limits::USERS {
            let reason = format!("{} users; at most {}", users.len(), limits::USERS);
            return Err(BadConfig::field("users", reason));
        }
        match users.iter().find(|name| !is_user(name)) {
            Some(name) => Err(BadConfig::field("users", wrong(name))),
            None => Ok(()),
        }
    }

    fn check_labels(&self) -> Result<(), BadConfig> {
        let labels = &self.labels.0;
        if labels.len() > limits::LABELS {
            return Err(BadConfig::field(
                "labels",
                format!("{} labels; at most {}", labels.len(), limits::LABELS),
            ));
        }
        for (key, value) in labels {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
            if key.is_empty() || key.len() > limits::LABEL_KEY || !key.bytes().all(fits) {
                let reason = format!(
                    "the key {key:?} is not 1 to {} characters of a-z, A-Z, 0-9, '.', '_', '-' and '/'",
                    limits::LABEL_KEY
                );
                return Err(BadConfig::field("labels", reason));
            }
            if value.len() > limits::LABEL_VALUE || value.chars().any(is_hidden) {
                let reason = format!(
                    "the value of {key:?} has more than {} bytes or a control character",
                    limits::LABEL_VALUE
                );
                return Err(BadConfig::field("labels", reason));
            }
        }
        Ok(())
    }
}

fn is_address(text: &str) -> bool {
    text.len() <= limits::ADDRESS
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

#[cfg(test)]
mod tests {
    use wyneos_shell::config::Layered as _;

    use super::*;

    #[test]
    fn fuzz_configurations() {
        let example = include_str!("../../deploy/config/agent.toml");
        let in_effect = example.replace("\n#", "\n");
        let seeds = [
            example,
            &in_effect,
            "coordinators = [\"a:1\"]\nname = \"x\"\n[labels]\nzone = \"a\"",
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
