//! What a run showed, and what the simulator knows of it.

use std::collections::{BTreeMap, BTreeSet};

use wyneos_core::{node::Liveness, time::Time, workload::AssignmentId};

use crate::{
    known::Known,
    names::name,
    report::{Detection, Found, Moved, Program, Report, Transition},
    stage::Stage,
    truth::Truth,
};

/// The two sides of a finding.
pub(crate) type Sides = (BTreeSet<usize>, BTreeSet<usize>);

/// A program started or ended: when, of which workload, on which node, and whether it started.
pub(crate) type Run = (Time, String, usize, bool);

/// An instance as the coordinator recorded it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) node: usize,
    pub(crate) revision: u64,
    /// It is to run, and has not ended.
    pub(crate) wanted: bool,
}

/// What happened, as it is reported and checked.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) truth: Truth,
    pub(crate) known: Known,
    /// Nodes that no operator has admitted.
    pub(crate) pending_nodes: BTreeSet<usize>,
    pub(crate) transitions: Vec<(Time, usize, Transition)>,
    pub(crate) findings: Vec<(Time, bool, Sides, Found)>,
    pub(crate) deaths: Vec<(Time, usize)>,
    /// Whose lease ran out, and when.
    pub(crate) lapses: Vec<(Time, usize)>,
    /// Who was told its liveness by way of a peer.
    pub(crate) told: Vec<(Time, usize, Liveness)>,
    /// Programs that started and ended.
    pub(crate) runs: Vec<Run>,
    /// Programs that run, by workload.
    pub(crate) running: BTreeMap<String, u32>,
    /// Slots whose programs have ended with success, by workload.
    pub(crate) done: BTreeMap<String, BTreeSet<u32>>,
    /// Instances that were placed, moved or stopped, as the coordinator recorded it.
    pub(crate) moves: Vec<Moved>,
    /// Decisions that wait for an operator.
    pub(crate) pending: BTreeSet<u64>,
    /// Decisions that were taken, and the nodes that verdicts were about.
    pub(crate) decided: BTreeSet<u64>,
    pub(crate) verdicts: BTreeMap<u64, usize>,
    /// The newest instance that was placed.
    pub(crate) newest: AssignmentId,
    /// Instances as the coordinator last recorded them: workload, node, revision, and whether they are to run and have not ended.
    pub(crate) placed: BTreeMap<AssignmentId, Placed>,
    /// Whom decisions were about, and their rules.
    pub(crate) decisions: Vec<(Time, usize, String)>,
    /// Kinds of timers that fired in processes that have ended.
    pub(crate) timers: BTreeSet<&'static str>,
}

/// How a run ended.
pub(crate) struct Ending {
    pub(crate) seed: u64,
    /// Things that happened.
    pub(crate) events: u64,
    pub(crate) complete: bool,
    pub(crate) unheard: BTreeSet<String>,
}

impl Witness {
    /// When the node was declared offline after it died, in seconds from then.
    fn found(&self, died: Time, node: usize) -> Option<f64> {
        let mut later = self.transitions.iter().filter(|(at, of, _)| *of == node && *at >= died);
        later
            .find(|(_, _, transition)| transition.to == Liveness::Offline.name())
            .map(|(at, ..)| seconds(Time(at.0 - died.0)))
    }

    /// What is reported; what does not hold, and the trace's digest, are added by the caller.
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
