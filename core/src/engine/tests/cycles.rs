use std::sync::Arc;

use super::rig::{Rig, SECOND};
use crate::{
    coordinator::{FromAgent, Input},
    event::EventBody,
    id::{Cycle, Epoch},
    telemetry::Channel,
};

#[test]
fn cycles_come_on_the_grid_and_only_grow() {
    let mut rig = Rig::new();
    rig.pass(SECOND * 60);
    let cycles: Vec<u64> = rig.snapshots.iter().map(|snapshot| snapshot.cycle.0).collect();
    assert_eq!(cycles, (1..=11).collect::<Vec<u64>>());
    assert_eq!(rig.announced.as_ref().map(|seal| seal.cycle), Some(Cycle(11)));
    let rig = rig.restart();
    assert_eq!((rig.snapshots[0].epoch, rig.snapshots[0].cycle), (Epoch(2), Cycle(12)));
}

#[test]
fn a_quiet_cluster_holds_every_invariant() {
    let mut rig = Rig::new();
    for number in 1..=3 {
        rig.join(number, number as u8);
    }
    rig.beat_for(&[1, 2, 3], SECOND * 30);
    let report = &rig.snapshots.last().unwrap().coherence;
    assert!(report.invariants.len() >= 10);
    // No agent here reports links or acknowledges, and the load follows no formula.
    let expected = ["load-agrees", "snapshots-acknowledged", "mesh-observed"];
    for invariant in &report.invariants {
        let excused = expected.contains(&invariant.id);
        assert!(excused || invariant.holds(), "{invariant:?}");
    }
}

#[test]
fn the_score_is_what_its_formula_says() {
    use crate::coherence::{Check, Report, Severity};
    let mut one = Check::new("a", Severity::Critical, "");
    one.many(10, 1, Some(|| "bad".to_owned()));
    let mut other = Check::new("b", Severity::Notice, "");
    other.many(4, 0, None::<fn() -> String>);
    let unchecked = Check::new("c", Severity::Critical, "");
    let report = Report::new([one, other, unchecked]);
    assert!((report.score - 100.0 * (1.0 - (10.0 * 0.1) / 11.0)).abs() < 1e-4);
    assert_eq!(report.invariants[0].detail, "bad");
}

#[test]
fn rows_that_did_not_change_are_the_same_allocation() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.beat_for(&[1, 2], SECOND * 14);
    let [before, after] = &rig.snapshots[rig.snapshots.len() - 2..] else {
        panic!("two snapshots")
    };
    assert!(
        before
            .nodes
            .iter()
            .zip(after.nodes.iter())
            .all(|(one, other)| Arc::ptr_eq(one, other))
    );
    let (before, load) = (Arc::clone(after), after.nodes[0].state.load_percent);
    assert_eq!(load, 25);
    // A change below one percent is not published; a larger one is.
    rig.heartbeat(1, 1_000, 0.259);
    rig.beat_for(&[2], SECOND * 1);
    rig.heartbeat(1, 1_001, 0.259);
    let after = rig.snapshot();
    assert_eq!(after.nodes[0].state.load_percent, 25);
    assert!(after.cycle > before.cycle);
    for sequence in 1_002..1_008 {
        rig.heartbeat(1, sequence, 0.9);
        rig.pass(SECOND * 2);
    }
    assert_eq!(rig.snapshots.last().unwrap().nodes[0].state.load_percent, 90);
}

#[test]
fn a_disk_that_fills_up_becomes_one_decision_and_is_resolved_when_it_stops() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let mut sequence = 0;
    let mut fill = |rig: &mut Rig, used: f32| {
        for _ in 0..3 {
            sequence += 1;
            let mut values = vec![0.0; Channel::COUNT];
            values[Channel::DiskUsed.column()] = used;
            let heartbeat = crate::engine::Heartbeat {
                sequence,
                values,
                ..Default::default()
            };
            rig.input(Input::FromAgent(
                crate::node::ConnId(1),
                FromAgent::Heartbeat(heartbeat),
            ));
            rig.pass(SECOND * 2);
        }
    };
    for cycle in 0..80 {
        fill(&mut rig, 0.70 + 0.002 * cycle as f32);
    }
    let decisions = |rig: &Rig| -> Vec<(String, crate::autonomy::Outcome)> {
        let decisions = rig.events.iter().filter_map(|event| match &event.body {
            EventBody::Decision(decision) if decision.rule == "threshold-ahead" => Some(decision),
            _ => None,
        });
        decisions
            .map(|decision| (decision.channel.clone(), decision.outcome))
            .collect()
    };
    let observed = ("disk.used".to_owned(), crate::autonomy::Outcome::Observed);
    assert_eq!(decisions(&rig), std::slice::from_ref(&observed));
    for cycle in 0..80 {
        fill(&mut rig, 0.85 - 0.002 * cycle as f32);
    }
    assert_eq!(
        decisions(&rig),
        [observed, ("disk.used".to_owned(), crate::autonomy::Outcome::Resolved)]
    );
}

#[test]
fn events_are_numbered_without_gaps_across_restarts() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.pass(SECOND * 30);
    let first = rig.events.clone();
    let rig = rig.restart();
    let sequences: Vec<u64> = first.iter().chain(&rig.events).map(|event| event.sequence.0).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<u64>>());
}
