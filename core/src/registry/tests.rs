//! Any order of joining, forgetting and resting, against a model that is a list.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::Registry;
use crate::{
    id::Uuid,
    node::{ConnId, Node, NodeIndex, NodeRecord},
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
                    let gone = registry.remove(index, cycle + rest).unwrap();
                    prop_assert_eq!(gone.record.id(), Uuid([number; 16]));
                    prop_assert!(registry.remove(index, cycle).is_none());
                    left.insert(index, cycle);
                    // A stale index finds nobody, and what is changed of nobody is lost.
                    registry[index].timer = 7;
                    prop_assert_eq!((registry[index].name(), registry[index].timer), ("", 0));
                }
                Step::Cycles(count) => {
                    for _ in 0..count {
                        cycle += 1;
                        let places = registry.tidy(cycle);
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
        // Once all that is empty has rested, there are no more places than the furthest that is taken.
        let places = registry.tidy(cycle + rest);
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
            registry.remove(index, 100);
        }
    }
    assert!(!registry.has_place(10));
    registry.tidy(100);
    assert!(registry.has_place(10));
    assert_eq!(registry.places().len(), 0);
}
