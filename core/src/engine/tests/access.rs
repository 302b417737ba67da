//! Admission, join tokens, operators and impostors.

use std::{sync::Arc, time::Duration};

use super::rig::*;
use crate::{
    access::{Credential, Enrolment, OperatorRecord, Role, Shut, TokenRecord},
    command,
    engine::{Denial, Input, Message, Refusal, RefusalReason, TokenProblem},
    event::EventBody,
    id::ProcessId,
    node::{Admission, Cause, ConnId, Hello, Labels, Liveness, Origin},
    time::WallTime,
};

pub(super) const KEY: [u8; 32] = [9; 32];

pub(super) fn token(rig: &mut Rig, id: &str, uses: u32, admission: Admission) -> Result<Box<TokenRecord>, Refusal> {
    token_for(rig, id, uses, admission, "")
}

pub(super) fn token_for(
    rig: &mut Rig,
    id: &str,
    uses: u32,
    admission: Admission,
    name: &str,
) -> Result<Box<TokenRecord>, Refusal> {
    let token = TokenRecord {
        id: id.to_owned(),
        hash: [id.as_bytes()[0]; 32],
        created: WallTime(0),
        created_by: String::new(),
        expires: WallTime(0),
        lived: Duration::ZERO,
        uses_left: uses,
        labels: Labels::from([("rack".to_owned(), "7".to_owned())]),
        name: name.to_owned(),
        admission,
        authority: None,
    };
    let ttl = Duration::from_secs(60);
    let token = Box::new(token);
    rig.command(command::CreateToken { token, ttl })
}

pub(super) fn enrolment(id: &str, node: u8) -> Enrolment {
    Enrolment {
        token: id.to_owned(),
        hash: [id.as_bytes()[0]; 32],
        node: node_id(node),
        name: format!("node-{node}"),
        key: KEY,
        machine: [4; 32],
        ca_step: 0,
    }
}

pub(super) fn enrol(rig: &mut Rig, enrolment: Enrolment) -> Result<(Admission, bool), Refusal> {
    let reply = rig.command(command::Enrol(Box::new(enrolment)))?;
    Ok((reply.admission, reply.changed))
}

fn denied(problem: TokenProblem) -> Result<(Admission, bool), Refusal> {
    Err(Refusal::Denied(Denial::Token(problem)))
}

/// A hello authenticated by a certificate.
pub(super) fn proven(rig: &mut Rig, conn: u64, hello: Hello, node: u8) {
    let origin = Origin {
        address: format!("10.0.0.{node}:4000"),
        proven: Some((node_id(node), KEY)),
    };
    let hello = Box::new(hello);
    rig.input(Input::Opened {
        conn: ConnId(conn),
        hello,
        origin,
    });
}

pub(super) fn hello_of(node: u8, incarnation: u64, process: u8, machine: u8) -> Hello {
    Hello {
        process_id: ProcessId([process; 16]),
        machine: [machine; 32],
        last_failure: String::new(),
        ..hello(node, incarnation, 0)
    }
}

fn impostors(rig: &Rig) -> usize {
    let impostor = |body: &EventBody| matches!(body, EventBody::Impostor { .. });
    rig.events.iter().filter(|event| impostor(&event.body)).count()
}

#[test]
fn a_token_admits_as_often_as_it_says_and_joining_again_uses_nothing() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 2, Admission::Admitted).unwrap();
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), Ok((Admission::Admitted, false)));
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), Ok((Admission::Admitted, false)));
    assert_eq!(enrol(&mut rig, enrolment("a", 2)), Ok((Admission::Admitted, false)));
    assert_eq!(enrol(&mut rig, enrolment("a", 3)), denied(TokenProblem::UsedUp));
    // Joining again still works.
    assert_eq!(enrol(&mut rig, enrolment("a", 2)), Ok((Admission::Admitted, false)));
    // It has the token's labels, and is present once its agent is.
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    assert_eq!(rig.welcome(1).unwrap().admission, Admission::Admitted);
    let snapshot = rig.snapshot();
    let row = snapshot.nodes.iter().find(|row| row.record.id() == node_id(1)).unwrap();
    assert_eq!(row.record.labels()["rack"], "7");
    assert_eq!(row.record.ruling.as_ref().unwrap().by, "join token a");
    assert!(rig.transitions(1).contains(&Liveness::Online));
}

#[test]
fn a_token_that_is_wrong_late_or_anothers_lets_nobody_in() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 2, Admission::Admitted).unwrap();
    assert_eq!(enrol(&mut rig, enrolment("b", 1)), denied(TokenProblem::Unknown));
    let forged = Enrolment {
        hash: [0; 32],
        ..enrolment("a", 1)
    };
    assert_eq!(enrol(&mut rig, forged), denied(TokenProblem::Secret));
    rig.pass(Duration::from_secs(61));
    rig.input(Input::WallClock(WallTime(1_000_000 + 61_000)));
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), denied(TokenProblem::Expired));
}

const DAY: i64 = 24 * 3_600_000;

#[test]
fn a_clock_that_is_ahead_for_a_moment_deletes_no_token() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 2, Admission::Admitted).unwrap();
    rig.input(Input::WallClock(WallTime(1_000_000 + 3 * DAY)));
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), denied(TokenProblem::Expired));
    token(&mut rig, "b", 2, Admission::Admitted).unwrap();
    rig.input(Input::WallClock(WallTime(1_000_000)));
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    // Once its validity has passed in running time, it is removed with the next creation, even across a restart.
    rig.pass(Duration::from_secs(40));
    let mut rig = rig.restart();
    token(&mut rig, "c", 2, Admission::Admitted).unwrap();
    rig.pass(Duration::from_secs(40));
    rig.input(Input::WallClock(WallTime(1_000_000 + 80_000)));
    token(&mut rig, "d", 2, Admission::Admitted).unwrap();
    let access = rig.batches.iter().rev().find_map(|batch| batch.access.clone()).unwrap();
    let kept: Vec<_> = access.tokens.keys().map(String::as_str).collect();
    // A token created while the clock was ahead expires by that clock.
    assert_eq!(kept, ["b", "c", "d"]);
}

#[test]
fn a_drains_deadline_is_no_nearer_because_the_clock_was_set() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 2, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    rig.command(command::Drain {
        keep_daemons: false,
        node: "node-1".to_owned(),
        deadline: Some(Duration::from_secs(600)),
        plan: false,
    })
    .unwrap();
    rig.pass(Duration::from_secs(60));
    let mut durable = rig.restart().durable;
    let record = durable.nodes.get_mut(&node_id(1)).unwrap();
    // The clock is three days ahead at the restart.
    Arc::make_mut(record).drain_deadline = Some(WallTime(1_000_000 - 3 * DAY));
    let rig = Rig::from(durable);
    let (_, node) = rig.core.ctx.registry.iter().next().unwrap();
    let left = node.drain_until.unwrap().since(rig.now);
    assert!((500..=600).contains(&left.as_secs()), "{left:?}");
}

#[test]
fn the_uses_and_the_hash_of_a_token_survive_a_restart() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 1, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    let kept = rig.batches.iter().rev().find_map(|batch| batch.access.clone()).unwrap();
    assert_eq!(kept.tokens["a"].uses_left, 0);
    assert!(!format!("{kept:?}").contains("97, 97"));
}

#[test]
fn pending_nodes_wait_and_take_no_part_until_they_are_admitted() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Pending).unwrap();
    for node in 1..=2 {
        assert_eq!(enrol(&mut rig, enrolment("a", node)).unwrap().0, Admission::Pending);
        proven(&mut rig, u64::from(node), hello_of(node, 1, node, 4), node);
    }
    let welcome = rig.welcome(1).unwrap();
    assert_eq!((welcome.admission, welcome.lease), (Admission::Pending, Duration::ZERO));
    rig.pass(Duration::from_secs(1));
    assert!(
        !rig.sent
            .iter()
            .any(|(_, message)| matches!(message, Message::ProbePlan(_)))
    );
    let told: Vec<&str> = rig.events.iter().map(|event| event.summary.as_str()).collect();
    let online = |summary: &str| summary.starts_with("node-1 is online");
    assert!(
        told.iter()
            .any(|summary| online(summary) && summary.contains("is not admitted")),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|summary| summary.contains("it takes part")),
        "{told:?}"
    );
    for node in ["node-1", "node-2"] {
        rig.command(command::Admit { node: node.to_owned() }).unwrap();
    }
    assert_eq!(rig.refused(1), Some(RefusalReason::Readmitted));
    for node in 1..=2u8 {
        proven(&mut rig, 10 + u64::from(node), hello_of(node, 1, node, 4), node);
    }
    rig.pass(Duration::from_secs(1));
    let plan = rig.sent.iter().rev().find_map(|(to, message)| match message {
        Message::ProbePlan(plan) if *to == ConnId(11) => Some(plan.clone()),
        _ => None,
    });
    let plan = plan.expect("a plan");
    assert_eq!(plan.targets[0].0, node_id(2));
    assert_eq!(plan.observers, [node_id(2)]);
}

#[test]
fn a_revoked_node_is_shut_out_at_once_and_its_peers_hear_of_it() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    for node in 1..=3u8 {
        enrol(&mut rig, enrolment("a", node)).unwrap();
        proven(&mut rig, u64::from(node), hello_of(node, 1, node, 4), node);
    }
    rig.pass(Duration::from_secs(1));
    rig.sent.clear();
    let revoke = command::Revoke {
        node: "node-3".to_owned(),
        reason: "stolen".to_owned(),
    };
    rig.command(revoke).unwrap();
    assert_eq!(rig.refused(3), Some(RefusalReason::Revoked));
    let told = rig.sent.iter().any(|(to, message)| match message {
        Message::ProbePlan(plan) => *to == ConnId(1) && plan.observers == [node_id(2)],
        _ => false,
    });
    assert!(told, "peers are told at once: {:?}", rig.sent);
    proven(&mut rig, 30, hello_of(3, 2, 8, 4), 3);
    assert_eq!(rig.refused(30), Some(RefusalReason::Revoked));
    let of = |rig: &mut Rig| {
        let snapshot = rig.snapshot();
        let row = snapshot.nodes.iter().find(|row| row.record.id() == node_id(3)).unwrap();
        (row.state.liveness, row.state.cause)
    };
    rig.pass(Duration::from_secs(7));
    assert_eq!(of(&mut rig), (Liveness::Left, Cause::Revoked));
    let why = rig.events.iter().rev().find_map(|event| match &event.body {
        EventBody::Decision(decision) if decision.action.starts_with("node-3") => Some(Arc::clone(decision)),
        _ => None,
    });
    let why = why.expect("a decision about it");
    assert_eq!(why.rule, "revoked", "{why:?}");
    assert!(!why.action.contains("nothing is expected"), "{why:?}");
    // Neither a token nor a renewal lifts the revocation; admitting the node does.
    assert_eq!(
        enrol(&mut rig, enrolment("a", 3)),
        Err(Refusal::Denied(Denial::Revoked))
    );
    let renewal = rig.command(command::Renew {
        node: node_id(3),
        key: KEY,
        ca_step: 0,
    });
    assert_eq!(renewal, Err(Refusal::Denied(Denial::Revoked)));
    let node = "node-3".to_owned();
    rig.command(command::Admit { node }).unwrap();
    rig.pass(Duration::from_secs(7));
    assert_eq!(of(&mut rig), (Liveness::Left, Cause::Awaited));
    proven(&mut rig, 31, hello_of(3, 2, 8, 4), 3);
    assert_eq!(rig.welcome(31).unwrap().admission, Admission::Admitted);
}

#[test]
fn a_certificate_speaks_for_its_own_node_by_its_newest_key_alone() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(2, 1, 1, 4), 1);
    assert_eq!(rig.refused(1), Some(RefusalReason::Invalid));
    // A generic token does not let its holder take over an existing node; a token for this node does.
    let anew = |token: &str| Enrolment {
        key: [1; 32],
        ..enrolment(token, 1)
    };
    assert_eq!(enrol(&mut rig, anew("a")), Err(Refusal::Denied(Denial::Taken)));
    token_for(&mut rig, "b", 1, Admission::Admitted, "node-1").unwrap();
    enrol(&mut rig, anew("b")).unwrap();
    proven(&mut rig, 2, hello_of(1, 1, 1, 4), 1);
    assert_eq!(rig.refused(2), Some(RefusalReason::Revoked));
    let renewal = rig.command(command::Renew {
        node: node_id(1),
        key: KEY,
        ca_step: 0,
    });
    assert_eq!(renewal, Err(Refusal::Denied(Denial::Key)));
}

#[test]
fn who_leaves_out_what_tells_processes_and_machines_apart_gains_nothing() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    proven(&mut rig, 2, hello_of(1, 2, 0, 4), 1);
    assert_eq!(rig.refused(2), Some(RefusalReason::Invalid));
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    proven(&mut rig, 3, hello_of(1, 2, 2, 0), 1);
    assert_eq!(rig.welcome(3).unwrap().admission, Admission::Pending);
}

#[test]
fn nobody_keeps_another_node_alive_while_the_store_is_behind() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    for node in 1..=2u8 {
        enrol(&mut rig, enrolment("a", node)).unwrap();
        proven(&mut rig, u64::from(node), hello_of(node, 1, node, 4), node);
    }
    rig.stalled = true;
    for number in 0..200u64 {
        let node = "node-1".to_owned();
        let command = match number % 2 {
            0 => command::Cordon { node }.into(),
            _ => command::Uncordon { node }.into(),
        };
        rig.input(Input::Command {
            request: crate::engine::RequestId(number),
            command,
            by: "test".into(),
        });
    }
    proven(&mut rig, 29, hello_of(1, 5, 9, 4), 1);
    assert_eq!(rig.refused(29), Some(RefusalReason::Overloaded));
    proven(&mut rig, 30, hello_of(1, 5, 9, 4), 2);
    assert_eq!(rig.refused(30), Some(RefusalReason::Invalid));
}

#[test]
fn a_token_admits_a_pending_node_that_joins_again_and_takes_no_admission_away() {
    let mut rig = Rig::new();
    token(&mut rig, "p", 5, Admission::Pending).unwrap();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("p", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), Ok((Admission::Admitted, true)));
    assert_eq!(rig.refused(1), Some(RefusalReason::Readmitted));
    assert_eq!(enrol(&mut rig, enrolment("p", 1)), Ok((Admission::Admitted, false)));
}

#[test]
fn a_node_of_before_there_was_tls_is_not_claimed_by_a_token_for_anybody() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    assert_eq!(enrol(&mut rig, enrolment("a", 1)), Ok((Admission::Pending, true)));
    // Nor does a token for another node.
    let mut rig = Rig::new();
    rig.join(1, 1);
    token_for(&mut rig, "c", 5, Admission::Admitted, "web-7").unwrap();
    let claim = Enrolment {
        name: "web-7".to_owned(),
        ..enrolment("c", 1)
    };
    assert_eq!(enrol(&mut rig, claim), Ok((Admission::Pending, true)));
    let mut rig = Rig::new();
    rig.join(1, 1);
    token_for(&mut rig, "b", 5, Admission::Admitted, "node-1").unwrap();
    assert_eq!(enrol(&mut rig, enrolment("b", 1)), Ok((Admission::Admitted, false)));
}

#[test]
fn a_replaced_key_ends_the_session_of_the_old_one() {
    let mut rig = Rig::new();
    token_for(&mut rig, "a", 5, Admission::Admitted, "node-1").unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    let anew = Enrolment {
        key: [1; 32],
        ..enrolment("a", 1)
    };
    enrol(&mut rig, anew).unwrap();
    assert_eq!(rig.refused(1), Some(RefusalReason::Revoked));
}

#[test]
fn operators_whose_credentials_expired_make_room_and_those_shut_out_stay_out() {
    let mut rig = Rig::new();
    let name = "root".to_owned();
    rig.command(command::RevokeOperator { name }).unwrap();
    let create = |number: usize| command::CreateOperator {
        name: format!("op-{number}"),
        role: Role::Viewer,
        credential: Credential::Key([1; 32]),
        ttl: Duration::from_secs(60),
    };
    // A revoked operator occupies no slot.
    for number in 1..=crate::access::OPERATORS {
        rig.command(create(number)).unwrap();
    }
    assert!(matches!(rig.command(create(0)), Err(Refusal::Overloaded(_))));
    // The clock alone is not sufficient, as it may be briefly ahead.
    rig.input(Input::WallClock(WallTime(1_000_000 + 3 * DAY)));
    assert!(matches!(rig.command(create(0)), Err(Refusal::Overloaded(_))));
    rig.pass(Duration::from_secs(61));
    rig.input(Input::WallClock(WallTime(1_000_000 + 61_000)));
    rig.command(create(0)).unwrap();
    let access = rig.batches.iter().rev().find_map(|batch| batch.access.clone()).unwrap();
    assert_eq!(access.operators.len(), 1);
    let check = |name: &str| access.check(name, Role::Admin, &[5; 32], WallTime(1_061_000));
    assert_eq!(check("root"), Err(Shut::Revoked));
    // A certificate of an expired operator's name may have been created on the coordinator's host.
    assert_eq!(check("op-7"), Err(Shut::Replaced));
    assert_eq!(check("elsewhere"), Ok(()));
}

#[test]
fn a_genuine_certificate_of_an_unknown_node_waits_for_an_operator() {
    let mut rig = Rig::new();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    assert_eq!(rig.welcome(1).unwrap().admission, Admission::Pending);
}

#[test]
fn a_node_from_another_machine_waits_for_an_operator() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 5, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    let elsewhere = || {
        let mut hello = hello_of(1, 2, 2, 5);
        hello.facts.name = "node-2".to_owned();
        hello
    };
    proven(&mut rig, 2, elsewhere(), 1);
    assert_eq!(rig.welcome(2).unwrap().admission, Admission::Pending);
    assert_eq!(impostors(&rig), 1);
    // It keeps the name under which it was admitted; admitting it refers to the new machine.
    rig.command(command::Admit {
        node: "node-1".to_owned(),
    })
    .unwrap();
    proven(&mut rig, 3, elsewhere(), 1);
    let renamed = rig.command(command::Cordon {
        node: "node-2".to_owned(),
    });
    assert!(renamed.is_ok(), "{renamed:?}");
    assert_eq!(rig.welcome(3).unwrap().admission, Admission::Admitted);
    assert_eq!(impostors(&rig), 1);
}

#[test]
fn of_two_that_are_alive_at_once_neither_takes_the_others_place() {
    let mut rig = Rig::new();
    rig.hello(1, hello_of(1, 1, 1, 4));
    rig.beat(1);
    rig.pass(Duration::from_millis(100));
    rig.hello(2, hello_of(1, 2, 2, 4));
    assert_eq!(rig.refused(2), Some(RefusalReason::Disputed));
    assert!(rig.sent.contains(&(ConnId(1), Message::Ping { number: 0 })));
    rig.pass(Duration::from_millis(100));
    rig.beat(1);
    rig.pass(SECOND);
    for conn in [3, 4] {
        rig.hello(conn, hello_of(1, 2, 2, 4));
        assert_eq!(rig.refused(conn), Some(RefusalReason::Disputed));
        rig.beat(1);
        rig.pass(SECOND);
        rig.beat(1);
    }
    assert_eq!(impostors(&rig), 1, "told once");
    assert_eq!(rig.refused(1), None);
}

#[test]
fn a_process_whose_predecessor_is_silent_takes_its_place() {
    let mut rig = Rig::new();
    rig.hello(1, hello_of(1, 1, 1, 4));
    rig.beat(1);
    rig.pass(Duration::from_millis(100));
    rig.hello(2, hello_of(1, 2, 2, 4));
    assert_eq!(rig.refused(2), Some(RefusalReason::Disputed));
    rig.pass(SECOND);
    rig.hello(3, hello_of(1, 2, 2, 4));
    assert!(rig.welcome(3).is_some());
    assert_eq!(impostors(&rig), 0);
}

#[test]
fn operators_are_let_in_until_they_are_shut_out() {
    let mut rig = Rig::new();
    let create = |key: u8| command::CreateOperator {
        name: "ada".to_owned(),
        role: Role::Viewer,
        credential: Credential::Key([key; 32]),
        ttl: Duration::from_secs(60),
    };
    rig.command(create(1)).unwrap();
    assert!(matches!(rig.command(create(2)), Err(Refusal::Exists { .. })));
    let access = |rig: &Rig| rig.batches.iter().rev().find_map(|batch| batch.access.clone()).unwrap();
    let now = WallTime(1_000_000);
    let check = |rig: &Rig, key: u8, role| access(rig).check("ada", role, &[key; 32], now);
    assert_eq!(check(&rig, 1, Role::Viewer), Ok(()));
    assert_eq!(check(&rig, 1, Role::Admin), Err(Shut::Role));
    assert_eq!(check(&rig, 2, Role::Viewer), Err(Shut::Replaced));
    let name = "ada".to_owned();
    rig.command(command::RevokeOperator { name }).unwrap();
    assert_eq!(check(&rig, 1, Role::Viewer), Err(Shut::Revoked));
    // A new operator of the name does not restore the old one's access.
    rig.command(create(2)).unwrap();
    assert_eq!(check(&rig, 1, Role::Viewer), Err(Shut::Replaced));
    assert_eq!(check(&rig, 2, Role::Viewer), Ok(()));
    assert_eq!(access(&rig).check("root", Role::Admin, &[5; 32], now), Ok(()));
    // A name without a record can be revoked as well.
    let name = "root".to_owned();
    rig.command(command::RevokeOperator { name }).unwrap();
    assert_eq!(
        access(&rig).check("root", Role::Admin, &[5; 32], now),
        Err(Shut::Revoked)
    );
}

#[test]
fn a_name_that_is_not_on_record_is_shut_out_and_its_role_stays_unknown() {
    let mut rig = Rig::new();
    let role = |answer: Result<Box<OperatorRecord>, Refusal>| answer.unwrap().known_role();
    let name = "nobodyhere".to_owned();
    assert_eq!(role(rig.command(command::RevokeOperator { name })), None);
    let name = "ada".to_owned();
    let create = command::CreateOperator {
        name: name.clone(),
        role: Role::Viewer,
        credential: Credential::Bearer([0; 32]),
        ttl: Duration::from_secs(60),
    };
    rig.command(create).unwrap();
    assert_eq!(role(rig.command(command::RevokeOperator { name })), Some(Role::Viewer));
}
