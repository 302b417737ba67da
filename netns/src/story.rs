//! The conclusions of a run, real or simulated, in a common representation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wyneos_core::{mesh::FindingKind, node::Liveness};
use wyneos_sim::Report;

/// A finding: its kind, and its two sides in any order.
pub type Found = (String, BTreeSet<BTreeSet<String>>);

/// A verdict: the node, its liveness, and the cause.
pub type Verdict = (String, String, String);

/// Kinds of findings that report partitions and failures; the other kinds also depend on how busy the machine is.
const TOLD: [FindingKind; 8] = [
    FindingKind::NodesDown,
    FindingKind::CoordinatorCut,
    FindingKind::PeersCut,
    FindingKind::GroupSplit,
    FindingKind::LinkDown,
    FindingKind::OneWay,
    FindingKind::LargeLost,
    FindingKind::Ambiguous,
];

/// The conclusions of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Liveness transitions by node, target and cause, without their count, which varies by chance. Transitions to
    /// `suspect` and `unreachable` are covered by the findings.
    pub verdicts: BTreeSet<Verdict>,
    /// The findings.
    pub found: BTreeSet<Found>,
}

impl Story {
    /// Returns the conclusions of a simulated run.
    pub fn simulated(report: &Report) -> Story {
        let mut story = Story::default();
        for transition in &report.transitions {
            story.verdict(&transition.node, &transition.to, &transition.cause);
        }
        for found in report.findings.iter().filter(|found| found.open) {
            story.find(&found.kind, [&found.near, &found.far]);
        }
        story
    }

    /// Returns the conclusions that the events of a real run report.
    pub fn real(events: &[Value]) -> Story {
        let mut story = Story::default();
        let names: BTreeMap<&str, &str> = events
            .iter()
            .filter_map(|event| Some((event["nodeId"].as_str()?, event["nodeName"].as_str()?)))
            .collect();
        for event in events {
            let summary = event["summary"].as_str().unwrap_or_default();
            let liveness = event["liveness"].is_object().then(|| summary.split_once(" is "));
            if let Some((node, (to, cause))) = liveness
                .flatten()
                .and_then(|(node, rest)| Some((node, rest.split_once(": ")?)))
            {
                story.verdict(node, to, cause);
            }
            let told = &event["finding"];
            if told["open"] == true {
                let finding = &told["finding"];
                let kind = finding["kind"].as_str().unwrap_or_default();
                let kind = kind
                    .trim_start_matches("FINDING_KIND_")
                    .to_lowercase()
                    .replace('_', "-");
                let side = |ids: &Value| -> Vec<String> {
                    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
                    ids.map(|id| (*names.get(id).unwrap_or(&id)).to_owned()).collect()
                };
                story.find(&kind, [&side(&finding["near"]), &side(&finding["far"])]);
            }
        }
        story
    }

    fn verdict(&mut self, node: &str, to: &str, cause: &str) {
        let doubt = [Liveness::Suspect, Liveness::Unreachable].map(Liveness::name);
        if !doubt.contains(&to) {
            self.verdicts.insert((node.to_owned(), to.to_owned(), cause.to_owned()));
        }
    }

    fn find(&mut self, kind: &str, sides: [&Vec<String>; 2]) {
        if TOLD.iter().any(|told| told.name() == kind) {
            let sides = sides.into_iter().map(|side| side.iter().cloned().collect()).collect();
            self.found.insert((kind.to_owned(), sides));
        }
    }
}
