//! Priorities, canaries and proximity: placement of instances of different revisions.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    rig::SECOND,
    workloads::{Site, service},
};
use crate::{
    autonomy::{Decision, Kind, Mode, PolicyChange, Why},
    command,
    engine::WorkloadVerb,
    event::{Event, EventBody},
    id::{DecisionId, Revision},
    workload::{AssignmentId, Goal, Phase, Spec},
};

/// Running instances of a workload: slots, revisions and ids.
fn standing(site: &Site, name: &str) -> Vec<(u32, Revision, AssignmentId)> {
    let rows = site.rig.view.assignments.iter();
    let rows = rows.filter(|row| &*row.record.workload == name && row.record.goal == Goal::Run);
    let mut rows: Vec<_> = rows
        .filter(|row| row.status.phase == Phase::Running)
        .map(|row| (row.record.slot, row.record.revision, row.record.id))
        .collect();
    rows.sort_unstable();
    rows
}

fn decisions(site: &Site) -> Vec<Arc<Decision>> {
    let decision = |event: &Arc<Event>| match &event.body {
        EventBody::Decision(decision) => Some(Arc::clone(decision)),
        _ => None,
    };
    site.rig.events.iter().filter_map(decision).collect()
}

/// Nodes of the rig have 1,000m of CPU.
fn big(name: &str, replicas: u32, cpu_millis: u64, priority: u8) -> Spec {
    let mut spec = service(name, replicas);
    (spec.resources.cpu_millis, spec.priority) = (cpu_millis, priority);
    spec
}

#[test]
fn what_has_a_higher_priority_gets_room_and_takes_no_more_than_it_needs() {
    let mut site = Site::new(2);
    site.apply(big("low", 4, 375, 20));
    assert_eq!(site.running("low"), 4);
    // The difference in priority is too small for preemption.
    site.apply(big("peer", 1, 375, 29));
    assert_eq!((site.running("peer"), site.running("low")), (0, 4));
    site.change(
        WorkloadVerb::Delete {
            name: "peer".to_owned(),
        },
        false,
    )
    .unwrap();
    // 250m are free on each node: one of the two instances there has to go, not both.
    site.apply(big("high", 1, 500, 50));
    assert_eq!(site.running("high"), 1);
    assert_eq!(site.running("low"), 3);
    let wait = site.rig.view.workload("low").unwrap().waiting.clone();
    assert!(wait[0].reason.contains("too little CPU left"), "{wait:?}");
    let nodes: Vec<(&str, &str)> = wait[0].nodes.iter().map(|(_, name, why)| (&**name, &**why)).collect();
    let full = |node| (node, "250m of CPU are free, 375m wanted");
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    assert!(
        nodes.contains(&full("node-1")) || nodes.contains(&full("node-2")),
        "{nodes:?}"
    );
    let placed = standing(&site, "high")[0].2;
    let displaces = |one: &Arc<Decision>| one.workload == "high" && one.displaced.len() == 1;
    let told = decisions(&site);
    let making_room = told.iter().find(|one| displaces(one)).expect("a decision");
    let why = Why::GivesWay {
        to: "high".into(),
        priority: 50,
        own: 20,
    };
    assert_eq!(making_room.evidence[0].fact.why(), Some(&why));
    // The preempted instance returns once there is room, without going back and forth.
    let assigned = site.assigned();
    site.pass(SECOND * 120);
    assert_eq!((site.assigned(), standing(&site, "high")[0].2), (assigned, placed));
    site.change(
        WorkloadVerb::Delete {
            name: "high".to_owned(),
        },
        false,
    )
    .unwrap();
    assert_eq!(site.running("low"), 4);
}

#[test]
fn room_is_asked_for_where_that_is_the_mode_and_made_once_it_is_approved() {
    let mut site = Site::new(1);
    let change = PolicyChange {
        preempt: Some(Mode::Advise),
        ..PolicyChange::default()
    };
    site.rig.command(command::SetPolicy(change)).unwrap();
    site.apply(big("low", 2, 500, 20));
    assert_eq!(site.running("low"), 2);
    site.apply(big("high", 1, 500, 50));
    site.pass(SECOND * 60);
    assert_eq!((site.running("high"), site.running("low")), (0, 2));
    let asked: Vec<DecisionId> = decisions(&site)
        .iter()
        .filter(|decision| decision.kind == Kind::Preempt)
        .map(|decision| decision.id)
        .collect();
    assert_eq!(asked.len(), 1, "it is asked once");
    let (id, approve) = (asked[0], true);
    site.rig
        .command(command::Decide {
            id: DecisionId(id.0),
            approve,
        })
        .unwrap();
    assert_eq!((site.running("high"), site.running("low")), (1, 1));
}

#[test]
fn making_room_has_a_budget() {
    let mut site = Site::new(4);
    site.apply(big("low", 32, 125, 20));
    assert_eq!(site.running("low"), 32);
    site.apply(big("high", 32, 125, 50));
    assert_eq!((site.running("high"), site.running("low")), (10, 22));
    site.pass(SECOND * 290);
    assert_eq!(site.running("high"), 10);
    // The budget recovers without any action of an operator.
    site.pass(SECOND * 30);
    assert_eq!((site.running("high"), site.running("low")), (20, 12));
}

#[test]
fn canaries_start_together_and_are_no_more_than_were_asked_for() {
    let mut site = Site::new(2);
    let mut spec = service("web", 6);
    spec.update.max_parallel = 3;
    site.apply(spec.clone());
    assert_eq!(site.running("web"), 6);
    site.pass(SECOND * 5);
    (spec.args, spec.update.canary) = (vec!["2".to_owned()], 2);
    assert_eq!(site.apply(spec).starts.len(), 2);
    site.pass(SECOND * 60);
    let new = |(_, revision, _): &&(u32, Revision, AssignmentId)| *revision == Revision(2);
    assert_eq!(standing(&site, "web").iter().filter(new).count(), 2);
}

#[test]
fn a_canary_without_room_beside_the_old_one_takes_its_place_and_stays() {
    let mut site = Site::new(1);
    let mut spec = big("web", 2, 500, 50);
    site.apply(spec.clone());
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 5);
    (spec.args, spec.update.canary) = (vec!["2".to_owned()], 1);
    site.apply(spec);
    site.pass(SECOND * 10);
    let first = standing(&site, "web");
    let revisions: BTreeSet<u64> = first.iter().map(|(_, revision, _)| revision.0).collect();
    assert_eq!(revisions, BTreeSet::from([1, 2]));
    site.pass(SECOND * 120);
    assert_eq!(standing(&site, "web"), first);
}

#[test]
fn nobody_is_near_to_itself_in_the_end() {
    let mut site = Site::new(1);
    let near = |name: &str, to: &str| {
        let mut spec = service(name, 1);
        spec.near = to.to_owned();
        WorkloadVerb::Apply(Arc::new(spec))
    };
    site.change(near("a", "b"), false).unwrap();
    site.change(near("b", "c"), false).unwrap();
    let refused = site.change(near("c", "a"), false).unwrap_err().to_string();
    assert!(
        refused.contains("near") && refused.contains("a cycle: c, a, b and again c"),
        "{refused}"
    );
}

#[test]
fn an_update_takes_the_room_of_its_own_old_instance_and_nobody_elses() {
    let mut site = Site::new(1);
    let mut high = big("high", 1, 400, 80);
    site.apply(big("low", 1, 600, 10));
    site.apply(high.clone());
    assert_eq!((site.running("high"), site.running("low")), (1, 1));
    site.pass(SECOND * 5);
    let (old, low) = (standing(&site, "high"), standing(&site, "low"));
    high.args = vec!["2".to_owned()];
    site.apply(high);
    assert_eq!(site.running("high"), 1);
    assert_ne!(standing(&site, "high"), old);
    assert_eq!(standing(&site, "low"), low);
}
