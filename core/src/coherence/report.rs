//! Invariants across the systems, and the resulting score.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// Severity of a violated invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Informational.
    Notice,
    /// Requires attention.
    Warning,
    /// The cluster does not fulfil its guarantees.
    Critical,
}

impl Severity {
    /// Weight in the score.
    const fn weight(self) -> f32 {
        match self {
            Severity::Notice => 1.0,
            Severity::Warning => 3.0,
            Severity::Critical => 10.0,
        }
    }
}

/// Maximum number of nodes named by an invariant.
pub const NAMED: usize = 16;

/// A condition that must hold across the systems.
#[derive(Clone, Debug, PartialEq)]
pub struct Invariant {
    /// Identifier.
    pub id: &'static str,
    /// The condition.
    pub meaning: &'static str,
    /// Severity of a violation.
    pub severity: Severity,
    /// Number of items checked.
    pub checked: u32,
    /// Number of items that violate it.
    pub broken: u32,
    /// Violating nodes, sorted; at most [`NAMED`].
    pub nodes: Vec<NodeId>,
    /// Description of a violation, human-readable.
    pub detail: String,
}

impl Invariant {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.broken == 0
    }
}

/// Collects the results of one invariant.
#[derive(Debug)]
pub struct Check {
    invariant: Invariant,
    nodes: BTreeSet<NodeId>,
}

impl Check {
    /// Creates a check without results.
    pub fn new(id: &'static str, severity: Severity, meaning: &'static str) -> Check {
        let invariant = Invariant {
            id,
            meaning,
            severity,
            checked: 0,
            broken: 0,
            nodes: Vec::new(),
            detail: String::new(),
        };
        Check {
            invariant,
            nodes: BTreeSet::new(),
        }
    }

    /// Checks one node; `broken` describes a violation. The first violation becomes the detail.
    pub fn node(&mut self, id: NodeId, broken: Option<impl FnOnce() -> String>) {
        if self.many(1, u32::from(broken.is_some()), broken) {
            self.nodes.insert(id);
            if self.nodes.len() > NAMED {
                self.nodes.pop_last();
            }
        }
    }

    /// Records `checked` items of which `broken` violate the invariant.
    pub fn many(&mut self, checked: u32, broken: u32, detail: Option<impl FnOnce() -> String>) -> bool {
        self.invariant.checked += checked;
        self.invariant.broken += broken;
        if broken > 0 && self.invariant.detail.is_empty() {
            self.invariant.detail = detail.map(|detail| detail()).unwrap_or_default();
        }
        broken > 0
    }

    fn done(self) -> Invariant {
        Invariant {
            nodes: self.nodes.into_iter().collect(),
            ..self.invariant
        }
    }
}

/// The report of one cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Score, 0 to 100: `100 · (1 − Σ wᵢ·brokenᵢ/checkedᵢ ÷ Σ wᵢ)` over the invariants with at least one item checked;
    /// the weights are 1 for a notice, 3 for a warning and 10 for a critical one.
    pub score: f32,
    /// All invariants, in a fixed order.
    pub invariants: Vec<Invariant>,
}

impl Report {
    /// Creates a report from checks.
    pub fn new(checks: impl IntoIterator<Item = Check>) -> Report {
        let invariants: Vec<Invariant> = checks.into_iter().map(Check::done).collect();
        let (mut lost, mut weights) = (0.0, 0.0);
        for invariant in invariants.iter().filter(|invariant| invariant.checked > 0) {
            let weight = invariant.severity.weight();
            lost += weight * invariant.broken as f32 / invariant.checked as f32;
            weights += weight;
        }
        let score = if weights > 0.0 {
            100.0 * (1.0 - lost / weights)
        } else {
            100.0
        };
        Report { score, invariants }
    }
}
