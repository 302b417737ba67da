use std::time::Duration;

use super::rig::{Rig, SECOND, hello, node_id, see};
use crate::{
    autonomy::Fact,
    autonomy::Outcome,
    engine::{FromAgent, Heartbeat, Input, Message, RefusalReason},
    event::EventBody,
    id::{DirectiveId, Epoch, ProcessId, SessionNo},
    mesh::{LinkReport, LinkState, Sight},
    node::{Cause, ConnId, Health, Hello, Liveness},
    time::WallTime,
};

#[test]
fn a_node_is_online_from_its_welcome_on() {
    let mut rig = Rig::new();
    let welcome = rig.join(1, 1);
    assert_eq!(
        (welcome.epoch, welcome.session, welcome.heartbeat_interval),
        (Epoch(1), SessionNo(1 << 32 | 1), SECOND * 2)
    );
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    rig.beat_for(&[1], SECOND * 30);
    assert_eq!(rig.transitions(1), [Liveness::Online]);
}

#[test]
fn nothing_is_welcomed_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.stalled = true;
    rig.hello(1, hello(1, 1, 0));
    assert!(rig.welcome(1).is_none());
    assert!(rig.transitions(1).is_empty());
    rig.resume();
    assert!(rig.welcome(1).is_some());
}

#[test]
fn silence_makes_suspect_and_then_offline() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.beat(1);
    rig.pass(Duration::from_millis(2_999));
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.transitions(1), [Liveness::Online, Liveness::Suspect]);
    rig.pass(SECOND * 10);
    assert_eq!(
        rig.transitions(1),
        [Liveness::Online, Liveness::Suspect, Liveness::Offline]
    );
    // The session is ended, so that an agent that resumes opens a new one.
    assert_eq!(rig.refused(1), Some(RefusalReason::Timeout));
    assert!(rig.closed.contains(&ConnId(1)));
}

#[test]
fn a_heartbeat_takes_suspicion_back_and_resolves_the_decision() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.pass(SECOND * 5);
    rig.beat(1);
    assert_eq!(rig.transitions(1), [Liveness::Online, Liveness::Suspect]);
    // One heartbeat is not sufficient; otherwise a flapping link would cause flapping liveness.
    rig.beat_for(&[1], SECOND * 6);
    assert_eq!(
        rig.transitions(1),
        [Liveness::Online, Liveness::Suspect, Liveness::Online]
    );
    let resolved = rig.events.iter().any(|event| {
        matches!(&event.body, EventBody::Decision(decision) if decision.outcome == Outcome::Resolved && decision.rule == "session-lost")
    });
    assert!(resolved);
    rig.beat_for(&[1], SECOND * 20);
    assert_eq!(rig.transitions(1).len(), 3);
}

#[test]
fn every_transition_has_a_decision_with_evidence() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.pass(SECOND * 60);
    let transitions = rig.transitions(1).len();
    let decisions: Vec<_> = rig
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Decision(decision) if decision.outcome == Outcome::Observed => Some(decision),
            _ => None,
        })
        .collect();
    assert_eq!(decisions.len(), transitions);
    assert!(decisions.iter().all(|decision| !decision.evidence.is_empty()));
}

#[test]
fn an_ended_session_makes_suspect_at_once_and_a_goodbye_makes_left() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    rig.input(Input::FromAgent(
        ConnId(2),
        FromAgent::Goodbye {
            reason: "SIGTERM".to_owned(),
        },
    ));
    rig.input(Input::Closed {
        conn: ConnId(2),
        by_peer: true,
    });
    assert_eq!(rig.transitions(1), [Liveness::Online, Liveness::Suspect]);
    assert_eq!(rig.transitions(2), [Liveness::Online, Liveness::Left]);
    rig.pass(SECOND * 120);
    assert_eq!(rig.transitions(1).last(), Some(&Liveness::Offline));
    assert_eq!(rig.transitions(2).last(), Some(&Liveness::Left));
}

#[test]
fn a_newer_session_takes_the_place_of_the_old_one() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.beat(1);
    rig.hello(2, hello(1, 1, 1));
    assert_eq!(rig.refused(1), Some(RefusalReason::Replaced));
    assert!(rig.welcome(2).is_some());
    // Messages of the old transport are ignored, and its end does not affect the new one.
    rig.heartbeat(1, 99, 0.75);
    rig.input(Input::FromAgent(
        ConnId(1),
        FromAgent::Goodbye { reason: String::new() },
    ));
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    rig.beat(2);
    let snapshot = rig.snapshot();
    assert_eq!(snapshot.details[0].heartbeats, 1);
}

#[test]
fn an_older_incarnation_or_a_repeated_hello_is_refused() {
    let mut rig = Rig::new();
    rig.hello(1, hello(1, 5, 3));
    rig.hello(2, hello(1, 4, 9));
    rig.hello(3, hello(1, 5, 3));
    rig.hello(4, hello(1, 5, 2));
    for conn in 2..=4 {
        assert_eq!(rig.refused(conn), Some(RefusalReason::Stale), "conn {conn}");
    }
    rig.beat_for(&[1], SECOND * 7);
    let snapshot = rig.snapshots.last().unwrap();
    let broken = snapshot
        .coherence
        .invariants
        .iter()
        .find(|one| one.id == "incarnations-grow")
        .unwrap();
    assert_eq!(broken.broken, 3);
    rig.hello(5, hello(1, 6, 0));
    assert!(rig.welcome(5).is_some());
    // The incarnation is durable.
    let mut rig = rig.restart();
    rig.hello(6, hello(1, 5, 0));
    assert_eq!(rig.refused(6), Some(RefusalReason::Stale));
}

/// An incarnation belongs to one process, whatever happens to its session and to the coordinator.
#[test]
fn an_incarnation_that_another_process_had_is_refused() {
    let of = |process: u8, incarnation: u64, attempt: u64| Hello {
        process_id: ProcessId([process; 16]),
        ..hello(1, incarnation, attempt)
    };
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.hello(1, of(7, 1, 0));
        assert!(rig.welcome(1).is_some());
        rig.input(Input::Closed {
            conn: ConnId(1),
            by_peer: true,
        });
        if restarted {
            rig = rig.restart();
        }
        for attempt in 0..3 {
            let conn = 2 + attempt;
            rig.hello(conn, of(8, 1, attempt));
            assert_eq!(rig.refused(conn), Some(RefusalReason::Stale), "restarted: {restarted}");
        }
        // The process itself may return, and the agent's next start is another process.
        rig.hello(6, of(7, 1, 1));
        assert!(rig.welcome(6).is_some(), "restarted: {restarted}");
        rig.input(Input::Closed {
            conn: ConnId(6),
            by_peer: true,
        });
        rig.hello(7, of(8, 2, 0));
        assert!(rig.welcome(7).is_some(), "restarted: {restarted}");
    }
}

#[test]
fn contradictory_messages_end_the_session_with_the_field() {
    type Bad = (&'static str, fn(&mut Rig));
    let cases: [Bad; 5] = [
        ("sequence", |rig| rig.heartbeat(1, 1, 0.0)),
        ("values", |rig| {
            let heartbeat = Heartbeat {
                sequence: 9,
                values: vec![0.0; 3],
                ..Heartbeat::default()
            };
            rig.input(Input::FromAgent(ConnId(1), FromAgent::Heartbeat(heartbeat)));
        }),
        ("hello", |rig| rig.hello(1, hello(1, 2, 0))),
        ("directive.state", |rig| {
            let state = crate::behaviour::State::Expired;
            rig.input(Input::FromAgent(
                ConnId(1),
                FromAgent::Directive {
                    id: DirectiveId(1),
                    state,
                    detail: String::new(),
                },
            ));
        }),
        ("x.y", |rig| {
            rig.input(Input::Invalid {
                conn: ConnId(1),
                detail: "x.y: bad".to_owned(),
            })
        }),
    ];
    for (field, bad) in cases {
        let mut rig = Rig::new();
        rig.join(1, 1);
        rig.beat(1);
        bad(&mut rig);
        let refusal = rig.sent.iter().find_map(|(_, message)| match message {
            Message::Refused(refused) => Some(refused.clone()),
            _ => None,
        });
        let refusal = refusal.unwrap_or_else(|| panic!("{field}: not refused"));
        assert_eq!(refusal.reason, RefusalReason::Invalid);
        assert!(refusal.detail.contains(field), "{}", refusal.detail);
        assert!(rig.closed.contains(&ConnId(1)));
    }
}

#[test]
fn whoever_did_not_say_hello_is_turned_away() {
    let mut rig = Rig::new();
    rig.beat(1);
    rig.input(Input::FromAgent(
        ConnId(2),
        FromAgent::Goodbye { reason: String::new() },
    ));
    for conn in [1, 2] {
        assert_eq!(rig.refused(conn), Some(RefusalReason::Invalid));
        assert!(rig.closed.contains(&ConnId(conn)));
    }
}

#[test]
fn a_coordinator_that_stood_still_blames_nobody() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.beat(1);
    // Nothing runs for 30 s; then timers are handled before the queued heartbeats.
    rig.now = rig.now + SECOND * 30;
    rig.pass(Duration::ZERO);
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    rig.beat_for(&[1], SECOND * 10);
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    // Nodes that stay silent afterwards are still detected.
    rig.pass(SECOND * 15);
    assert_eq!(rig.transitions(1).last(), Some(&Liveness::Offline));
}

#[test]
fn after_a_restart_nodes_are_unseen_until_the_grace_is_over() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.join(3, 3);
    rig.input(Input::FromAgent(
        ConnId(3),
        FromAgent::Goodbye { reason: String::new() },
    ));
    let mut rig = rig.restart();
    let liveness = |rig: &Rig| -> Vec<Liveness> {
        rig.snapshots
            .last()
            .unwrap()
            .nodes
            .iter()
            .map(|row| row.state.liveness)
            .collect()
    };
    assert_eq!(liveness(&rig), [Liveness::Unseen, Liveness::Unseen, Liveness::Left]);
    rig.hello(1, hello(1, 1, 0));
    rig.beat_for(&[1], SECOND * 59);
    assert_eq!(liveness(&rig), [Liveness::Online, Liveness::Unseen, Liveness::Left]);
    // The peer hears it, so it is present; later it does not.
    see(&mut rig, 1, 2, Sight::Heard);
    rig.beat_for(&[1], SECOND * 13);
    assert_eq!(
        liveness(&rig),
        [Liveness::Online, Liveness::Unreachable, Liveness::Left]
    );
    see(&mut rig, 1, 2, Sight::Silent);
    rig.beat_for(&[1], SECOND * 20);
    assert_eq!(liveness(&rig), [Liveness::Online, Liveness::Offline, Liveness::Left]);
    assert_eq!(rig.core.ctx.term.epoch, Epoch(2));
}

#[test]
fn a_coordinator_that_starts_cut_off_from_most_declares_nobody() {
    let mut rig = Rig::new();
    for number in 1..=5 {
        rig.join(number, number as u8);
    }
    let mut rig = rig.restart();
    rig.hello(1, hello(1, 1, 0));
    for number in 2..=5 {
        see(&mut rig, 1, number, Sight::Silent);
    }
    rig.beat_for(&[1], SECOND * 300);
    for number in 2..=5 {
        assert_eq!(rig.transitions(number), [Liveness::Suspect]);
    }
    assert_eq!(rig.snapshot().findings[0].kind.name(), "ambiguous");
}

#[test]
fn whom_the_coordinators_own_disk_keeps_out_is_not_gone() {
    for nodes in [1, 3] {
        let mut rig = Rig::new();
        for number in 1..=nodes {
            rig.join(number, number as u8);
        }
        rig.stalled = true;
        // A change that does not become durable, and so prevents a welcome.
        rig.hello(90, hello(99, 1, 0));
        rig.beat_for(&(1..=nodes).collect::<Vec<_>>(), SECOND * 30);
        for number in 1..=nodes {
            rig.input(Input::Closed {
                conn: ConnId(number),
                by_peer: true,
            });
        }
        for attempt in 1..=6 {
            for number in 1..=nodes {
                rig.hello(100 * attempt + number, hello(number as u8, 1, attempt));
            }
            rig.pass(SECOND * 20);
        }
        for number in 1..=nodes {
            let transitions = rig.transitions(number as u8);
            assert_eq!(transitions, [Liveness::Online, Liveness::Suspect], "{nodes} nodes");
        }
    }
}

#[test]
fn deaths_that_stay_leave_room_for_other_findings() {
    let mut rig = Rig::new();
    let mut conns: Vec<u64> = (1..=120).collect();
    for &number in &conns {
        rig.join(number, number as u8);
    }
    let mut dead = Vec::new();
    for number in 1..=40 {
        conns.retain(|&conn| conn != number);
        rig.input(Input::Closed {
            conn: ConnId(number),
            by_peer: true,
        });
        rig.beat_for(&conns, SECOND * 40);
        assert_eq!(rig.transitions(number as u8).last(), Some(&Liveness::Offline));
        dead.push(node_id(number as u8));
    }
    let findings = rig.snapshot().findings.clone();
    assert!(findings.len() <= 32, "{} findings", findings.len());
    let mut told: Vec<_> = findings.iter().flat_map(|finding| finding.near.clone()).collect();
    told.sort();
    assert_eq!(told, dead);
}

#[test]
fn health_is_told_anew_in_each_session() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.input(Input::FromAgent(
        ConnId(1),
        FromAgent::Evidence {
            observations: Vec::new(),
            health: Some(Health {
                strained: true,
                disk_stalled: true,
            }),
            sent_millis: 0,
        },
    ));
    rig.beat_for(&[1], SECOND * 6);
    assert_eq!(rig.snapshot().findings.len(), 2);
    rig.hello(2, hello(1, 2, 0));
    rig.beat_for(&[2], SECOND * 30);
    assert!(rig.snapshot().findings.is_empty());
}

#[test]
fn wall_clocks_decide_nothing() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    for day in [-86_400_000i64, 86_400_000, 0] {
        rig.input(Input::WallClock(WallTime(1_000_000 + day)));
        rig.beat_for(&[1], SECOND * 10);
    }
    assert_eq!(rig.transitions(1), [Liveness::Online]);
}

#[test]
fn a_shutdown_tells_agents_and_judges_nobody() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.input(Input::Shutdown { retry_after: SECOND });
    assert_eq!(rig.refused(1), Some(RefusalReason::Shutdown));
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    assert_eq!(rig.transitions(1), [Liveness::Online]);
    rig.hello(2, hello(2, 1, 0));
    assert_eq!(rig.refused(2), Some(RefusalReason::Overloaded));
}

#[test]
fn a_store_that_is_behind_holds_newcomers_off() {
    let mut rig = Rig::new();
    rig.stalled = true;
    for conn in 1..=200u64 {
        rig.hello(conn, hello(conn as u8, 1, 0));
    }
    assert!(rig.unconfirmed <= crate::ctx::outbox::MAX_AWAITED);
    assert_eq!(rig.refused(200), Some(RefusalReason::Overloaded));
    rig.resume();
    assert!(rig.welcome(1).is_some());
    assert!(rig.welcome(200).is_none());
}

#[test]
fn members_get_plans_and_their_reports_make_the_mesh() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    rig.pass(Duration::from_millis(100));
    let plans: Vec<_> = rig
        .sent
        .iter()
        .filter_map(|(conn, message)| match message {
            Message::ProbePlan(plan) => Some((conn.0, plan.targets.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(
        plans,
        [
            (1, vec![(node_id(2), "10.0.0.2:1".to_owned())]),
            (2, vec![(node_id(1), "10.0.0.1:1".to_owned())])
        ]
    );
    let links = vec![(
        node_id(2),
        LinkReport {
            state: LinkState::Down,
            loss: 1.0,
            ..LinkReport::default()
        },
    )];
    let values = vec![0.0; crate::telemetry::Channel::COUNT];
    let heartbeat = Heartbeat {
        sequence: 1,
        values,
        links,
        ..Heartbeat::default()
    };
    rig.input(Input::FromAgent(ConnId(1), FromAgent::Heartbeat(heartbeat)));
    rig.beat(2);
    rig.pass(SECOND);
    let mut rig = rig;
    rig.beat_for(&[2], SECOND * 6);
    let snapshot = rig.snapshots.last().unwrap();
    let disagree = snapshot
        .coherence
        .invariants
        .iter()
        .find(|one| one.id == "registry-mesh-agree")
        .unwrap();
    assert_eq!(disagree.broken, 0, "node 1's evidence went with its silence");
}

/// Node 1 returns so often that it is quarantined; returns the number of its newest session.
fn flap(rig: &mut Rig, returns: u64) -> u64 {
    for number in 1..=3 {
        rig.join(number, number as u8);
    }
    rig.beat_for(&[1, 2, 3], SECOND);
    for round in 1..=returns {
        rig.beat_for(&[2, 3], SECOND * 6);
        see(rig, 2, 1, Sight::Heard);
        see(rig, 3, 1, Sight::Heard);
        rig.beat_for(&[2, 3], SECOND * 4);
        assert_eq!(rig.transitions(1).last(), Some(&Liveness::Unreachable), "round {round}");
        rig.hello(10 + round, hello(1, 1 + round, 0));
        rig.beat(10 + round);
    }
    10 + returns
}

#[test]
fn a_node_that_flaps_and_is_heard_is_shown_as_waited_for_and_not_as_unheard() {
    // The first return above the limit, and later ones.
    for returns in 2..=7 {
        let mut rig = Rig::new();
        let conn = flap(&mut rig, returns);
        assert_eq!(
            rig.transitions(1).last(),
            Some(&Liveness::Unreachable),
            "{returns}: it counts again only later"
        );
        rig.beat_for(&[conn, 2, 3], SECOND * 6);
        assert_eq!(rig.transitions(1).last(), Some(&Liveness::Suspect), "{returns}");
        let index = rig.core.ctx.registry.find(node_id(1)).unwrap();
        assert_eq!(rig.core.ctx.registry[index].cause(), Cause::Flapping, "{returns}");
        let told = rig.events.iter().rev().find_map(|event| match &event.body {
            EventBody::Decision(decision) if decision.rule == "flapping" => Some(decision.clone()),
            _ => None,
        });
        let told = told.expect("a decision");
        let returned = Fact::Returns {
            within: SECOND * 300,
            times: 1,
            steady: SECOND * 16,
        };
        assert!(
            told.evidence.iter().any(|evidence| evidence.fact == returned),
            "{told:?}"
        );
        let before = rig.transitions(1).len();
        // Reported once; the node is online once it has been heard for the stated time.
        rig.beat_for(&[conn, 2, 3], SECOND * 300);
        assert_eq!(rig.transitions(1)[before..], [Liveness::Online], "{returns}");
    }
}
