//! Any interleaving of inputs preserves the invariants, and equal inputs have equal effects.

use std::time::Duration;

use proptest::prelude::*;

use super::rig::{Rig, hello};
use crate::{
    command,
    engine::{FromAgent, Input, RequestId},
    id::{Cycle, DirectiveId, Epoch},
    node::{ConnId, Liveness, Node},
};

#[derive(Clone, Debug)]
enum Step {
    Hello {
        conn: u64,
        node: u8,
        incarnation: u64,
        attempt: u64,
    },
    Heartbeat {
        conn: u64,
        sequence: u64,
    },
    Closed {
        conn: u64,
    },
    Goodbye {
        conn: u64,
    },
    Update {
        conn: u64,
        id: u64,
        done: bool,
    },
    Refresh {
        node: u8,
    },
    Cordon {
        node: u8,
    },
    Pass {
        millis: u64,
    },
    Stall,
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    let conn = || 1u64..8;
    prop_oneof![
        3 => (conn(), 1u8..5, 1u64..4, 0u64..4)
            .prop_map(|(conn, node, incarnation, attempt)| Step::Hello { conn, node, incarnation, attempt }),
        6 => (conn(), 1u64..20).prop_map(|(conn, sequence)| Step::Heartbeat { conn, sequence }),
        2 => conn().prop_map(|conn| Step::Closed { conn }),
        1 => conn().prop_map(|conn| Step::Goodbye { conn }),
        1 => (conn(), 0u64..4, any::<bool>()).prop_map(|(conn, id, done)| Step::Update { conn, id, done }),
        1 => (1u8..5).prop_map(|node| Step::Refresh { node }),
        1 => (1u8..5).prop_map(|node| Step::Cordon { node }),
        4 => (0u64..8_000).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Stall),
        1 => Just(Step::Resume),
    ]
}

fn take(rig: &mut Rig, step: &Step, number: u64) {
    match *step {
        Step::Hello {
            conn,
            node,
            incarnation,
            attempt,
        } => rig.hello(conn, hello(node, incarnation, attempt)),
        Step::Heartbeat { conn, sequence } => rig.heartbeat(conn, sequence, 0.5),
        Step::Closed { conn } => rig.input(Input::Closed {
            conn: ConnId(conn),
            by_peer: true,
        }),
        Step::Goodbye { conn } => rig.input(Input::FromAgent(
            ConnId(conn),
            FromAgent::Goodbye { reason: String::new() },
        )),
        Step::Update { conn, id, done } => {
            use crate::behaviour::State;
            let state = if done { State::Done } else { State::Acknowledged };
            rig.input(Input::FromAgent(
                ConnId(conn),
                FromAgent::Directive {
                    id: DirectiveId(1 << 32 | id),
                    state,
                    detail: String::new(),
                },
            ));
        }
        Step::Refresh { node } => {
            let command = command::Refresh {
                node: format!("node-{node}"),
            };
            rig.input(Input::Command {
                request: RequestId(number),
                command: command.into(),
                by: "test".into(),
            });
        }
        Step::Cordon { node } => {
            let command = command::Cordon {
                node: format!("node-{node}"),
            };
            rig.input(Input::Command {
                request: RequestId(number),
                command: command.into(),
                by: "test".into(),
            });
        }
        Step::Pass { millis } => rig.pass(Duration::from_millis(millis)),
        Step::Stall => rig.stalled = true,
        Step::Resume => rig.resume(),
    }
}

fn check(rig: &Rig) -> Result<(), TestCaseError> {
    let core = &rig.core;
    for (index, node) in core.ctx.registry.iter() {
        if let Some(session) = &node.session {
            prop_assert_eq!(
                core.ctx.registry.of_conn(session.conn),
                Some(index),
                "a session that is not its node's"
            );
        }
        let gone = matches!(node.liveness(), Liveness::Offline | Liveness::Left);
        prop_assert_eq!(
            node.record.departed.is_some(),
            gone,
            "what is durable and what is live disagree"
        );
        prop_assert!(
            !(node.liveness() == Liveness::Online && node.session.is_none()),
            "online without a session"
        );
    }
    let sessions = core
        .ctx
        .registry
        .iter()
        .filter(|(_, node)| node.session.is_some())
        .count();
    prop_assert_eq!(core.ctx.registry.conns(), sessions);
    prop_assert_eq!(core.behaviour.unaccounted(), 0);
    prop_assert!(core.ctx.outbox.awaited() <= crate::ctx::outbox::MAX_AWAITED);
    let sequences: Vec<u64> = rig.events.iter().map(|event| event.sequence.0).collect();
    prop_assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let order: Vec<(Epoch, Cycle)> = rig
        .snapshots
        .iter()
        .map(|snapshot| (snapshot.epoch, snapshot.cycle))
        .collect();
    prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    Ok(())
}

/// Everything visible of a run, bit for bit.
fn trace(steps: &[Step]) -> String {
    let mut rig = Rig::new();
    for (number, step) in (1..).zip(steps) {
        take(&mut rig, step, number);
    }
    let snapshots: Vec<_> = rig
        .snapshots
        .iter()
        .map(|snapshot| (&snapshot.nodes, &snapshot.coherence))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {snapshots:?}",
        rig.sent, rig.closed, rig.events, rig.answers
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_interleaving_keeps_the_invariants(steps in prop::collection::vec(step(), 1..80)) {
        let mut rig = Rig::new();
        for (number, step) in (1..).zip(&steps) {
            take(&mut rig, step, number);
            check(&rig)?;
        }
        rig.resume();
        // The circuit breaker holds verdicts back for up to five minutes.
        rig.pass(Duration::from_secs(420));
        check(&rig)?;
        // All silent nodes are settled in the end, except while the situation is ambiguous.
        let count = |which: &dyn Fn(&Node) -> bool| rig.core.ctx.registry.iter().filter(|(_, node)| which(node)).count();
        prop_assert_eq!(count(&|node| matches!(node.liveness(), Liveness::Online | Liveness::Unseen)), 0);
        let suspect = count(&|node| node.liveness() == Liveness::Suspect);
        prop_assert!(suspect == 0 || 2 * suspect > suspect + 1, "{} suspect", suspect);
        let asked = steps.iter().filter(|step| matches!(step, Step::Refresh { .. } | Step::Cordon { .. })).count();
        prop_assert_eq!(rig.answers.len(), asked, "a caller without an answer, or with two");
    }

    #[test]
    fn the_same_inputs_have_the_same_effects(steps in prop::collection::vec(step(), 1..60)) {
        prop_assert_eq!(trace(&steps), trace(&steps));
    }
}
