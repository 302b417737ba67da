use std::time::Duration;

use super::{super::*, *};
use crate::{
    id::{ClusterId, Cycle, Epoch, NodeId, Uuid},
    node::{Admission, ConnId, Liveness},
    protocol::{Message, RefusalReason, Refused},
    standing::{Question, Standing},
};

fn told(epoch: u64, liveness: Liveness, lease: Duration) -> Standing {
    let admission = Admission::Admitted;
    Standing {
        epoch: Epoch(epoch),
        admission,
        liveness,
        lease,
    }
}

/// Questions put to peers, with their numbers.
fn asked(rig: &Rig) -> Vec<(NodeId, u64)> {
    let asked = |effect: &Effect| match effect {
        Effect::Ask { via, number, .. } => Some((*via, *number)),
        _ => None,
    };
    rig.effects.iter().filter_map(asked).collect()
}

fn answer(rig: &mut Rig, number: u64, standing: Option<Standing>) {
    let via = Uuid([2; 16]);
    rig.input(Input::Answered { number, via, standing });
}

/// A rig with two answering peers and a lost session.
fn adrift() -> Rig {
    let mut rig = Rig::live();
    rig.answering = true;
    rig.plan(1, &[2, 3]);
    rig.pass(SECOND);
    let (conn, reason) = (ConnId(1), "cut".to_owned());
    rig.input(Input::Closed { conn, reason });
    rig
}

fn lapses(rig: &Rig) -> usize {
    let lapsed = Effect::Tell(Notice::Lapsed);
    rig.effects.iter().filter(|effect| **effect == lapsed).count()
}

#[test]
fn a_lease_runs_from_the_heartbeat_that_was_confirmed() {
    let mut rig = Rig::live();
    let mut sealer = crate::integrity::Sealer::new(Uuid([9; 16]), &[1; 32], [0; 32]);
    rig.pass(SECOND * 7);
    assert_eq!(rig.heartbeats().len(), 4);
    // The third heartbeat was sent at 4 s.
    let seal = std::sync::Arc::new(sealer.seal(Epoch(3), Cycle(1), b""));
    rig.message(1, Message::Seal { seal, heard: 3 });
    rig.pass(SECOND * 26);
    assert!(rig.core.is_member(rig.now));
    rig.pass(SECOND * 2);
    assert!(!rig.core.is_member(rig.now));
    assert_eq!(lapses(&rig), 1);
}

#[test]
fn a_seal_that_confirms_nothing_new_extends_nothing() {
    let mut rig = Rig::live();
    let mut sealer = crate::integrity::Sealer::new(Uuid([9; 16]), &[1; 32], [0; 32]);
    for cycle in 1..=6 {
        rig.pass(SECOND * 4);
        let seal = std::sync::Arc::new(sealer.seal(Epoch(3), Cycle(cycle), b""));
        rig.message(1, Message::Seal { seal, heard: 1 });
    }
    assert!(rig.core.is_member(rig.now));
    rig.pass(SECOND * 7);
    assert!(!rig.core.is_member(rig.now));
}

#[test]
fn peers_that_answer_are_asked_in_turn_while_the_session_is_lost() {
    let mut rig = adrift();
    assert!(asked(&rig).is_empty());
    rig.pass(SECOND * 3);
    let (one, other) = (Uuid([2; 16]), Uuid([3; 16]));
    assert_eq!(asked(&rig), [(one, 1), (other, 2), (one, 3)]);
    // A session is live again.
    let conn = rig.connects().len() as u64;
    rig.input(Input::Connected { conn: ConnId(conn) });
    rig.welcome(conn);
    rig.pass(SECOND * 10);
    assert_eq!(asked(&rig).len(), 3);
}

#[test]
fn what_a_peer_brings_extends_the_lease_from_when_it_was_asked() {
    let mut rig = adrift();
    rig.pass(SECOND);
    let at = rig.now;
    rig.pass(Duration::from_millis(500));
    answer(&mut rig, 1, Some(told(3, Liveness::Unreachable, SECOND * 60)));
    assert!(rig.core.is_member(at + Duration::from_millis(59_900)));
    assert!(!rig.core.is_member(at + SECOND * 60));
    let news = rig
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Tell(Notice::Told { .. })));
    assert_eq!(news.count(), 1);
}

#[test]
fn what_is_late_repeated_or_of_an_older_coordinator_extends_nothing() {
    let mut rig = adrift();
    rig.pass(SECOND * 2);
    // The first question timed out, and a second peer was asked.
    answer(&mut rig, 1, Some(told(3, Liveness::Unreachable, SECOND * 600)));
    answer(&mut rig, 2, Some(told(2, Liveness::Unreachable, SECOND * 600)));
    answer(&mut rig, 2, Some(told(3, Liveness::Unreachable, SECOND * 600)));
    // A peer that pretends to speak for a future coordinator does not make this node ignore the current one.
    rig.pass(SECOND);
    answer(
        &mut rig,
        3,
        Some(told(u64::MAX, Liveness::Unreachable, Duration::from_millis(1))),
    );
    assert_eq!(rig.core.session.epoch(), Epoch(3));
    assert!(!rig.core.is_member(rig.now + SECOND * 40));
}

#[test]
fn who_was_given_up_has_no_lease_any_more() {
    let mut rig = adrift();
    rig.pass(SECOND);
    assert!(rig.core.is_member(rig.now));
    answer(&mut rig, 1, Some(told(3, Liveness::Offline, Duration::ZERO)));
    assert!(!rig.core.is_member(rig.now));
    rig.pass(SECOND);
    assert_eq!(lapses(&rig), 1);
}

#[test]
fn a_session_that_falls_silent_is_helped_out_by_peers() {
    let mut rig = Rig::live();
    rig.answering = true;
    rig.plan(1, &[2]);
    rig.pass(SECOND * 7);
    assert!(asked(&rig).is_empty());
    rig.pass(SECOND * 2);
    assert!(!asked(&rig).is_empty() && rig.core.is_live());
}

#[test]
fn what_a_coordinator_does_not_note_goes_by_way_of_peers() {
    let mut rig = Rig::live();
    rig.answering = true;
    rig.plan(1, &[2, 3]);
    rig.pass(SECOND * 3);
    rig.noting = false;
    rig.pass(SECOND * 3);
    assert!(asked(&rig).is_empty(), "nothing is to be told");
    rig.core.tell(News::Health);
    rig.drain();
    rig.pass(SECOND * 2 + SECOND / 10);
    assert!(!asked(&rig).is_empty() && rig.core.is_live());
}

fn questions(rig: &Rig) -> Vec<u64> {
    let passed_on = |effect: &Effect| match effect {
        Effect::Send {
            report: FromAgent::Question { number, .. },
            ..
        } => Some(*number),
        _ => None,
    };
    rig.effects.iter().filter_map(passed_on).collect()
}

fn answers(rig: &Rig) -> Vec<(u64, Option<Standing>)> {
    let answered = |effect: &Effect| match effect {
        Effect::Answer { id, standing } => Some((*id, *standing)),
        _ => None,
    };
    rig.effects.iter().filter_map(answered).collect()
}

/// A node starts to probe this agent.
fn follow(rig: &mut Rig, peer: u8) {
    rig.input(Input::Beacon {
        cluster: Uuid([9; 16]),
        sender: Uuid([peer; 16]),
        address: "10.0.0.1:1".into(),
        observes: true,
    });
}

/// A peer that probes this agent asks.
fn ask(rig: &mut Rig, id: u64, cluster: ClusterId, asker: u8) {
    follow(rig, asker);
    stranger_asks(rig, id, cluster, Uuid([asker; 16]));
}

fn put(rig: &mut Rig, id: u64, cluster: ClusterId, question: Question) {
    let question = Box::new(question);
    rig.input(Input::Question { id, cluster, question });
}

fn of(asker: NodeId, path: &[NodeId]) -> Question {
    Question {
        asker,
        incarnation: 1,
        path: path.to_vec(),
        observations: Vec::new(),
    }
}

fn stranger_asks(rig: &mut Rig, id: u64, cluster: ClusterId, asker: NodeId) {
    put(rig, id, cluster, of(asker, &[]));
}

#[test]
fn a_peers_question_is_passed_on_and_its_answer_back() {
    let mut rig = Rig::live();
    ask(&mut rig, 41, Uuid([9; 16]), 5);
    let standing = told(3, Liveness::Unreachable, SECOND * 30);
    let number = questions(&rig)[0];
    rig.message(1, Message::Standing { number, standing });
    rig.message(1, Message::Standing { number, standing });
    assert_eq!(answers(&rig), [(41, Some(standing))]);
}

#[test]
fn who_cannot_pass_a_question_on_says_so_at_once() {
    let mut rig = Rig::live();
    ask(&mut rig, 1, Uuid([8; 16]), 5);
    assert_eq!(answers(&rig), [(1, None)]);
    // The question has already been at all heard peers, or has taken too many hops.
    let round: Vec<NodeId> = vec![Uuid([2; 16]), Uuid([3; 16])];
    let far: Vec<NodeId> = (10..18).map(|node| Uuid([node; 16])).collect();
    for (path, peer) in [(&round, 3), (&far, 17)] {
        let mut rig = adrift();
        follow(&mut rig, peer);
        put(&mut rig, 2, Uuid([9; 16]), of(Uuid([5; 16]), path));
        assert_eq!(answers(&rig), [(2, None)]);
        assert!(asked(&rig).is_empty());
    }
}

#[test]
fn who_has_no_session_passes_a_question_on_and_its_answer_back() {
    let mut rig = adrift();
    ask(&mut rig, 2, Uuid([9; 16]), 5);
    let passed: Vec<&Question> = rig
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Ask { question, .. } => Some(&**question),
            _ => None,
        })
        .collect();
    assert_eq!(
        (passed[0].asker, &passed[0].path[..]),
        (Uuid([5; 16]), &[Uuid([1; 16])][..])
    );
    let standing = told(3, Liveness::Unreachable, SECOND * 30);
    let (_, number) = asked(&rig)[0];
    answer(&mut rig, number, Some(standing));
    assert_eq!(answers(&rig), [(2, Some(standing))]);
    // The answer has no effect on this node itself.
    assert!(
        !rig.effects
            .iter()
            .any(|effect| matches!(effect, Effect::Tell(Notice::Told { .. })))
    );
}

#[test]
fn a_question_that_the_coordinator_does_not_answer_goes_another_way() {
    let mut rig = Rig::live();
    rig.answering = true;
    rig.plan(1, &[2, 3]);
    rig.pass(SECOND * 2);
    ask(&mut rig, 7, Uuid([9; 16]), 5);
    assert_eq!((questions(&rig).len(), asked(&rig).len()), (1, 0));
    rig.pass(Duration::from_millis(300));
    let (_, number) = asked(&rig)[0];
    // The first answer is used.
    let standing = told(3, Liveness::Unreachable, SECOND * 30);
    answer(&mut rig, number, Some(standing));
    rig.message(1, Message::Standing { number, standing });
    assert_eq!(answers(&rig), [(7, Some(standing))]);
}

#[test]
fn questions_of_strangers_and_too_many_are_not_taken() {
    let mut rig = Rig::live();
    stranger_asks(&mut rig, 1, Uuid([9; 16]), Uuid([77; 16]));
    assert_eq!((questions(&rig).len(), answers(&rig).len()), (0, 1));
    for asker in 101..=170 {
        ask(&mut rig, u64::from(asker), Uuid([9; 16]), asker);
    }
    // A second question of the same peer is rejected as well.
    ask(&mut rig, 71, Uuid([9; 16]), 101);
    assert_eq!((questions(&rig).len(), answers(&rig).len()), (64, 8));
    rig.pass(SECOND * 4);
    ask(&mut rig, 72, Uuid([9; 16]), 101);
    assert_eq!(questions(&rig).len(), 65);
}

#[test]
fn whose_place_another_has_is_no_member_any_more() {
    let mut rig = Rig::live();
    assert!(rig.core.is_member(rig.now));
    let refused = Refused {
        reason: RefusalReason::Replaced,
        detail: String::new(),
        retry_after: None,
    };
    rig.message(1, Message::Refused(refused));
    assert!(!rig.core.is_member(rig.now));
}

#[test]
fn a_revoked_agent_is_told_so_and_not_that_nobody_was_heard() {
    for reason in [RefusalReason::Revoked, RefusalReason::Replaced, RefusalReason::Stale] {
        let mut rig = Rig::live();
        rig.pass(SECOND * 3);
        let refused = Refused {
            reason,
            detail: "this node was revoked".to_owned(),
            retry_after: None,
        };
        rig.message(1, Message::Refused(refused.clone()));
        rig.pass(SECOND * 90);
        assert!(!rig.core.is_member(rig.now));
        assert_eq!(lapses(&rig), 0, "{reason:?}");
        assert!(
            rig.effects.contains(&Effect::Tell(Notice::Refused(refused))),
            "{reason:?}"
        );
    }
}
