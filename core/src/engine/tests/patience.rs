//! Time for which a node is awaited if most probes are missed or no observer can report.

use std::time::Duration;

use super::{
    peers::{LONG, Peers, ms, shipped},
    rig::SECOND,
};
use crate::{coordinator::Rules, mesh::Sight, node::Liveness};

/// Factor of the window, in thousandths.
fn stretched(rules: Rules, now: f64, average: f64) -> u64 {
    (rules.stretched(now, average) * 1_000.0).round() as u64
}

#[test]
fn loss_makes_the_window_longer_by_what_transports_keep_back_and_by_chance() {
    let of = |now, average| stretched(shipped(), now, average);
    assert_eq!(of(0.0, 0.0), 1_000);
    // Delay: up to three times as long at a quarter.
    assert_eq!(
        (of(0.05, 0.0), of(0.125, 0.0), of(0.25, 0.0), of(0.3, 0.0)),
        (1_400, 2_000, 3_000, 3_000)
    );
    // Chance: ln 1e-9 / ln p of 18 probes, currently or on average.
    assert_eq!((of(0.5, 0.0), of(0.0, 0.5), of(0.0, 0.25)), (3_000, 1_661, 1_000));
    assert_eq!((of(0.8, 0.0), of(0.1, 0.8), of(0.0, 0.8)), (5_159, 5_159, 5_159));
    assert_eq!((of(1.0, 0.0), of(0.99, 0.0), of(0.0, 1.0)), (20_000, 20_000, 20_000));
}

#[test]
fn each_figure_of_the_stretch_counts() {
    assert_eq!(
        stretched(
            Rules {
                unrest: 0.5,
                ..shipped()
            },
            0.25,
            0.0
        ),
        2_000
    );
    assert_eq!(
        stretched(
            Rules {
                stretch: 1.0,
                ..shipped()
            },
            0.25,
            0.0
        ),
        2_000
    );
    assert_eq!(
        stretched(
            Rules {
                chance: 1e-3,
                ..shipped()
            },
            0.0,
            0.8
        ),
        1_720
    );
    assert_eq!(
        stretched(
            Rules {
                questions: 9.0,
                ..shipped()
            },
            0.0,
            0.8
        ),
        10_319
    );
    assert_eq!(
        stretched(
            Rules {
                longest: 4.0,
                ..shipped()
            },
            0.0,
            0.9
        ),
        4_000
    );
}

/// Node 5 of five dies; one of the 12 links between the others is missed.
fn among_loss(rules: Rules) -> Option<u64> {
    let mut peers = Peers::new(5, rules);
    peers.see(1, 2, Sight::Silent);
    let died = peers.dies(5);
    peers.offline_after(5, died, LONG)
}

#[test]
fn a_death_among_loss_is_found_later() {
    // One of 12: a third of a quarter.
    let after = among_loss(shipped());
    assert_eq!(after, Some(1_800 + 1_200));
    assert_eq!(
        among_loss(Rules {
            stretch: 0.0,
            ..shipped()
        }),
        Some(1_800)
    );
}

#[test]
fn a_window_that_loss_made_longer_ends_soon_after_the_loss() {
    let mut peers = Peers::new(5, shipped());
    peers.see(1, 2, Sight::Silent);
    let died = peers.dies(5);
    peers.pass(ms(2_050));
    peers.see(1, 2, Sight::Heard);
    // The node is evaluated five times a second.
    assert_eq!(peers.offline_after(5, died, LONG), Some(2_200));
}

#[test]
fn a_usual_window_is_looked_at_a_few_times() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    let before = peers.node(4).timer;
    peers.pass(ms(1_300));
    let looks = peers.node(4).timer - before;
    assert!((1..=2).contains(&looks), "{looks}");
}

#[test]
fn each_look_makes_the_one_that_was_due_before_it_stale() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    let before = peers.node(4).timer;
    peers.see(1, 4, Sight::Silent);
    peers.see(1, 4, Sight::Silent);
    assert_eq!(peers.node(4).timer, before + 2);
}

#[test]
fn loss_of_before_is_forgotten_in_seconds() {
    let stretch_after = |seconds: u32| {
        let mut peers = Peers::strangers(2, shipped());
        peers.see(1, 2, Sight::Silent);
        peers.see(2, 1, Sight::Silent);
        peers.pass(SECOND * 12);
        for (observer, subject) in [(1, 2), (2, 1)] {
            peers.see(observer, subject, Sight::Heard);
        }
        peers.pass(SECOND * seconds);
        (peers.guardian(|guardian, ctx| guardian.stretch(ctx)) * 1_000.0).round() as u64
    };
    // 0.72 of all on average, then a tenth less every second.
    assert_eq!(
        (stretch_after(1), stretch_after(3), stretch_after(20)),
        (2_633, 1_777, 1_000)
    );
}

#[test]
fn the_share_of_missed_probes_is_reckoned_anew_ten_times_a_second() {
    let mut peers = Peers::new(5, shipped());
    assert_eq!(peers.guardian(|guardian, ctx| guardian.stretch(ctx)), 1.0);
    peers.see(1, 2, Sight::Silent);
    peers.pass(ms(99));
    assert_eq!(peers.guardian(|guardian, ctx| guardian.stretch(ctx)), 1.0);
    peers.pass(ms(1));
    assert!(peers.guardian(|guardian, ctx| guardian.stretch(ctx)) > 1.0);
}

#[test]
fn whom_nobody_hears_and_who_is_not_online_is_no_loss() {
    let mut peers = Peers::new(5, shipped());
    peers.dies(5);
    peers.pass(SECOND);
    assert_eq!(peers.guardian(|guardian, ctx| guardian.stretch(ctx)), 1.0);
}

#[test]
fn loss_makes_the_grace_period_longer_up_to_ten_times() {
    // No observer reports on node 3, and nodes 1 and 2 miss one another most of the time.
    let grace = |rules| {
        let mut peers = Peers::strangers(3, rules);
        let died = peers.is_cut_off(3);
        while peers.liveness(3) != Liveness::Offline && peers.rig.now.since(died) < LONG {
            peers.see(1, 2, Sight::Silent);
            peers.see(2, 1, Sight::Silent);
            peers.pass(SECOND * 5);
        }
        peers.offline_after(3, died, LONG)
    };
    assert_eq!(grace(shipped()), Some(300_000));
    assert_eq!(
        grace(Rules {
            longest_grace: 2.0,
            ..shipped()
        }),
        Some(60_000)
    );
}

/// A single node is silent for `gap`, returns, and dies `later`.
fn after_a_gap(rules: Rules, gap: Duration, later: Duration) -> Option<u64> {
    let mut peers = Peers::strangers(1, rules);
    peers.falls_silent(1);
    peers.pass(gap);
    peers.goes_on(1, 1);
    peers.pass(later);
    let died = peers.is_cut_off(1);
    peers.offline_after(1, died, LONG)
}

#[test]
fn a_node_that_was_silent_before_is_waited_for_five_times_as_long() {
    let later = SECOND * 20;
    assert_eq!(after_a_gap(shipped(), SECOND * 8, later), Some(40_000));
    assert_eq!(
        after_a_gap(Rules { gaps: 2, ..shipped() }, SECOND * 8, later),
        Some(16_000)
    );
    assert_eq!(after_a_gap(shipped(), SECOND * 2, later), Some(10_000));
    let rules = Rules {
        longest_gap: SECOND * 25,
        ..shipped()
    };
    assert_eq!(after_a_gap(rules, SECOND * 8, later), Some(25_000));
}

#[test]
fn that_is_forgotten_after_five_minutes() {
    // The silence ends with a heartbeat; the next one is as long as usual.
    assert_eq!(after_a_gap(shipped(), SECOND * 8, SECOND * 259), Some(40_000));
    assert_eq!(after_a_gap(shipped(), SECOND * 8, SECOND * 300), Some(10_000));
    // Forgotten at the evaluation 20 s after its death.
    assert_eq!(after_a_gap(shipped(), SECOND * 8, SECOND * 280), Some(20_000));
    let rules = Rules {
        gaps_for: SECOND * 100,
        ..shipped()
    };
    assert_eq!(after_a_gap(rules, SECOND * 8, SECOND * 110), Some(10_000));
}

#[test]
fn a_shorter_silence_does_not_take_the_place_of_a_longer_one() {
    let mut peers = Peers::strangers(1, shipped());
    for gap in [9, 6] {
        peers.falls_silent(1);
        peers.pass(SECOND * gap);
        peers.goes_on(1, 1);
        peers.pass(SECOND * 20);
    }
    assert_eq!(peers.node(1).gap.0, SECOND * 9);
}

#[test]
fn the_coordinators_own_stall_is_no_silence_of_a_node() {
    let mut peers = Peers::strangers(1, shipped());
    peers.stand_still(SECOND * 30);
    peers.pass(SECOND * 3);
    assert!(peers.node(1).gap.0 < SECOND * 2, "{:?}", peers.node(1).gap);
}
