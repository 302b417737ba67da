//! Consequences of liveness changes for events, decisions, telemetry, the mesh and the plan.

use std::sync::Arc;

use super::{
    peers::{Peers, ms, shipped},
    rig::{SECOND, node_id},
    workloads::{Site, service},
};
use crate::{
    engine::{Config, Coordinator, Input, Message},
    event::EventBody,
    id::Uuid,
    integrity::PublicKey,
    mesh::{LinkReport, LinkState},
    node::{Admission, ConnId, Liveness},
    store::Durable,
    time::{Time, WallTime},
};

fn changes(peers: &Peers, number: u8) -> Vec<(Option<Liveness>, Liveness)> {
    let of_node = peers
        .rig
        .events
        .iter()
        .filter(|event| event.node == Some(node_id(number)));
    let change = |body: &EventBody| match body {
        EventBody::Liveness { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    of_node.filter_map(|event| change(&event.body)).collect()
}

#[test]
fn an_event_says_what_a_node_was_before_if_that_was_known() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    peers.pass(SECOND * 3);
    peers.comes_back(4, false);
    peers.leaves(4);
    peers.comes_back(4, false);
    let expected = [
        (None, Liveness::Online),
        (Some(Liveness::Online), Liveness::Suspect),
        (Some(Liveness::Suspect), Liveness::Offline),
        (Some(Liveness::Offline), Liveness::Online),
        (Some(Liveness::Online), Liveness::Left),
        (Some(Liveness::Left), Liveness::Online),
    ];
    assert_eq!(changes(&peers, 4), expected);
}

#[test]
fn a_host_that_dies_with_its_session_open_is_offline_as_soon() {
    let mut peers = Peers::new(4, shipped());
    let died = peers.falls_silent(4);
    peers.is_missed(4);
    assert_eq!(peers.offline_after(4, died, SECOND * 20), Some(1_800));
    // The earlier return does not affect the second death.
    peers.comes_back(4, false);
    peers.is_heard(4);
    peers.pass(SECOND * 5);
    let died = peers.falls_silent(4);
    peers.is_missed(4);
    assert_eq!(peers.offline_after(4, died, SECOND * 20), Some(1_800));
}

#[test]
fn nothing_is_overdue_when_a_coordinator_starts() {
    let (now, durable) = (Time(0) + SECOND * 100, Durable::new(Uuid([9; 16])));
    let config = Config::new("1.2.9", PublicKey([0; 32]));
    let core = Coordinator::new(now, WallTime(1_000_000), config, durable);
    assert_eq!(core.poll_timeout(), Some(now));
}

#[test]
fn a_decision_on_a_node_that_is_not_admitted_says_so() {
    let mut peers = Peers::of(2, &[11], shipped());
    peers.is_cut_off(11);
    peers.is_cut_off(2);
    peers.is_missed(2);
    peers.pass(SECOND * 70);
    let told = peers.decisions("nobody-hears-it");
    let told: Vec<&str> = told.iter().map(|decision| decision.action.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("node-2 ") && told[0].contains("to be placed elsewhere"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("node-11 ") && told[1].contains("it is not admitted"),
        "{told:?}"
    );
    let suspect = peers.decisions("session-lost");
    assert!(suspect[0].action.contains("it is not admitted"), "{:?}", suspect[0]);
    assert!(suspect[1].action.contains("no new work"), "{:?}", suspect[1]);
}

#[test]
fn what_runs_on_a_node_that_is_no_longer_admitted_is_to_be_placed_elsewhere_all_the_same() {
    let mut site = Site::new(2);
    site.apply(service("web", 2));
    site.pass(SECOND * 5);
    let one = site.rig.core.ctx.registry.find(node_id(1)).unwrap();
    Arc::make_mut(&mut site.rig.core.ctx.registry[one].record).admission = Admission::Pending;
    let (conn, by_peer) = (ConnId(1), false);
    site.rig.input(Input::Closed { conn, by_peer });
    site.rig.pass(SECOND * 70);
    let of_one = site.rig.events.iter().filter(|event| event.node == Some(node_id(1)));
    let mut actions = of_one.filter_map(|event| match &event.body {
        EventBody::Decision(decision) if decision.rule == "nobody-hears-it" => Some(&decision.action),
        _ => None,
    });
    let told = actions.next().expect("a verdict");
    assert!(told.contains("to be placed elsewhere"), "{told}");
}

#[test]
fn what_a_node_said_of_its_peers_is_forgotten_when_it_is_gone_and_not_before() {
    let mut peers = Peers::new(4, shipped());
    let (four, one) = (peers.index(4), peers.index(1));
    peers.dies(4);
    peers.pass(SECOND);
    assert!(peers.core().guardian.mesh().hears(four, one));
    peers.pass(SECOND);
    assert_eq!(peers.liveness(4), Liveness::Offline);
    assert!(!peers.core().guardian.mesh().hears(four, one));
}

/// Probe targets in the newest plan of a node.
fn plan(peers: &Peers, number: u64) -> Vec<u8> {
    let plan = peers.rig.sent.iter().rev().find_map(|(to, message)| match message {
        Message::ProbePlan(plan) if *to == ConnId(number) => Some(plan.clone()),
        _ => None,
    });
    plan.unwrap().targets.iter().map(|(id, _)| id.0[0]).collect()
}

#[test]
fn who_is_in_doubt_is_probed_and_who_is_gone_is_not_until_it_is_back() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    peers.pass(SECOND);
    assert_eq!(plan(&peers, 1), [2, 3, 4]);
    peers.pass(SECOND);
    assert_eq!((peers.liveness(4), plan(&peers, 1)), (Liveness::Offline, vec![2, 3]));
    peers.comes_back(4, false);
    peers.pass(SECOND);
    assert_eq!(plan(&peers, 1), [2, 3, 4]);
    peers.leaves(4);
    peers.pass(SECOND);
    assert_eq!(plan(&peers, 1), [2, 3]);
}

#[test]
fn links_and_telemetry_of_a_node_in_doubt_are_not_shown() {
    let mut peers = Peers::new(4, shipped());
    let report = LinkReport {
        state: LinkState::Up,
        rtt_micros: 100,
        ..LinkReport::default()
    };
    let (four, one) = (peers.index(4), peers.index(1));
    let (now, wall) = (peers.rig.now, WallTime(0));
    peers.core().guardian.mesh().report(four, one, &report, now, wall);
    let shown = |peers: &mut Peers| {
        let rows = peers.core().guardian.mesh().rows();
        let links = rows.iter().any(|row| row.observer == node_id(4));
        (
            links,
            peers
                .core()
                .telemetry
                .matrix()
                .reading(four)
                .iter()
                .any(Option::is_some),
        )
    };
    assert_eq!(shown(&mut peers), (true, true));
    peers.is_cut_off(4);
    assert_eq!(
        (peers.liveness(4), shown(&mut peers)),
        (Liveness::Suspect, (false, false))
    );
    // The peers hear it: it is unreachable, and still not shown.
    peers.pass(SECOND * 3);
    assert_eq!((peers.liveness(4), shown(&mut peers).0), (Liveness::Unreachable, false));
}

#[test]
fn telemetry_of_a_return_is_shown() {
    let mut peers = Peers::new(4, shipped());
    peers.is_cut_off(4);
    peers.pass(ms(500));
    peers.comes_back(4, false);
    peers.pass(SECOND * 6);
    let four = peers.index(4);
    assert_eq!(peers.liveness(4), Liveness::Online);
    assert!(
        peers
            .core()
            .telemetry
            .matrix()
            .reading(four)
            .iter()
            .any(Option::is_some)
    );
}
