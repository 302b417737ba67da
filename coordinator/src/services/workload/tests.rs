use std::collections::BTreeMap;

use proptest::prelude::*;
use wyneos_core::{
    autonomy::{Kind, Loss, Mode, Outcome, Source},
    event::Event,
    id::{Cycle, DecisionId, Epoch, EventNo, Revision, Uuid},
    mesh::Sight,
    node::{Cause, Named},
    placement::Score,
    store::Batch,
    time::WallTime,
    workload::{Assignment, Goal, Instance, Status as InstanceStatus},
};

use super::*;
use crate::store::{Memory, Retention, Store as _};

fn instance(id: u64, text: usize) -> Arc<AssignmentRow> {
    let record = Assignment {
        id: AssignmentId(id),
        workload: if id.is_multiple_of(3) {
            "db".into()
        } else {
            "web".into()
        },
        slot: 0,
        revision: Revision(1),
        node: Uuid([0; 16]),
        goal: Goal::Run,
        placed: WallTime(0),
        reason: "r".repeat(text),
        score: Score::default(),
        decision: DecisionId(0),
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

fn shown(row: &AssignmentRow) -> v1::AssignmentRow {
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
        // The client's state as tracked by the coordinator, and as received.
        let (mut known, mut client) = (View::default(), BTreeMap::new());
        let mut newest = View::default();
        for round in rounds.into_iter().map(Some).chain([None]) {
            // A change may occur before the last one was sent completely.
            let last = round.is_none();
            for (id, text) in round.unwrap_or_default() {
                match text {
                    Some(text) => drop(rows.insert(id, instance(id, text))),
                    None => drop(rows.remove(&id)),
                }
                newest = view(&rows);
            }
            loop {
                let (answer, between) = changes(&known, &newest, workload, most, shown);
                // At most one row more than fits.
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
        let right: BTreeMap<_, _> = rows.values().filter(of).map(|row| (row.record.id.to_string(), shown(row))).collect();
        prop_assert_eq!(client, right);
    }
}

const GONE: NodeId = Uuid([3; 16]);

fn decided(id: u64, kind: Kind, evidence: Vec<Evidence>, caused_by: Vec<Because>) -> Event {
    let placement = kind == Kind::Placement;
    let node = (!placement).then_some(GONE);
    let decision = Decision {
        id: DecisionId(id),
        time: WallTime(0),
        epoch: Epoch(1),
        cycle: Cycle(1),
        node,
        kind,
        rule: String::new(),
        action: String::new(),
        evidence,
        alternatives: Vec::new(),
        mode: Mode::Act,
        outcome: Outcome::Done,
        channel: String::new(),
        workload: if placement { "web".to_owned() } else { String::new() },
        lost: Vec::new(),
        displaced: Vec::new(),
        caused_by,
    };
    Event {
        sequence: EventNo(id),
        time: WallTime(0),
        epoch: Epoch(1),
        cycle: Cycle(1),
        node,
        node_name: String::new(),
        summary: String::new(),
        body: EventBody::Decision(Arc::new(decision)),
        times: 1,
    }
}

fn named(id: NodeId) -> Named {
    let name = format!("node-{}", id.0[0]).into();
    Named { id, name }
}

/// An instance is stopped because its node was lost, by the verdict with this number.
fn lost(slot: u32, verdict: u64) -> Evidence {
    let loss = Loss {
        node: GONE,
        cause: Cause::HostSilent,
        decision: Some(DecisionId(verdict)),
    };
    let (of, on, why) = (Instance::new(&"web".into(), slot), named(GONE), Why::Lost(loss));
    Evidence::new(WallTime(0), Source::Placement, Fact::Stop { of, on, why })
}

#[test]
fn why_follows_ids_from_an_instance_to_the_observers_that_missed_its_node() {
    let observer = named(Uuid([1; 16]));
    let missed = Evidence::new(WallTime(0), Source::Node(observer), Fact::Sees(Sight::Silent));
    let by = |id: u64| vec![Because::Decision(DecisionId(id))];
    let events = [
        decided(1, Kind::Liveness, Vec::new(), Vec::new()),
        decided(2, Kind::Liveness, vec![missed], by(1)),
        // A decision that does not concern the instance.
        decided(3, Kind::Liveness, Vec::new(), Vec::new()),
        decided(
            4,
            Kind::Placement,
            vec![lost(0, 2), lost(1, 3)],
            [by(2), by(3)].concat(),
        ),
    ];
    let mut store = Memory::new(Retention {
        events: 100,
        event_bytes: u64::MAX,
        snapshots: 2,
        snapshot_age: std::time::Duration::from_secs(1),
    });
    store.load(Uuid([1; 16])).unwrap();
    let events = events.into_iter().map(Arc::new).collect();
    let batch = Batch {
        events,
        ..Batch::default()
    };
    store.commit(Epoch(1), &[batch]).unwrap();
    let here = Arc::new(());
    let still = Still::of(&here);
    let ids = |decisions: &[Arc<Decision>]| decisions.iter().map(|one| one.id.0).collect::<Vec<_>>();
    let mark = Mark {
        id: AssignmentId(7),
        workload: "web".into(),
        slot: 0,
        decision: DecisionId(0),
    };
    let of_instance = happened(&*store.history(), &still, "web", Some(&mark)).unwrap();
    assert_eq!(ids(&of_instance.decisions), [4]);
    assert_eq!(
        ids(&of_instance.causes),
        [2, 1],
        "effects before causes, and no others'"
    );
    let seen = &told(&of_instance.causes)[0].evidence[0];
    let data = Some(v1::evidence::Data::Sight(v1::Sight::Silent.into()));
    assert_eq!(
        (seen.observer_id.clone(), &seen.data),
        (Uuid([1; 16]).to_string(), &data)
    );
    let of_all = happened(&*store.history(), &still, "web", None).unwrap();
    assert_eq!(ids(&of_all.causes), [2, 3, 1]);
}
