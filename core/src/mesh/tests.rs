use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    id::{NodeId, Uuid},
    node::NodeIndex,
    time::{Time, WallTime},
};

fn member(at: u32) -> (NodeIndex, NodeId) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&at.to_be_bytes());
    (NodeIndex(at), Uuid(id))
}

fn members(count: u32) -> Vec<(NodeIndex, NodeId)> {
    (0..count).map(member).collect()
}

fn observers(plan: &Plan, subject: NodeIndex) -> usize {
    plan.values().filter(|subjects| subjects.contains(&subject)).count()
}

#[test]
fn small_clusters_probe_all_pairs() {
    for count in 0..=ALL_PAIRS as u32 {
        let plan = Planner::new(1).plan(&members(count));
        let planned: usize = plan.values().map(Vec::len).sum();
        assert_eq!(planned as u32, count * count.saturating_sub(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every subject has exactly K observers, never itself among them, and the graph is connected.
    #[test]
    fn larger_clusters_have_k_observers_each(count in 12u32..200, seed: u64) {
        let plan = Planner::new(seed).plan(&members(count));
        for at in 0..count {
            prop_assert_eq!(observers(&plan, NodeIndex(at)), OBSERVERS);
            prop_assert!(!plan[&NodeIndex(at)].contains(&NodeIndex(at)));
        }
        let mut reached = BTreeSet::from([NodeIndex(0)]);
        let mut edge = vec![NodeIndex(0)];
        while let Some(node) = edge.pop() {
            edge.extend(plan[&node].iter().filter(|next| reached.insert(**next)));
        }
        prop_assert_eq!(reached.len() as u32, count);
    }

    /// A node that leaves changes the plans of its neighbours and few others; the order of the members does not matter.
    #[test]
    fn a_change_of_members_changes_few_plans(count in 100u32..300, gone in 0u32..100, seed: u64) {
        let before = Planner::new(seed).plan(&members(count));
        let mut fewer = members(count);
        fewer.remove(gone as usize);
        fewer.reverse();
        let after = Planner::new(seed).plan(&fewer);
        let changed = after.iter().filter(|(observer, subjects)| before.get(observer) != Some(subjects)).count();
        prop_assert!(changed <= 4 * OBSERVERS, "{} plans changed", changed);
        let mut again = members(count);
        again.rotate_left(gone as usize);
        prop_assert_eq!(Planner::new(seed).plan(&again), before);
    }
}

fn up(rtt_micros: u32) -> LinkReport {
    LinkReport {
        state: LinkState::Up,
        rtt_micros,
        rtt_p95_micros: rtt_micros,
        ..LinkReport::default()
    }
}

fn down() -> LinkReport {
    LinkReport {
        state: LinkState::Down,
        loss: 1.0,
        last_success_age_millis: Some(5_000),
        ..LinkReport::default()
    }
}

#[test]
fn the_topology_tells_components_and_what_is_not_observed() {
    let mut mesh = Mesh::new(1);
    let nodes = members(4);
    assert_eq!(mesh.replan(&nodes).len(), 4);
    let [a, b, c, d] = [0, 1, 2, 3].map(NodeIndex);
    for (one, other) in [(a, b), (c, d)] {
        assert!(mesh.report(one, other, &up(100), Time(0), WallTime(0)));
        assert!(mesh.report(other, one, &up(100), Time(0), WallTime(0)));
    }
    assert!(mesh.report(a, c, &down(), Time(0), WallTime(10_000)));
    let topology = mesh.topology();
    assert_eq!(
        (topology.planned, topology.live, topology.down, topology.unobserved),
        (12, 4, 1, 7)
    );
    assert_eq!(
        topology.components,
        [vec![nodes[0].1, nodes[1].1], vec![nodes[2].1, nodes[3].1]]
    );
    assert_eq!(topology.unobserved_links.len(), 7);
    assert_eq!(mesh.seen_by_peers(c), (1, 1));
    let rows = mesh.rows();
    assert_eq!(rows[0].links[1].1.last_success, Some(WallTime(5_000)));
    // Unchanged rows are shared, not copied.
    let again = mesh.rows();
    assert!(
        rows.iter()
            .zip(again.iter())
            .all(|(one, other)| std::sync::Arc::ptr_eq(one, other))
    );
    // A pair with one direction down is not joined.
    assert!(mesh.report(a, b, &down(), Time(0), WallTime(0)));
    assert_eq!(mesh.topology().components_total, 3);
}

#[test]
fn a_report_that_was_not_asked_for_does_not_count() {
    let mut mesh = Mesh::new(1);
    mesh.replan(&members(2));
    assert!(!mesh.report(NodeIndex(0), NodeIndex(7), &down(), Time(0), WallTime(0)));
    assert!(!mesh.report(NodeIndex(0), NodeIndex(0), &down(), Time(0), WallTime(0)));
    assert_eq!(mesh.unasked(), 2);
    assert_eq!(mesh.topology().unobserved, 2);
}

#[test]
fn links_that_are_no_longer_planned_are_forgotten() {
    let mut mesh = Mesh::new(1);
    mesh.replan(&members(3));
    mesh.report(NodeIndex(0), NodeIndex(2), &up(1), Time(0), WallTime(0));
    mesh.report(NodeIndex(2), NodeIndex(0), &up(1), Time(0), WallTime(0));
    let version = mesh.version();
    mesh.replan(&members(2));
    assert!(mesh.version() > version);
    assert!(mesh.rows().iter().all(|row| row.links.is_empty()));
    assert_eq!(mesh.replan(&members(2)), []);
}

#[test]
fn a_meter_goes_down_after_three_misses_and_up_with_an_answer() {
    let mut meter = LinkMeter::default();
    let now = Time(1_000_000_000);
    assert_eq!(meter.changed(now), None);
    meter.answer(now, Duration::from_micros(200));
    let first = meter.changed(now).unwrap();
    assert_eq!(
        (first.state, first.rtt_micros, first.rtt_p95_micros),
        (LinkState::Up, 200, 200)
    );
    assert_eq!(meter.changed(now), None);
    for _ in 0..2 {
        meter.miss(now, now);
        assert_eq!(meter.report(now).state, LinkState::Up);
    }
    meter.miss(now, now);
    let later = now + Duration::from_secs(9);
    let report = meter.changed(later).unwrap();
    assert_eq!(
        (report.state, report.last_success_age_millis),
        (LinkState::Down, Some(9_000))
    );
    // The probes of an outage do not count as loss.
    meter.answer(later, Duration::from_micros(200));
    assert_eq!(meter.report(later).state, LinkState::Up);
    assert!(meter.report(later).loss < 0.01);
}

#[test]
fn a_meter_is_lossy_when_the_loss_is_beyond_doubt_and_until_nothing_is_lost_for_a_while() {
    let mut meter = LinkMeter::default();
    let mut now = Time(0);
    let mut probe = |meter: &mut LinkMeter, answered: bool| {
        now = now + Duration::from_secs(1);
        match answered {
            true => meter.answer(now, Duration::from_micros(200)),
            false => meter.miss(now, now),
        }
        meter.report(now).state
    };
    for _ in 0..WINDOW {
        assert_eq!(probe(&mut meter, true), LinkState::Up);
    }
    // One loss in eight may be chance, three in four are not.
    for at in 0..16 {
        assert_eq!(probe(&mut meter, at % 8 > 0), LinkState::Up);
    }
    for (at, answered) in [false, false, true, false, true, false, false, true]
        .into_iter()
        .enumerate()
    {
        let state = probe(&mut meter, answered);
        assert_eq!(state == LinkState::Lossy, at > 2, "{at}");
    }
    for calm in 1..8 {
        assert_eq!(probe(&mut meter, true) == LinkState::Lossy, calm < 4, "{calm}");
    }
}

proptest! {
    /// Jitter from the start is neither loss nor slowness.
    #[test]
    fn steady_jitter_is_what_is_usual(times in prop::collection::vec((1_u64..2_000, 1_u64..1_000), 40..120), mean in 1_u64..60) {
        let mut meter = LinkMeter::default();
        for (at, (there, back)) in times.into_iter().enumerate() {
            // Two exponential draws, with the precision of a three-digit table.
            let draw = |of: f64| -f64::ln(of) * mean as f64 * 1_000.0;
            let micros = 300.0 + draw(there as f64 / 2_000.0) + draw(back as f64 / 1_000.0);
            let now = Time(at as u64 * 1_000_000_000);
            meter.answer(now, Duration::from_micros(micros as u64));
            prop_assert!(meter.report(now).state == LinkState::Up);
        }
    }
}

#[test]
fn what_had_to_be_sent_again_is_lossy_and_what_is_slow_from_the_first_is_slow() {
    let (now, usual) = (Time(0), Duration::from_micros(500));
    let mut meter = LinkMeter::default();
    for _ in 0..20 {
        meter.answer(now, usual);
    }
    let mut resent = meter.clone();
    for _ in 0..3 {
        resent.answer(now, Duration::from_millis(201));
        resent.answer(now, usual);
    }
    resent.answer(now, Duration::from_millis(401));
    assert_eq!(resent.report(now).state, LinkState::Lossy);
    for _ in 0..4 {
        // Whether the answers are retransmitted or the link is slow is still unknown.
        meter.answer(now, Duration::from_millis(201));
        assert_eq!(meter.report(now).state, LinkState::Up);
    }
    meter.answer(now, Duration::from_millis(200));
    assert_eq!(meter.report(now).state, LinkState::Slow);
    assert!(meter.report(now).loss < 0.01);
}

#[test]
fn one_gap_in_datagrams_is_an_outage_and_two_are_loss() {
    let second = Duration::from_secs(1);
    let state = |gaps: &[u64]| {
        let mut meter = LinkMeter::default();
        let at = |seconds: u64| Time(0) + second * seconds as u32;
        for now in (0..10).map(at) {
            meter.answer(now, Duration::from_micros(500));
            meter.datagram(now, false);
        }
        // No probe is answered any more, while datagrams still arrive.
        let mut states = Vec::new();
        for number in 10..60 {
            meter.miss(at(number), at(number - 1));
            meter.datagram(at(number), gaps.contains(&number));
            states.push(meter.report(at(number)).state);
        }
        states.contains(&LinkState::Lossy)
    };
    assert!(!state(&[]));
    assert!(!state(&[30]));
    assert!(state(&[30, 40]));
    // The gaps are too far apart.
    assert!(!state(&[15, 50]));
}

#[test]
fn a_meter_smooths_and_reports_only_what_moved() {
    let mut meter = LinkMeter::default();
    let now = Time(0);
    for _ in 0..WINDOW {
        meter.answer(now, Duration::from_micros(1_000));
    }
    meter.changed(now);
    meter.answer(now, Duration::from_micros(1_400));
    // Gain 1/8: 1050 µs, a change of less than a quarter.
    assert_eq!(meter.report(now).rtt_micros, 1_050);
    assert_eq!(meter.changed(now), None);
    for _ in 0..4 {
        meter.miss(now, now);
        meter.answer(now, Duration::from_micros(1_000));
    }
    let report = meter.changed(now).unwrap();
    assert_eq!(report.state, LinkState::Lossy);
    assert!((report.loss - 4.0 / 32.0).abs() < 1e-6);
}
