//! Forgetting of nodes: preconditions, retained state, and complete removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    access::{KEY, enrol, enrolment, hello_of, proven, token, token_for},
    rig::*,
    workloads::{Site, service},
};
use crate::{
    access::{Access, BARRED, Barred, Identity},
    autonomy, command,
    engine::{Config, Denial, Forgotten, FromAgent, Input, Refusal, RefusalReason},
    event::EventBody,
    id::{EventNo, NodeId, Uuid},
    integrity::PublicKey,
    node::{Admission, ConnId, Liveness},
    store::Durable,
    time::{Time, WallTime},
    workload::{Kind, Phase, Status},
};

/// Longer than any lease granted here: twice 30 s plus a sixteenth.
const LEASE: Duration = Duration::from_secs(64);

fn ask(rig: &mut Rig, node: &str, plan: bool) -> Result<Forgotten, Refusal> {
    let (node, reason) = (node.to_owned(), String::new());
    let forgotten = rig.command(command::Forget { node, plan, reason })?;
    Ok(*forgotten)
}

fn forget(rig: &mut Rig, number: u8) -> Result<Forgotten, Refusal> {
    ask(rig, &format!("node-{number}"), false)
}

fn not_yet(answer: Result<Forgotten, Refusal>) -> &'static str {
    match answer {
        Err(Refusal::NotYet { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn leave(rig: &mut Rig, conn: u64) {
    let reason = "test".to_owned();
    rig.input(Input::FromAgent(ConnId(conn), FromAgent::Goodbye { reason }));
}

fn rows(rig: &mut Rig) -> BTreeSet<NodeId> {
    let snapshot = rig.snapshot();
    snapshot.nodes.iter().map(|row| row.record.id()).collect()
}

#[test]
fn no_event_behind_the_forgetting_says_that_the_node_is_in_some_state() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.beat_for(&[1, 2], SECOND * 5);
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    rig.beat_for(&[2], SECOND * 90);
    forget(&mut rig, 1).unwrap();
    let summaries: Vec<&str> = rig.events.iter().map(|event| event.summary.as_str()).collect();
    let at = summaries
        .iter()
        .position(|summary| summary.starts_with("forget node-1"));
    let behind = &summaries[at.unwrap()..];
    assert!(
        summaries.iter().any(|summary| summary.starts_with("node-1 is offline")),
        "{summaries:?}"
    );
    assert!(
        behind.iter().any(|summary| summary.contains("is resolved")),
        "{behind:?}"
    );
    let events = &rig.events[at.unwrap()..];
    let states = events.iter().filter(|event| match &event.body {
        EventBody::Liveness { .. } => event.node == Some(node_id(1)),
        EventBody::Decision(decision) => {
            decision.node == Some(node_id(1))
                && decision.kind == autonomy::Kind::Liveness
                && decision.outcome != autonomy::Outcome::Resolved
        }
        _ => false,
    });
    assert_eq!(states.count(), 0, "{behind:?}");
}

#[test]
fn only_who_is_gone_is_forgotten_and_only_once_its_lease_is_over() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.beat_for(&[1, 2], SECOND * 5);
    assert_eq!(not_yet(forget(&mut rig, 1)), "NODE_PRESENT");
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    assert_eq!(
        rig.core.ctx.registry[rig.core.ctx.registry.find(node_id(1)).unwrap()].liveness(),
        Liveness::Suspect
    );
    assert_eq!(not_yet(forget(&mut rig, 1)), "NODE_PRESENT");
    let gone = rig.now;
    rig.beat_for(&[2], SECOND * 30);
    assert!(
        rig.transitions(1).contains(&Liveness::Offline),
        "{:?}",
        rig.transitions(1)
    );
    assert_eq!(not_yet(forget(&mut rig, 1)), "NODE_LEASE");
    // A plan shows what would be given up, and the earliest time.
    let planned = ask(&mut rig, "node-1", true).unwrap();
    assert!(!planned.applied && planned.not_before.is_some(), "{planned:?}");
    // The refusal states the remaining time.
    while let Err(refusal) = forget(&mut rig, 1) {
        assert!(refusal.to_string().contains("another"), "{refusal}");
        assert!(rig.now.since(gone) < LEASE, "{refusal}");
        rig.beat_for(&[2], SECOND);
    }
    assert!(rig.now.since(gone) > SECOND * 60);
    assert_eq!(rows(&mut rig), BTreeSet::from([node_id(2)]));
    assert!(matches!(forget(&mut rig, 1), Err(Refusal::Node(_))));
    // Past events retain the node's name.
    let told = rig.events.iter().filter(|event| event.node == Some(node_id(1)));
    let told: Vec<_> = told.collect();
    assert!(told.iter().all(|event| event.node_name == "node-1"));
    let last = told.iter().rev().find_map(|event| match &event.body {
        EventBody::Command { verb, by, .. } => Some((verb.as_str(), by.as_str())),
        _ => None,
    });
    assert_eq!(last, Some(("forget", "ada")));
    // The next coordinator does not know the node either.
    let mut rig = rig.restart();
    assert_eq!(rows(&mut rig), BTreeSet::from([node_id(2)]));
}

#[test]
fn its_name_is_free_for_another_one_and_its_token_is_good_for_that() {
    let mut rig = Rig::new();
    token_for(&mut rig, "a", 3, Admission::Admitted, "node-1").unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    // The host was reinstalled: another id and key, the same name.
    let again = crate::access::Enrolment {
        node: node_id(2),
        key: [8; 32],
        name: "node-1".to_owned(),
        ..enrolment("a", 2)
    };
    enrol(&mut rig, again).unwrap();
    let cordon = |rig: &mut Rig| {
        let node = "node-1".to_owned();
        rig.command(command::Cordon { node })
    };
    assert!(matches!(cordon(&mut rig), Err(Refusal::Node(_))), "two have the name");
    // Neither was ever heard, so neither has a lease.
    let id = node_id(1).to_string();
    let planned = ask(&mut rig, &id, true).unwrap();
    assert!(!planned.applied && planned.event == EventNo(0) && planned.name == "node-1");
    assert!(
        matches!(cordon(&mut rig), Err(Refusal::Node(_))),
        "a plan changes nothing"
    );
    assert!(ask(&mut rig, &id, false).unwrap().applied);
    cordon(&mut rig).unwrap();
    assert_eq!(rows(&mut rig), BTreeSet::from([node_id(2)]));
}

#[test]
fn who_was_forgotten_comes_back_as_one_that_is_not_known() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 3, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 5, 1, 4), 1);
    leave(&mut rig, 1);
    rig.pass(LEASE);
    forget(&mut rig, 1).unwrap();
    // An older incarnation is accepted, since nothing is known of the forgotten node.
    proven(&mut rig, 2, hello_of(1, 2, 2, 4), 1);
    let welcome = rig.welcome(2).unwrap();
    assert_eq!((welcome.admission, welcome.lease), (Admission::Pending, Duration::ZERO));
    assert_eq!(not_yet(forget(&mut rig, 1)), "NODE_PRESENT");
    let node = "node-1".to_owned();
    rig.command(command::Admit { node }).unwrap();
}

#[test]
fn who_was_revoked_stays_shut_out_however_often_it_is_forgotten() {
    let mut rig = Rig::new();
    token(&mut rig, "a", 9, Admission::Admitted).unwrap();
    enrol(&mut rig, enrolment("a", 1)).unwrap();
    proven(&mut rig, 1, hello_of(1, 1, 1, 4), 1);
    let revoke = command::Revoke {
        node: "node-1".to_owned(),
        reason: String::new(),
    };
    rig.command(revoke).unwrap();
    assert_eq!(not_yet(forget(&mut rig, 1)), "NODE_LEASE");
    rig.pass(LEASE);
    assert!(forget(&mut rig, 1).unwrap().barred);
    let shut_out = |rig: &mut Rig, conn: u64| {
        proven(rig, conn, hello_of(1, 9, 2, 4), 1);
        assert_eq!(rig.refused(conn), Some(RefusalReason::Revoked));
        let revoked = Err(Refusal::Denied(Denial::Revoked));
        assert_eq!(enrol(rig, enrolment("a", 1)), revoked);
        // Another name with the same key is refused as well.
        assert_eq!(enrol(rig, enrolment("a", 3)), revoked);
        let (node, key) = (node_id(1), KEY);
        let renewed = rig.command(command::Renew { node, key, ca_step: 0 });
        assert_eq!(renewed, Err(Refusal::Denied(Denial::Revoked)));
        assert_eq!(rows(rig), BTreeSet::new());
    };
    shut_out(&mut rig, 2);
    let mut rig = rig.restart();
    shut_out(&mut rig, 3);
    // An admin lifts the revocation; the node is then unknown.
    let node = "node-1".to_owned();
    rig.command(command::Admit { node: node.clone() }).unwrap();
    assert!(matches!(rig.command(command::Admit { node }), Err(Refusal::Node(_))));
    proven(&mut rig, 4, hello_of(1, 9, 2, 4), 1);
    assert_eq!(rig.welcome(4).unwrap().admission, Admission::Pending);
}

#[test]
fn a_clock_that_jumps_lets_nobody_in_who_was_shut_out() {
    let life = Duration::from_secs(600);
    let config = Config {
        certificate_life: life,
        ..Config::new("1.2.9", PublicKey([0; 32]))
    };
    let mut access = Access::default();
    for number in 0..BARRED as u128 {
        let identity = Identity {
            key: [0; 32],
            machine: [0; 32],
            issued: WallTime(1_000_000),
            ca_step: 0,
        };
        let barred = Barred {
            name: format!("gone-{number}"),
            identity: Some(identity),
            time: WallTime(1_000_000),
            lived: Some(Duration::ZERO),
        };
        access.barred.insert(Uuid((u128::MAX - number).to_be_bytes()), barred);
    }
    let mut durable = Durable::new(Uuid([9; 16]));
    durable.access = Arc::new(access);
    let mut rig = Rig::with(config, durable);
    rig.join(1, 1);
    let revoke = command::Revoke {
        node: "node-1".to_owned(),
        reason: String::new(),
    };
    rig.command(revoke).unwrap();
    rig.pass(LEASE);
    assert_eq!(not_yet(forget(&mut rig, 1)), "BARRED");
    // The clock is briefly ten years ahead.
    rig.input(Input::WallClock(WallTime(320_000_000_000)));
    assert_eq!(not_yet(forget(&mut rig, 1)), "BARRED");
    assert_eq!(rig.core.admissions.barred(), BARRED);
    // The clock stays behind, but accumulated running time counts.
    rig.input(Input::WallClock(WallTime(0)));
    rig.pass(life);
    assert!(forget(&mut rig, 1).unwrap().barred);
    assert_eq!(rig.core.admissions.barred(), 1);
}

/// Joins and forgets nodes, one after another.
fn come_and_go(rig: &mut Rig, nodes: impl Iterator<Item = u8>, conns: &mut u64) {
    let nodes: Vec<u8> = nodes.collect();
    let first = *conns + 1;
    for number in &nodes {
        *conns += 1;
        rig.join(*conns, *number);
        rig.beat(*conns);
    }
    rig.snapshot();
    for conn in first..=*conns {
        leave(rig, conn);
    }
    rig.pass(LEASE);
    for number in &nodes {
        forget(rig, *number).unwrap();
    }
}

#[test]
fn of_many_that_came_and_were_forgotten_nothing_is_left() {
    let config = Config {
        history: 4,
        max_nodes: 120,
        ..Config::new("1.2.9", PublicKey([0; 32]))
    };
    let mut rig = Rig::with(config, Durable::new(Uuid([9; 16])));
    rig.join(1, 250);
    let mut conns = 1;
    let (timers, before) = (rig.core.ctx.timers.len(), rig.snapshot());
    for round in 0..3u8 {
        let nodes = (0..115u8).map(|number| 1 + (number + round * 7) % 200);
        come_and_go(&mut rig, nodes, &mut conns);
        rig.beat(1);
        assert_eq!(rig.core.ctx.registry.len(), 1);
        // Indexes stay reserved until no sample contains the former nodes.
        for _ in 0..6 {
            rig.snapshot();
        }
        assert_eq!(rig.core.ctx.registry.places().len(), 1);
    }
    let after = rig.snapshot();
    assert_eq!(after.nodes.len(), before.nodes.len());
    assert_eq!(after.details.len(), before.details.len());
    assert!(after.history.iter().all(|sample| sample.nodes() == 1));
    assert_eq!(rig.core.telemetry.matrix().history().len(), 4);
    assert!(
        rig.core.ctx.timers.len() <= timers + 16,
        "{}",
        rig.core.ctx.timers.len()
    );
    assert_eq!(rig.core.rows.places(), 1);
    assert!(rig.core.work.dialogues() <= 1 && rig.core.predictive.outlooks().len() <= 1);
    // Memory is retained only for present nodes.
    let nodes = (1..=119u8).collect::<Vec<u8>>();
    for number in &nodes {
        conns += 1;
        rig.join(conns, *number);
    }
    conns += 1;
    rig.hello(conns, hello(120, 1, 0));
    assert_eq!(rig.refused(conns), Some(RefusalReason::Overloaded));
}

#[test]
fn telemetry_of_who_was_forgotten_is_not_anothers() {
    let config = Config {
        history: 3,
        ..Config::new("1.2.9", PublicKey([0; 32]))
    };
    let mut rig = Rig::with(config, Durable::new(Uuid([9; 16])));
    rig.join(1, 1);
    rig.pass(LEASE);
    for sequence in 1..4 {
        rig.heartbeat(1, sequence, 0.9);
        rig.snapshot();
    }
    rig.input(Input::FromAgent(
        ConnId(1),
        FromAgent::Goodbye { reason: String::new() },
    ));
    // For a node that has just left, the history still contains it when the lease is over, so cycles continue for
    // longer.
    rig.pass(LEASE);
    forget(&mut rig, 1).unwrap();
    for (conn, number) in (2..).zip(2..9u8) {
        rig.join(conn, number);
        let snapshot = rig.snapshot();
        let row = snapshot
            .nodes
            .iter()
            .find(|row| row.record.id() == node_id(number))
            .unwrap();
        for sample in &snapshot.history {
            for channel in crate::telemetry::Channel::ALL {
                assert_eq!(sample.get(row.index, channel), None, "{number}");
            }
        }
    }
}

fn singleton(name: &str) -> crate::workload::Spec {
    let mut spec = service(name, 1);
    spec.singleton = true;
    spec
}

fn place(site: &Site, name: &str) -> Option<(NodeId, crate::workload::AssignmentId)> {
    let rows = site.rig.view.assignments.iter();
    let mut wanted = rows.filter(|row| &*row.record.workload == name && row.record.end.is_none());
    wanted.next_back().map(|row| (row.record.node, row.record.id))
}

#[test]
fn what_it_had_is_given_up_for_good_and_replaced() {
    let mut site = Site::new(3);
    let heal = Some(crate::autonomy::Mode::Observe);
    site.rig
        .command(command::SetPolicy(crate::autonomy::PolicyChange {
            heal,
            ..Default::default()
        }))
        .unwrap();
    site.apply(service("web", 1));
    site.apply(singleton("one"));
    assert_eq!((site.running("web"), site.running("one")), (1, 1));
    let (node, _) = place(&site, "web").unwrap();
    let number = node.0[0];
    let conn = u64::from(number);
    site.conns.retain(|other| *other != conn);
    leave(&mut site.rig, conn);
    // Lost work is not replaced automatically here and stays assigned.
    site.pass(LEASE);
    assert_eq!(place(&site, "web").unwrap().0, node);
    let planned = ask(&mut site.rig, &format!("node-{number}"), true).unwrap();
    let web = planned.changes.iter().find(|change| change.name == "web").unwrap();
    assert_eq!((web.stops.len(), web.starts.len()), (1, 1));
    assert_ne!(web.starts[0].node, node);
    assert_eq!(place(&site, "web").unwrap().0, node, "a plan changes nothing");
    let done = forget(&mut site.rig, number).unwrap();
    let again = done.changes.iter().find(|change| change.name == "web").unwrap();
    assert_eq!(again.starts, web.starts);
    assert_eq!(site.running("web"), 1);
    assert_eq!(place(&site, "web").unwrap().0, web.starts[0].node);
    assert!(
        site.rig
            .view
            .assignments
            .iter()
            .all(|row| row.record.node != node || row.record.end.is_some())
    );
}

#[test]
fn a_singleton_starts_elsewhere_no_sooner_than_without_it() {
    for step in 0..12u64 {
        let mut site = Site::new(3);
        site.apply(singleton("one"));
        assert_eq!(site.running("one"), 1);
        let (node, _) = place(&site, "one").unwrap();
        let conn = u64::from(node.0[0]);
        site.conns.retain(|other| *other != conn);
        site.rig.beat(conn);
        // Maximum end of the lease by the node's own clock, which may be slower by a sixteenth.
        let ends = site.rig.now + Duration::from_secs(60) + Duration::from_secs(60) / 16;
        if step % 2 == 0 {
            leave(&mut site.rig, conn);
        } else {
            let revoke = command::Revoke {
                node: node.to_string(),
                reason: String::new(),
            };
            site.rig.command(revoke).unwrap();
        }
        let wait = Duration::from_millis(500 * step);
        site.pass(wait);
        let mut started = None;
        let mut forgotten = false;
        while started.is_none() {
            forgotten |= ask(&mut site.rig, &node.to_string(), false).is_ok();
            site.rig.pass(Duration::ZERO);
            started = place(&site, "one")
                .filter(|(other, _)| *other != node)
                .map(|_| site.rig.now);
            site.pass(Duration::from_millis(250));
        }
        assert!(started.unwrap() >= ends, "{started:?} before {ends:?}");
        assert!(forgotten || ask(&mut site.rig, &node.to_string(), false).is_ok());
    }
}

#[test]
fn what_is_a_singleton_by_now_and_runs_without_a_lease_keeps_its_node() {
    let mut site = Site::new(2);
    site.apply(service("one", 1));
    assert_eq!(site.running("one"), 1);
    let (node, _) = place(&site, "one").unwrap();
    let conn = u64::from(node.0[0]);
    site.conns.retain(|other| *other != conn);
    leave(&mut site.rig, conn);
    site.rig.pass(Duration::ZERO);
    site.apply(singleton("one"));
    site.pass(LEASE * 2);
    assert_eq!(not_yet(ask(&mut site.rig, &node.to_string(), false)), "NODE_SINGLETON");
    let name = "one".to_owned();
    site.change(crate::engine::WorkloadVerb::Delete { name }, false)
        .unwrap();
    ask(&mut site.rig, &node.to_string(), false).unwrap();
    site.pass(SECOND * 2);
    assert!(site.rig.view.workloads.is_empty());
}

#[test]
fn what_is_done_of_a_batch_stays_done() {
    let mut site = Site::new(2);
    let mut spec = service("job", 1);
    spec.kind = Kind::Batch {
        replicas: 1,
        retries: 0,
    };
    site.apply(spec);
    assert_eq!(site.running("job"), 1);
    let (node, id) = place(&site, "job").unwrap();
    let conn = u64::from(node.0[0]);
    let status = Status {
        phase: Phase::Ended,
        complete: true,
        ..Status::default()
    };
    site.rig.input(Input::FromAgent(
        ConnId(conn),
        FromAgent::Instances {
            instances: vec![(id, status)],
            all: false,
        },
    ));
    site.conns.retain(|other| *other != conn);
    leave(&mut site.rig, conn);
    site.pass(LEASE);
    ask(&mut site.rig, &node.to_string(), false).unwrap();
    site.pass(SECOND * 20);
    assert_eq!(site.assigned(), 1, "it ran again");
    assert_eq!(site.rig.view.workloads[0].complete, 1);
}

fn aging(after: Duration) -> Config {
    Config {
        forget_after: Some(after),
        ..Config::new("1.2.9", PublicKey([0; 32]))
    }
}

#[test]
fn nodes_that_were_gone_for_long_are_forgotten_by_themselves() {
    let hour = Duration::from_secs(3_600);
    let mut rig = Rig::with(aging(hour), Durable::new(Uuid([9; 16])));
    for number in 1..=40u8 {
        rig.join(number.into(), number);
    }
    for conn in 2..=40 {
        leave(&mut rig, conn);
    }
    let beat = |rig: &mut Rig, span: Duration| rig.beat_for(&[1], span);
    beat(&mut rig, hour / 2);
    // The wall clock jumps a month ahead, which ages no node.
    let wall = WallTime(1_000_000 + 31 * 24 * 3_600_000);
    rig.input(Input::WallClock(wall));
    beat(&mut rig, SECOND * 60);
    assert_eq!(rig.core.ctx.registry.len(), 40);
    // Accumulated absence survives a restart.
    let mut rig = rig.restart_with(aging(hour));
    rig.hello(1, hello(1, 2, 0));
    // One node returns.
    rig.hello(41, hello(7, 2, 0));
    for _ in 0..(hour / 2).as_secs() / 2 + 240 {
        rig.pass(SECOND * 2);
        rig.input(Input::FromAgent(ConnId(1), FromAgent::Heartbeat(beat_at(&rig))));
        rig.input(Input::FromAgent(ConnId(41), FromAgent::Heartbeat(beat_at(&rig))));
    }
    assert_eq!(rows(&mut rig), BTreeSet::from([node_id(1), node_id(7)]));
    let by_itself = |body: &EventBody| matches!(body, EventBody::Command { verb, by, .. } if verb == "forget" && by == "coordinator");
    assert_eq!(rig.events.iter().filter(|event| by_itself(&event.body)).count(), 38);
}

fn beat_at(rig: &Rig) -> crate::engine::Heartbeat {
    crate::engine::Heartbeat {
        sequence: rig.now.0,
        values: vec![0.5; crate::telemetry::Channel::COUNT],
        ..Default::default()
    }
}

/// The test's model of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Here(u64),
    Gone(Time),
}

#[test]
fn any_order_of_joining_leaving_and_forgetting_is_as_a_list_would_have_it() {
    for seed in 0..12 {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut site = Site::new(4);
        site.apply(service("web", 6));
        site.apply(singleton("one"));
        let mut daemon = service("log", 1);
        daemon.kind = Kind::Daemon;
        site.apply(daemon);
        let mut model: BTreeMap<u8, Known> = (1..=4).map(|number| (number, Known::Here(number.into()))).collect();
        let (mut conns, mut incarnation) = (4, 1);
        for _ in 0..120 {
            let number = rng.random_range(1..10u8);
            match (rng.random_range(0..5), model.get(&number).copied()) {
                (0 | 1, None | Some(Known::Gone(_))) => {
                    conns += 1;
                    incarnation += 1;
                    site.join(conns, number, incarnation);
                    model.insert(number, Known::Here(conns));
                }
                (2, Some(Known::Here(conn))) if model.len() > 2 => {
                    site.conns.retain(|other| *other != conn);
                    leave(&mut site.rig, conn);
                    model.insert(number, Known::Gone(site.rig.now));
                }
                (3, known) => {
                    let answer = forget(&mut site.rig, number);
                    match known {
                        None => assert!(matches!(answer, Err(Refusal::Node(_))), "{answer:?}"),
                        Some(Known::Here(_)) => assert_eq!(not_yet(answer), "NODE_PRESENT"),
                        Some(Known::Gone(since)) if answer.is_ok() => {
                            assert!(site.rig.now.since(since) > SECOND * 60);
                            model.remove(&number);
                        }
                        Some(Known::Gone(_)) => assert_eq!(not_yet(answer), "NODE_LEASE"),
                    }
                }
                _ => site.pass(Duration::from_secs(rng.random_range(1..20))),
            }
            let ids: BTreeSet<NodeId> = site
                .rig
                .core
                .ctx
                .registry
                .by_id()
                .map(|(_, node)| node.record.id())
                .collect();
            assert_eq!(ids, model.keys().map(|number| node_id(*number)).collect());
            for (index, node) in site.rig.core.ctx.registry.iter() {
                for held in site.rig.core.work.table_mut().of_node(index) {
                    assert_eq!(held.record.node, node.record.id(), "an instance of another node");
                }
            }
        }
        // Everything is as if no node had been forgotten.
        site.pass(LEASE * 2);
        let snapshot = site.rig.snapshot();
        let shown: BTreeSet<NodeId> = snapshot.nodes.iter().map(|row| row.record.id()).collect();
        assert_eq!(shown, model.keys().map(|number| node_id(*number)).collect());
        let here = model.values().filter(|known| matches!(known, Known::Here(_))).count();
        if here > 0 {
            assert_eq!(
                (site.running("web"), site.running("one"), site.running("log")),
                (6, 1, here),
                "seed {seed}"
            );
        }
    }
}
