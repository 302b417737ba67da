//! Limits of membership: durations, numbers, hops, and the order of peers.

use std::time::Duration;

use super::{super::*, *};
use crate::{
    id::{Cycle, Epoch, NodeId, Uuid},
    node::{Admission, ConnId, Liveness},
    protocol::Message,
    standing::{HOPS, Question, Standing},
};

const TENTH: Duration = Duration::from_millis(100);

fn told(lease: Duration) -> Standing {
    Standing {
        epoch: Epoch(3),
        admission: Admission::Admitted,
        liveness: Liveness::Unreachable,
        lease,
    }
}

fn node(number: u8) -> NodeId {
    Uuid([number; 16])
}

fn asked(rig: &Rig) -> Vec<(NodeId, u64)> {
    let asked = |effect: &Effect| match effect {
        Effect::Ask { via, number, .. } => Some((*via, *number)),
        _ => None,
    };
    rig.effects.iter().filter_map(asked).collect()
}

fn answers(rig: &Rig) -> Vec<(u64, Option<Standing>)> {
    let answered = |effect: &Effect| match effect {
        Effect::Answer { id, standing } => Some((*id, *standing)),
        _ => None,
    };
    rig.effects.iter().filter_map(answered).collect()
}

fn notices(rig: &Rig, of_lapse: bool) -> usize {
    let notices = rig.effects.iter().filter(|effect| match effect {
        Effect::Tell(Notice::Lapsed) => of_lapse,
        Effect::Tell(Notice::Told { .. }) => !of_lapse,
        _ => false,
    });
    notices.count()
}

fn put(rig: &mut Rig, id: u64, asker: NodeId, path: &[NodeId]) {
    let question = Box::new(Question {
        asker,
        incarnation: 1,
        path: path.to_vec(),
        observations: Vec::new(),
    });
    let cluster = CLUSTER;
    rig.input(Input::Question { id, cluster, question });
}

/// A rig with answering peers and a lost session.
fn adrift(peers: &[u8]) -> Rig {
    let mut rig = Rig::live();
    rig.answering = true;
    rig.plan(1, peers);
    rig.pass(SECOND);
    let (conn, reason) = (ConnId(1), "cut".to_owned());
    rig.input(Input::Closed { conn, reason });
    rig
}

/// A seal that confirms heartbeats up to `heard`.
fn heard(rig: &mut Rig, cycle: u64, heard: u64) {
    let mut sealer = crate::integrity::Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    let seal = std::sync::Arc::new(sealer.seal(Epoch(3), Cycle(cycle), b""));
    rig.message(1, Message::Seal { seal, heard });
}

#[test]
fn singletons_may_run_for_twice_the_lease() {
    let rig = Rig::live();
    let welcomed = rig.now;
    assert_eq!(rig.core.membership.lent(), Some(welcomed + SECOND * 60));
    assert_eq!(Rig::with(Vec::new(), Begun::None).core.membership.lent(), None);
    assert!(!Rig::with(Vec::new(), Begun::None).core.is_member(welcomed));
    assert!(rig.core.is_member(welcomed + SECOND * 30 - TENTH));
    assert!(!rig.core.is_member(welcomed + SECOND * 30));
}

#[test]
fn the_first_question_comes_a_second_after_the_session_was_lost() {
    let mut rig = adrift(&[2, 3]);
    rig.pass(TENTH * 9);
    assert!(asked(&rig).is_empty());
    rig.pass(TENTH * 2);
    assert_eq!(asked(&rig).len(), 1);
    rig.pass(TENTH * 8);
    assert_eq!(asked(&rig).len(), 1);
    rig.pass(TENTH * 2);
    assert_eq!(asked(&rig).len(), 2);
}

#[test]
fn who_answered_last_is_asked_first() {
    let mut rig = adrift(&[2, 3, 4]);
    let mut vias = Vec::new();
    for turn in 0..6 {
        rig.pass(SECOND);
        let (via, number) = *asked(&rig).last().unwrap();
        vias.push(via);
        let standing = (turn < 2).then(|| told(SECOND * 30));
        rig.input(Input::Answered { number, via, standing });
    }
    // The second and third questions go to the peer that answered before; afterwards there are no answers.
    assert_eq!(vias[..3], [vias[0]; 3]);
    assert!(vias[3] != vias[4] && vias[4] != vias[5], "{vias:?}");
    assert_eq!(notices(&rig, false), 1, "the same again is no news");
    assert_eq!(
        asked(&rig).iter().map(|(_, number)| *number).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
}

#[test]
fn a_lease_that_ran_out_and_came_back_runs_out_again() {
    let mut rig = adrift(&[2]);
    rig.pass(SECOND * 31);
    assert_eq!(notices(&rig, true), 1);
    let (via, number) = *asked(&rig).last().unwrap();
    let standing = Some(told(SECOND * 5));
    rig.input(Input::Answered { number, via, standing });
    assert!(rig.core.is_member(rig.now));
    rig.pass(SECOND * 6);
    assert!(!rig.core.is_member(rig.now));
    assert_eq!(notices(&rig, true), 2);
}

#[test]
fn a_lease_that_runs_out_between_two_questions_is_told_at_once() {
    let mut rig = Rig::live();
    rig.pass(TENTH * 15);
    let (conn, reason) = (ConnId(1), "cut".to_owned());
    rig.input(Input::Closed { conn, reason });
    rig.pass(TENTH * 284);
    assert_eq!(notices(&rig, true), 0);
    rig.pass(TENTH * 2);
    assert_eq!(notices(&rig, true), 1);
}

#[test]
fn an_answer_that_is_worth_nothing_any_more_does_not_bring_a_lease_back() {
    let mut rig = adrift(&[2]);
    rig.pass(SECOND * 31);
    let (via, number) = *asked(&rig).last().unwrap();
    rig.pass(TENTH * 5);
    // The question is half a second old, so the lease ends just now.
    let standing = Some(told(TENTH * 5));
    rig.input(Input::Answered { number, via, standing });
    rig.pass(SECOND * 3);
    assert_eq!(notices(&rig, true), 1);
}

#[test]
fn a_welcome_to_a_hello_from_before_a_sleep_makes_no_member() {
    let mut rig = Rig::with(Vec::new(), Begun::None);
    rig.pass(SECOND * 100);
    let before = rig.connects().len();
    while rig.connects().len() == before {
        rig.pass(TENTH);
    }
    let conn = rig.connects().len() as u64;
    rig.input(Input::Connected { conn: ConnId(conn) });
    rig.input(Input::Slept);
    rig.welcome(conn);
    assert!(!rig.core.is_member(rig.now));
    // In a live session, heartbeats from before the suspension extend nothing.
    let mut rig = Rig::live();
    rig.pass(SECOND * 2);
    let beats = rig.heartbeats().len() as u64;
    rig.input(Input::Slept);
    heard(&mut rig, 1, beats);
    assert!(!rig.core.is_member(rig.now));
    rig.pass(SECOND * 2);
    let beats = rig.heartbeats().len() as u64;
    heard(&mut rig, 2, beats);
    assert!(rig.core.is_member(rig.now));
}

#[test]
fn an_agent_that_has_ended_asks_nobody() {
    let mut rig = adrift(&[2, 3]);
    let reason = "stop".to_owned();
    rig.input(Input::Shutdown { reason });
    rig.pass(SECOND * 5);
    assert!(asked(&rig).is_empty());
    assert_eq!(notices(&rig, true), 0);
}

#[test]
fn a_question_is_passed_on_by_as_many_as_it_may_be() {
    let passed_by = |many: usize| -> Vec<NodeId> { (10..).map(node).take(many).collect() };
    for (many, is_passed_on) in [(HOPS - 2, true), (HOPS - 1, false)] {
        let mut rig = adrift(&[2, 3]);
        let path = passed_by(many);
        rig.input(Input::Beacon {
            cluster: CLUSTER,
            sender: path[many - 1],
            address: "10.0.0.1:1".into(),
            observes: true,
        });
        put(&mut rig, 7, node(5), &path);
        assert_eq!(!asked(&rig).is_empty(), is_passed_on, "{many}");
        assert_eq!(answers(&rig).is_empty(), is_passed_on, "{many}");
    }
}

#[test]
fn whom_this_agent_probes_may_ask_it_as_well() {
    let mut rig = Rig::live();
    rig.plan(1, &[2]);
    put(&mut rig, 1, node(2), &[]);
    put(&mut rig, 2, node(3), &[]);
    assert_eq!(answers(&rig), [(2, None)]);
}

#[test]
fn a_question_that_has_been_on_its_way_for_three_seconds_makes_room() {
    let mut rig = Rig::live();
    rig.plan(1, &[2]);
    put(&mut rig, 1, node(2), &[]);
    rig.pass(TENTH * 29);
    put(&mut rig, 2, node(2), &[]);
    assert_eq!(answers(&rig), [(2, None)]);
    rig.pass(TENTH * 2);
    put(&mut rig, 3, node(2), &[]);
    assert_eq!(answers(&rig), [(2, None)]);
}

#[test]
fn heartbeats_are_remembered_up_to_a_bound() {
    // The oldest of 70 heartbeats that is remembered is the seventh; the lease it extends is over by now.
    for (confirmed, is_known) in [(6, false), (7, true)] {
        let mut rig = Rig::live();
        let mut cycle = 0;
        while rig.heartbeats().len() < 70 {
            rig.pass(SECOND * 2);
            cycle += 1;
            heard(&mut rig, cycle, 0);
        }
        let before = rig.core.membership.lent();
        heard(&mut rig, cycle + 1, confirmed);
        let extended = rig.core.membership.lent() > before;
        assert_eq!(extended, is_known, "{confirmed}");
    }
}
