//! Decisions about the liveness of nodes.

use super::Autonomy;
use crate::{
    autonomy::{Alternative, Because, Evidence, Proposal},
    ctx::Ctx,
    id::{DecisionId, EventNo},
    node::{Admission, Cause, Liveness, NodeIndex},
};

impl Autonomy {
    /// Records the decision for a node's new liveness, with the event that records it and the evidence; `idle` means
    /// that the node has no instance. Returns the decision's id.
    pub(crate) fn liveness(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        (to, event, evidence): (Liveness, Option<EventNo>, Vec<Evidence>),
        idle: bool,
    ) -> DecisionId {
        let mut caused_by: Vec<Because> = event.map(Because::Event).into_iter().collect();
        if matches!(to, Liveness::Unreachable | Liveness::Offline) {
            // The node was in doubt first, so that decision is a cause.
            caused_by.extend(self.ledger.verdict(index).map(Because::Decision));
        }
        let node = &ctx.registry[index];
        let admitted = node.record.admission == Admission::Admitted;
        let (rule, conclusion, alternative) = match (to, node.cause()) {
            (Liveness::Suspect, Cause::Flapping) => FLAPPING,
            (Liveness::Left, Cause::Revoked) => REVOKED,
            _ => verdict(to),
        };
        let conclusion = match (admitted, to) {
            (false, Liveness::Online | Liveness::Suspect | Liveness::Unreachable) => UNADMITTED,
            (false, Liveness::Offline) if idle => UNADMITTED,
            _ => conclusion,
        };
        let proposal = Proposal {
            index: Some(index),
            node: Some(node.record.id()),
            time: ctx.wall_now(),
            cycle: ctx.clock.cycle,
            rule,
            action: format!("{} {}: {conclusion}", node.name(), to.predicate()),
            evidence,
            alternatives: alternative
                .map(|(action, because)| Alternative::new(action, because))
                .into_iter()
                .collect(),
            caused_by,
        };
        let settled = matches!(to, Liveness::Online | Liveness::Left);
        let mut newest = DecisionId::default();
        for decision in self.ledger.liveness(index, proposal, settled) {
            newest = decision.id;
            ctx.record_decision(Some(index), decision);
        }
        newest
    }
}

/// Conclusion for a node that no operator has admitted: nothing is placed on it or moved off it.
const UNADMITTED: &str = "it is not admitted and takes no part";

/// The rule that leads to a liveness, the consequence, and a rejected alternative with its reason.
type Verdict = (&'static str, &'static str, Option<(&'static str, &'static str)>);

/// Verdict on a node that is heard but returned too often to be relied on immediately.
const FLAPPING: Verdict = (
    "flapping",
    "no new work would be placed on it until it has been heard for long enough",
    Some(("count it as online", "it came back often, and may be gone again")),
);

/// Verdict on a revoked node.
const REVOKED: Verdict = ("revoked", "it takes no part until it is admitted again", None);

fn verdict(to: Liveness) -> Verdict {
    match to {
        Liveness::Online => ("session-alive", "it takes part", None),
        Liveness::Suspect => (
            "session-lost",
            "no new work would be placed on it until it is heard again",
            Some((
                "declare it offline",
                "a lost session alone does not prove a dead machine",
            )),
        ),
        Liveness::Offline => (
            "nobody-hears-it",
            "its work is to be placed elsewhere, as the mode of `heal` allows",
            Some((
                "wait longer",
                "nobody who would know has heard it for longer than it may stand still",
            )),
        ),
        Liveness::Left => ("goodbye", "nothing is expected of it", None),
        Liveness::Unreachable => (
            "peers-hear-it",
            "nothing would be moved",
            Some(("declare it offline", "its peers still hear it")),
        ),
        Liveness::Unseen => ("restart", "it is waited for", None),
    }
}
