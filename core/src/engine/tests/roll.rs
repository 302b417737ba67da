//! Nodes as published to readers between cycles.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::rig::{Rig, SECOND, hello, node_id};
use crate::{
    coherence::NodeRow,
    command::{self, Asked},
    ctx::outbox::MAX_AWAITED,
    engine::Input,
    node::{Admission, ConnId, Eligibility, Labels, Liveness},
};

/// Maximum delay of a publication.
const SOON: Duration = Duration::from_millis(50);

fn row(rig: &Rig, number: u8) -> Option<Arc<NodeRow>> {
    rig.nodes.iter().find(|row| row.record.id() == node_id(number)).cloned()
}

fn seen(rig: &Rig, number: u8) -> Arc<NodeRow> {
    row(rig, number).expect("a row")
}

fn close(rig: &mut Rig, conn: u64) {
    rig.input(Input::Closed {
        conn: ConnId(conn),
        by_peer: true,
    });
}

/// Checks that readers see what a snapshot of this moment would show.
fn assert_true(rig: &Rig) {
    let shown: Vec<_> = rig
        .nodes
        .iter()
        .map(|row| (row.record.clone(), row.state.liveness, row.state.cause))
        .collect();
    let is: Vec<_> = rig
        .core
        .ctx
        .registry
        .by_id()
        .map(|(_, node)| (node.record.clone(), node.liveness(), node.cause()))
        .collect();
    assert_eq!(shown, is);
}

fn node() -> String {
    "node-1".to_owned()
}

#[test]
fn who_is_answered_reads_what_the_command_changed() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.pass(SOON);
    let (before, other) = (rig.snapshots.len(), seen(&rig, 2));
    rig.command(command::Cordon { node: node() }).unwrap();
    assert_eq!(seen(&rig, 1).record.eligibility, Eligibility::Cordoned);
    rig.command(command::Uncordon { node: node() }).unwrap();
    assert_eq!(seen(&rig, 1).record.eligibility, Eligibility::Eligible);
    let (set, remove) = (Labels::from([("disk".to_owned(), "ssd".to_owned())]), Vec::new());
    rig.command(command::Label {
        node: node(),
        set,
        remove,
    })
    .unwrap();
    assert_eq!(seen(&rig, 1).record.labels()["disk"], "ssd");
    let interval = Some(SECOND * 9);
    rig.command(command::SetHeartbeat { node: node(), interval }).unwrap();
    assert_eq!(seen(&rig, 1).record.heartbeat, interval);
    let (deadline, plan) = (None, true);
    rig.command(command::Drain {
        keep_daemons: false,
        node: node(),
        deadline,
        plan,
    })
    .unwrap();
    assert_eq!(
        seen(&rig, 1).record.eligibility,
        Eligibility::Eligible,
        "a plan changes nothing"
    );
    let plan = false;
    rig.command(command::Drain {
        keep_daemons: false,
        node: node(),
        deadline,
        plan,
    })
    .unwrap();
    assert_eq!(seen(&rig, 1).record.eligibility, Eligibility::Draining);
    let reason = String::new();
    rig.command(command::Revoke {
        node: node(),
        reason: reason.clone(),
    })
    .unwrap();
    let revoked = seen(&rig, 1);
    assert_eq!(
        (revoked.record.admission, revoked.state.liveness),
        (Admission::Revoked, Liveness::Left)
    );
    rig.command(command::Admit { node: node() }).unwrap();
    assert_eq!(seen(&rig, 1).record.admission, Admission::Admitted);
    assert_eq!(rig.snapshots.len(), before, "no cycle passed");
    assert!(
        Arc::ptr_eq(&other, &seen(&rig, 2)),
        "another node's row is not made anew"
    );
    rig.beat_for(&[2], SECOND * 180);
    rig.command(command::Forget {
        node: node(),
        plan: false,
        reason,
    })
    .unwrap();
    assert!(row(&rig, 1).is_none());
    assert_true(&rig);
}

#[test]
fn what_time_concludes_is_seen_at_once_and_heartbeats_are_no_conclusion() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.pass(SOON);
    assert_eq!(seen(&rig, 1).state.liveness, Liveness::Online);
    let shown = rig.shown;
    for _ in 0..40 {
        rig.pass(Duration::from_millis(10));
        rig.beat(1);
        rig.beat(2);
    }
    assert_eq!(rig.shown, shown, "heartbeats made a view");
    close(&mut rig, 1);
    rig.pass(SOON);
    assert_eq!(seen(&rig, 1).state.liveness, Liveness::Suspect);
    assert_eq!(rig.shown, shown + 1);
    assert_eq!(Some(rig.seen_event), rig.events.last().map(|event| event.sequence));
    assert_true(&rig);
}

#[test]
fn a_restarted_coordinator_shows_who_is_back_before_the_next_cycle() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let mut rig = rig.restart();
    assert_eq!(seen(&rig, 1).state.liveness, Liveness::Unseen);
    rig.hello(7, hello(1, 2, 0));
    rig.pass(SOON);
    assert_eq!(seen(&rig, 1).state.liveness, Liveness::Online);
}

#[test]
fn what_is_not_durable_is_not_seen() {
    let mut rig = Rig::new();
    for number in 1..=100 {
        rig.join(number.into(), number);
    }
    rig.pass(SECOND);
    rig.stalled = true;
    // The maximum number of batches that the store may be behind.
    for number in 1..=MAX_AWAITED as u8 {
        close(&mut rig, number.into());
    }
    assert_eq!(rig.unconfirmed, MAX_AWAITED);
    let (batches, cycles) = (rig.batches.len(), rig.snapshots.len());
    for number in MAX_AWAITED as u8 + 1..=100 {
        close(&mut rig, number.into());
    }
    rig.pass(SECOND * 13);
    assert_eq!(rig.batches.len(), batches, "the store takes no more");
    assert_eq!(rig.snapshots.len(), cycles, "a snapshot shows what no batch has");
    assert_eq!(
        seen(&rig, 100).state.liveness,
        Liveness::Online,
        "a crash would take that back"
    );
    rig.resume();
    rig.pass(SOON);
    assert_ne!(seen(&rig, 100).state.liveness, Liveness::Online);
    assert_true(&rig);
    rig.pass(SECOND * 6);
    assert!(rig.snapshots.len() > cycles);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However many nodes come and go in a moment, readers see one publication, identical in each run.
    #[test]
    fn many_conclusions_make_one_view(nodes in 2..=200u8, gaps in prop::collection::vec(0..4u64, 1..30)) {
        let run = || {
            let mut rig = Rig::new();
            for number in 1..=nodes {
                rig.join(number.into(), number);
            }
            rig.pass(SOON);
            let shown = rig.shown;
            let mut span = Duration::ZERO;
            for (at, number) in (1..=nodes).enumerate() {
                close(&mut rig, number.into());
                let gap = Duration::from_millis(gaps[at % gaps.len()]);
                rig.pass(gap);
                span += gap;
            }
            rig.pass(SOON);
            assert_true(&rig);
            (rig.shown - shown, span, rig.nodes.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>())
        };
        let (shown, span, rows) = run();
        // One more at the start of a cycle.
        let most = 2 + span.as_millis() as usize / 40;
        prop_assert!((1..=most).contains(&shown), "{} views in {:?}", shown, span);
        prop_assert_eq!((shown, span, rows), run());
    }

    /// Whatever operators and hosts do, readers see it once the command is answered.
    #[test]
    fn readers_see_what_is_after_every_command(steps in prop::collection::vec((1..=4u8, 0..8u8), 1..40)) {
        let mut rig = Rig::new();
        for number in 1..=4 {
            rig.join(number.into(), number);
        }
        let mut conn = 100;
        for (number, step) in steps {
            let node = format!("node-{number}");
            let command: Asked = match step {
                0 => command::Cordon { node }.into(),
                1 => command::Uncordon { node }.into(),
                2 => command::Drain { node, deadline: None, keep_daemons: false, plan: false }.into(),
                3 => command::Revoke { node, reason: String::new() }.into(),
                4 => command::Admit { node }.into(),
                5 => {
                    let set = Labels::from([("step".to_owned(), number.to_string())]);
                    command::Label { node, set, remove: Vec::new() }.into()
                }
                6 => {
                    conn += 1;
                    rig.hello(conn, hello(number, conn, 0));
                    continue;
                }
                _ => {
                    rig.pass(Duration::from_millis(700));
                    continue;
                }
            };
            rig.ask(command).unwrap();
            assert_true(&rig);
        }
        rig.pass(SOON);
        assert_true(&rig);
    }
}
