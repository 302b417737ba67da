//! Standing reported to nodes via their peers.

use std::time::Duration;

use super::rig::*;
use crate::{
    engine::{FromAgent, Input, Message},
    mesh::{Finding, FindingKind, Observation, Sight},
    node::{ConnId, Liveness},
    standing::{Question, Standing},
};

/// Three nodes with sessions 1 to 3 that observe one another.
fn rig() -> Rig {
    let mut rig = Rig::new();
    for number in 1..=3 {
        rig.join(number, number as u8);
    }
    rig.beat_for(&[1, 2, 3], SECOND);
    rig
}

fn ask(rig: &mut Rig, via: u64, number: u64, asker: u8) {
    ask_as(rig, via, number, asker, 1);
}

fn ask_as(rig: &mut Rig, via: u64, number: u64, asker: u8, incarnation: u64) {
    let asker = node_id(asker);
    rig.input(Input::FromAgent(
        ConnId(via),
        FromAgent::Question {
            number,
            question: Box::new(Question {
                asker,
                incarnation,
                path: Vec::new(),
                observations: Vec::new(),
            }),
            sent_millis: 0,
        },
    ));
}

#[test]
fn what_a_node_sees_by_a_plan_of_before_is_no_offence() {
    let mut rig = rig();
    rig.input(Input::Closed {
        conn: ConnId(3),
        by_peer: false,
    });
    let seen = Observation {
        sight: Sight::Heard,
        last_heard_age_millis: Some(0),
    };
    for number in 0..200 {
        let question = Box::new(Question {
            asker: node_id(3),
            incarnation: 1,
            path: Vec::new(),
            observations: vec![(node_id(1), seen), (node_id(8), seen), (node_id(9), seen)],
        });
        rig.input(Input::FromAgent(
            ConnId(1),
            FromAgent::Question {
                number,
                question,
                sent_millis: 0,
            },
        ));
        rig.beat_for(&[1, 2], SECOND / 4);
    }
    assert_eq!(rig.transitions(3).last(), Some(&Liveness::Unreachable));
    let untrusted = |finding: &Finding| finding.kind == FindingKind::Untrusted;
    assert!(!rig.snapshot().findings.iter().any(untrusted));
}

fn told(rig: &Rig, via: u64) -> Vec<(u64, Standing)> {
    let standing = |(conn, message): &(ConnId, Message)| match message {
        Message::Standing { number, standing } if conn.0 == via => Some((*number, *standing)),
        _ => None,
    };
    rig.sent.iter().filter_map(standing).collect()
}

#[test]
fn a_node_whose_session_is_lost_is_told_by_way_of_a_peer_that_it_stays_a_member() {
    let mut rig = rig();
    rig.input(Input::Closed {
        conn: ConnId(3),
        by_peer: false,
    });
    see(&mut rig, 1, 3, Sight::Heard);
    rig.beat_for(&[1, 2], SECOND * 2);
    ask(&mut rig, 1, 7, 3);
    let (number, standing) = told(&rig, 1)[0];
    assert_eq!((number, standing.liveness), (7, Liveness::Unreachable));
    assert_eq!(standing.lease, SECOND * 30);
    let snapshot = rig.snapshot();
    let detail = snapshot.details.last().unwrap();
    assert_eq!(detail.relayed.map(|(via, _)| via), Some(node_id(1)));
}

#[test]
fn who_asks_by_way_of_a_peer_is_there_even_when_no_probe_of_it_is_answered() {
    let mut rig = rig();
    rig.input(Input::Closed {
        conn: ConnId(3),
        by_peer: false,
    });
    see(&mut rig, 1, 3, Sight::Silent);
    see(&mut rig, 2, 3, Sight::Silent);
    for number in 0..40 {
        ask(&mut rig, 2, number, 3);
        rig.beat_for(&[1, 2], SECOND);
    }
    assert_eq!(
        rig.transitions(3),
        [Liveness::Online, Liveness::Suspect, Liveness::Unreachable]
    );
    // It asks no more. Its peers were isolated from it throughout and cannot report, so it is awaited.
    rig.beat_for(&[1, 2], SECOND * 20);
    assert_eq!(rig.transitions(3).last(), Some(&Liveness::Unreachable));
    rig.beat_for(&[1, 2], SECOND * 20);
    assert_eq!(rig.transitions(3).last(), Some(&Liveness::Offline));
    ask(&mut rig, 1, 50, 3);
    let standing = told(&rig, 1)[0].1;
    assert_eq!((standing.liveness, standing.lease), (Liveness::Offline, Duration::ZERO));
}

#[test]
fn a_lease_outlasts_long_cycles_and_heartbeats() {
    let second = crate::standing::lease(SECOND * 6, SECOND * 2);
    assert_eq!(second, SECOND * 30);
    assert_eq!(crate::standing::lease(SECOND * 6, SECOND * 60), SECOND * 300);
}

#[test]
fn another_start_of_a_nodes_agent_neither_has_its_lease_nor_proves_that_it_is_there() {
    let mut rig = rig();
    rig.input(Input::Closed {
        conn: ConnId(3),
        by_peer: false,
    });
    see(&mut rig, 1, 3, Sight::Silent);
    see(&mut rig, 2, 3, Sight::Silent);
    for number in 0..10 {
        ask_as(&mut rig, 2, number, 3, 7);
        rig.beat_for(&[1, 2], SECOND);
    }
    assert_eq!(rig.transitions(3).last(), Some(&Liveness::Offline));
    assert!(told(&rig, 2).iter().all(|(_, standing)| standing.lease.is_zero()));
}

#[test]
fn whoever_is_asked_by_strangers_is_not_blamed_for_it() {
    let mut rig = rig();
    for number in 0..4_000 {
        ask(&mut rig, 1, number, 9);
        ask(&mut rig, 2, number, 3);
    }
    assert!(told(&rig, 1).is_empty() && told(&rig, 2).len() < 2_000);
    // The observations of node 2 itself still count.
    for _ in 0..10 {
        see(&mut rig, 2, 3, Sight::Heard);
    }
    rig.beat_for(&[1, 2, 3], SECOND * 2);
    assert!(rig.snapshot().findings.is_empty());
}
