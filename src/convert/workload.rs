//! Workload specifications.

use std::{collections::BTreeMap, fmt, time::Duration};

use wyneos_core::{
    placement::Score,
    text::Quoted,
    workload::{
        Check, Constraint, FixedPort, Interruption, Kind, Limits, Operator, Order, Probe, Protocol, Resources, Restart,
        Secret, Spec, Stop, Update,
    },
};

use super::{
    ConvertError,
    node::same,
    time::{duration, duration_in},
};
use crate::v1::{self, health_check, workload_spec};

same!(
    Operator,
    v1::ConstraintOperator {
        In,
        NotIn,
        Exists,
        Absent
    }
);

fn protocol(protocol: v1::PortProtocol) -> Protocol {
    match protocol {
        v1::PortProtocol::Unspecified | v1::PortProtocol::Tcp => Protocol::Tcp,
        v1::PortProtocol::Udp => Protocol::Udp,
    }
}

fn fixed_ports(names: &[String], ports: &[v1::FixedPort]) -> Result<BTreeMap<String, FixedPort>, ConvertError> {
    let mut fixed = BTreeMap::new();
    for (at, one) in ports.iter().enumerate() {
        let wrong = |name: &str, reason: &str| ConvertError::new(format!("fixed_ports[{at}].{name}"), reason);
        let port = u16::try_from(one.port).map_err(|_| wrong("port", "1 to 65535"))?;
        let known = v1::PortProtocol::try_from(one.protocol).map_err(|_| wrong("protocol", "one of TCP and UDP"))?;
        let protocol = protocol(known);
        if fixed.insert(one.name.clone(), FixedPort { port, protocol }).is_some() {
            let mut named = names.iter().enumerate().filter(|(_, name)| **name == one.name);
            let field = named.nth(1).map(|(at, _)| format!("ports[{at}]"));
            let field = field.unwrap_or_else(|| format!("fixed_ports[{at}].name"));
            return Err(ConvertError::new(
                field,
                format!("{} stands twice in the list", Quoted(&one.name)),
            ));
        }
    }
    Ok(fixed)
}

fn span(field: &str, span: Option<prost_types::Duration>, default: Duration) -> Result<Duration, ConvertError> {
    span.map_or(Ok(default), |span| duration_in(field, &span))
}

fn constraints(field: &str, constraints: Vec<v1::Constraint>) -> Result<Vec<Constraint>, ConvertError> {
    let read = |(at, constraint): (usize, v1::Constraint)| {
        let operator = constraint.operator().try_into().map_err(|_| {
            let reason = "one of IN, NOT_IN, EXISTS and ABSENT";
            ConvertError::new(format!("{field}[{at}].operator"), reason)
        })?;
        Ok(Constraint {
            key: constraint.key,
            operator,
            values: constraint.values,
        })
    };
    constraints.into_iter().enumerate().map(read).collect()
}

fn checks(checks: Vec<v1::HealthCheck>) -> Result<Vec<Check>, ConvertError> {
    let read = |(at, check): (usize, v1::HealthCheck)| {
        let field = |name: &str| format!("checks[{at}].{name}");
        let probe = match check.probe {
            Some(health_check::Probe::Exec(exec)) => Probe::Exec(exec.command),
            Some(health_check::Probe::TcpPort(port)) => Probe::Tcp(port),
            Some(health_check::Probe::Http(http)) => Probe::Http(http.port, http.path),
            Some(health_check::Probe::GrpcPort(port)) => Probe::Grpc(port),
            None => {
                let reason = "one of exec, tcp_port, http and grpc_port";
                return Err(ConvertError::new(field("probe"), reason));
            }
        };
        Ok(Check {
            probe,
            interval: span(&field("interval"), check.interval, Duration::from_secs(10))?,
            timeout: span(&field("timeout"), check.timeout, Duration::from_secs(2))?,
            failures: if check.failures == 0 { 3 } else { check.failures },
            start_grace: match check.start_grace {
                Some(grace) => Some(span(&field("start_grace"), Some(grace), Duration::ZERO)?),
                None => None,
            },
            address: check.address,
        })
    };
    checks.into_iter().enumerate().map(read).collect()
}

/// Converts and validates a specification; absent fields have their defaults.
///
/// # Errors
/// A field is invalid.
pub fn spec_in(spec: v1::WorkloadSpec) -> Result<Spec, ConvertError> {
    checked(read(spec)?)
}

/// Converts a specification that was accepted before, possibly by an earlier version; values are clamped to current
/// limits where that is possible without the operator.
///
/// # Errors
/// A field is invalid.
pub(super) fn spec_known(spec: v1::WorkloadSpec) -> Result<Spec, ConvertError> {
    checked(read(spec)?.clamped())
}

fn checked(spec: Spec) -> Result<Spec, ConvertError> {
    match spec.check() {
        Ok(()) => Ok(spec),
        Err(bad) => Err(ConvertError::new(bad.field, bad.reason)),
    }
}

fn read(spec: v1::WorkloadSpec) -> Result<Spec, ConvertError> {
    let defaults = Spec::new(&spec.name, &spec.command);
    let mut env = BTreeMap::new();
    for (at, variable) in spec.env.into_iter().enumerate() {
        if env.insert(variable.name, Secret::from(variable.value)).is_some() {
            return Err(ConvertError::new(format!("env[{at}].name"), "stands twice in the list"));
        }
    }
    let resources = spec.resources.map_or(defaults.resources, |resources| Resources {
        cpu_millis: resources.cpu_millis,
        memory_bytes: resources.memory_bytes,
    });
    let limits = spec.limits.map_or(defaults.limits, |limits| Limits {
        cpu_millis: limits.cpu_millis,
        pids: limits.pids.unwrap_or(defaults.limits.pids),
        nofile: limits.nofile,
    });
    let batch = match &spec.kind {
        Some(workload_spec::Kind::Batch(batch)) => Some(*batch),
        _ => None,
    };
    let on_interruption = batch.map_or(0, |batch| batch.on_interruption);
    let (restart, stop, update) = (defaults.restart, defaults.stop, defaults.update);
    Ok(Spec {
        kind: match spec.kind {
            None => defaults.kind,
            Some(workload_spec::Kind::Service(service)) => Kind::Service {
                replicas: service.replicas,
            },
            Some(workload_spec::Kind::Batch(batch)) => Kind::Batch {
                replicas: batch.replicas,
                retries: batch.retries,
            },
            Some(workload_spec::Kind::Daemon(v1::DaemonKind {})) => Kind::Daemon,
        },
        args: spec.args,
        env,
        directory: spec.directory,
        user: spec.user,
        resources,
        limits,
        constraints: constraints("constraints", spec.constraints)?,
        affinity: constraints("affinity", spec.affinity)?,
        spread: spec.spread,
        near: spec.near,
        alone: spec.alone,
        priority: match spec.priority {
            Some(priority) => u8::try_from(priority).unwrap_or(u8::MAX),
            None => defaults.priority,
        },
        singleton: spec.singleton,
        reschedule_delay: spec
            .reschedule_delay
            .map(|delay| duration_in("reschedule_delay", &delay))
            .transpose()?,
        fixed_ports: fixed_ports(&spec.ports, &spec.fixed_ports)?,
        ports: spec.ports,
        parallelism: batch.map_or(0, |batch| batch.parallelism),
        on_interruption: match v1::OnInterruption::try_from(on_interruption) {
            Ok(v1::OnInterruption::Unspecified | v1::OnInterruption::Rerun) => Interruption::Rerun,
            Ok(v1::OnInterruption::Fail) => Interruption::Fail,
            Err(_) => return Err(ConvertError::new("batch.on_interruption", "one of RERUN and FAIL")),
        },
        offline_start: spec
            .offline_start
            .map(|wait| duration_in("offline_start", &wait))
            .transpose()?,
        restart: match spec.restart {
            None => restart,
            Some(policy) => Restart {
                attempts: policy.attempts,
                window: span("restart.window", policy.window, restart.window)?,
                backoff: span("restart.backoff", policy.backoff, restart.backoff)?,
                backoff_max: span("restart.backoff_max", policy.backoff_max, restart.backoff_max)?,
            },
        },
        checks: checks(spec.checks)?,
        stop: match spec.stop {
            None => stop,
            Some(policy) => Stop {
                signal: policy.signal,
                grace: span("stop.grace", policy.grace, stop.grace)?,
                delay: span("stop.delay", policy.delay, stop.delay)?,
            },
        },
        update: match spec.update {
            None => update,
            Some(policy) => Update {
                max_parallel: policy.max_parallel,
                min_healthy: span("update.min_healthy", policy.min_healthy, update.min_healthy)?,
                deadline: span("update.deadline", policy.deadline, update.deadline)?,
                canary: policy.canary,
                rollback: policy.rollback,
                order: match v1::UpdateOrder::try_from(policy.order) {
                    Ok(v1::UpdateOrder::Unspecified | v1::UpdateOrder::StartFirst) => Order::StartFirst,
                    Ok(v1::UpdateOrder::StopFirst) => Order::StopFirst,
                    Err(_) => return Err(ConvertError::new("update.order", "one of START_FIRST and STOP_FIRST")),
                },
            },
        },
        ..defaults
    })
}

fn constraints_out(constraints: &[Constraint]) -> Vec<v1::Constraint> {
    let out = |constraint: &Constraint| v1::Constraint {
        key: constraint.key.clone(),
        operator: v1::ConstraintOperator::from(constraint.operator).into(),
        values: constraint.values.clone(),
    };
    constraints.iter().map(out).collect()
}

fn check_out(check: &Check) -> v1::HealthCheck {
    let probe = match check.probe.clone() {
        Probe::Exec(command) => health_check::Probe::Exec(v1::ExecProbe { command }),
        Probe::Tcp(port) => health_check::Probe::TcpPort(port),
        Probe::Http(port, path) => health_check::Probe::Http(v1::HttpProbe { port, path }),
        Probe::Grpc(port) => health_check::Probe::GrpcPort(port),
    };
    v1::HealthCheck {
        probe: Some(probe),
        interval: Some(duration(check.interval)),
        timeout: Some(duration(check.timeout)),
        failures: check.failures,
        start_grace: check.start_grace.map(duration),
        address: check.address.clone(),
    }
}

/// Whether a specification includes the values of its environment variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Included: for a node that runs it, or a caller authorized to see them.
    Shown,
    /// Hidden: replaced by [`Secret::HIDDEN`].
    Hidden,
}

/// Converts a specification for the wire.
pub fn spec_out(spec: &Spec, values: Values) -> v1::WorkloadSpec {
    let kind = match spec.kind {
        Kind::Service { replicas } => workload_spec::Kind::Service(v1::ServiceKind { replicas }),
        Kind::Batch { replicas, retries } => workload_spec::Kind::Batch(v1::BatchKind {
            replicas,
            retries,
            parallelism: spec.parallelism,
            on_interruption: match spec.on_interruption {
                Interruption::Rerun => v1::OnInterruption::Rerun.into(),
                Interruption::Fail => v1::OnInterruption::Fail.into(),
            },
        }),
        Kind::Daemon => workload_spec::Kind::Daemon(v1::DaemonKind {}),
    };
    let variable = |(name, value): (&String, &Secret)| v1::EnvironmentVariable {
        name: name.clone(),
        value: match values {
            Values::Shown => value.reveal().to_owned(),
            Values::Hidden => Secret::HIDDEN.to_owned(),
        },
    };
    let fixed = |(name, fixed): (&String, &FixedPort)| v1::FixedPort {
        name: name.clone(),
        port: fixed.port.into(),
        protocol: match fixed.protocol {
            Protocol::Tcp => v1::PortProtocol::Tcp.into(),
            Protocol::Udp => v1::PortProtocol::Udp.into(),
        },
    };
    v1::WorkloadSpec {
        fixed_ports: spec.fixed_ports.iter().map(fixed).collect(),
        offline_start: spec.offline_start.map(duration),
        name: spec.name.clone(),
        kind: Some(kind),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.iter().map(variable).collect(),
        directory: spec.directory.clone(),
        user: spec.user.clone(),
        resources: Some(v1::Resources {
            cpu_millis: spec.resources.cpu_millis,
            memory_bytes: spec.resources.memory_bytes,
        }),
        limits: Some(v1::ResourceLimits {
            cpu_millis: spec.limits.cpu_millis,
            pids: Some(spec.limits.pids),
            nofile: spec.limits.nofile,
        }),
        constraints: constraints_out(&spec.constraints),
        affinity: constraints_out(&spec.affinity),
        spread: spec.spread.clone(),
        near: spec.near.clone(),
        alone: spec.alone,
        priority: Some(spec.priority.into()),
        singleton: spec.singleton,
        reschedule_delay: spec.reschedule_delay.map(duration),
        ports: spec.ports.clone(),
        restart: Some(v1::RestartPolicy {
            attempts: spec.restart.attempts,
            window: Some(duration(spec.restart.window)),
            backoff: Some(duration(spec.restart.backoff)),
            backoff_max: Some(duration(spec.restart.backoff_max)),
        }),
        checks: spec.checks.iter().map(check_out).collect(),
        stop: Some(v1::StopPolicy {
            signal: spec.stop.signal,
            grace: Some(duration(spec.stop.grace)),
            delay: Some(duration(spec.stop.delay)),
        }),
        update: Some(v1::UpdatePolicy {
            max_parallel: spec.update.max_parallel,
            min_healthy: Some(duration(spec.update.min_healthy)),
            deadline: Some(duration(spec.update.deadline)),
            canary: spec.update.canary,
            rollback: spec.update.rollback,
            order: match spec.update.order {
                Order::StartFirst => v1::UpdateOrder::StartFirst.into(),
                Order::StopFirst => v1::UpdateOrder::StopFirst.into(),
            },
        }),
    }
}

/// Shows only the name, because messages may be logged in full.
impl fmt::Debug for v1::EnvironmentVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, Secret::HIDDEN)
    }
}

/// Converts a score for the wire.
pub fn score_out(score: Score) -> v1::PlacementScore {
    v1::PlacementScore {
        total: score.total,
        headroom: score.headroom,
        calm: score.calm,
        affinity: score.affinity,
        trust: score.trust,
        record: score.record,
        closeness: score.closeness,
    }
}
