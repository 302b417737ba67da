//! What the coordinator concludes, and what must hold of it.

use std::collections::BTreeSet;

use wyneos_core::{
    autonomy::{Decision, Kind, Outcome},
    event::EventBody,
    id::NodeId,
    mesh::{Finding, Sight},
    node::Liveness,
    standing,
    store::Batch,
    time::Time,
    workload::Goal,
};

use crate::{
    agents::node_of,
    report::{Found, Moved, Transition},
    world::{What, World, name},
};

impl World<'_> {
    /// What is moved because a node was lost is not moved while it is not known what was lost.
    fn check_placement(&mut self, decision: &Decision) {
        let moves = ["the one before was lost", "gives way to"];
        let moved = |evidence: &wyneos_core::autonomy::Evidence| moves.iter().any(|what| evidence.fact.contains(what));
        let moved = decision.kind == Kind::Placement && decision.evidence.iter().any(moved);
        let open = |kind: &str| {
            let told = self.findings.iter().rfind(|(.., found)| found.kind == kind);
            told.is_some_and(|(.., found)| found.open)
        };
        if moved && open("ambiguous") {
            self.fail(format!("{} while it is ambiguous what died", decision.action));
        }
        if decision.evidence.is_empty() && decision.kind == Kind::Placement {
            self.fail(format!("{} without evidence", decision.action));
        }
    }

    /// Instances that were placed or told to stop: each by a decision.
    pub(super) fn observe_moves(&mut self, batch: &Batch) {
        for (id, record) in &batch.assignments {
            let Some(record) = record else { continue };
            let placed = *id > self.newest;
            self.newest = self.newest.max(*id);
            if placed && record.decision == 0 {
                self.fail(format!("{id} of {} was placed without a decision", record.workload));
            }
            let (what, reason) = match record.goal {
                Goal::Run if placed => ("start", record.reason.clone()),
                Goal::Stop if record.end.is_none() => ("stop", record.stop_reason.clone()),
                _ => continue,
            };
            let moved = Moved {
                at: self.now.0 as f64 / 1e9,
                instance: format!("{}.{}", record.workload, record.slot),
                node: name(node_of(record.node)),
                what: what.to_owned(),
                reason,
            };
            self.moves.push(moved);
        }
    }

    fn found(&mut self, finding: &Finding, open: bool) {
        let side = |ids: &[NodeId]| -> BTreeSet<usize> { ids.iter().map(|&id| node_of(id)).collect() };
        let sides = (side(&finding.near), side(&finding.far));
        let names = |nodes: &BTreeSet<usize>| nodes.iter().map(|&node| name(node)).collect();
        let found = Found {
            at: self.now.0 as f64 / 1e9,
            kind: finding.kind.name().to_owned(),
            open,
            near: names(&sides.0),
            far: names(&sides.1),
            detail: finding.detail.clone(),
        };
        self.note(&found.kind, &[u8::from(open)]);
        self.findings.push((self.now, open, sides, found));
    }

    /// An `offline` must rest on silence that was long enough, and on nobody's hearing the node; and its lease must be over when
    /// another could have its place.
    fn check_offline(&mut self, node: usize, evidence: &[String]) {
        let long_enough = evidence
            .iter()
            .any(|fact| fact.contains("the window is") || fact.contains("without a sign of life"));
        let heard = evidence.iter().any(|fact| fact.ends_with(Sight::Heard.meaning()));
        if !long_enough || heard {
            self.fail(format!("{} is declared offline by {evidence:?}", name(node)));
        }
        let cluster = &self.scenario.cluster;
        let lease = standing::lease(cluster.cycle, cluster.heartbeat);
        // Its clock may be slower than ours.
        self.later(
            lease.mul_f64(1.0 + 2.0 * cluster.clock_drift),
            What::LeaseOver(node, self.now),
        );
    }

    /// A node that was declared offline `at`, so long ago, and not heard since, does not take itself for a member.
    pub(crate) fn lease_over(&mut self, node: usize, at: Time) {
        let last = self.transitions.iter().rfind(|(_, of, _)| *of == node);
        if last.is_some_and(|(last, ..)| *last == at) && self.takes_itself_for_a_member(node) {
            self.fail(format!(
                "{} takes itself for a member after it was given up",
                name(node)
            ));
        }
    }

    /// What the coordinator concludes, as its own events tell it.
    pub(super) fn observe(&mut self, batch: &Batch) {
        for (at, event) in batch.events.iter().enumerate() {
            let expected = self.host.last_event + 1;
            self.host.last_event = event.sequence;
            if event.sequence != expected {
                self.fail(format!("event {} follows {}", event.sequence, expected - 1));
            }
            if let EventBody::Finding { finding, open } = &event.body {
                self.found(finding, *open);
            }
            if let EventBody::Decision(decision) = &event.body {
                if let Some(node) = decision.node {
                    self.decisions.push((self.now, node_of(node), decision.rule.clone()));
                }
                match decision.outcome {
                    Outcome::Pending => self.pending.insert(decision.id),
                    _ => self.pending.remove(&decision.id),
                };
                self.check_placement(decision);
            }
            let (Some(id), EventBody::Liveness { from, to, cause }) = (event.node, &event.body) else {
                continue;
            };
            let node = node_of(id);
            let decided = batch.events[at + 1..].iter().find_map(|next| match &next.body {
                EventBody::Decision(decision) if decision.node == Some(id) && decision.action.contains(to.name()) => {
                    Some(decision)
                }
                _ => None,
            });
            let facts = |fact: &wyneos_core::autonomy::Evidence| format!("{}: {}", fact.source, fact.fact);
            let evidence: Vec<String> = decided.map_or_else(Vec::new, |d| d.evidence.iter().map(facts).collect());
            if evidence.is_empty() {
                self.fail(format!("{} became {} without evidence", name(node), to.name()));
            }
            let right = *to != Liveness::Offline || self.is_gone(node);
            if *to == Liveness::Offline {
                self.check_offline(node, &evidence);
            }
            if !right {
                self.fail(format!("{} is declared offline and is there", name(node)));
            }
            let transition = Transition {
                at: self.now.0 as f64 / 1e9,
                node: name(node),
                from: from.map(|from| from.name().to_owned()),
                to: to.name().to_owned(),
                cause: cause.meaning().to_owned(),
                evidence,
                right,
            };
            self.note(&transition.to, &id.0);
            self.transitions.push((self.now, node, transition));
        }
    }
}
