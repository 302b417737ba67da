//! The coordinator's conclusions, and their invariants.

use std::collections::BTreeSet;

use wyneos_core::{
    autonomy::{self, Because, Decision, Evidence, Fact, Kind, Loss, Outcome, Source},
    event::EventBody,
    id::{DecisionId, EventNo, NodeId},
    mesh::Finding,
    node::Liveness,
    standing,
    store::Batch,
    workload::{AssignmentId, Goal},
};

use super::Host;
use crate::{
    event::What,
    machines::Machines,
    names::{name, node_of},
    pins::Pin,
    presence::may_be_given_up,
    report::{Found, Moved, Transition},
    scene::Scene,
    verdicts::{RECKONED, check_silence, is_ambiguous},
    witness::Placed,
};

/// Whether a decision concludes that a node's liveness is `to`.
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

/// Checks that lost instances are not replaced while the situation is ambiguous.
fn check_placement(scene: &mut Scene<'_>, decision: &Decision, batch: &Batch, now: bool) {
    // Later outcomes of a decision are recorded as well.
    if decision.kind != Kind::Placement || decision.outcome != Outcome::Done {
        return;
    }
    if decision.evidence.is_empty() {
        scene.stage.fail(format!("{} without evidence", decision.action));
    }
    let made = batch
        .assignments
        .iter()
        .filter_map(|(id, record)| Some((*id, record.as_ref()?)));
    let newest = scene.witness.newest;
    let made = made.filter(|(id, record)| *id > newest && record.decision == decision.id);
    let replaced: Vec<AssignmentId> = made
        .filter_map(|(_, record)| {
            record
                .replaces
                .filter(|before| was_lost(scene, *before, record.revision.0))
        })
        .collect();
    if decision.lost.len() < autonomy::MOVED
        && let Some(untold) = replaced.iter().find(|before| !decision.lost.contains(before))
    {
        scene.stage.fail(format!(
            "{} replaces {untold}, which was lost, and does not say so",
            decision.action
        ));
    }
    let moves = !(decision.lost.is_empty() && decision.displaced.is_empty() && replaced.is_empty());
    if moves && now && is_ambiguous(scene, RECKONED) {
        scene
            .stage
            .fail(format!("{} while it is ambiguous what died", decision.action));
    }
}

/// Whether an instance of this revision was meant to run on a node that was given up.
fn was_lost(scene: &Scene<'_>, id: AssignmentId, revision: u64) -> bool {
    let Some(placed) = scene.witness.placed.get(&id) else {
        return false;
    };
    let believed = scene.witness.known.of(placed.node).map(|believed| believed.liveness);
    placed.wanted && placed.revision == revision && believed == Some(Liveness::Offline)
}

/// Checks that causes of a decision were recorded before it, as data: the replacement of a lost instance names the
/// verdict on its node.
fn check_causes(scene: &mut Scene<'_>, decision: &Decision, event: u64) {
    let verdicts = &scene.witness.verdicts;
    let is_known = |because: &Because| match because {
        Because::Decision(id) => *id < decision.id && scene.witness.decided.contains(id),
        Because::Event(number) => *number < EventNo(event),
        Because::Finding(_) => true,
    };
    let unknown = decision.caused_by.iter().find(|because| !is_known(because));
    let losses = decision.evidence.iter().filter_map(|one| one.fact.why()?.loss());
    let is_named = |loss: &&Loss| {
        let verdict = loss.decision.and_then(|id| verdicts.get(&id));
        verdict == Some(&node_of(loss.node))
    };
    let unnamed = losses.into_iter().find(|loss| !is_named(loss));
    let in_words = |one: &&Evidence| matches!(one.fact, Fact::Told(_)) || matches!(one.source, Source::Told(_));
    let told = decision.evidence.iter().find(in_words);
    let wrong = [
        unknown.map(|because| format!("rests on {because:?}, which is not known")),
        unnamed.map(|loss| {
            format!(
                "says that {} was lost, and names no verdict on it",
                name(node_of(loss.node))
            )
        }),
        told.map(|one| format!("rests on words alone: {}", one.fact)),
    ];
    for wrong in wrong.into_iter().flatten() {
        scene.stage.fail(format!("{} {wrong}", decision.action));
    }
}

/// Checks that a decision names a documented rule, and that one about liveness names a rule with that result.
fn check_rule(scene: &mut Scene<'_>, decision: &Decision) {
    if !autonomy::RULES.contains(&decision.rule.as_str()) {
        scene
            .stage
            .fail(format!("{} by {:?}, which is no rule", decision.action, decision.rule));
    }
}

/// Records placed and stopped instances, and checks that each has a decision.
pub(super) fn observe_moves(scene: &mut Scene<'_>, batch: &Batch) {
    for (id, record) in &batch.assignments {
        let Some(record) = record else {
            scene.witness.placed.remove(id);
            continue;
        };
        let placed = *id > scene.witness.newest;
        let wanted = record.goal == Goal::Run && record.end.is_none();
        let now = Placed {
            node: node_of(record.node),
            revision: record.revision.0,
            wanted,
        };
        scene.witness.placed.insert(*id, now);
        scene.witness.newest = scene.witness.newest.max(*id);
        if placed && record.decision == DecisionId(0) {
            scene
                .stage
                .fail(format!("{id} of {} was placed without a decision", record.workload));
        }
        let (what, reason) = match record.goal {
            Goal::Run if placed => ("start", record.reason.clone()),
            Goal::Stop if record.end.is_none() => ("stop", record.stop_reason.clone()),
            _ => continue,
        };
        let moved = Moved {
            at: scene.stage.now.0 as f64 / 1e9,
            instance: format!("{}.{}", record.workload, record.slot),
            node: name(node_of(record.node)),
            what: what.to_owned(),
            reason,
        };
        scene.witness.moves.push(moved);
    }
}

fn found(scene: &mut Scene<'_>, finding: &Finding, open: bool) {
    let side = |ids: &[NodeId]| -> BTreeSet<usize> { ids.iter().map(|&id| node_of(id)).collect() };
    let sides = (side(&finding.near), side(&finding.far));
    let names = |nodes: &BTreeSet<usize>| nodes.iter().map(|&node| name(node)).collect();
    let found = Found {
        at: scene.stage.now.0 as f64 / 1e9,
        kind: finding.kind.name().to_owned(),
        open,
        near: names(&sides.0),
        far: names(&sides.1),
        detail: finding.detail.clone(),
    };
    scene
        .witness
        .known
        .believe_finding(finding.kind, sides.0.iter().copied(), open);
    scene.stage.note(Pin::Verdicts, &found.kind, &[u8::from(open)]);
    scene.witness.findings.push((scene.stage.now, open, sides, found));
}

/// Schedules the check that a node declared offline loses its lease in time for a replacement.
fn expect_lease_over(scene: &mut Scene<'_>, node: usize) {
    let cluster = &scene.stage.scenario.cluster;
    let lease = standing::lease(cluster.cycle, cluster.heartbeat);
    // The node's clock may be slower.
    scene.stage.later(
        lease.mul_f64(1.0 + 2.0 * cluster.clock_drift),
        What::LeaseOver(node, scene.stage.now),
    );
}

impl Host {
    /// Processes the coordinator's conclusions according to its events.
    pub(super) fn observe(&mut self, scene: &mut Scene<'_>, machines: &Machines, batch: &Batch) {
        // Changes held back by the disk were concluded earlier.
        let now = !self.was_full;
        for id in &batch.forgotten {
            scene.witness.known.forget(node_of(*id));
        }
        for (at, event) in batch.events.iter().enumerate() {
            let expected = self.last_event + 1;
            self.last_event = event.sequence.0;
            if event.sequence != EventNo(expected) {
                scene
                    .stage
                    .fail(format!("event {} follows {}", event.sequence, expected - 1));
            }
            if let EventBody::Finding { finding, open } = &event.body {
                found(scene, finding, *open);
            }
            if let EventBody::Decision(decision) = &event.body {
                if let Some(node) = decision.node {
                    scene
                        .witness
                        .decisions
                        .push((scene.stage.now, node_of(node), decision.rule.clone()));
                }
                match decision.outcome {
                    Outcome::Pending => scene.witness.pending.insert(decision.id),
                    _ => scene.witness.pending.remove(&decision.id),
                };
                if let (Kind::Liveness, Some(node)) = (decision.kind, decision.node) {
                    scene.witness.verdicts.insert(decision.id, node_of(node));
                }
                scene.witness.decided.insert(decision.id);
                check_rule(scene, decision);
                check_causes(scene, decision, event.sequence.0);
                check_placement(scene, decision, batch, now);
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
                scene
                    .stage
                    .fail(format!("{} became {} without evidence", name(node), to.name()));
            }
            let right = *to != Liveness::Offline || may_be_given_up(scene, machines, node);
            if *to == Liveness::Offline {
                if now {
                    let is_behind = self.is_behind(scene.stage.now);
                    check_silence(scene, machines, node, *cause, is_behind);
                }
                expect_lease_over(scene, node);
            }
            if !right {
                scene
                    .stage
                    .fail(format!("{} is declared offline and is there", name(node)));
            }
            scene.witness.known.believe(node, *to, *cause, scene.stage.now);
            let transition = Transition {
                at: scene.stage.now.0 as f64 / 1e9,
                node: name(node),
                from: from.map(|from| from.name().to_owned()),
                to: to.name().to_owned(),
                cause: cause.meaning().to_owned(),
                evidence,
                right,
            };
            scene.stage.note(Pin::Verdicts, &transition.to, &id.0);
            scene.witness.transitions.push((scene.stage.now, node, transition));
        }
    }
}
