//! Declarations of workloads, as files have them: TOML, or JSON of the same shape.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use wyneos::{convert, v1};
use wyneos_core::workload::{Secret, Spec};
use wyneos_shell::files;

use crate::{exit::Exit, failure::Failure};

/// A span of time such as `10s`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        let span = humantime::parse_duration(&text).map(Span);
        span.map_err(|error| format!("{text:?} is no span of time such as \"10s\": {error}"))
    }
}

/// CPUs, as `500m` or `2`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Cpu(u64);

impl TryFrom<String> for Cpu {
    type Error = String;

    fn try_from(text: String) -> Result<Cpu, String> {
        let millis = match text.strip_suffix('m') {
            Some(millis) => millis.parse().ok(),
            None => text.parse::<u64>().ok().and_then(|cpus| cpus.checked_mul(1_000)),
        };
        millis
            .map(Cpu)
            .ok_or_else(|| format!("{text:?} is no number of CPUs such as \"500m\" or \"2\""))
    }
}

/// Bytes, as `256MiB`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Bytes(u64);

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
            .ok_or_else(|| format!("{text:?} is no amount of bytes such as \"256MiB\""))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Service,
    Batch,
    Daemon,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    cpu: Option<Cpu>,
    memory: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    cpu: Option<Cpu>,
    pids: Option<u32>,
    nofile: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constraint {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    attempts: Option<u32>,
    window: Option<Span>,
    backoff: Option<Span>,
    backoff_max: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    port: String,
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    exec: Option<Vec<String>>,
    tcp: Option<String>,
    http: Option<Http>,
    grpc: Option<String>,
    interval: Option<Span>,
    timeout: Option<Span>,
    failures: Option<u32>,
    start_grace: Option<Span>,
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    signal: Option<i32>,
    grace: Option<Span>,
    delay: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    max_parallel: Option<u32>,
    min_healthy: Option<Span>,
    deadline: Option<Span>,
    canary: Option<u32>,
    rollback: Option<bool>,
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Order {
    #[serde(rename = "start-first")]
    StartFirst,
    #[serde(rename = "stop-first")]
    StopFirst,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnInterruption {
    Rerun,
    Fail,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// A port: by its name alone one that the agent hands out.
#[derive(Debug)]
enum Port {
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
struct FixedPort {
    name: String,
    port: u16,
    #[serde(default)]
    protocol: Protocol,
}

impl Port {
    fn name(&self) -> &str {
        match self {
            Port::Given(name) => name,
            Port::Fixed(fixed) => &fixed.name,
        }
    }

    fn fixed(&self) -> Option<v1::FixedPort> {
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

/// An environment. What is wrong in it is not repeated: it may be a secret.
fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let wrong = "env: a table of variables, each with its value as text, such as PORT = \"80\"";
    BTreeMap::deserialize(deserializer).map_err(|_| D::Error::custom(wrong))
}

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    kind: Option<Kind>,
    replicas: Option<u32>,
    retries: Option<u32>,
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    #[serde(deserialize_with = "variables")]
    env: BTreeMap<String, Secret>,
    #[serde(default)]
    directory: String,
    #[serde(default)]
    user: String,
    resources: Option<Resources>,
    limits: Option<Limits>,
    #[serde(default)]
    constraints: Vec<Constraint>,
    #[serde(default)]
    affinity: Vec<Constraint>,
    #[serde(default)]
    spread: String,
    #[serde(default)]
    near: String,
    #[serde(default)]
    alone: bool,
    priority: Option<u32>,
    #[serde(default)]
    singleton: bool,
    reschedule_delay: Option<Span>,
    #[serde(default)]
    ports: Vec<Port>,
    parallelism: Option<u32>,
    on_interruption: Option<OnInterruption>,
    offline_start: Option<Span>,
    restart: Option<Restart>,
    #[serde(default)]
    checks: Vec<Check>,
    stop: Option<Stop>,
    update: Option<Update>,
}

fn span(span: Option<Span>) -> Option<prost_types::Duration> {
    span.map(|span| convert::duration(span.0))
}

fn constraints(constraints: Vec<Constraint>) -> Vec<v1::Constraint> {
    let out = |constraint: Constraint| v1::Constraint {
        key: constraint.key,
        operator: match constraint.operator {
            Operator::In => v1::ConstraintOperator::In,
            Operator::NotIn => v1::ConstraintOperator::NotIn,
            Operator::Exists => v1::ConstraintOperator::Exists,
            Operator::Absent => v1::ConstraintOperator::Absent,
        }
        .into(),
        values: constraint.values,
    };
    constraints.into_iter().map(out).collect()
}

fn check(at: usize, check: Check) -> Result<v1::HealthCheck, String> {
    use v1::health_check::Probe;
    let probes = [
        check.exec.map(|command| Probe::Exec(v1::ExecProbe { command })),
        check.tcp.map(Probe::TcpPort),
        check
            .http
            .map(|Http { port, path }| Probe::Http(v1::HttpProbe { port, path })),
        check.grpc.map(Probe::GrpcPort),
    ];
    let mut probes = probes.into_iter().flatten();
    let (Some(probe), None) = (probes.next(), probes.next()) else {
        return Err(format!("checks[{at}]: exactly one of exec, tcp, http and grpc"));
    };
    Ok(v1::HealthCheck {
        probe: Some(probe),
        interval: span(check.interval),
        timeout: span(check.timeout),
        failures: check.failures.unwrap_or_default(),
        start_grace: span(check.start_grace),
        address: check.address.unwrap_or_default(),
    })
}

impl File {
    fn kind(&self) -> Result<v1::workload_spec::Kind, String> {
        use v1::workload_spec::Kind as Wire;
        let replicas = self.replicas.unwrap_or(1);
        let of_batches = [
            ("parallelism", self.parallelism.is_some()),
            ("on_interruption", self.on_interruption.is_some()),
        ];
        if let Some((field, _)) = of_batches
            .iter()
            .find(|(_, given)| *given && !matches!(self.kind, Some(Kind::Batch)))
        {
            return Err(format!("{field}: goes with kind = \"batch\""));
        }
        Ok(match (&self.kind, self.replicas, self.retries) {
            (None | Some(Kind::Service), _, None) => Wire::Service(v1::ServiceKind { replicas }),
            (Some(Kind::Batch), _, retries) => Wire::Batch(v1::BatchKind {
                replicas,
                retries: retries.unwrap_or_default(),
                parallelism: self.parallelism.unwrap_or_default(),
                on_interruption: match self.on_interruption {
                    None => v1::OnInterruption::Unspecified.into(),
                    Some(OnInterruption::Rerun) => v1::OnInterruption::Rerun.into(),
                    Some(OnInterruption::Fail) => v1::OnInterruption::Fail.into(),
                },
            }),
            (Some(Kind::Daemon), None, None) => Wire::Daemon(v1::DaemonKind {}),
            (Some(Kind::Daemon), Some(_), _) => {
                return Err("replicas: a daemon has one instance on every node that fits".to_owned());
            }
            (_, _, Some(_)) => return Err("retries: goes with kind = \"batch\"".to_owned()),
        })
    }

    fn spec(self) -> Result<v1::WorkloadSpec, String> {
        let defaults = convert::spec_out(&Spec::new("", ""), convert::Values::Hidden);
        let resources = self.resources.as_ref().map(|resources| {
            let mut wanted = defaults.resources.unwrap_or_default();
            wanted.cpu_millis = resources.cpu.map_or(wanted.cpu_millis, |cpu| cpu.0);
            wanted.memory_bytes = resources.memory.map_or(wanted.memory_bytes, |memory| memory.0);
            wanted
        });
        let limits = self.limits.as_ref().map(|limits| v1::ResourceLimits {
            cpu_millis: limits.cpu.map_or(0, |cpu| cpu.0),
            pids: limits.pids,
            nofile: limits.nofile.unwrap_or_default(),
        });
        let variable = |(name, value): (String, Secret)| v1::EnvironmentVariable {
            name,
            value: value.reveal().to_owned(),
        };
        let kind = self.kind()?;
        let checks = self.checks.into_iter().enumerate().map(|(at, one)| check(at, one));
        Ok(v1::WorkloadSpec {
            kind: Some(kind),
            name: self.name,
            command: self.command,
            args: self.args,
            env: self.env.into_iter().map(variable).collect(),
            directory: self.directory,
            user: self.user,
            resources,
            limits,
            constraints: constraints(self.constraints),
            affinity: constraints(self.affinity),
            spread: self.spread,
            near: self.near,
            alone: self.alone,
            priority: self.priority,
            singleton: self.singleton,
            reschedule_delay: span(self.reschedule_delay),
            fixed_ports: self.ports.iter().filter_map(Port::fixed).collect(),
            ports: self.ports.iter().map(|port| port.name().to_owned()).collect(),
            offline_start: span(self.offline_start),
            restart: self.restart.map(|restart| v1::RestartPolicy {
                attempts: restart
                    .attempts
                    .or(defaults.restart.map(|own| own.attempts))
                    .unwrap_or_default(),
                window: span(restart.window),
                backoff: span(restart.backoff),
                backoff_max: span(restart.backoff_max),
            }),
            checks: checks.collect::<Result<_, String>>()?,
            stop: self.stop.map(|stop| v1::StopPolicy {
                signal: stop.signal.or(defaults.stop.map(|own| own.signal)).unwrap_or_default(),
                grace: span(stop.grace),
                delay: span(stop.delay),
            }),
            update: self.update.map(|update| {
                let own = defaults.update.unwrap_or_default();
                v1::UpdatePolicy {
                    max_parallel: update.max_parallel.unwrap_or(own.max_parallel),
                    min_healthy: span(update.min_healthy),
                    deadline: span(update.deadline),
                    canary: update.canary.unwrap_or(own.canary),
                    rollback: update.rollback.unwrap_or(own.rollback),
                    order: match update.order {
                        None => v1::UpdateOrder::Unspecified.into(),
                        Some(Order::StartFirst) => v1::UpdateOrder::StartFirst.into(),
                        Some(Order::StopFirst) => v1::UpdateOrder::StopFirst.into(),
                    },
                }
            }),
        })
    }
}

/// What a file declares.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) spec: v1::WorkloadSpec,
    /// It does not say how many instances there should be: as many as there are, where there are any.
    pub(crate) keep_replicas: bool,
}

/// The declaration in a file: JSON when its name ends so, TOML else.
pub(crate) fn read(path: &Path) -> Result<Declaration, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", path.display()));
    let text = files::read_named_text(path, files::TEXT).map_err(|error| wrong(error.to_string()))?;
    parse(&text, path.extension().is_some_and(|extension| extension == "json")).map_err(wrong)
}

/// An error with its line's number, and not with the line: it may have a secret in it.
fn at_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.to_owned(),
    }
}

fn parse(text: &str, is_json: bool) -> Result<Declaration, String> {
    let file: File = match is_json {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => toml::from_str(text).map_err(|error| at_line(text, &error))?,
    };
    let keep_replicas = file.replicas.is_none();
    let spec = file.spec()?;
    Ok(Declaration { spec, keep_replicas })
}

#[cfg(test)]
mod tests;
