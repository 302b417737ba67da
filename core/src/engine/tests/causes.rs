//! The chain of ids from an instance to the observers that missed its node.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    rig::{SECOND, node_id},
    workloads::{Site, service},
};
use crate::{
    autonomy::{Because, Decision, Fact, Kind, Source, Why},
    event::EventBody,
    id::{DecisionId, NodeId},
    mesh::Sight,
    node::Liveness,
    workload::Assignment,
};

impl Site {
    fn decision(&self, id: u64) -> Arc<Decision> {
        let decision = |body: &EventBody| match body {
            EventBody::Decision(decision) if decision.id == DecisionId(id) => Some(Arc::clone(decision)),
            _ => None,
        };
        let mut events = self.rig.events.iter();
        events
            .find_map(|event| decision(&event.body))
            .expect("a decision of that id")
    }

    /// The verdict that a move names as its cause.
    fn verdict(&self, moved: &Decision) -> Arc<Decision> {
        let decisions = moved.caused_by.iter().filter_map(|because| match because {
            Because::Decision(id) => Some(self.decision(id.0)),
            _ => None,
        });
        let mut verdicts = decisions.filter(|decision| decision.kind == Kind::Liveness);
        verdicts.next().expect("a verdict")
    }

    fn replacement(&self) -> Arc<Assignment> {
        let rows = self.rig.view.assignments.iter();
        let mut replacements = rows.filter(|row| row.record.replaces.is_some());
        Arc::clone(&replacements.next().expect("a replacement").record)
    }
}

#[test]
fn a_move_leads_by_ids_to_the_verdict_and_to_the_observers_that_missed_the_node() {
    let mut site = Site::new(4);
    site.apply(service("web", 4));
    site.pass(SECOND * 10);
    assert_eq!(site.running("web"), 4);
    site.dies(4);
    site.pass(SECOND * 60);
    let new = site.replacement();
    // From the instance to its decision, and to the verdict that it names.
    let moved = site.decision(new.decision.0);
    let start = moved.evidence.iter().map(|evidence| &evidence.fact).find(|fact| {
        let of = fact.instance();
        matches!(fact, Fact::Start { .. }) && of.is_some_and(|of| of.slot == new.slot)
    });
    let Some(Why::LostBefore(loss)) = start.and_then(Fact::why) else {
        panic!("{start:?}")
    };
    let verdict = site.verdict(&moved);
    assert_eq!((loss.node, loss.decision), (node_id(4), Some(verdict.id)));
    assert_eq!(
        (verdict.node, verdict.rule.as_str()),
        (Some(node_id(4)), "nobody-hears-it")
    );
    // From the verdict to the observers that missed the node, and to the transition.
    let missed = verdict
        .evidence
        .iter()
        .filter(|one| one.fact == Fact::Sees(Sight::Silent));
    let observers: BTreeSet<NodeId> = missed
        .filter_map(|one| match &one.source {
            Source::Node(node) => Some(node.id),
            _ => None,
        })
        .collect();
    assert!(!observers.is_empty() && !observers.contains(&node_id(4)), "{verdict:?}");
    let transition = verdict.caused_by.iter().find_map(|because| match because {
        Because::Event(number) => site.rig.events.iter().find(|event| event.sequence == *number),
        _ => None,
    });
    let body = transition.map(|event| &event.body);
    assert!(
        matches!(
            body,
            Some(EventBody::Liveness {
                to: Liveness::Offline,
                ..
            })
        ),
        "{body:?}"
    );
    // The node was in doubt before it was given up.
    let before = site.verdict(&verdict);
    assert_eq!((before.node, before.rule.as_str()), (Some(node_id(4)), "session-lost"));
}
