//! Reports on which a verdict rests: which are awaited, which count, and their age.

use super::{
    peers::{LONG, Peers, ms, shipped},
    rig::{SECOND, node_id},
};
use crate::{
    engine::Rules,
    mesh::{Observation, Sight},
    node::Liveness,
    time::Time,
};

/// Packet loss does not extend the window.
fn unstretched() -> Rules {
    Rules {
        stretch: 0.0,
        longest: 1.0,
        ..shipped()
    }
}

/// Node 5 of five dies. Node 4, which hears it, has lost the coordinator; `heard` states whether peers hear node 4.
fn the_word_of_node_4(rules: Rules, heard: bool) -> Option<u64> {
    let mut peers = Peers::new(5, rules);
    peers.is_cut_off(4);
    if !heard {
        peers.is_missed(4);
    }
    let died = peers.dies(5);
    peers.offline_after(5, died, LONG)
}

#[test]
fn a_word_that_is_missing_is_waited_for_as_long_as_it_may_take() {
    assert_eq!(the_word_of_node_4(shipped(), true), Some(12_000));
    assert_eq!(
        the_word_of_node_4(
            Rules {
                word_margin: SECOND,
                ..shipped()
            },
            true
        ),
        Some(9_000)
    );
    assert_eq!(
        the_word_of_node_4(
            Rules {
                missing_word: false,
                ..shipped()
            },
            true
        ),
        Some(1_800)
    );
}

#[test]
fn nobody_waits_for_the_word_of_an_observer_that_nobody_hears() {
    assert_eq!(the_word_of_node_4(shipped(), false), Some(1_800));
}

#[test]
fn nobody_waits_for_the_word_of_an_observer_that_missed_the_node() {
    let mut peers = Peers::new(5, shipped());
    peers.see(4, 5, Sight::Silent);
    peers.is_cut_off(4);
    let died = peers.dies(5);
    assert_eq!(peers.offline_after(5, died, LONG), Some(1_800));
}

#[test]
fn nobody_waits_for_the_word_of_an_observer_that_is_not_trusted() {
    let mut peers = Peers::new(5, shipped());
    peers.arrivals(4, vec![(node_id(5), true); 3_900]);
    peers.is_cut_off(4);
    let died = peers.dies(5);
    assert_eq!(peers.offline_after(5, died, LONG), Some(1_800));
}

#[test]
fn the_word_of_an_observer_that_asks_by_way_of_its_peers_is_not_missing() {
    let mut peers = Peers::new(5, shipped());
    peers.is_cut_off(4);
    peers.is_heard(4);
    let died = peers.dies(5);
    peers.pass(SECOND);
    peers.asks(4, 1, Vec::new());
    peers.pass(SECOND * 2);
    // The last report of node 4, that it hears node 5, still counts.
    assert_eq!(peers.liveness(5), Liveness::Unreachable);
    let sight = Sight::Silent;
    let missed = Observation {
        sight,
        last_heard_age_millis: Some(3_000),
    };
    peers.asks(4, 1, vec![(node_id(5), missed)]);
    let after = peers.offline_after(5, died, LONG);
    assert!(after.is_some_and(|after| after < 12_000), "{after:?}");
}

/// Observers 1 to 3 hear nobody, and observer 4 has not reported on node 5, which dies.
fn the_deaf(rules: Rules) -> Option<u64> {
    let mut peers = Peers::strangers(5, rules);
    for observer in 1..=3 {
        for subject in peers.others(observer) {
            peers.see(observer, subject, Sight::Silent);
        }
    }
    let died = peers.is_cut_off(5);
    peers.offline_after(5, died, LONG)
}

#[test]
fn observers_that_hear_nobody_are_not_counted() {
    assert_eq!(the_deaf(unstretched()), Some(30_000));
    assert_eq!(
        the_deaf(Rules {
            skip_deaf: false,
            ..unstretched()
        }),
        Some(1_800)
    );
}

#[test]
fn who_hears_nobody_now_heard_the_node_when_it_says_it_did_if_it_counts() {
    let offline = |strained| {
        let mut peers = Peers::new(5, unstretched());
        peers.is_strained(4, strained);
        let died = peers.is_cut_off(5);
        peers.pass(ms(600));
        for observer in 1..=3 {
            peers.see_of(observer, 5, Sight::Silent, 600);
            peers.see(4, observer, Sight::Silent);
        }
        peers.see_of(4, 5, Sight::Silent, 100);
        peers.offline_after(5, died, LONG)
    };
    assert_eq!((offline(false), offline(true)), (Some(500 + 1_800), Some(1_800)));
}

#[test]
fn observers_are_asked_when_a_quarter_of_the_window_is_left() {
    let asked = |rules| {
        let mut peers = Peers::new(4, rules);
        let died = peers.dies(4);
        let before: Vec<usize> = (1..=3).map(|number| peers.pings(number)).collect();
        assert_eq!(before, [0; 3]);
        while peers.pings(1) == 0 && peers.rig.now.since(died) < SECOND * 3 {
            peers.pass(ms(1));
        }
        let at = peers.rig.now.since(died);
        // Once, as they answer.
        peers.pass(SECOND);
        let asked: Vec<usize> = (1..=3).map(|number| peers.pings(number)).collect();
        assert_eq!((asked, peers.liveness(4)), (vec![1; 3], Liveness::Offline));
        at
    };
    assert_eq!(asked(shipped()), ms(1_350));
    assert_eq!(
        asked(Rules {
            confirm_part: 2,
            ..shipped()
        }),
        ms(900)
    );
}

#[test]
fn observers_are_asked_at_once_when_the_grace_period_is_over_before_the_window() {
    let asked = |wait_for_others| {
        let rules = Rules {
            wait_for_others,
            gaps: 0,
            ..shipped()
        };
        let mut peers = Peers::new(4, rules);
        peers.dies(4);
        peers.pings(1)
    };
    assert_eq!((asked(0), asked(1)), (1, 0));
}

/// Observers 2 and 3 stall before they are pinged, and continue after `back`, if at all.
fn slow_observers(rules: Rules, back: Option<u64>) -> Option<u64> {
    let mut peers = Peers::new(4, rules);
    let died = peers.dies(4);
    peers.pass(ms(1_340));
    for number in [2, 3] {
        peers.falls_silent(number);
    }
    if let Some(back) = back {
        peers.pass(ms(back - 1_340));
        peers.goes_on(2, 2);
    }
    peers.offline_after(4, died, SECOND * 4)
}

#[test]
fn there_is_no_verdict_before_a_quorum_has_confirmed_it() {
    assert_eq!(slow_observers(shipped(), Some(1_799)), Some(1_800));
    assert_eq!(slow_observers(shipped(), Some(1_840)), Some(1_840));
    assert_eq!(
        slow_observers(
            Rules {
                confirm: false,
                ..shipped()
            },
            Some(1_840)
        ),
        Some(1_800)
    );
}

#[test]
fn an_observer_that_does_not_answer_within_half_a_second_is_not_counted() {
    // Not counted from 1.85 s on; re-evaluated half a second after the window.
    assert_eq!(slow_observers(shipped(), None), Some(2_300));
    let patient = Rules {
        word_patience: SECOND,
        ..shipped()
    };
    assert_eq!(slow_observers(patient, None), Some(2_800));
}

#[test]
fn a_heartbeat_that_answers_an_older_ping_confirms_nothing() {
    let confirmed_by = |answers| {
        let mut peers = Peers::new(4, shipped());
        let died = peers.dies(4);
        peers.pass(ms(1_340));
        for number in [1, 2, 3] {
            peers.falls_silent(number);
        }
        peers.pass(ms(20));
        for conn in 1..=3 {
            peers.rig.answer(conn, answers);
        }
        peers.offline_after(4, died, ms(2_000))
    };
    assert_eq!(confirmed_by(Some(0)), None);
    assert_eq!(confirmed_by(Some(9)), Some(1_800));
    // An agent that does not report ping numbers answers with any later message.
    assert_eq!(confirmed_by(None), Some(1_800));
}

#[test]
fn what_was_said_before_the_windows_last_quarter_is_no_confirmation() {
    // They are pinged when they report it, and once more in time.
    let mut peers = Peers::new(4, shipped());
    let died = peers.rig.now;
    peers.is_missed(4);
    peers.is_cut_off(4);
    peers.pass(ms(1_400));
    let at: Vec<Time> = (1..=3).map(|number| peers.node(number).confirmed).collect();
    assert_eq!(at, [died + ms(1_350); 3]);
}

/// The peers of node 4 have missed it for `ago` although it was alive, when it dies.
fn cut_off_for(rules: Rules, ago: u64, of: u8) -> Option<u64> {
    let mut peers = Peers::new(4, rules);
    for observer in 1..=of {
        peers.see_of(observer, 4, Sight::Silent, ago);
    }
    for observer in of + 1..=3 {
        peers.see_of(observer, 4, Sight::Silent, 0);
    }
    let died = peers.is_cut_off(4);
    peers.offline_after(4, died, LONG)
}

#[test]
fn who_missed_a_node_for_five_seconds_while_it_was_there_knows_nothing_of_its_end() {
    assert_eq!(cut_off_for(shipped(), 4_999, 3), Some(1_800));
    // No observer is left that could report, so the session decides after the grace period.
    assert_eq!(cut_off_for(shipped(), 5_000, 3), Some(10_000));
    // A single observer that is not isolated decides, and so do two.
    assert_eq!(cut_off_for(shipped(), 5_000, 2), Some(1_800));
    assert_eq!(cut_off_for(shipped(), 5_000, 1), Some(1_800));
}
