//! Conversion from a declaration's file to the specification that is sent to the coordinator.

use wyneos::{convert, v1};
use wyneos_core::workload::{Secret, Spec};

use super::file::{Check, Constraint, File, Http, Kind, OnInterruption, Operator, Order, Port, Span};

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
        return Err(format!(
            "checks[{at}]: exactly one of exec, tcp, http and grpc is required"
        ));
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
            return Err(format!("{field}: requires kind = \"batch\""));
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
                return Err("replicas: a daemon has one instance on every node that meets its constraints".to_owned());
            }
            (_, _, Some(_)) => return Err("retries: requires kind = \"batch\"".to_owned()),
        })
    }

    pub(super) fn spec(self) -> Result<v1::WorkloadSpec, String> {
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
