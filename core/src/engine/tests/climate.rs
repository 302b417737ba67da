//! Conditions that hold verdicts back: too few voices, too many silent members, too many verdicts, and a stalled
//! coordinator or store.

use std::time::Duration;

use super::{
    peers::{LONG, Peers, ms, shipped},
    rig::{SECOND, hello},
};
use crate::{
    engine::Rules,
    mesh::{Sight, Tally},
    node::{Cause, Liveness, NodeIndex},
    time::Time,
};

#[test]
fn a_quorum_is_more_than_half_of_those_that_count() {
    let quorum = |heard: u32, silent: u32, refused: u32, unknown| {
        let observers = |from: u32, many: u32| (from..from + many).map(NodeIndex).collect();
        shipped().quorum(&Tally {
            heard: observers(0, heard),
            silent: observers(10, silent),
            refused: observers(20, refused),
            unknown,
            last_heard: Time(0),
        })
    };
    let sizes: Vec<usize> = (0..=10).map(|many| quorum(0, many, 0, 0)).collect();
    assert_eq!(sizes, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
    assert_eq!((quorum(3, 2, 1, 4), quorum(1, 0, 0, 6), quorum(0, 1, 1, 3)), (6, 4, 3));
}

#[test]
fn observers_that_have_said_nothing_count_towards_the_quorum() {
    let missed_by = |rules, missed_by: u8| {
        let mut peers = Peers::strangers(5, rules);
        let died = peers.is_cut_off(5);
        for observer in 1..=missed_by {
            peers.see(observer, 5, Sight::Silent);
        }
        peers.offline_after(5, died, SECOND * 20)
    };
    assert_eq!(missed_by(shipped(), 3), Some(1_800));
    assert_eq!(missed_by(shipped(), 2), None);
    assert_eq!(
        missed_by(
            Rules {
                quorum_percent: 40,
                ..shipped()
            },
            2
        ),
        Some(1_800)
    );
}

/// The first `dead` of `nodes` die at once; returns how many are declared offline within a minute.
fn deaths(rules: Rules, nodes: u8, dead: u8) -> u8 {
    let mut peers = Peers::new(nodes, rules);
    for number in 1..=dead {
        peers.is_cut_off(number);
    }
    for number in 1..=dead {
        peers.is_missed(number);
    }
    peers.pass(SECOND * 60);
    let is_offline = |number: &u8| peers.liveness(*number) == Liveness::Offline;
    (1..=dead).filter(is_offline).count() as u8
}

#[test]
fn nobody_is_declared_offline_while_more_than_half_are_silent() {
    for nodes in 1..=7 {
        for dead in 1..=nodes {
            // With one or two nodes the coordinator counts as a present member.
            let voices = if nodes <= 2 { nodes + 1 } else { nodes };
            let declared = if 2 * dead > voices { 0 } else { dead };
            assert_eq!(deaths(shipped(), nodes, dead), declared, "{dead} of {nodes}");
        }
    }
    assert_eq!(
        deaths(
            Rules {
                ambiguous_percent: 70,
                ..shipped()
            },
            3,
            2
        ),
        2
    );
    assert_eq!(
        deaths(
            Rules {
                smallest: 0,
                ..shipped()
            },
            1,
            1
        ),
        0
    );
    assert_eq!(
        deaths(
            Rules {
                smallest: 3,
                ..shipped()
            },
            3,
            2
        ),
        2
    );
}

#[test]
fn nodes_that_are_not_admitted_are_no_members() {
    // All of them fall silent, together with one of three members.
    let with_strangers = |rules| {
        let mut peers = Peers::of(3, &[11, 12, 13, 14], rules);
        for number in [11, 12, 13, 14] {
            peers.is_cut_off(number);
        }
        let died = peers.dies(3);
        let members = peers.climate().members;
        (members, peers.offline_after(3, died, SECOND * 20))
    };
    assert_eq!(with_strangers(shipped()), (3, Some(1_800)));
    assert_eq!(
        with_strangers(Rules {
            admitted_only: false,
            ..shipped()
        }),
        (7, None)
    );
}

#[test]
fn a_node_that_waits_to_be_admitted_is_given_a_minute() {
    let mut peers = Peers::of(1, &[11], shipped());
    let died = peers.is_cut_off(11);
    assert_eq!(peers.offline_after(11, died, LONG), Some(60_000));
    let died = peers.is_cut_off(1);
    assert_eq!(peers.offline_after(1, died, LONG), Some(10_000));
}

#[test]
fn a_refusal_counts_while_more_than_half_are_silent() {
    let mut peers = Peers::new(5, shipped());
    let died = peers.rig.now;
    for number in 3..=5 {
        peers.is_cut_off(number);
    }
    for observer in [1, 2] {
        peers.see(observer, 5, Sight::Refused);
        peers.see(observer, 4, Sight::Silent);
        peers.see(observer, 3, Sight::Silent);
    }
    assert_eq!(peers.offline_after(5, died, SECOND * 20), Some(1_200));
    assert_eq!(peers.cause(5), Cause::AgentGone);
}

/// Nodes die one after the other, every 5 s, refused by their hosts or silent.
fn a_series_of_deaths(peers: &mut Peers, of: impl Iterator<Item = u8>, sight: Sight) {
    for number in of {
        peers.is_cut_off(number);
        for observer in peers.others(number) {
            peers.see(observer, number, sight);
        }
        peers.pass(SECOND * 5);
        assert_eq!(peers.liveness(number), Liveness::Offline, "{number}");
    }
}

#[test]
fn the_breaker_opens_when_half_of_all_were_declared_offline_and_closes_five_minutes_later() {
    let fifth_of_eight = |rules| {
        let mut peers = Peers::new(8, rules);
        a_series_of_deaths(&mut peers, 1..=4, Sight::Silent);
        let first = peers.when(1, Liveness::Offline).unwrap();
        let died = peers.dies(5);
        let after = peers.offline_after(5, died, LONG);
        (after, after.map(|after| (died + ms(after)).since(first)))
    };
    let (_, closed) = fifth_of_eight(shipped());
    let closed = closed.unwrap();
    assert!(closed >= SECOND * 300 && closed <= SECOND * 301, "{closed:?}");
    let rules = Rules {
        breaker_window: SECOND * 60,
        ..shipped()
    };
    let closed = fifth_of_eight(rules).1.unwrap();
    assert!(closed >= SECOND * 60 && closed <= SECOND * 61, "{closed:?}");
    assert_eq!(
        fifth_of_eight(Rules {
            breaker_percent: 51,
            ..shipped()
        })
        .0,
        Some(1_800)
    );
    assert_eq!(
        fifth_of_eight(Rules {
            breaker_min: 5,
            ..shipped()
        })
        .0,
        Some(1_800)
    );
}

#[test]
fn a_breaker_is_open_to_the_millisecond_for_five_minutes() {
    let mut peers = Peers::new(8, shipped());
    a_series_of_deaths(&mut peers, 1..=4, Sight::Silent);
    let first = peers.when(1, Liveness::Offline).unwrap();
    peers.pass((first + SECOND * 300).since(peers.rig.now) - ms(1));
    assert!(peers.climate_within(Duration::ZERO).breaker);
    peers.pass(ms(1));
    assert!(!peers.climate_within(Duration::ZERO).breaker);
}

#[test]
fn the_breaker_takes_three_verdicts_at_least_and_half_of_all() {
    let is_broken = |fell, nodes| shipped().is_broken(fell, nodes);
    assert!(!is_broken(2, 3) && is_broken(3, 4) && is_broken(3, 6) && !is_broken(3, 7));
    assert!(!is_broken(49, 100) && is_broken(50, 100));
    // The third of three nodes that die is held back.
    let mut peers = Peers::new(5, shipped());
    a_series_of_deaths(&mut peers, 1..=3, Sight::Silent);
    let died = peers.dies(4);
    assert_eq!(peers.offline_after(4, died, SECOND * 60), None);
}

#[test]
fn of_verdicts_at_one_moment_those_that_are_too_many_are_held_back() {
    let mut peers = Peers::new(8, shipped());
    a_series_of_deaths(&mut peers, 1..=3, Sight::Silent);
    peers.is_cut_off(4);
    peers.is_cut_off(5);
    for number in [4, 5] {
        peers.is_missed(number);
    }
    peers.pass(SECOND * 10);
    assert_eq!(
        (peers.liveness(4), peers.liveness(5)),
        (Liveness::Offline, Liveness::Suspect)
    );
}

#[test]
fn what_is_no_verdict_uses_a_reckoning_of_the_last_100_ms() {
    let mut peers = Peers::new(8, shipped());
    assert_eq!(peers.climate().members, 8);
    peers.leaves(8);
    peers.pass(ms(99));
    assert_eq!(peers.climate().members, 8);
    peers.pass(ms(1));
    assert_eq!(peers.climate().members, 7);
}

#[test]
fn a_refusal_neither_opens_the_breaker_nor_is_held_back_by_it() {
    let mut peers = Peers::new(8, shipped());
    a_series_of_deaths(&mut peers, 1..=4, Sight::Refused);
    a_series_of_deaths(&mut peers, 5..=5, Sight::Silent);
    let mut peers = Peers::new(8, shipped());
    a_series_of_deaths(&mut peers, 1..=4, Sight::Silent);
    a_series_of_deaths(&mut peers, 5..=5, Sight::Refused);
}

#[test]
fn those_that_came_back_no_longer_count_towards_the_breaker() {
    let mut peers = Peers::new(6, shipped());
    a_series_of_deaths(&mut peers, 1..=3, Sight::Silent);
    assert!(peers.climate().breaker);
    peers.comes_back(1, true);
    peers.pass(SECOND);
    assert!(!peers.climate().breaker);
}

/// Node 4 dies while the coordinator's store is stalled for `held`.
fn while_the_store_stands(rules: Rules, held: Duration) -> Option<u64> {
    let mut peers = Peers::new(4, rules);
    peers.rig.stalled = true;
    peers.rig.hello(90, hello(9, 1, 0));
    peers.pass(SECOND * 3);
    let died = peers.dies(4);
    peers.pass(held);
    peers.rig.resume();
    peers.offline_after(4, died, LONG)
}

#[test]
fn no_silence_counts_while_the_store_stands_still() {
    assert_eq!(while_the_store_stands(shipped(), SECOND), Some(2_800));
    assert_eq!(
        while_the_store_stands(
            Rules {
                hold_when_stalled: false,
                ..shipped()
            },
            SECOND
        ),
        Some(1_800)
    );
}

#[test]
fn a_change_holds_verdicts_back_from_two_seconds_on() {
    let mut peers = Peers::new(3, shipped());
    peers.rig.stalled = true;
    peers.rig.hello(90, hello(9, 1, 0));
    let mut forbids_after = |span| {
        peers.pass(span);
        peers.climate_within(Duration::ZERO).forbids()
    };
    assert!(!forbids_after(ms(1_999)));
    assert!(forbids_after(ms(1)));
}

#[test]
fn when_the_store_stood_for_five_seconds_those_that_left_are_waited_for_like_after_a_start() {
    let held_for = |held| {
        let mut peers = Peers::strangers(1, shipped());
        peers.pass(ms(9_500));
        peers.rig.stalled = true;
        peers.is_cut_off(1);
        peers.pass(held);
        let resumed = peers.rig.now;
        peers.rig.resume();
        peers.offline_after(1, resumed, LONG)
    };
    // Detected from 2.5 s on; the stall began 2 s before.
    assert_eq!(held_for(ms(5_499)), Some(10_000));
    assert_eq!(held_for(ms(5_500)), Some(60_000));
}

/// The coordinator of a single node stalls for `late`; the node dies `later`.
fn after_a_stall(late: u64, later: Duration) -> Option<u64> {
    let mut peers = Peers::strangers(1, shipped());
    peers.pass(SECOND * 10);
    peers.stand_still(ms(late));
    let resumed = peers.rig.now;
    peers.pass(later);
    peers.is_cut_off(1);
    peers.offline_after(1, resumed, LONG)
}

#[test]
fn when_the_coordinator_stood_for_five_seconds_those_that_left_are_waited_for_like_after_a_start() {
    assert_eq!(after_a_stall(4_999, Duration::ZERO), Some(10_000));
    assert_eq!(after_a_stall(5_000, Duration::ZERO), Some(60_000));
    assert_eq!(after_a_stall(300_000, Duration::ZERO), Some(60_000));
}

#[test]
fn who_was_heard_five_seconds_after_the_stall_is_back() {
    assert_eq!(after_a_stall(5_000, ms(4_990)), Some(60_000));
    assert_eq!(after_a_stall(5_000, ms(5_000)), Some(15_000));
}

#[test]
fn after_a_stall_peers_that_heard_it_since_tell_of_a_node_and_others_do_not() {
    let missed = |ago_at_death: u64| {
        let mut peers = Peers::new(4, shipped());
        peers.falls_silent(4);
        peers.pass(SECOND);
        peers.stand_still(SECOND * 6);
        let resumed = peers.rig.now;
        peers.is_closed(4);
        for observer in 1..=3 {
            peers.see_of(observer, 4, Sight::Silent, ago_at_death);
        }
        let after = peers.offline_after(4, resumed, LONG);
        // Afterwards, peers are asked as usual.
        assert!((1..=3).all(|observer| peers.pings(observer) > 0));
        after
    };
    assert_eq!(missed(6_000), Some(1_800));
    assert_eq!(missed(6_001), Some(60_000));
}

#[test]
fn stalls_with_some_time_between_them_are_not_added_up() {
    let mut peers = Peers::strangers(1, shipped());
    peers.pass(SECOND * 10);
    peers.stand_still(SECOND * 3);
    peers.pass(ms(2_500));
    peers.stand_still(SECOND * 3);
    let resumed = peers.rig.now;
    peers.is_cut_off(1);
    assert_eq!(peers.offline_after(1, resumed, LONG), Some(10_000));
}

/// All but two of five nodes are cut off for `lasted`, and all but one return; returns when the last one is declared
/// offline after that, in milliseconds.
fn after_a_cut(rules: Rules, lasted: Duration, most: Duration) -> Option<u64> {
    let mut peers = Peers::new(5, rules);
    for number in 3..=5 {
        peers.is_cut_off(number);
    }
    for number in 3..=5 {
        peers.is_missed(number);
    }
    peers.pass(lasted);
    for number in 3..=4 {
        peers.comes_back(number, false);
    }
    peers.hears_all(3);
    peers.hears_all(4);
    let back = peers.rig.now;
    peers.is_missed(5);
    peers.offline_after(5, back, most)
}

#[test]
fn when_more_than_half_were_silent_for_five_seconds_those_that_left_are_waited_for() {
    let hasty = Rules {
        wait_for_returns: false,
        ..shipped()
    };
    let long = SECOND * 30;
    let waits = |at: Option<u64>| at.is_some_and(|at| (19_000..=25_000).contains(&at));
    assert!(after_a_cut(hasty, SECOND * 20, long).is_some_and(|at| at < 6_000));
    assert!(waits(after_a_cut(shipped(), SECOND * 20, long)));
    // After a shorter isolation no return has to be awaited.
    assert!(after_a_cut(shipped(), SECOND * 4, long).is_some_and(|at| at < 6_000));
}

#[test]
fn a_timer_that_is_half_a_second_late_is_a_stall() {
    let late = |millis| {
        let mut peers = Peers::new(4, shipped());
        let died = peers.dies(4);
        peers.stand_still(ms(millis));
        let resumed = peers.rig.now;
        (peers.offline_after(4, died, LONG), resumed.since(died))
    };
    // The silence counts from the end of the stall.
    let (after, resumed) = late(501);
    assert_eq!(after, Some(resumed.as_millis() as u64 + 1_800));
    assert_eq!(late(500).0, Some(1_800));
}
