use std::collections::BTreeMap;

use proptest::prelude::*;
use wyneos_core::{
    id::Uuid,
    placement::Score,
    time::WallTime,
    workload::{Assignment, Goal, Status as InstanceStatus},
};

use super::*;

fn instance(id: u64, text: usize) -> Arc<AssignmentRow> {
    let record = Assignment {
        id: AssignmentId(id),
        workload: if id.is_multiple_of(3) {
            "db".into()
        } else {
            "web".into()
        },
        slot: 0,
        revision: 1,
        node: Uuid([0; 16]),
        goal: Goal::Run,
        placed: WallTime(0),
        reason: "r".repeat(text),
        score: Score::default(),
        decision: 0,
        replaces: None,
        attempt: 0,
        stop_reason: String::new(),
        leaving: String::new(),
        leaving_because: None,
        end: None,
        orphan: None,
    };
    Arc::new(AssignmentRow {
        record: Arc::new(record),
        status: InstanceStatus::default(),
        doubt: None,
        ports: Vec::new(),
    })
}

fn view(rows: &BTreeMap<u64, Arc<AssignmentRow>>) -> View {
    View {
        workloads: Vec::new(),
        assignments: rows.values().cloned().collect(),
    }
}

fn told(row: &AssignmentRow) -> v1::AssignmentRow {
    v1::AssignmentRow {
        assignment: Some(row.into()),
        ..Default::default()
    }
}

proptest! {
    #[test]
    fn answers_are_bounded_and_together_tell_everything(
        most in 200usize..4_000,
        rounds in prop::collection::vec(prop::collection::btree_map(0u64..600, prop::option::of(0usize..300), 0..200), 1..8),
        workload in prop::sample::select(vec!["", "web", "db"]),
    ) {
        let mut rows = BTreeMap::new();
        // What a client has, as the coordinator thinks, and as it was told.
        let (mut known, mut client) = (View::default(), BTreeMap::new());
        let mut newest = View::default();
        for round in rounds.into_iter().map(Some).chain([None]) {
            // A change may come before all of the last one was told.
            let last = round.is_none();
            for (id, text) in round.unwrap_or_default() {
                match text {
                    Some(text) => drop(rows.insert(id, instance(id, text))),
                    None => drop(rows.remove(&id)),
                }
                newest = view(&rows);
            }
            loop {
                let (answer, between) = changes(&known, &newest, workload, most, told);
                // One row more than fits, at most.
                prop_assert!(answer.encoded_len() < most + most / 4 + 1_000, "{}", answer.encoded_len());
                prop_assert_eq!(answer.more, between.is_some());
                for row in answer.changed {
                    client.insert(row.assignment.as_ref().unwrap().id.clone(), row);
                }
                for id in answer.removed {
                    prop_assert!(client.remove(&id).is_some());
                }
                known = match between {
                    Some(assignments) => View { workloads: Vec::new(), assignments },
                    None => newest.clone(),
                };
                if !answer.more || !last {
                    break;
                }
            }
        }
        let of = |row: &&Arc<AssignmentRow>| workload.is_empty() || &*row.record.workload == workload;
        let right: BTreeMap<_, _> = rows.values().filter(of).map(|row| (row.record.id.to_string(), told(row))).collect();
        prop_assert_eq!(client, right);
    }
}
