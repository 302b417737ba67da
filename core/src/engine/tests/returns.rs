//! Returns of nodes that are in doubt or offline.

use std::time::Duration;

use super::{
    peers::{Peers, ms, shipped},
    rig::{SECOND, node_id},
};
use crate::{
    autonomy::Fact,
    engine::Rules,
    mesh::Sight,
    node::{Cause, Liveness},
};

/// A node returns with the same agent; returns the time until it is online, if within 300 s.
fn comes_back(peers: &mut Peers, number: u8) -> Option<u64> {
    peers.comes_back(number, false);
    let back = peers.rig.now;
    for observer in peers.others(number) {
        peers.see(observer, number, Sight::Heard);
    }
    let online = |peers: &mut Peers| peers.liveness(number) == Liveness::Online;
    while !online(peers) && peers.rig.now.since(back) < SECOND * 300 {
        peers.pass(ms(100));
    }
    let at = peers.when(number, Liveness::Online).filter(|at| *at >= back)?;
    Some(at.since(back).as_millis() as u64)
}

#[test]
fn each_return_takes_four_times_as_long_as_the_one_before() {
    let returns = |rules| -> Vec<Option<u64>> {
        let mut peers = Peers::new(4, rules);
        peers.pass(ms(500));
        let one = |_| {
            peers.dies(4);
            peers.pass(SECOND);
            comes_back(&mut peers, 4)
        };
        (0..5).map(one).collect()
    };
    // With the heartbeat that follows.
    let seconds = |waits: [u64; 5]| waits.map(|wait| Some(wait * 1_000));
    assert_eq!(returns(shipped()), seconds([4, 16, 64, 256, 256]));
    assert_eq!(
        returns(Rules {
            steady: SECOND,
            ..shipped()
        }),
        seconds([1, 4, 16, 64, 64])
    );
}

#[test]
fn a_return_counts_for_five_minutes() {
    let second_return = |later: u64| {
        let mut peers = Peers::new(4, shipped());
        peers.pass(ms(500));
        peers.dies(4);
        peers.pass(SECOND);
        assert_eq!(comes_back(&mut peers, 4), Some(4_000));
        let returned = peers.when(4, Liveness::Online).unwrap();
        peers.pass((returned + ms(later)).since(peers.rig.now) - SECOND);
        peers.dies(4);
        peers.pass(SECOND);
        comes_back(&mut peers, 4)
    };
    // Forgotten once the node has been heard for 4 s, or only after 16 s.
    assert_eq!(
        (second_return(295_000), second_return(296_000)),
        (Some(5_000), Some(4_000))
    );
    assert_eq!(second_return(283_000), Some(16_000));
}

/// Node 4 returned once, died, and returned again; it has been heard since.
fn back_again(rules: Rules) -> Peers {
    let mut peers = Peers::new(4, rules);
    peers.pass(ms(500));
    peers.dies(4);
    peers.pass(SECOND);
    comes_back(&mut peers, 4);
    peers.pass(SECOND);
    peers.dies(4);
    peers.pass(SECOND);
    peers.comes_back(4, false);
    peers.is_heard(4);
    peers
}

#[test]
fn who_comes_back_again_is_in_quarantine_once_it_is_heard_for_four_seconds() {
    let mut peers = back_again(shipped());
    let back = peers.rig.now;
    peers.pass(ms(3_999));
    assert_eq!(
        (peers.liveness(4), peers.cause(4)),
        (Liveness::Suspect, Cause::SessionEnded)
    );
    peers.pass(ms(1));
    assert_eq!(
        (peers.liveness(4), peers.cause(4)),
        (Liveness::Suspect, Cause::Flapping)
    );
    peers.pass(ms(11_999));
    assert_eq!(peers.liveness(4), Liveness::Suspect);
    peers.pass(ms(1));
    assert_eq!(
        (peers.liveness(4), peers.rig.now.since(back)),
        (Liveness::Online, SECOND * 16)
    );
}

#[test]
fn quarantine_is_told_once_and_changes_no_liveness_of_who_is_suspect() {
    let mut peers = back_again(shipped());
    let before = peers.rig.transitions(4).len();
    peers.pass(SECOND * 15);
    assert_eq!(peers.rig.transitions(4).len(), before);
    let told = peers.decisions("flapping");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].action.contains("until it has been heard for long enough"),
        "{told:?}"
    );
    assert!(
        told[0]
            .evidence
            .iter()
            .any(|evidence| matches!(evidence.fact, Fact::Returns { steady, .. } if steady == SECOND * 16)),
        "{told:?}"
    );
}

/// Node 4 in quarantine.
fn in_quarantine(rules: Rules) -> Peers {
    let mut peers = back_again(rules);
    peers.pass(ms(5_300));
    assert_eq!(peers.cause(4), Cause::Flapping);
    peers
}

#[test]
fn who_dies_in_quarantine_is_offline_after_ten_seconds() {
    let offline = |rules, sight| {
        let mut peers = in_quarantine(rules);
        let died = peers.is_cut_off(4);
        for observer in 1..=3 {
            peers.see(observer, 4, sight);
        }
        peers.offline_after(4, died, SECOND * 100)
    };
    assert_eq!(offline(shipped(), Sight::Silent), Some(10_000));
    assert_eq!(offline(shipped(), Sight::Refused), Some(10_000));
    let rules = Rules {
        damped: SECOND * 5,
        ..shipped()
    };
    assert_eq!(
        (offline(rules, Sight::Silent), offline(rules, Sight::Refused)),
        (Some(5_000), Some(5_000))
    );
}

#[test]
fn who_is_lost_in_quarantine_and_heard_by_peers_is_unreachable_after_ten_seconds() {
    let unreachable = |rules| {
        let mut peers = in_quarantine(rules);
        peers.is_heard(4);
        let cut_off = peers.is_cut_off(4);
        peers.pass(SECOND * 30);
        peers.when(4, Liveness::Unreachable).map(|at| at.since(cut_off))
    };
    assert_eq!(unreachable(shipped()), Some(SECOND * 10));
    assert_eq!(
        unreachable(Rules {
            damped: SECOND * 5,
            ..shipped()
        }),
        Some(SECOND * 5)
    );
}

#[test]
fn quarantine_goes_on_after_a_silence_that_is_shorter() {
    let mut peers = in_quarantine(shipped());
    let before = peers.rig.transitions(4).len();
    peers.falls_silent(4);
    peers.pass(SECOND * 9);
    let conn = peers.conn();
    peers.goes_on(4, conn);
    let back = peers.rig.now;
    peers.is_heard(4);
    peers.pass(SECOND * 20);
    assert_eq!(peers.rig.transitions(4)[before..], [Liveness::Online]);
    // It must be heard for 16 s without interruption.
    let online = peers.when(4, Liveness::Online).unwrap().since(back);
    assert!(online >= SECOND * 16 && online < SECOND * 17, "{online:?}");
}

#[test]
fn who_is_offline_is_online_at_once_for_the_first_time_and_then_in_quarantine() {
    let mut peers = Peers::new(4, shipped());
    peers.dies(4);
    peers.pass(SECOND * 3);
    assert_eq!(peers.liveness(4), Liveness::Offline);
    assert_eq!(comes_back(&mut peers, 4), Some(0));
    peers.pass(SECOND);
    peers.dies(4);
    peers.pass(SECOND * 3);
    peers.comes_back(4, true);
    assert_eq!(
        (peers.liveness(4), peers.cause(4)),
        (Liveness::Suspect, Cause::Flapping)
    );
}

#[test]
fn an_agent_that_was_started_anew_counts_at_once_for_the_first_time() {
    let back = |anew, returned: bool| {
        let mut peers = Peers::new(4, shipped());
        if returned {
            peers.dies(4);
            peers.pass(SECOND);
            comes_back(&mut peers, 4);
        }
        peers.dies(4);
        peers.pass(SECOND);
        peers.comes_back(4, anew);
        peers.liveness(4)
    };
    assert_eq!(back(true, false), Liveness::Online);
    assert_eq!(back(false, false), Liveness::Suspect);
    assert_eq!(back(true, true), Liveness::Suspect);
}

#[test]
fn who_left_or_is_unseen_is_online_at_once_however_often() {
    let mut peers = Peers::new(4, shipped());
    for _ in 0..3 {
        peers.leaves(4);
        assert_eq!(peers.liveness(4), Liveness::Left);
        peers.comes_back(4, false);
        assert_eq!(peers.liveness(4), Liveness::Online);
    }
    // No node was in doubt, so these were no returns.
    assert_eq!(peers.node(4).returns.0, 0);
}

/// Node 5 is heard again by the coordinator while `missing` of its observers miss it.
fn heard_and_missed_by(missing: u8, span: Duration) -> Liveness {
    let mut peers = Peers::new(5, shipped());
    peers.dies(5);
    peers.pass(SECOND);
    peers.comes_back(5, false);
    for observer in missing + 1..=4 {
        peers.see(observer, 5, Sight::Heard);
    }
    peers.pass(span);
    peers.liveness(5)
}

#[test]
fn nobody_is_online_again_while_most_observers_miss_it_unless_they_are_cut_off_from_it() {
    assert_eq!(heard_and_missed_by(2, SECOND * 5), Liveness::Online);
    assert_eq!(heard_and_missed_by(3, SECOND * 7), Liveness::Suspect);
    // For 5 s they have missed it while it was alive.
    assert_eq!(heard_and_missed_by(3, SECOND * 11), Liveness::Online);
}

#[test]
fn who_is_missed_meanwhile_must_be_heard_for_four_seconds_from_then_on() {
    let online_after = |missing: u8| {
        let mut peers = Peers::new(5, shipped());
        peers.pass(ms(500));
        peers.is_cut_off(5);
        peers.pass(SECOND);
        peers.comes_back(5, false);
        let back = peers.rig.now;
        peers.pass(SECOND * 2);
        for observer in 1..=missing {
            peers.see(observer, 5, Sight::Silent);
        }
        for observer in 1..=missing {
            peers.see(observer, 5, Sight::Heard);
        }
        peers.pass(SECOND * 20);
        peers.when(5, Liveness::Online).map(|at| at.since(back))
    };
    assert_eq!(online_after(0), Some(SECOND * 4));
    assert_eq!(online_after(2), Some(SECOND * 4));
    assert_eq!(online_after(3), Some(SECOND * 6));
}

#[test]
fn a_break_of_more_than_one_and_a_half_heartbeats_begins_the_wait_anew() {
    let online_after = |gap: u64| {
        let mut peers = Peers::new(4, shipped());
        peers.is_cut_off(4);
        peers.pass(ms(500));
        peers.comes_back(4, false);
        let (back, conn) = (peers.rig.now, peers.conn());
        peers.falls_silent(4);
        peers.pass(ms(gap));
        peers.goes_on(4, conn);
        peers.pass(SECOND * 20);
        peers.when(4, Liveness::Online).map(|at| at.since(back))
    };
    assert_eq!(online_after(2_999), Some(SECOND * 4));
    assert_eq!(online_after(3_001), Some(SECOND * 8));
}

#[test]
fn a_node_flaps_that_came_back_three_times_within_five_minutes() {
    let mut peers = Peers::new(4, shipped());
    peers.pass(ms(500));
    let mut flaps = Vec::new();
    for _ in 0..3 {
        peers.dies(4);
        peers.pass(SECOND);
        comes_back(&mut peers, 4);
        let index = peers.index(4);
        flaps.push(peers.guardian(|guardian, ctx| guardian.flaps(ctx, index)));
    }
    assert_eq!(flaps, [false, false, true]);
    let returned = peers.when(4, Liveness::Online).unwrap();
    let index = peers.index(4);
    peers.pass((returned + SECOND * 300).since(peers.rig.now) - ms(1));
    assert!(peers.guardian(|guardian, ctx| guardian.flaps(ctx, index)));
    peers.pass(ms(1));
    assert!(!peers.guardian(|guardian, ctx| guardian.flaps(ctx, index)));
}

#[test]
fn a_node_flaps_that_is_in_quarantine_for_longer_than_one_return_takes() {
    let mut peers = in_quarantine(shipped());
    let (index, since) = (peers.index(4), peers.node(4).since());
    let conn = peers.conn();
    // 16 s, and a silence of 3 s; an interruption of 4 s prolongs the quarantine.
    peers.falls_silent(4);
    peers.pass(SECOND * 4);
    peers.goes_on(4, conn);
    peers.pass((since + SECOND * 19).since(peers.rig.now));
    assert_eq!(
        (
            peers.cause(4),
            peers.guardian(|guardian, ctx| guardian.flaps(ctx, index))
        ),
        (Cause::Flapping, false)
    );
    peers.pass(ms(1));
    assert!(peers.guardian(|guardian, ctx| guardian.flaps(ctx, index)));
    peers.pass(SECOND * 10);
    assert_eq!(
        (
            peers.liveness(4),
            peers.guardian(|guardian, ctx| guardian.flaps(ctx, index))
        ),
        (Liveness::Online, false)
    );
}

#[test]
fn who_is_suspect_for_another_reason_does_not_flap() {
    // More than half are silent, so nothing is declared.
    let mut peers = Peers::new(4, shipped());
    for number in 1..=4 {
        peers.falls_silent(number);
    }
    peers.pass(SECOND * 60);
    let index = peers.index(4);
    assert_eq!(
        (
            peers.liveness(4),
            peers.guardian(|guardian, ctx| guardian.flaps(ctx, index))
        ),
        (Liveness::Suspect, false)
    );
}

#[test]
fn nodes_of_before_are_unseen_for_a_minute_and_then_suspect() {
    let peers = Peers::new(3, shipped());
    let mut rig = peers.rig.restart();
    let started = rig.now;
    rig.pass((started + ms(59_999)).since(rig.now));
    assert!(rig.transitions(1).is_empty());
    rig.pass(ms(1));
    assert_eq!(rig.transitions(1), [Liveness::Suspect]);
    let index = rig.core.ctx.registry.find(node_id(1)).unwrap();
    assert_eq!(rig.core.ctx.registry[index].cause(), Cause::UnseenSinceRestart);
}

#[test]
fn a_coordinator_that_stood_still_after_its_start_waits_for_a_minute_from_then_on() {
    let mut rig = Peers::new(3, shipped()).rig.restart();
    rig.pass(SECOND * 50);
    rig.now = rig.core.poll_timeout().unwrap() + SECOND;
    rig.pass(Duration::ZERO);
    let resumed = rig.now;
    rig.pass((resumed + ms(59_999)).since(rig.now));
    assert!(rig.transitions(1).is_empty());
    rig.pass(ms(1));
    assert_eq!(rig.transitions(1), [Liveness::Suspect]);
}
