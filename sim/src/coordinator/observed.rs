//! What the coordinator concludes, and what must hold of it.

use std::collections::BTreeSet;

use wyneos_core::{
    autonomy::{self, Decision, Evidence, Kind, Outcome},
    event::EventBody,
    id::NodeId,
    mesh::Finding,
    node::{Cause, Liveness},
    standing,
    store::Batch,
    time::Time,
    workload::{AssignmentId, Goal},
};

use crate::{
    event::What,
    known::RECKONED,
    names::{name, node_of},
    pins::Pin,
    report::{Found, Moved, Transition},
    world::{Placed, World},
};

/// True for the decision that a node's liveness is `to`.
fn concludes(decision: &Decision, node: NodeId, to: Liveness) -> bool {
    let rules: &[&str] = match to {
        Liveness::Online => &["session-alive"],
        Liveness::Suspect => &["session-lost", "flapping"],
        Liveness::Unreachable => &["peers-hear-it"],
        Liveness::Offline => &["nobody-hears-it"],
        Liveness::Left => &["goodbye", "revoked"],
        Liveness::Unseen => &["restart"],
    };
    let about = decision.kind == Kind::Liveness && decision.node == Some(node);
    about && decision.outcome != Outcome::Resolved && rules.contains(&decision.rule.as_str())
}

impl World<'_> {
    /// What is moved because a node was lost is not moved while it is not known what was lost.
    fn check_placement(&mut self, decision: &Decision, batch: &Batch, now: bool) {
        // What becomes of an earlier one is told as well.
        if decision.kind != Kind::Placement || decision.outcome != Outcome::Done {
            return;
        }
        if decision.evidence.is_empty() {
            self.fail(format!("{} without evidence", decision.action));
        }
        let made = batch
            .assignments
            .iter()
            .filter_map(|(id, record)| Some((*id, record.as_ref()?)));
        let made = made.filter(|(id, record)| *id > self.newest && record.decision == decision.id);
        let replaced: Vec<AssignmentId> = made
            .filter_map(|(_, record)| record.replaces.filter(|before| self.was_lost(*before, record.revision)))
            .collect();
        if decision.lost.len() < autonomy::MOVED
            && let Some(untold) = replaced.iter().find(|before| !decision.lost.contains(before))
        {
            self.fail(format!(
                "{} replaces {untold}, which was lost, and does not say so",
                decision.action
            ));
        }
        let moves = !(decision.lost.is_empty() && decision.displaced.is_empty() && replaced.is_empty());
        if moves && now && self.is_ambiguous(RECKONED) {
            self.fail(format!("{} while it is ambiguous what died", decision.action));
        }
    }

    /// True when an instance was to run, on a node that was given up, by the declaration that another one now runs by.
    fn was_lost(&self, id: AssignmentId, revision: u64) -> bool {
        let Some(placed) = self.placed.get(&id) else {
            return false;
        };
        let believed = self.known.of(placed.node).map(|believed| believed.liveness);
        placed.wanted && placed.revision == revision && believed == Some(Liveness::Offline)
    }

    /// Every decision is by a rule that is documented, and one about liveness by a rule that leads there.
    fn check_rule(&mut self, decision: &Decision) {
        if !autonomy::RULES.contains(&decision.rule.as_str()) {
            self.fail(format!("{} by {:?}, which is no rule", decision.action, decision.rule));
        }
    }

    /// Instances that were placed or told to stop: each by a decision.
    pub(super) fn observe_moves(&mut self, batch: &Batch) {
        for (id, record) in &batch.assignments {
            let Some(record) = record else {
                self.placed.remove(id);
                continue;
            };
            let placed = *id > self.newest;
            let wanted = record.goal == Goal::Run && record.end.is_none();
            let now = Placed {
                node: node_of(record.node),
                revision: record.revision,
                wanted,
            };
            self.placed.insert(*id, now);
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
        self.believe_finding(finding.kind, sides.0.iter().copied(), open);
        self.note(Pin::Verdicts, &found.kind, &[u8::from(open)]);
        self.findings.push((self.now, open, sides, found));
    }

    /// An `offline` must rest on silence that was long enough, and on nobody's hearing the node; and its lease must be over when
    /// another could have its place.
    fn check_offline(&mut self, node: usize, cause: Cause, now: bool) {
        if now {
            self.check_silence(node, cause);
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
        // What had to wait for the disk was concluded earlier.
        let now = !self.host.was_full;
        for id in &batch.forgotten {
            self.known.forget(node_of(*id));
        }
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
                self.check_rule(decision);
                self.check_placement(decision, batch, now);
            }
            let (Some(id), EventBody::Liveness { from, to, cause }) = (event.node, &event.body) else {
                continue;
            };
            let node = node_of(id);
            let decided = batch.events[at + 1..].iter().find_map(|next| match &next.body {
                EventBody::Decision(decision) if concludes(decision, id, *to) => Some(decision),
                _ => None,
            });
            let facts = |fact: &Evidence| format!("{}: {}", fact.source, fact.fact);
            let evidence: Vec<String> = decided.map_or_else(Vec::new, |d| d.evidence.iter().map(facts).collect());
            if evidence.is_empty() {
                self.fail(format!("{} became {} without evidence", name(node), to.name()));
            }
            let right = *to != Liveness::Offline || self.may_be_given_up(node);
            if *to == Liveness::Offline {
                self.check_offline(node, *cause, now);
            }
            if !right {
                self.fail(format!("{} is declared offline and is there", name(node)));
            }
            self.known.believe(node, *to, *cause, self.now);
            let transition = Transition {
                at: self.now.0 as f64 / 1e9,
                node: name(node),
                from: from.map(|from| from.name().to_owned()),
                to: to.name().to_owned(),
                cause: cause.meaning().to_owned(),
                evidence,
                right,
            };
            self.note(Pin::Verdicts, &transition.to, &id.0);
            self.transitions.push((self.now, node, transition));
        }
    }
}
