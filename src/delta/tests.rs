use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::btree_map, prelude::*};
use prost::Message;

use super::{ApplyError, apply};
use crate::{
    canonical::{Canonical, Filter},
    v1,
};

fn id(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

fn node((number, (load, zone)): (u8, (u32, u8))) -> v1::NodeRow {
    v1::NodeRow {
        id: id(number),
        name: format!("n{number}"),
        load_percent: load,
        labels: vec![v1::Label {
            key: "zone".to_owned(),
            value: zone.to_string(),
        }],
        ..v1::NodeRow::default()
    }
}

fn links((number, rtt): (u8, u32)) -> v1::ObserverLinks {
    let link = v1::Link {
        subject_id: id(number ^ 1),
        rtt_micros: rtt,
        ..v1::Link::default()
    };
    v1::ObserverLinks {
        observer_id: id(number),
        links: vec![link],
    }
}

type Rows = (BTreeMap<u8, (u32, u8)>, BTreeMap<u8, u32>);

fn snapshot(cycle: u64, version: u8, (nodes, rows): Rows, sections: [u32; 7]) -> v1::Snapshot {
    let workload = |(number, desired): (&u8, &u32)| v1::Workload {
        name: format!("web-{number:03}"),
        desired: *desired,
        ..v1::Workload::default()
    };
    let assignment = |(number, (slot, _)): (&u8, &(u32, u8))| v1::Assignment {
        id: format!("{number:016x}"),
        slot: *slot,
        ..v1::Assignment::default()
    };
    v1::Snapshot {
        workloads: rows.iter().map(workload).collect(),
        assignments: nodes.iter().map(assignment).collect(),
        cluster_id: id(255),
        epoch: 1 + cycle / 10,
        cycle,
        time: Some(prost_types::Timestamp {
            seconds: cycle as i64,
            nanos: 0,
        }),
        cycle_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        coordinator_version: format!("0.{version}.0"),
        nodes: nodes.into_iter().map(node).collect(),
        telemetry: Some(v1::TelemetryOverview {
            history: sections[0],
            ..Default::default()
        }),
        predictive: Some(v1::PredictiveOverview {
            warming: sections[1],
            ..Default::default()
        }),
        mesh: Some(v1::MeshTopology {
            nodes: sections[2],
            ..Default::default()
        }),
        links: rows.into_iter().map(links).collect(),
        autonomy: Some(v1::AutonomyState {
            open: sections[3],
            ..Default::default()
        }),
        behaviour: Some(v1::BehaviourState {
            issued: sections[4].into(),
            ..Default::default()
        }),
        integrity: Some(v1::IntegrityState {
            previous_cycle: sections[5].into(),
            ..Default::default()
        }),
        coherence: Some(v1::CoherenceReport {
            score: sections[6] as f32,
            ..Default::default()
        }),
    }
}

fn snapshots(cycle: u64) -> impl Strategy<Value = v1::Snapshot> {
    let rows = (
        btree_map(0..24u8, (0..3u32, 0..3u8), 0..24),
        btree_map(0..24u8, 0..3u32, 0..24),
    );
    (0..2u8, rows, proptest::array::uniform7(0..2u32))
        .prop_map(move |(version, rows, sections)| snapshot(cycle, version, rows, sections))
}

fn filters() -> impl Strategy<Value = Filter> {
    let sections = proptest::collection::btree_set(1..=8i32, 0..4);
    (sections, proptest::option::of(0..3u8)).prop_map(|(sections, zone)| Filter {
        sections,
        label: zone.map(|zone| ("zone".to_owned(), zone.to_string())),
    })
}

fn canonical(snapshot: &v1::Snapshot) -> Canonical {
    Canonical::from_bytes(snapshot.encode_to_vec().into()).unwrap()
}

proptest! {
    #[test]
    fn a_delta_leads_to_exactly_the_second_state(
        before in snapshots(9), after in snapshots(10), filter in filters()
    ) {
        for filter in [Filter::default(), filter] {
            let (before, after) = (canonical(&before), canonical(&after));
            let mut state = v1::Snapshot::decode(before.view(&filter)).unwrap();
            let delta = v1::SnapshotDelta::decode(after.delta(&before, &filter)).unwrap();
            apply(&mut state, delta).unwrap();
            prop_assert_eq!(state.encode_to_vec(), after.view(&filter).to_vec());
        }
    }
}

#[test]
fn a_delta_from_elsewhere_changes_nothing() {
    let before = snapshot(9, 0, Rows::default(), [0; 7]);
    let after = snapshot(10, 0, Rows::default(), [1; 7]);
    let delta = canonical(&after).delta(&canonical(&before), &Filter::default());
    let delta = v1::SnapshotDelta::decode(delta).unwrap();
    let refused = |state: &v1::Snapshot, delta: v1::SnapshotDelta| {
        let mut changed = state.clone();
        let error = apply(&mut changed, delta).unwrap_err();
        assert_eq!(&changed, state);
        error
    };

    let from = refused(&after, delta.clone());
    assert_eq!(
        from,
        ApplyError::From {
            from: (1, 9),
            state: (2, 10)
        }
    );
    let empty = v1::SnapshotDelta {
        changed: None,
        ..delta.clone()
    };
    assert_eq!(refused(&before, empty), ApplyError::Empty);
    let other = v1::Snapshot {
        cluster_id: id(1),
        ..before.clone()
    };
    assert!(matches!(refused(&other, delta), ApplyError::Cluster { .. }));
}

#[test]
fn sections_that_are_not_selected_stay_absent() {
    let filter = Filter {
        sections: BTreeSet::from([v1::Section::Coherence as i32]),
        label: None,
    };
    let (before, after) = (
        snapshot(9, 0, Rows::default(), [0; 7]),
        snapshot(10, 0, Rows::default(), [1; 7]),
    );
    let (before, after) = (canonical(&before), canonical(&after));
    let mut state = v1::Snapshot::decode(before.view(&filter)).unwrap();
    apply(
        &mut state,
        v1::SnapshotDelta::decode(after.delta(&before, &filter)).unwrap(),
    )
    .unwrap();
    assert!(state.mesh.is_none() && state.coherence.is_some());
}
