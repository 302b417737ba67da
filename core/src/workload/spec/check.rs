//! Validation of workload specifications.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Check, Constraint, FixedPort, Interruption, Kind, Limits, Operator, Probe, Protocol, Resources, Spec, limits,
};
use crate::{
    text::{Quoted, Span},
    workload::Secret,
};

/// Reason why a specification is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadSpec {
    /// Path of the field.
    pub field: String,
    /// The error, and what a valid value would be.
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

/// Checks a name of letters, digits and hyphens, as in host names.
fn name(field: &str, text: &str) -> Result<(), BadSpec> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=limits::NAME).contains(&text.len()) && text.bytes().all(fits) && edges {
        true => Ok(()),
        false => bad(field, "1 to 63 of a-z, 0-9 and '-', not at an end"),
    }
}

fn text(field: &str, text: &str) -> Result<(), BadSpec> {
    text_of(field, text, limits::TEXT)
}

fn text_of(field: &str, text: &str, most: usize) -> Result<(), BadSpec> {
    if text.len() > most {
        return bad(field, format!("{} bytes; at most {most}", text.len()));
    }
    match text.contains('\0') {
        true => bad(field, "has a zero byte, which no program can be given"),
        false => Ok(()),
    }
}

/// Whether a text can be the name or number of a host user. Which users exist is for the host to decide.
///
/// A number has 32 bits: the C library ignores higher bits, so that 4294967296 would be root, and it accepts leading
/// spaces before the digits. The kernel interprets the highest number as "no change".
pub fn is_user(text: &str) -> bool {
    let forbidden = |char: char| crate::text::is_hidden(char) || char == ':' || char == '/';
    let spaced = text.trim() != text;
    let fits = (1..=crate::limits::USER).contains(&text.len()) && !text.starts_with('-') && !text.contains(forbidden);
    let digits = text.trim_start_matches('+');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_good = !is_number || text.parse().is_ok_and(|number: u32| number != u32::MAX);
    fits && !spaced && is_good
}

/// Prefixes of environment variables reserved for the agent.
const RESERVED: [&str; 2] = ["WYNEOS_", "PORT_"];

fn span(field: &str, span: Duration, least: Duration) -> Result<(), BadSpec> {
    match (least..=limits::SPAN).contains(&span) {
        true => Ok(()),
        false => bad(
            field,
            format!("{} is not between {} and 7 days", Span(span), Span(least)),
        ),
    }
}

impl Spec {
    /// Validates the specification.
    ///
    /// # Errors
    /// The first invalid field.
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
        if self.parallelism > 0 && !self.kind.is_batch() {
            return bad("parallelism", "goes with kind batch");
        }
        if self.on_interruption != Interruption::default() && !self.kind.is_batch() {
            return bad(
                "on_interruption",
                "goes with kind batch: whatever else was ended by its host is started again",
            );
        }
        if self.offline_start.is_some() && self.singleton {
            return bad(
                "offline_start",
                "a singleton runs by its lease alone, which only a coordinator gives",
            );
        }
        if self.offline_start.is_some() && self.kind.is_batch() && self.on_interruption == Interruption::Fail {
            return bad(
                "offline_start",
                "would run again what `on_interruption` says has failed",
            );
        }
        if self.priority > limits::PRIORITY {
            return bad("priority", format!("{} is not between 0 and 100", self.priority));
        }
        self.check_process()?;
        self.check_placement()?;
        self.check_times()?;
        self.check_probes()?;
        at_most("all fields together, bytes", self.size(), crate::limits::DECLARATION)
    }

    /// Validates the specification for a new declaration: [`Spec::check`], and requirements that specifications
    /// accepted by earlier versions may not meet. Those keep running, with the reserved variables overridden.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn check_declared(&self) -> Result<(), BadSpec> {
        self.check()?;
        if !self.user.is_empty() && !is_user(&self.user) {
            return bad(
                "user",
                "not the name of a user (1 to 256 bytes, no ':' or '/', not beginning with '-', no spaces around it), nor a number from 0 to \
                 4294967294",
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
            // The specification was derived from a response with hidden values; it would run with the placeholder.
            Some((key, _)) => bad(
                format!("env.{key}"),
                "\"(hidden)\" stands for a value that is not shown: give the value itself",
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
        text_of("user", &self.user, limits::USER)?;
        at_most("args", self.args.len(), limits::ARGS)?;
        at_most("env", self.env.len(), limits::ENV)?;
        for (at, arg) in self.args.iter().enumerate() {
            text(&format!("args[{at}]"), arg)?;
        }
        for (at, (key, value)) in self.env.iter().enumerate() {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let named = !key.is_empty() && key.len() <= limits::VARIABLE && key.bytes().all(fits);
            if !named || key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                // The name is not repeated: it may be a whole assignment including its value.
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
        self.check_fixed_ports()
    }

    fn check_fixed_ports(&self) -> Result<(), BadSpec> {
        let mut before: BTreeMap<FixedPort, &str> = BTreeMap::new();
        for (name, fixed) in &self.fixed_ports {
            let Some(at) = self.ports.iter().position(|port| port == name) else {
                return bad("ports", format!("{} is fixed, and is none of them", Quoted(name)));
            };
            if fixed.port == 0 {
                return bad(
                    format!("ports[{at}].port"),
                    "0 is no port: 1 to 65535, or none for one that the agent hands out",
                );
            }
            if let Some(other) = before.insert(*fixed, name) {
                let both = format!("{fixed} is the port of {} as well", Quoted(other));
                return bad(format!("ports[{at}].port"), both);
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
        let Limits {
            cpu_millis,
            pids,
            nofile,
        } = self.limits;
        if nofile > limits::MOST_NOFILE || (1..limits::LEAST_NOFILE).contains(&nofile) {
            let (least, most) = (limits::LEAST_NOFILE, limits::MOST_NOFILE);
            return bad(
                "limits.nofile",
                format!("{nofile}; {least} to {most}, or 0 for the host's"),
            );
        }
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
        if self.spread.len() > crate::limits::LABEL_KEY {
            let (has, most) = (self.spread.len(), crate::limits::LABEL_KEY);
            return bad("spread", format!("{has} bytes; a label's key has at most {most}"));
        }
        for (list, constraints) in [("constraints", &self.constraints), ("affinity", &self.affinity)] {
            at_most(list, constraints.len(), limits::CONSTRAINTS)?;
            for (at, constraint) in constraints.iter().enumerate() {
                check_constraint(&format!("{list}[{at}]"), constraint)?;
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), BadSpec> {
        let second = Duration::from_secs(1);
        span("restart.window", self.restart.window, second)?;
        span("restart.backoff", self.restart.backoff, limits::BACKOFF)?;
        span("restart.backoff_max", self.restart.backoff_max, self.restart.backoff)?;
        span("stop.grace", self.stop.grace, Duration::ZERO)?;
        span("stop.delay", self.stop.delay, Duration::ZERO)?;
        if self.singleton && self.stop.grace > limits::SINGLETON_GRACE {
            let most = limits::SINGLETON_GRACE;
            return bad(
                "stop.grace",
                format!(
                    "more than {}: a singleton must be gone before its lease ends",
                    Span(most)
                ),
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
        if let Some(wait) = self.offline_start {
            span("offline_start", wait, second)?;
        }
        Ok(())
    }

    fn check_probes(&self) -> Result<(), BadSpec> {
        let tenth = Duration::from_millis(100);
        at_most("checks", self.checks.len(), limits::CHECKS)?;
        for (at, check) in self.checks.iter().enumerate() {
            let field = |name: &str| format!("checks[{at}].{name}");
            span(&field("interval"), check.interval, tenth)?;
            span(&field("timeout"), check.timeout, tenth)?;
            if check.failures == 0 {
                return bad(field("failures"), "0: it would fail before it was asked");
            }
            if let Some(grace) = check.start_grace {
                span(&field("start_grace"), grace, Duration::ZERO)?;
            }
            check_address(&field("address"), check)?;
            let port = match &check.probe {
                Probe::Exec(command) => {
                    check_command(&field("exec"), command)?;
                    continue;
                }
                Probe::Http(port, path) => {
                    text_of(&field("http.path"), path, limits::PATH)?;
                    port
                }
                Probe::Tcp(port) | Probe::Grpc(port) => port,
            };
            if !self.ports.contains(port) {
                return bad(field("port"), format!("{} is none of `ports`", Quoted(port)));
            }
            if self
                .fixed_ports
                .get(port)
                .is_some_and(|fixed| fixed.protocol == Protocol::Udp)
            {
                let reason = format!(
                    "{} is a UDP port, and this asks by TCP: ask it by a program (exec)",
                    Quoted(port)
                );
                return bad(field("port"), reason);
            }
        }
        Ok(())
    }
}

/// Checks a host name or address without a port.
fn check_address(field: &str, check: &Check) -> Result<(), BadSpec> {
    let address = check.address.as_str();
    text_of(field, address, limits::ADDRESS)?;
    let is_name = |one: char| one.is_ascii_alphanumeric() || matches!(one, '.' | '-' | '_');
    match address {
        "" => Ok(()),
        _ if matches!(check.probe, Probe::Exec(_)) => bad(field, "a check that is a program asks no address"),
        _ if address.parse::<std::net::IpAddr>().is_ok() || address.chars().all(is_name) => Ok(()),
        _ => bad(
            field,
            format!("{} is no host's name or address (without a port)", Quoted(address)),
        ),
    }
}

fn check_constraint(field: &str, constraint: &Constraint) -> Result<(), BadSpec> {
    let (key, value) = (crate::limits::LABEL_KEY, crate::limits::LABEL_VALUE);
    if constraint.key.is_empty() || constraint.key.len() > key {
        return bad(format!("{field}.key"), format!("1 to {key} bytes"));
    }
    at_most(&format!("{field}.values"), constraint.values.len(), limits::VALUES)?;
    for (at, one) in constraint.values.iter().enumerate() {
        text_of(&format!("{field}.values[{at}]"), one, value)?;
    }
    let wants = matches!(constraint.operator, Operator::In | Operator::NotIn);
    match wants == constraint.values.is_empty() {
        true => bad(
            format!("{field}.values"),
            "`in` and `not_in` want values, the others none",
        ),
        false => Ok(()),
    }
}

fn check_command(field: &str, command: &[String]) -> Result<(), BadSpec> {
    if command.is_empty() {
        return bad(field, "missing");
    }
    at_most(field, command.len(), limits::CHECK_ARGS)?;
    for (at, word) in command.iter().enumerate() {
        text(&format!("{field}[{at}]"), word)?;
    }
    Ok(())
}
