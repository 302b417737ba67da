//! Limits in bytes, and the cost of a single noisy object.

use std::time::Duration;

use super::{
    rig::{Rig, SECOND, hello},
    workloads::{Site, service},
};
use crate::{
    autonomy::{Ending, Fact},
    engine::{FromAgent, Input, Message, RefusalReason},
    event::EventBody,
    limits::{DECLARATION, NODE_MESSAGE},
    node::ConnId,
    text::SENTENCE,
    workload::{AssignmentId, Constraint, Operator, Phase, Spec, Status},
};

/// A specification close to the maximum size.
fn large(name: &str, replicas: u32) -> Spec {
    let mut spec = service(name, replicas);
    (spec.resources.cpu_millis, spec.resources.memory_bytes) = (1, 1 << 20);
    let values = vec!["x".repeat(255); 32];
    let unmet = Constraint {
        key: "zone".to_owned(),
        operator: Operator::NotIn,
        values,
    };
    while spec.size() < DECLARATION - 9_000 {
        match spec.constraints.len() {
            32 => spec.affinity.push(unmet.clone()),
            _ => spec.constraints.push(unmet.clone()),
        }
    }
    assert_eq!(spec.check(), Ok(()));
    spec
}

#[test]
fn large_declarations_are_told_in_messages_that_agents_take() {
    let mut site = Site::new(3);
    site.apply(large("large", 100));
    site.apply(service("small", 9));
    assert_eq!(site.running("large"), 100);
    assert_eq!(site.running("small"), 9);
    let mut largest = 0;
    for (_, message) in &site.rig.sent {
        let Message::Work(work) = message else { continue };
        let bytes: usize = work.assign.iter().map(|assigned| assigned.size()).sum();
        largest = largest.max(bytes);
    }
    assert!((DECLARATION / 2..=NODE_MESSAGE).contains(&largest), "{largest} bytes");
}

#[test]
fn many_orders_to_end_instances_fit_into_messages_too() {
    let mut site = Site::new(1);
    let mut many = service("many", 900);
    (many.resources.cpu_millis, many.resources.memory_bytes) = (1, 1 << 20);
    site.apply(many.clone());
    assert_eq!(site.running("many"), 900);
    many.kind = crate::workload::Kind::Service { replicas: 0 };
    site.apply(many);
    assert_eq!(site.running("many"), 0);
    for (_, message) in &site.rig.sent {
        let Message::Work(work) = message else { continue };
        let bytes: usize = work.stop.iter().map(|(_, reason)| reason.len() + 40).sum();
        assert!(bytes <= NODE_MESSAGE);
    }
}

/// Number of restart events of a workload, and the number of restarts they represent.
fn restarts(rig: &Rig) -> (usize, u32) {
    let about = rig
        .events
        .iter()
        .filter(|event| event.summary.contains("is started again"));
    let times: Vec<u32> = about.map(|event| event.times).collect();
    (times.len(), times.iter().sum())
}

#[test]
fn a_crash_loop_is_told_at_once_and_then_once_a_minute_with_its_count() {
    let mut site = Site::new(1);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
    let ids: Vec<AssignmentId> = site.rig.view.assignments.iter().map(|row| row.record.id).collect();
    let conn = ConnId(1);
    for restarts in 1..=3_500 {
        let status = Status {
            phase: Phase::Backoff,
            restarts,
            detail: "its process ended: exit status 1".to_owned(),
            ..Status::default()
        };
        let instances = vec![(ids[0], status)];
        let all = false;
        site.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
        site.rig.pass(SECOND / 50);
        if restarts.is_multiple_of(50) {
            site.rig.beat(1);
        }
    }
    let (told, times) = restarts(&site.rig);
    assert_eq!(told, 2, "at once, and after a minute");
    assert!((2_000..3_500).contains(&times), "{times}");
    let last = site.rig.events.iter().rfind(|event| event.times > 1).unwrap();
    assert!(last.summary.contains("times in the last minute"), "{}", last.summary);
    assert_eq!(last.workload(), "web");
    // Later restarts are recorded with the next minute, and nothing after that.
    site.rig.beat_for(&[1], SECOND * 200);
    assert_eq!(restarts(&site.rig), (3, 3_500));
}

#[test]
fn what_was_counted_is_told_before_the_end() {
    let mut site = Site::new(1);
    site.apply(service("web", 1));
    site.running("web");
    let id = site.rig.view.assignments.iter().next().unwrap().record.id;
    let (conn, all) = (ConnId(1), false);
    for restarts in [1, 4, 9] {
        let status = Status {
            phase: Phase::Backoff,
            restarts,
            ..Status::default()
        };
        let instances = vec![(id, status)];
        site.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }
    let retry_after = Duration::from_secs(1);
    site.rig.input(Input::Shutdown { retry_after });
    assert_eq!(restarts(&site.rig), (2, 9));
}

/// Recorded endings of sessions because of their content.
fn told(rig: &Rig) -> Vec<String> {
    let details = rig.events.iter().filter_map(|event| match &event.body {
        EventBody::Session { detail } => Some(detail.clone()),
        _ => None,
    });
    details.collect()
}

#[test]
fn what_an_agent_could_not_read_is_told_once() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let failed = |attempt: u64| crate::node::Hello {
        last_failure: "the coordinator sent what cannot be read here: 7 MB".to_owned(),
        ..hello(1, 1, attempt)
    };
    for attempt in 1..20 {
        rig.input(Input::Closed {
            conn: ConnId(attempt),
            by_peer: true,
        });
        rig.pass(SECOND * 5);
        rig.hello(attempt + 1, failed(attempt));
    }
    assert_eq!(told(&rig), ["the coordinator sent what cannot be read here: 7 MB"]);
    // The verdicts on the node include the reason.
    rig.input(Input::Closed {
        conn: ConnId(20),
        by_peer: true,
    });
    rig.pass(SECOND * 60);
    let decisions = rig.events.iter().filter_map(|event| match &event.body {
        EventBody::Decision(decision) => Some(decision),
        _ => None,
    });
    let facts = decisions.flat_map(|decision| decision.evidence.iter().map(|evidence| &evidence.fact));
    let facts: Vec<&Fact> = facts.collect();
    let tells = |fact: &Fact| matches!(fact, Fact::EndedBefore(Ending::Content(what)) if what.contains("7 MB"));
    assert!(facts.iter().any(|fact| tells(fact)), "{facts:?}");
}

#[test]
fn what_the_coordinator_could_not_read_is_told_and_is_short() {
    let mut rig = Rig::new();
    rig.join(1, 1);
    let detail = "x\u{1b}".repeat(100_000);
    rig.input(Input::Unreadable {
        conn: ConnId(1),
        detail,
    });
    assert_eq!(rig.refused(1), Some(RefusalReason::Unreadable));
    let told = told(&rig);
    assert_eq!(told.len(), 1);
    assert!(told[0].len() <= SENTENCE && !told[0].contains('\u{1b}'));
    assert!(rig.closed.contains(&ConnId(1)));
}
