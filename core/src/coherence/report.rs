//! Do the systems agree? The invariants and the score.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// How bad a broken invariant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Somebody should look.
    Warning,
    /// The cluster does not do what it promises.
    Critical,
}

impl Severity {
    /// Its weight in the score.
    const fn weight(self) -> f32 {
        match self {
            Severity::Notice => 1.0,
            Severity::Warning => 3.0,
            Severity::Critical => 10.0,
        }
    }
}

/// Nodes that one invariant names at most.
pub const NAMED: usize = 16;

/// One thing that must hold across the systems.
#[derive(Clone, Debug, PartialEq)]
pub struct Invariant {
    /// Its id.
    pub id: &'static str,
    /// What must hold.
    pub meaning: &'static str,
    /// How bad it is when it does not.
    pub severity: Severity,
    /// Things that it was checked on.
    pub checked: u32,
    /// Things that break it.
    pub broken: u32,
    /// Nodes that break it, sorted; at most [`NAMED`].
    pub nodes: Vec<NodeId>,
    /// What is wrong, for people.
    pub detail: String,
}

impl Invariant {
    /// Does it hold?
    pub fn holds(&self) -> bool {
        self.broken == 0
    }
}

/// Collects what one invariant finds.
#[derive(Debug)]
pub struct Check {
    invariant: Invariant,
    nodes: BTreeSet<NodeId>,
}

impl Check {
    /// A check that has looked at nothing yet.
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

    /// Looks at one node; `broken` says what is wrong with it. The first finding is told as the detail.
    pub fn node(&mut self, id: NodeId, broken: Option<impl FnOnce() -> String>) {
        if self.many(1, u32::from(broken.is_some()), broken) {
            self.nodes.insert(id);
            if self.nodes.len() > NAMED {
                self.nodes.pop_last();
            }
        }
    }

    /// Looks at `checked` things of which `broken` break it.
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
    /// 0 to 100: `100 · (1 − Σ wᵢ·brokenᵢ/checkedᵢ ÷ Σ wᵢ)` over the invariants that were checked on anything, with the
    /// weights 1 for a notice, 3 for a warning and 10 for a critical one.
    pub score: f32,
    /// Every invariant, in a fixed order.
    pub invariants: Vec<Invariant>,
}

impl Report {
    /// The report over `checks`.
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
