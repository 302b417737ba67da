use std::time::Duration;

use super::rig::{Rig, SECOND};
use crate::{
    behaviour::{Order, State},
    command,
    engine::{Answer, FromAgent, Input, Message, Refusal, RequestId},
    event::EventBody,
    id::{DirectiveId, EventNo, SessionNo},
    node::{ConnId, Eligibility, Labels},
    registry::NoSuchNode,
};

fn cordon(node: &str) -> command::Cordon {
    command::Cordon { node: node.to_owned() }
}

fn label(node: &str, set: &[(&str, &str)], remove: &[&str]) -> command::Label {
    command::Label {
        node: node.to_owned(),
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<Labels>(),
        remove: remove.iter().map(|key| (*key).to_owned()).collect(),
    }
}

#[test]
fn a_cordon_is_durable_before_it_is_answered_and_harmless_twice() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.stalled = true;
    rig.input(Input::Command {
        request: RequestId(1),
        command: cordon("node-1").into(),
        by: "test".into(),
    });
    assert!(rig.answers.is_empty());
    // The command changed nothing but waits, because the change it depends on is not durable yet.
    rig.input(Input::Command {
        request: RequestId(2),
        command: cordon("node-1").into(),
        by: "test".into(),
    });
    assert!(rig.answers.is_empty());
    rig.resume();
    let event = rig.events.last().unwrap().sequence;
    let eligibility = Eligibility::Cordoned;
    assert_eq!(
        rig.answers,
        [
            (
                RequestId(1),
                Ok(Answer::Cordon(command::NodeEligibility {
                    eligibility,
                    changed: true,
                    event
                }))
            ),
            (
                RequestId(2),
                Ok(Answer::Cordon(command::NodeEligibility {
                    eligibility,
                    changed: false,
                    event: EventNo(0)
                }))
            ),
        ]
    );
    let mut rig = rig.restart();
    assert_eq!(rig.snapshots[0].nodes[0].record.eligibility, Eligibility::Cordoned);
    let answer = rig.command(command::Uncordon {
        node: "node-1".to_owned(),
    });
    assert!(matches!(
        answer,
        Ok(command::NodeEligibility {
            eligibility: Eligibility::Eligible,
            changed: true,
            ..
        })
    ));
}

#[test]
fn operators_labels_win_and_removing_shows_the_agents_again() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let shown = |answer: Result<command::NodeLabels, Refusal>| {
        let reply = answer.unwrap();
        (reply.labels.get("zone").cloned(), reply.changed)
    };
    assert_eq!(
        shown(rig.command(label("node-1", &[("zone", "b")], &[]))),
        (Some("b".to_owned()), true)
    );
    assert_eq!(
        shown(rig.command(label("node-1", &[("zone", "b")], &[]))),
        (Some("b".to_owned()), false)
    );
    assert_eq!(
        shown(rig.command(label("node-1", &[], &["zone"]))),
        (Some("a".to_owned()), true)
    );
    let many: Vec<(String, String)> = (0..64).map(|at| (format!("k{at}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert!(matches!(
        rig.command(label("node-1", &many, &[])),
        Err(Refusal::Invalid { field: "set", .. })
    ));
    let twice = label("node-1", &[("x", "1")], &["x"]);
    assert!(matches!(
        rig.command(twice),
        Err(Refusal::Invalid { field: "remove", .. })
    ));
}

#[test]
fn nodes_are_found_by_id_prefix_or_name() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    let mut namesake = super::rig::hello(3, 1, 0);
    namesake.facts.name = "node-2".to_owned();
    rig.hello(3, namesake);
    assert!(rig.command(cordon("01010101-0101-0101-0101-010101010101")).is_ok());
    assert!(rig.command(cordon("0202")).is_ok());
    let ambiguous = rig.command(cordon("node-2"));
    assert_eq!(
        ambiguous,
        Err(Refusal::Node(NoSuchNode::Ambiguous("node-2".to_owned(), 2)))
    );
    assert_eq!(
        rig.command(cordon("020")),
        Err(Refusal::Node(NoSuchNode::Unknown("020".to_owned())))
    );
}

fn directives(rig: &Rig, conn: u64) -> Vec<(DirectiveId, SessionNo, Order)> {
    rig.sent
        .iter()
        .filter_map(|(to, message)| match message {
            Message::Directive(directive) if *to == ConnId(conn) => {
                Some((directive.id, directive.session, directive.order))
            }
            _ => None,
        })
        .collect()
}

fn states(rig: &Rig) -> Vec<State> {
    let record = |body: &EventBody| match body {
        EventBody::Directive(record) => Some(record.state),
        _ => None,
    };
    rig.events.iter().filter_map(|event| record(&event.body)).collect()
}

#[test]
fn a_directive_is_repeated_until_it_is_acknowledged() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let Ok(command::Issued { id, .. }) = rig.command(command::Refresh {
        node: "node-1".to_owned(),
    }) else {
        panic!("refused");
    };
    assert_eq!(directives(&rig, 1).len(), 1);
    rig.beat_for(&[1], Duration::from_millis(2_500));
    assert_eq!(directives(&rig, 1), [(id, SessionNo(1 << 32 | 1), Order::Refresh); 2]);
    // A new session receives the directive, fenced with the new session number.
    rig.hello(2, super::rig::hello(1, 2, 0));
    assert_eq!(directives(&rig, 2), [(id, SessionNo(1 << 32 | 2), Order::Refresh)]);
    for state in [State::Acknowledged, State::Done, State::Done] {
        rig.input(Input::FromAgent(
            ConnId(2),
            FromAgent::Directive {
                id,
                state,
                detail: String::new(),
            },
        ));
    }
    rig.beat_for(&[2], SECOND * 40);
    assert_eq!(directives(&rig, 2).len(), 1);
    assert_eq!(states(&rig), [State::Issued, State::Acknowledged, State::Done]);
    assert_eq!(rig.core.behaviour.unaccounted(), 0);
}

#[test]
fn a_directive_expires_and_is_accounted_for() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.command(command::Refresh {
        node: "node-1".to_owned(),
    })
    .unwrap();
    rig.beat_for(&[1], SECOND * 31);
    assert_eq!(states(&rig), [State::Issued, State::Expired]);
    let counts = rig.core.behaviour.counts();
    assert_eq!((counts.issued, counts.expired), (1, 1));
    assert_eq!(rig.core.behaviour.unaccounted(), 0);
}

#[test]
fn another_nodes_directive_cannot_be_reported_on() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.join(2, 2);
    let Ok(command::Issued { id, .. }) = rig.command(command::Refresh {
        node: "node-1".to_owned(),
    }) else {
        panic!("refused");
    };
    rig.input(Input::FromAgent(
        ConnId(2),
        FromAgent::Directive {
            id,
            state: State::Done,
            detail: String::new(),
        },
    ));
    assert_eq!(states(&rig), [State::Issued]);
}

#[test]
fn too_many_directives_are_refused() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    for _ in 0..crate::behaviour::MAX_PENDING_OF_NODE {
        rig.command(command::Refresh {
            node: "node-1".to_owned(),
        })
        .unwrap();
    }
    let more = rig.command(command::Refresh {
        node: "node-1".to_owned(),
    });
    assert!(matches!(more, Err(Refusal::Overloaded(_))));
}

#[test]
fn a_shorter_heartbeat_interval_is_expected_only_once_it_is_kept_to() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let set = command::SetHeartbeat {
        node: "node-1".to_owned(),
        interval: Some(Duration::from_millis(200)),
    };
    let Ok(command::Issued { id, .. }) = rig.command(set) else {
        panic!("refused")
    };
    rig.pass(Duration::from_millis(1_500));
    assert_eq!(rig.transitions(1).len(), 1);
    rig.input(Input::FromAgent(
        ConnId(1),
        FromAgent::Directive {
            id,
            state: State::Done,
            detail: String::new(),
        },
    ));
    rig.beat(1);
    rig.pass(Duration::from_millis(299));
    assert_eq!(rig.transitions(1).len(), 1);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.transitions(1).len(), 2);
    // The interval is durable: a later session receives it.
    let mut rig = rig.restart();
    assert_eq!(rig.join(5, 1).heartbeat_interval, Duration::from_millis(200));
    let refused = rig.command(command::SetHeartbeat {
        node: "node-1".to_owned(),
        interval: Some(SECOND * 61),
    });
    assert!(matches!(refused, Err(Refusal::Invalid { field: "interval", .. })));
}

#[test]
fn a_refresh_needs_a_session() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    rig.input(Input::Closed {
        conn: ConnId(1),
        by_peer: true,
    });
    let refused = rig.command(command::Refresh {
        node: "node-1".to_owned(),
    });
    assert_eq!(refused, Err(Refusal::NoSession("node-1".to_owned())));
}
