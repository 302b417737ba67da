//! Rules for declaring a node offline. The same scenario is run with the shipped rule and with another one, and the
//! verdicts differ.

use std::time::Duration;

use super::{
    peers::{LONG, Peers, ms, shipped},
    rig::SECOND,
};
use crate::{
    engine::Rules,
    mesh::Sight,
    node::{Cause, Liveness},
};

/// Node 4 of four dies, and its peers miss it immediately.
fn a_death(rules: Rules) -> Option<u64> {
    let mut peers = Peers::new(4, rules);
    let died = peers.dies(4);
    peers.offline_after(4, died, LONG)
}

#[test]
fn a_host_that_nobody_hears_is_offline_when_the_window_is_over_and_not_before() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    peers.pass(ms(1_799));
    assert_eq!(peers.liveness(4), Liveness::Suspect);
    peers.pass(ms(1));
    assert_eq!(
        (peers.liveness(4), peers.cause(4)),
        (Liveness::Offline, Cause::HostSilent)
    );
    assert_eq!(a_death(shipped()), Some(1_800));
    assert_eq!(
        a_death(Rules {
            window: ms(900),
            ..shipped()
        }),
        Some(900)
    );
}

#[test]
fn the_window_begins_with_the_last_time_that_anybody_heard_it() {
    let mut peers = Peers::new(4, shipped());
    let died = peers.is_cut_off(4);
    peers.pass(ms(700));
    for (observer, ago) in [(1, 700), (2, 300), (3, 650)] {
        peers.see_of(observer, 4, Sight::Silent, ago);
    }
    assert_eq!(peers.offline_after(4, died, LONG), Some(400 + 1_800));
}

#[test]
fn a_host_without_an_agent_is_given_a_shorter_window() {
    let refused = |rules| {
        let mut peers = Peers::new(4, rules);
        peers.is_cut_off(4);
        for observer in 1..=3 {
            peers.see(observer, 4, Sight::Refused);
        }
        let died = peers.rig.now;
        let after = peers.offline_after(4, died, LONG);
        (after, peers.cause(4))
    };
    assert_eq!(refused(shipped()), (Some(1_200), Cause::AgentGone));
    assert_eq!(
        refused(Rules {
            gone_window: SECOND * 4,
            ..shipped()
        }),
        (Some(4_000), Cause::AgentGone)
    );
}

#[test]
fn a_quorum_must_be_refused_before_the_agent_counts_as_gone() {
    let refused_by = |refused: u8| {
        let mut peers = Peers::new(5, shipped());
        peers.is_cut_off(5);
        for observer in 1..=4 {
            peers.see(
                observer,
                5,
                if observer <= refused {
                    Sight::Refused
                } else {
                    Sight::Silent
                },
            );
        }
        let died = peers.rig.now;
        let after = peers.offline_after(5, died, LONG);
        (after, peers.cause(5))
    };
    assert_eq!(refused_by(2), (Some(1_800), Cause::HostSilent));
    assert_eq!(refused_by(3), (Some(1_200), Cause::AgentGone));
}

/// An observer that had missed node 4 hears it while it is in doubt; after `heard_for`, nobody does.
fn comes_and_goes(rules: Rules, heard_for: Duration) -> Option<u64> {
    let mut peers = Peers::new(4, rules);
    peers.dies(4);
    peers.see(1, 4, Sight::Heard);
    peers.pass(heard_for);
    peers.is_missed(4);
    let missed = peers.rig.now;
    peers.offline_after(4, missed, LONG)
}

#[test]
fn a_node_that_was_heard_again_while_in_doubt_is_given_a_longer_window() {
    assert_eq!(comes_and_goes(shipped(), SECOND), Some(7_000));
    assert_eq!(
        comes_and_goes(
            Rules {
                erratic_window: SECOND * 3,
                ..shipped()
            },
            SECOND
        ),
        Some(3_000)
    );
}

#[test]
fn a_node_is_erratic_for_thirty_seconds() {
    // The window ends after 30 s, or a moment before.
    assert_eq!(comes_and_goes(shipped(), ms(28_200)), Some(1_800));
    let a_little_less = comes_and_goes(shipped(), ms(28_190));
    assert!(a_little_less > Some(1_800), "{a_little_less:?}");
    let rules = Rules {
        erratic_for: SECOND * 3,
        ..shipped()
    };
    assert_eq!(comes_and_goes(rules, ms(1_200)), Some(1_800));
}

#[test]
fn one_that_is_heard_all_along_is_not_erratic() {
    let mut peers = Peers::new(4, shipped());
    peers.is_cut_off(4);
    peers.is_heard(4);
    peers.pass(SECOND * 3);
    peers.is_missed(4);
    let missed = peers.rig.now;
    assert_eq!(peers.offline_after(4, missed, LONG), Some(1_800));
}

#[test]
fn a_beacon_of_a_node_in_doubt_shows_that_it_is_erratic_when_its_receiver_counts() {
    let beacon = |arrives, is_counted: bool| {
        let mut peers = Peers::new(4, shipped());
        peers.is_strained(1, !is_counted);
        let died = peers.dies(4);
        peers.pass(ms(100));
        peers.arrive(1, 4, arrives);
        peers.offline_after(4, died, LONG)
    };
    assert_eq!(beacon(true, true), Some(100 + 7_000));
    assert_eq!(beacon(false, true), Some(1_800));
    assert_eq!(beacon(true, false), Some(1_800));
}

#[test]
fn a_beacon_of_a_node_that_is_online_says_nothing_of_how_it_dies() {
    let mut peers = Peers::new(4, shipped());
    peers.arrive(1, 4, true);
    let died = peers.dies(4);
    assert_eq!(peers.offline_after(4, died, LONG), Some(1_800));
}

#[test]
fn a_node_that_stands_still_again_and_again_is_given_a_longer_window() {
    let strained = |rules, strained| {
        let mut peers = Peers::new(4, rules);
        peers.is_strained(4, strained);
        let died = peers.dies(4);
        peers.offline_after(4, died, LONG)
    };
    assert_eq!(strained(shipped(), true), Some(5_000));
    assert_eq!(strained(shipped(), false), Some(1_800));
    assert_eq!(
        strained(
            Rules {
                strained_window: SECOND * 3,
                ..shipped()
            },
            true
        ),
        Some(3_000)
    );
}

#[test]
fn where_no_observer_counts_the_grace_period_is_three_times_as_long() {
    let strained = |rules| {
        let mut peers = Peers::new(4, rules);
        for observer in 1..=3 {
            peers.is_strained(observer, true);
        }
        let died = peers.dies(4);
        let after = peers.offline_after(4, died, LONG);
        (after, peers.cause(4))
    };
    assert_eq!(strained(shipped()), (Some(30_000), Cause::HostSilent));
    assert_eq!(
        strained(Rules {
            wait_for_others: 1,
            ..shipped()
        }),
        (Some(10_000), Cause::HostSilent)
    );
}

#[test]
fn where_there_are_no_observers_the_grace_period_runs_from_the_last_sign_of_life() {
    let silence = |rules| {
        let mut peers = Peers::strangers(1, rules);
        let last_beat = peers.falls_silent(1);
        let after = peers.offline_after(1, last_beat, LONG);
        (after, peers.cause(1))
    };
    assert_eq!(silence(shipped()), (Some(10_000), Cause::Silent));
    // Suspect only after 3 s.
    assert_eq!(
        silence(Rules {
            grace_from_sign: false,
            ..shipped()
        }),
        (Some(13_000), Cause::Silent)
    );
}

#[test]
fn the_whole_cluster_is_reckoned_anew_before_a_verdict() {
    // Node 2 falls silent a moment before the verdict on node 3, so that more than half are silent.
    let second_death = |rules, first_survey| {
        let mut peers = Peers::new(3, rules);
        peers.pass(first_survey);
        let died = peers.dies(3);
        peers.pass(ms(1_790));
        peers.is_cut_off(2);
        peers.offline_after(3, died, SECOND * 5)
    };
    assert_eq!(second_death(shipped(), ms(250)), None);
    assert_eq!(
        second_death(
            Rules {
                reckoning_age: SECOND,
                ..shipped()
            },
            ms(250)
        ),
        Some(1_800)
    );
}
