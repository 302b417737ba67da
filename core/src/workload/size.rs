//! Upper bounds of the encoded size of workload messages. The core has no wire format but fills messages up to a size
//! in bytes; a test in `src/convert` ensures that no encoding exceeds these bounds.

use super::{Assigned, Check, Constraint, Probe, Spec, Status};

/// Size of a field's key and length.
const FIELD: usize = 6;
/// Maximum size of a numeric field.
pub(crate) const NUMBER: usize = 2 + 10;
/// Maximum size of a duration or timestamp field.
const TIME: usize = FIELD + 2 * NUMBER;
/// Maximum size of a sentence in a status or an order on the wire, in bytes.
pub(crate) const DETAIL: usize = 1_024;

/// Maximum size of a text field.
pub(crate) fn text(text: &str) -> usize {
    FIELD + text.len()
}

/// Maximum size of a sentence field, which is truncated to [`DETAIL`].
pub(crate) fn sentence(sentence: &str) -> usize {
    FIELD + sentence.len().min(DETAIL)
}

fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> usize {
    all.into_iter().map(|one| text(one)).sum()
}

fn constraint(constraint: &Constraint) -> usize {
    FIELD + text(&constraint.key) + NUMBER + texts(&constraint.values)
}

fn check(check: &Check) -> usize {
    let probe = match &check.probe {
        Probe::Exec(command) => texts(command),
        Probe::Tcp(port) | Probe::Grpc(port) => text(port),
        Probe::Http(port, path) => text(port) + text(path),
    };
    FIELD + FIELD + probe + 3 * TIME + NUMBER + text(&check.address)
}

impl Spec {
    /// Upper bound of the specification's encoded size, in bytes.
    pub fn size(&self) -> usize {
        let env = self
            .env
            .iter()
            .map(|(name, value)| FIELD + text(name) + text(value.reveal()));
        let constraints = self.constraints.iter().chain(&self.affinity).map(constraint);
        let named = [
            &self.name,
            &self.command,
            &self.directory,
            &self.user,
            &self.spread,
            &self.near,
        ];
        let kind = FIELD + 2 * NUMBER;
        let (resources, limits) = (FIELD + 2 * NUMBER, FIELD + 3 * NUMBER);
        let (alone, priority, singleton) = (NUMBER, NUMBER, NUMBER);
        let restart = FIELD + NUMBER + 3 * TIME;
        let stop = FIELD + NUMBER + 2 * TIME;
        let update = FIELD + 4 * NUMBER + 2 * TIME;
        let (batch, offline_start) = (2 * NUMBER, TIME);
        let fixed = kind
            + resources
            + limits
            + alone
            + priority
            + singleton
            + TIME
            + restart
            + stop
            + update
            + batch
            + offline_start;
        let ports = self.fixed_ports.keys().map(|name| FIELD + text(name) + 2 * NUMBER);
        let listed = texts(&self.args) + env.sum::<usize>() + texts(&self.ports) + ports.sum::<usize>();
        let checks = self.checks.iter().map(check).sum::<usize>();
        fixed + texts(named) + listed + constraints.sum::<usize>() + checks
    }
}

impl Assigned {
    /// Upper bound of the assignment's encoded size, in bytes.
    pub fn size(&self) -> usize {
        FIELD + 3 * NUMBER + FIELD + self.spec.size()
    }
}

impl Status {
    /// Upper bound of the encoded size of an instance's id and status, in bytes.
    pub fn size(&self) -> usize {
        let exit = FIELD + NUMBER;
        let ports = FIELD + self.ports.len() * 3;
        FIELD
            + NUMBER
            + FIELD
            + 9 * NUMBER
            + TIME
            + exit
            + sentence(&self.detail)
            + FIELD
            + self.last_stderr.len()
            + ports
    }
}
