use proptest::prelude::*;
use wyneos_core::id::{EventNo, Revision};
use wyneos_core::{id::Uuid, placement::Score, workload::Spec};

use super::*;

/// Shape of a change: numbers of starts, waiting reasons with their nodes, and rejections, and the length of texts.
#[derive(Clone, Debug)]
struct Shape {
    starts: usize,
    waiting: (usize, usize),
    rejections: usize,
    text: usize,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        prop_oneof![0usize..3, 900usize..1_000],
        (0usize..4, 0usize..=16),
        prop_oneof![Just(0usize), 900usize..=1_000],
        prop_oneof![0usize..100, 400usize..=512],
    );
    let shape = shape.prop_map(|(starts, waiting, rejections, text)| Shape {
        starts,
        waiting,
        rejections,
        text,
    });
    let few = prop::collection::vec(shape, 0..40);
    // As in a plan for a whole site: everything waits, and none of the nodes fits.
    let many = (3_000usize..30_000, 0usize..=16, 0usize..200).prop_map(|(count, nodes, text)| {
        let shape = Shape {
            starts: 0,
            waiting: (1, nodes),
            rejections: 0,
            text,
        };
        vec![shape; count]
    });
    prop_oneof![3 => few, 1 => many]
}

fn changed(shape: &Shape) -> Changed {
    let text = "t".repeat(shape.text);
    let node = Uuid([7; 16]);
    let start = |slot| PlannedStart {
        workload: "web".to_owned(),
        slot,
        node,
        node_name: "node".to_owned(),
        score: Score::default(),
        reason: text.clone(),
    };
    let stop = |id| PlannedStop {
        id: AssignmentId(id),
        slot: 7,
        node_name: "node".to_owned(),
        reason: text.clone(),
        unreplaced: true,
    };
    let rejected = |_| (node, "node".to_owned(), text.clone());
    let waiting = |_| Waiting {
        slots: 2,
        reason: text.clone(),
        nodes: (0..shape.waiting.1).map(rejected).collect(),
        failures: 2,
        given_up: true,
    };
    Changed {
        name: "web".to_owned(),
        revision: Revision(1),
        applied: false,
        changed: true,
        spec: Some(Arc::new(Spec::new("web", "/bin/true"))),
        replicas_before: None,
        starts: (0..shape.starts as u32).map(start).collect(),
        stops: (0..shape.starts as u64).map(stop).collect(),
        adopted: 0,
        later: 0,
        waiting: (0..shape.waiting.0).map(waiting).collect(),
        rejections: (0..shape.rejections).map(rejected).collect(),
        event: EventNo(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn answers_about_changes_fit_one_message_and_count_what_they_leave_out(shapes in shapes()) {
        let out = changes_out(shapes.iter().map(changed).collect());
        let sum = |of: fn(&v1::WorkloadChange) -> usize| out.listed.iter().map(of).sum::<usize>();
        let all = |of: fn(&Shape) -> usize| shapes.iter().map(of).sum::<usize>();
        prop_assert_eq!(out.listed.len() + out.more as usize, shapes.len());
        prop_assert_eq!(
            sum(|change| change.starts.len() + change.more_starts as usize) + out.more_starts as usize,
            all(|shape| shape.starts)
        );
        prop_assert_eq!(
            sum(|change| change.stops.len() + change.more_stops as usize) + out.more_stops as usize,
            all(|shape| shape.starts)
        );
        let waits = |change: &v1::WorkloadChange| {
            let listed: u32 = change.waiting.iter().map(|one| one.slots).sum();
            (listed + change.more_waiting) as usize
        };
        prop_assert_eq!(sum(waits) + out.more_waiting as usize, 2 * all(|shape| shape.waiting.0));
        for (change, shape) in out.listed.iter().zip(&shapes) {
            for one in &change.waiting {
                prop_assert_eq!(one.nodes.len() + one.more_nodes as usize, shape.waiting.1);
            }
            prop_assert_eq!(change.rejections.len() + change.more_rejections as usize, shape.rejections);
        }
        let answer = v1::WhatIfResponse { changes: out.listed, ..v1::WhatIfResponse::default() };
        prop_assert!(answer.encoded_len() < 4 << 20, "{}", answer.encoded_len());
        if shapes.iter().all(|shape| shape.starts < 3 && shape.rejections == 0 && shape.text < 100) && shapes.len() < 40 {
            prop_assert_eq!(out.more, 0, "there is room for all of it");
        }
    }
}
