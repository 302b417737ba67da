//! The structure of a declaration's file: its fields, and the notation of their values.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use wyneos::v1;
use wyneos_core::workload::Secret;

/// A duration such as `10s`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        let span = humantime::parse_duration(&text).map(Span);
        span.map_err(|error| format!("{text:?} is not a duration such as \"10s\": {error}"))
    }
}

/// CPUs, as `500m` or `2`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Cpu(pub(super) u64);

impl TryFrom<String> for Cpu {
    type Error = String;

    fn try_from(text: String) -> Result<Cpu, String> {
        let millis = match text.strip_suffix('m') {
            Some(millis) => millis.parse().ok(),
            None => text.parse::<u64>().ok().and_then(|cpus| cpus.checked_mul(1_000)),
        };
        millis
            .map(Cpu)
            .ok_or_else(|| format!("{text:?} is not a number of CPUs such as \"500m\" or \"2\""))
    }
}

/// Bytes, as `256MiB`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Bytes(pub(super) u64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Bytes, String> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];
        let bytes = units.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?.trim().parse::<u64>().ok()?;
            number.checked_mul(1 << shift)
        });
        bytes
            .map(Bytes)
            .ok_or_else(|| format!("{text:?} is not a number of bytes such as \"256MiB\""))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Service,
    Batch,
    Daemon,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resources {
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) cpu: Option<Cpu>,
    pub(super) pids: Option<u32>,
    pub(super) nofile: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Constraint {
    pub(super) key: String,
    pub(super) operator: Operator,
    #[serde(default)]
    pub(super) values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restart {
    pub(super) attempts: Option<u32>,
    pub(super) window: Option<Span>,
    pub(super) backoff: Option<Span>,
    pub(super) backoff_max: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) port: String,
    pub(super) path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) exec: Option<Vec<String>>,
    pub(super) tcp: Option<String>,
    pub(super) http: Option<Http>,
    pub(super) grpc: Option<String>,
    pub(super) interval: Option<Span>,
    pub(super) timeout: Option<Span>,
    pub(super) failures: Option<u32>,
    pub(super) start_grace: Option<Span>,
    pub(super) address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    pub(super) signal: Option<i32>,
    pub(super) grace: Option<Span>,
    pub(super) delay: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    pub(super) max_parallel: Option<u32>,
    pub(super) min_healthy: Option<Span>,
    pub(super) deadline: Option<Span>,
    pub(super) canary: Option<u32>,
    pub(super) rollback: Option<bool>,
    pub(super) order: Option<Order>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Order {
    #[serde(rename = "start-first")]
    StartFirst,
    #[serde(rename = "stop-first")]
    StopFirst,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnInterruption {
    Rerun,
    Fail,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// A port; a name alone means a port that the agent allocates.
#[derive(Debug)]
pub(super) enum Port {
    Given(String),
    Fixed(FixedPort),
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port's name, or { name = \"dns\", port = 53, protocol = \"udp\" }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Port, E> {
                Ok(Port::Given(name.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Port, M::Error> {
                FixedPort::deserialize(MapAccessDeserializer::new(map)).map(Port::Fixed)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FixedPort {
    pub(super) name: String,
    pub(super) port: u16,
    #[serde(default)]
    pub(super) protocol: Protocol,
}

impl Port {
    pub(super) fn name(&self) -> &str {
        match self {
            Port::Given(name) => name,
            Port::Fixed(fixed) => &fixed.name,
        }
    }

    pub(super) fn fixed(&self) -> Option<v1::FixedPort> {
        let Port::Fixed(fixed) = self else { return None };
        Some(v1::FixedPort {
            name: fixed.name.clone(),
            port: fixed.port.into(),
            protocol: match fixed.protocol {
                Protocol::Tcp => v1::PortProtocol::Tcp.into(),
                Protocol::Udp => v1::PortProtocol::Udp.into(),
            },
        })
    }
}

/// An environment. Errors do not repeat its contents, which may be secret.
fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let wrong = "env: a table of variables, each with its value as text, such as PORT = \"80\"";
    BTreeMap::deserialize(deserializer).map_err(|_| D::Error::custom(wrong))
}

/// The contents of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
    pub(super) replicas: Option<u32>,
    pub(super) retries: Option<u32>,
    pub(super) command: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    #[serde(deserialize_with = "variables")]
    pub(super) env: BTreeMap<String, Secret>,
    #[serde(default)]
    pub(super) directory: String,
    #[serde(default)]
    pub(super) user: String,
    pub(super) resources: Option<Resources>,
    pub(super) limits: Option<Limits>,
    #[serde(default)]
    pub(super) constraints: Vec<Constraint>,
    #[serde(default)]
    pub(super) affinity: Vec<Constraint>,
    #[serde(default)]
    pub(super) spread: String,
    #[serde(default)]
    pub(super) near: String,
    #[serde(default)]
    pub(super) alone: bool,
    pub(super) priority: Option<u32>,
    #[serde(default)]
    pub(super) singleton: bool,
    pub(super) reschedule_delay: Option<Span>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    pub(super) parallelism: Option<u32>,
    pub(super) on_interruption: Option<OnInterruption>,
    pub(super) offline_start: Option<Span>,
    pub(super) restart: Option<Restart>,
    #[serde(default)]
    pub(super) checks: Vec<Check>,
    pub(super) stop: Option<Stop>,
    pub(super) update: Option<Update>,
}
