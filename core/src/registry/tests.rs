//! Any sequence of joins, removals and releases, compared with a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::Registry;
use crate::{
    id::{Cycle, Uuid},
    node::{Admission, Cause, ConnId, LifeKey, Liveness, Node, NodeIndex, NodeRecord},
    time::{Time, WallTime},
};

fn node(number: u8) -> Node {
    let record = NodeRecord::enrolled(Uuid([number; 16]), &format!("node-{number}"));
    Node::new(Arc::new(record), WallTime(0), Time(0))
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Forget(u8),
    Cycles(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..40).prop_map(Step::Join),
        3 => (1u8..40).prop_map(Step::Forget),
        2 => (1u64..8).prop_map(Step::Cycles),
    ]
}

proptest! {
    #[test]
    fn places_are_of_those_who_are_there_and_rest_before_they_are_anothers(
        steps in prop::collection::vec(step(), 0..300),
        rest in 1u64..12,
    ) {
        let (mut registry, mut cycle) = (Registry::default(), 0u64);
        let mut model: BTreeMap<u8, NodeIndex> = BTreeMap::new();
        let mut left: BTreeMap<NodeIndex, u64> = BTreeMap::new();
        let mut most = 0;
        for step in steps {
            match step {
                Step::Join(number) => {
                    let known = model.get(&number).copied();
                    let index = registry.add(Uuid([number; 16]), || node(number));
                    prop_assert!(known.is_none_or(|known| known == index));
                    if known.is_none() {
                        prop_assert!(model.values().all(|other| *other != index));
                        prop_assert!(left.get(&index).is_none_or(|at| at + rest <= cycle), "not rested");
                        model.insert(number, index);
                    }
                }
                Step::Forget(number) => {
                    let Some(index) = model.remove(&number) else {
                        prop_assert_eq!(registry.find(Uuid([number; 16])), None);
                        continue;
                    };
                    registry.attach(ConnId(number.into()), index);
                    registry.detach(ConnId(number.into()));
                    let gone = registry.remove(index, Cycle(cycle + rest)).unwrap();
                    prop_assert_eq!(gone.record.id(), Uuid([number; 16]));
                    prop_assert!(registry.remove(index, Cycle(cycle)).is_none());
                    left.insert(index, cycle);
                    // A stale index yields the placeholder, and changes of it are discarded.
                    registry[index].timer = 7;
                    prop_assert_eq!((registry[index].name(), registry[index].timer), ("", 0));
                }
                Step::Cycles(count) => {
                    for _ in 0..count {
                        cycle += 1;
                        let places = registry.tidy(Cycle(cycle));
                        prop_assert_eq!(places, registry.places().len());
                    }
                }
            }
            most = most.max(model.len());
            prop_assert_eq!(registry.len(), model.len());
            let listed: BTreeMap<NodeIndex, u8> = registry.iter().map(|(at, node)| (at, node.record.id().0[0])).collect();
            let wanted: BTreeMap<NodeIndex, u8> = model.iter().map(|(number, at)| (*at, *number)).collect();
            prop_assert_eq!(listed, wanted);
            let ids: Vec<u8> = registry.by_id().map(|(_, node)| node.record.id().0[0]).collect();
            prop_assert!(ids.iter().eq(model.keys()));
        }
        // Once all reserved indexes are released, no index remains above the highest one in use.
        let places = registry.tidy(Cycle(cycle + rest));
        prop_assert_eq!(places, model.values().map(|at| at.get() + 1).max().unwrap_or(0));
    }
}

#[test]
fn there_are_places_for_twice_as_many_as_may_be_known() {
    let mut registry = Registry::default();
    for round in 0..2 {
        for number in 1..=10 {
            assert!(registry.has_place(10), "{round} {number}");
            let index = registry.add(Uuid([number; 16]), || node(number));
            registry.remove(index, Cycle(100));
        }
    }
    assert!(!registry.has_place(10));
    registry.tidy(Cycle(100));
    assert!(registry.has_place(10));
    assert_eq!(registry.places().len(), 0);
}

#[derive(Clone, Debug)]
enum Change {
    Join(u8),
    Forget(u8),
    Liveness(u8, Liveness, u64),
    Admission(u8, Admission),
    Says(u8, bool, bool),
    Returns(u8, u32),
    Offends(u8),
    Facts(u8, u8),
    Read,
}

fn change() -> impl Strategy<Value = Change> {
    let number = || 1u8..12;
    let liveness = prop::sample::select(vec![
        Liveness::Unseen,
        Liveness::Online,
        Liveness::Suspect,
        Liveness::Unreachable,
        Liveness::Offline,
        Liveness::Left,
    ]);
    let admission = prop::sample::select(vec![Admission::Pending, Admission::Admitted, Admission::Revoked]);
    prop_oneof![
        4 => number().prop_map(Change::Join),
        1 => number().prop_map(Change::Forget),
        6 => (number(), liveness, 0..50u64).prop_map(|(number, to, at)| Change::Liveness(number, to, at)),
        2 => (number(), admission).prop_map(|(number, to)| Change::Admission(number, to)),
        2 => (number(), any::<bool>(), any::<bool>()).prop_map(|(number, one, other)| Change::Says(number, one, other)),
        2 => (number(), 0..5u32).prop_map(|(number, returns)| Change::Returns(number, returns)),
        1 => number().prop_map(Change::Offends),
        2 => (number(), 0..3u8).prop_map(|(number, digest)| Change::Facts(number, digest)),
        2 => Just(Change::Read),
    ]
}

fn changed(registry: &mut Registry, change: &Change) {
    let found = |registry: &Registry, number: &u8| registry.find(Uuid([*number; 16]));
    let (Change::Liveness(number, ..)
    | Change::Admission(number, _)
    | Change::Says(number, ..)
    | Change::Returns(number, _)
    | Change::Offends(number)
    | Change::Facts(number, _)
    | Change::Join(number)
    | Change::Forget(number)) = change
    else {
        registry.census();
        return;
    };
    let Some(index) = found(registry, number) else {
        if let Change::Join(number) = change {
            registry.add(Uuid([*number; 16]), || node(*number));
        }
        return;
    };
    if let Change::Forget(_) = change {
        registry.remove(index, Cycle(0));
        registry.tidy(Cycle(0));
        return;
    }
    let row = &mut registry[index];
    match *change {
        Change::Liveness(_, to, at) => {
            let cause = if at % 2 == 0 {
                Cause::HostSilent
            } else {
                Cause::AgentGone
            };
            row.set_life(&LifeKey::cut(), to, cause, WallTime(0), Time(at));
        }
        Change::Admission(_, to) => Arc::make_mut(&mut row.record).admission = to,
        Change::Says(_, strained, stalled) => (row.health.strained, row.health.disk_stalled) = (strained, stalled),
        Change::Returns(_, returns) => row.returns.0 = returns,
        Change::Offends(_) => row.conduct.distrusted = Some((Time(1), "lies")),
        Change::Facts(_, digest) => {
            let record = Arc::make_mut(&mut row.record);
            let facts = Arc::make_mut(&mut record.facts);
            (facts.binary_digest, facts.config_digest) = ([digest; 32], [digest + 1; 32]);
            facts.agent_version = format!("1.{digest}.0");
        }
        Change::Join(_) | Change::Forget(_) | Change::Read => {}
    }
}

proptest! {
    #[test]
    fn the_census_is_what_a_count_finds(changes in prop::collection::vec(change(), 0..200), since in 0..50u64) {
        let mut registry = Registry::default();
        for change in &changes {
            changed(&mut registry, change);
        }
        let counted = registry.recounted();
        let silenced = registry.iter().filter(|(_, node)| {
            (node.liveness(), node.cause()) == (Liveness::Offline, Cause::HostSilent) && node.since() >= Time(since)
        });
        let silenced: BTreeSet<NodeIndex> = silenced.map(|(index, _)| index).collect();
        let members = registry.iter().filter(|(_, node)| {
            node.record.admission == Admission::Admitted
                && (node.liveness() == Liveness::Online || node.liveness().is_in_doubt())
        });
        let members = members.count();
        let census = registry.census();
        prop_assert_eq!(census, &counted);
        prop_assert_eq!(census.members(true), members);
        prop_assert_eq!(census.silenced_since(Time(since)).into_iter().collect::<BTreeSet<_>>(), silenced);
    }
}
