//! What makes a declaration acceptable.

use std::time::Duration;

use super::{Kind, Limits, Operator, Probe, Resources, Spec, limits};
use crate::workload::Secret;

/// Why a declaration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadSpec {
    /// The field, by its path.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

fn bad(field: impl Into<String>, reason: impl Into<String>) -> Result<(), BadSpec> {
    let (field, reason) = (field.into(), reason.into());
    Err(BadSpec { field, reason })
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), BadSpec> {
    match count > most {
        true => bad(field, format!("{count}; at most {most}")),
        false => Ok(()),
    }
}

/// A name of letters, digits and dashes, as host names have it.
fn name(field: &str, text: &str) -> Result<(), BadSpec> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=limits::NAME).contains(&text.len()) && text.bytes().all(fits) && edges {
        true => Ok(()),
        false => bad(field, "1 to 63 of a-z, 0-9 and '-', not at an end"),
    }
}

fn text(field: &str, text: &str) -> Result<(), BadSpec> {
    if text.len() > limits::TEXT {
        return bad(field, format!("{} bytes; at most {}", text.len(), limits::TEXT));
    }
    match text.contains('\0') {
        true => bad(field, "has a zero byte, which no program can be given"),
        false => Ok(()),
    }
}

/// True for what can be the name or number of a user of a host. Which users there are is for the host to say.
pub fn is_user(text: &str) -> bool {
    let forbidden = |char: char| char.is_control() || char == ':' || char == '/';
    // The kernel takes the highest number for no change at all.
    let none = text.parse() == Ok(u32::MAX);
    (1..=crate::limits::USER).contains(&text.len()) && !text.starts_with('-') && !text.contains(forbidden) && !none
}

/// What names of variables begin with that every program finds from us.
const RESERVED: [&str; 2] = ["WYNEOS_", "PORT_"];

fn span(field: &str, span: Duration, least: Duration) -> Result<(), BadSpec> {
    match (least..=limits::SPAN).contains(&span) {
        true => Ok(()),
        false => bad(field, format!("{span:?} is not between {least:?} and 7 days")),
    }
}

impl Spec {
    /// Whether it can be accepted.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), BadSpec> {
        name("name", &self.name)?;
        if let Some(replicas) = self.replicas()
            && replicas > limits::REPLICAS
        {
            return bad("replicas", format!("{replicas}; at most {}", limits::REPLICAS));
        }
        if self.singleton && self.kind != (Kind::Service { replicas: 1 }) {
            return bad("singleton", "goes with kind service and replicas = 1");
        }
        if self.priority > limits::PRIORITY {
            return bad("priority", format!("{} is not between 0 and 100", self.priority));
        }
        self.check_process()?;
        self.check_placement()?;
        self.check_times()
    }

    /// Whether it can be declared: what [`Spec::check`] says, and what declarations accepted by earlier versions may lack. Those still run, with
    /// what every program finds from us in the place of their own.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check_declared(&self) -> Result<(), BadSpec> {
        self.check()?;
        if !self.user.is_empty() && !is_user(&self.user) {
            return bad(
                "user",
                "not the name or number of a user: 1 to 256 bytes, no ':' or '/', not beginning with '-'",
            );
        }
        let reserved = |key: &&String| RESERVED.iter().any(|start| key.starts_with(start));
        if let Some(key) = self.env.keys().find(reserved) {
            return bad(
                format!("env.{key}"),
                "names that begin with WYNEOS_ or PORT_ are given by the agent: choose another",
            );
        }
        match self.env.iter().find(|(_, value)| value.reveal() == Secret::HIDDEN) {
            // Made from an answer that does not show values: it would run with what stands for them.
            Some((key, _)) => bad(
                format!("env.{key}"),
                "stands for a value that is not shown: give the value itself",
            ),
            None => Ok(()),
        }
    }

    fn check_process(&self) -> Result<(), BadSpec> {
        if self.command.is_empty() {
            return bad("command", "missing");
        }
        text("command", &self.command)?;
        text("directory", &self.directory)?;
        text("user", &self.user)?;
        at_most("args", self.args.len(), limits::ARGS)?;
        at_most("env", self.env.len(), limits::ENV)?;
        for (at, arg) in self.args.iter().enumerate() {
            text(&format!("args[{at}]"), arg)?;
        }
        for (at, (key, value)) in self.env.iter().enumerate() {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let named = !key.is_empty() && key.len() <= 128 && key.bytes().all(fits);
            if !named || key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                // The name is not repeated: it may be a whole assignment, with its value.
                let reason = "a name is 1 to 128 letters, digits and '_', not a digit first";
                return bad("env", format!("variable {at} of them, sorted by name: {reason}"));
            }
            text(&format!("env.{key}"), value.reveal())?;
        }
        let args = self.args.iter().map(String::len);
        let env = self.env.iter().map(|(key, value)| key.len() + value.reveal().len());
        at_most("args and env, bytes together", args.chain(env).sum(), limits::TEXTS)?;
        at_most("ports", self.ports.len(), limits::PORTS)?;
        for (at, port) in self.ports.iter().enumerate() {
            name(&format!("ports[{at}]"), port)?;
            if self.ports[..at].contains(port) {
                return bad(format!("ports[{at}]"), format!("{port:?} stands twice in the list"));
            }
        }
        Ok(())
    }

    fn check_placement(&self) -> Result<(), BadSpec> {
        let Resources {
            cpu_millis,
            memory_bytes,
        } = self.resources;
        if !(1..=u64::from(crate::limits::CPUS) * 1000).contains(&cpu_millis) {
            return bad(
                "resources.cpu",
                format!("{cpu_millis}m is less than 1m, or more than any node has"),
            );
        }
        if !(1 << 20..=crate::limits::BYTES).contains(&memory_bytes) {
            return bad(
                "resources.memory",
                format!("{memory_bytes} bytes is less than 1 MiB, or more than any node has"),
            );
        }
        if !self.near.is_empty() {
            name("near", &self.near)?;
            if self.near == self.name {
                return bad("near", "it is always near to itself: name another workload");
            }
        }
        let most = u64::from(crate::limits::CPUS) * 1000;
        let Limits { cpu_millis, pids } = self.limits;
        if cpu_millis != 0 && !(limits::CPU_LIMIT..=most).contains(&cpu_millis) {
            let least = limits::CPU_LIMIT;
            return bad(
                "limits.cpu",
                format!("{cpu_millis}m is less than {least}m, or more than any node has"),
            );
        }
        if !(1..=limits::MOST_PIDS).contains(&pids) {
            let most = limits::MOST_PIDS;
            return bad("limits.pids", format!("{pids} is not 1 to {most}"));
        }
        for (list, constraints) in [("constraints", &self.constraints), ("affinity", &self.affinity)] {
            at_most(list, constraints.len(), limits::CONSTRAINTS)?;
            for (at, constraint) in constraints.iter().enumerate() {
                let field = format!("{list}[{at}]");
                if constraint.key.is_empty() || constraint.key.len() > crate::limits::LABEL_KEY {
                    return bad(format!("{field}.key"), "1 to 63 bytes");
                }
                at_most(&format!("{field}.values"), constraint.values.len(), limits::VALUES)?;
                let wants = matches!(constraint.operator, Operator::In | Operator::NotIn);
                if wants == constraint.values.is_empty() {
                    return bad(
                        format!("{field}.values"),
                        "`in` and `not_in` want values, the others none",
                    );
                }
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), BadSpec> {
        let (tenth, second) = (Duration::from_millis(100), Duration::from_secs(1));
        span("restart.window", self.restart.window, second)?;
        span("restart.backoff", self.restart.backoff, Duration::ZERO)?;
        span("restart.backoff_max", self.restart.backoff_max, self.restart.backoff)?;
        span("stop.grace", self.stop.grace, Duration::ZERO)?;
        if self.singleton && self.stop.grace > limits::SINGLETON_GRACE {
            let most = limits::SINGLETON_GRACE;
            return bad(
                "stop.grace",
                format!("more than {most:?}: a singleton must be gone before its lease ends"),
            );
        }
        if !(1..=31).contains(&self.stop.signal) {
            return bad("stop.signal", format!("{} is no signal", self.stop.signal));
        }
        span("update.min_healthy", self.update.min_healthy, Duration::ZERO)?;
        span("update.deadline", self.update.deadline, second)?;
        if self.update.max_parallel == 0 {
            return bad("update.max_parallel", "0: nothing would ever be replaced");
        }
        if let Some(delay) = self.reschedule_delay {
            span("reschedule_delay", delay, Duration::ZERO)?;
        }
        at_most("checks", self.checks.len(), limits::CHECKS)?;
        for (at, check) in self.checks.iter().enumerate() {
            span(&format!("checks[{at}].interval"), check.interval, tenth)?;
            span(&format!("checks[{at}].timeout"), check.timeout, tenth)?;
            if check.failures == 0 {
                return bad(format!("checks[{at}].failures"), "0: it would fail before it was asked");
            }
            let port = match &check.probe {
                Probe::Exec(command) if command.is_empty() => return bad(format!("checks[{at}].exec"), "missing"),
                Probe::Exec(_) => continue,
                Probe::Tcp(port) | Probe::Http(port, _) | Probe::Grpc(port) => port,
            };
            if !self.ports.contains(port) {
                return bad(format!("checks[{at}].port"), format!("{port:?} is none of `ports`"));
            }
        }
        Ok(())
    }
}
