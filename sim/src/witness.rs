//! Observations of a run, and the simulator's knowledge.

use std::collections::{BTreeMap, BTreeSet};

use wyneos_core::{id::DecisionId, node::Liveness, time::Time, workload::AssignmentId};

use crate::{
    known::Known,
    names::name,
    report::{Detection, Found, Moved, Program, Report, Transition},
    stage::Stage,
    truth::Truth,
};

/// The two sides of a finding.
pub(crate) type Sides = (BTreeSet<usize>, BTreeSet<usize>);

/// Start or end of a program: time, workload, node, and whether it started.
pub(crate) type Run = (Time, String, usize, bool);

/// An instance as recorded by the coordinator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) node: usize,
    pub(crate) revision: u64,
    /// Whether it is meant to run and has not ended.
    pub(crate) wanted: bool,
}

/// Everything that is reported and checked.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) truth: Truth,
    pub(crate) known: Known,
    /// Nodes pending admission.
    pub(crate) pending_nodes: BTreeSet<usize>,
    pub(crate) transitions: Vec<(Time, usize, Transition)>,
    pub(crate) findings: Vec<(Time, bool, Sides, Found)>,
    pub(crate) deaths: Vec<(Time, usize)>,
    /// Lease expirations: time and node.
    pub(crate) lapses: Vec<(Time, usize)>,
    /// Liveness reported to a node via a peer.
    pub(crate) told: Vec<(Time, usize, Liveness)>,
    /// Starts and ends of programs.
    pub(crate) runs: Vec<Run>,
    /// Number of running programs per workload.
    pub(crate) running: BTreeMap<String, u32>,
    /// Slots whose programs succeeded, by workload.
    pub(crate) done: BTreeMap<String, BTreeSet<u32>>,
    /// Instances placed, moved or stopped, as recorded by the coordinator.
    pub(crate) moves: Vec<Moved>,
    /// Decisions pending approval.
    pub(crate) pending: BTreeSet<DecisionId>,
    /// Decisions taken, and the nodes of verdicts.
    pub(crate) decided: BTreeSet<DecisionId>,
    pub(crate) verdicts: BTreeMap<DecisionId, usize>,
    /// The newest placed instance.
    pub(crate) newest: AssignmentId,
    /// Instances as last recorded by the coordinator.
    pub(crate) placed: BTreeMap<AssignmentId, Placed>,
    /// Times, nodes and rules of decisions.
    pub(crate) decisions: Vec<(Time, usize, String)>,
    /// Kinds of timers that fired in ended processes.
    pub(crate) timers: BTreeSet<&'static str>,
}

/// Outcome of a run.
pub(crate) struct Ending {
    pub(crate) seed: u64,
    /// Number of simulated events.
    pub(crate) events: u64,
    pub(crate) complete: bool,
    pub(crate) unheard: BTreeSet<String>,
}

impl Witness {
    /// Seconds from a node's death until it was declared offline.
    fn found(&self, died: Time, node: usize) -> Option<f64> {
        let mut later = self.transitions.iter().filter(|(at, of, _)| *of == node && *at >= died);
        later
            .find(|(_, _, transition)| transition.to == Liveness::Offline.name())
            .map(|(at, ..)| seconds(Time(at.0 - died.0)))
    }

    /// Creates the report; the caller adds failures and the digest of the trace.
    pub(crate) fn report(self, stage: &Stage<'_>, ending: Ending) -> Report {
        let Ending {
            seed,
            events,
            complete,
            unheard,
        } = ending;
        let detections = self.deaths.iter().map(|&(died, node)| Detection {
            node: name(node),
            died: seconds(died),
            after: self.found(died, node),
        });
        let detections = detections.collect();
        let transitions = self.transitions.into_iter().map(|(_, _, transition)| transition);
        let transitions: Vec<Transition> = transitions.collect();
        let programs = self.runs.into_iter().map(|(at, workload, node, started)| Program {
            at: seconds(at),
            workload,
            node: name(node),
            started,
        });
        let lapses = self.lapses.iter().map(|(at, node)| (seconds(*at), name(*node)));
        Report {
            scenario: stage.scenario.name.clone(),
            seed,
            seconds: seconds(stage.now),
            complete,
            false_verdicts: transitions.iter().filter(|transition| !transition.right).count(),
            transitions,
            findings: self.findings.into_iter().map(|(.., found)| found).collect(),
            detections,
            unheard,
            lapses: lapses.collect(),
            moves: self.moves,
            programs: programs.collect(),
            timers: self.timers,
            failures: Vec::new(),
            events,
            trace_hash: String::new(),
        }
    }
}

fn seconds(time: Time) -> f64 {
    time.0 as f64 / 1e9
}
