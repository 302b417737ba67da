use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use tonic::Code;
use wyneos::identity::{RULES, rule};

use super::*;

pub(in crate::gate) fn received_with(quota: &Arc<Quota>, bytes: usize, metrics: &Arc<Metrics>) -> Arc<Received> {
    let share = Share {
        calls: Quota::new(1, 1),
        bytes: Arc::clone(quota),
    };
    let who = Who::Source(Some(IpAddr::from([10, 0, 0, 1])));
    share.receive(who, bytes, metrics).unwrap()
}

/// A request with this number of counted bytes.
pub(in crate::gate) fn received(quota: &Arc<Quota>, bytes: usize) -> Arc<Received> {
    received_with(quota, bytes, &Metrics::new().0)
}

fn caller(role: Option<Role>, source: [u8; 4]) -> Caller {
    let mut caller = Caller::new("somebody", role, None);
    caller.source = Some(SocketAddr::from((source, 1)));
    caller
}

#[test]
fn who_asks_for_health_without_end_keeps_nobody_from_joining() {
    let shares = Shares::new(64);
    let (watch, check) = (rule("grpc.health.v1.Health/Watch"), rule("grpc.health.v1.Health/Check"));
    let enroll = rule("wyneos.v1.EnrollmentService/Enroll").unwrap();
    let mut held = Vec::new();
    // From many sources, until there is no free place.
    for source in 0..=255 {
        for rule in [watch.unwrap(), check.unwrap()] {
            let attacker = caller(None, [10, 0, 0, source]);
            while let Ok(place) = shares.of(&attacker, rule).place(&attacker) {
                held.push(place);
            }
        }
    }
    let host = caller(None, [10, 0, 1, 0]);
    let refused = shares.of(&host, check.unwrap()).place(&host).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    shares.of(&host, enroll).place(&host).unwrap();
    for role in [Role::Agent, Role::Viewer] {
        let somebody = caller(Some(role), [10, 0, 1, 0]);
        shares.of(&somebody, watch.unwrap()).place(&somebody).unwrap();
    }
}

proptest! {
    #[test]
    fn one_source_leaves_room_for_the_others(at in any::<proptest::sample::Index>(), source in 1u8..255) {
        let shares = Shares::new(64);
        let open: Vec<_> = RULES.iter().filter(|rule| rule.need.is_met_by(None)).collect();
        let attacker = caller(None, [10, 0, 0, 0]);
        let mut held = Vec::new();
        for rule in &open {
            while let Ok(place) = shares.of(&attacker, rule).place(&attacker) {
                held.push(place);
            }
        }
        prop_assert!(held.len() < 512);
        let host = caller(None, [10, 0, 0, source]);
        prop_assert!(shares.of(&host, open[at.index(open.len())]).place(&host).is_ok());
    }
}

#[test]
fn requests_of_people_leave_sessions_room() {
    let shares = Shares::new(64);
    let session = rule(SESSION).unwrap();
    let list = rule("wyneos.v1.ClusterService/ListNodes").unwrap();
    let metrics = Metrics::new().0;
    let mut held = Vec::new();
    for number in 0u8..255 {
        let mut viewer = caller(Some(Role::Viewer), [10, 0, 0, number]);
        viewer.name = format!("viewer/{number}").into();
        while let Ok(received) = shares.of(&viewer, list).receive(viewer.who(), 64 * KIB, &metrics) {
            held.push(received);
        }
    }
    assert_eq!(metrics.request_bytes.get(), PEOPLE.bytes as i64);
    let agent = caller(Some(Role::Agent), [10, 0, 0, 1]);
    let who = agent.who_of_session();
    shares
        .of(&agent, session)
        .receive(who, limits::AGENT_MESSAGE, &metrics)
        .unwrap();
}

#[test]
fn sessions_of_a_large_cluster_have_room_for_a_report_each() {
    let nodes = 100_000;
    let shares = Shares::new(nodes);
    let session = rule(SESSION).unwrap();
    let metrics = Metrics::new().0;
    let mut held = Vec::new();
    for number in 0..nodes {
        let address = u32::try_from(number).unwrap().to_be_bytes();
        let agent = caller(None, address);
        let share = shares.of(&agent, session);
        held.push(share.receive(agent.who(), OF_A_CONNECTION, &metrics).unwrap());
    }
    let one_more = caller(None, [192, 0, 2, 1]);
    let refused = shares
        .of(&one_more, session)
        .receive(one_more.who(), OF_A_CONNECTION, &metrics);
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
}
