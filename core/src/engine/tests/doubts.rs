//! Conditions under which an online node is suspected, and evidence that it is present.

use std::time::Duration;

use super::{
    peers::{Peers, ms, shipped},
    rig::{SECOND, hello, node_id, see},
};
use crate::{
    autonomy::{Fact, Source},
    engine::{Message, RefusalReason, Rules},
    mesh::{Observation, Sight},
    node::{Cause, ConnId, Liveness, Named},
    time::Time,
};

/// Time from `since` until the liveness of a node changed to `to`, in milliseconds, if within `most`.
fn after(peers: &mut Peers, number: u8, to: Liveness, since: Time, most: Duration) -> Option<u64> {
    peers.pass((since + most).since(peers.rig.now));
    let at = peers.when(number, to).filter(|at| *at >= since)?;
    Some(at.since(since).as_millis() as u64)
}

#[test]
fn a_session_that_is_silent_for_three_seconds_is_in_doubt() {
    let mut peers = Peers::strangers(4, shipped());
    let last_beat = peers.falls_silent(4);
    assert_eq!(
        after(&mut peers, 4, Liveness::Suspect, last_beat, SECOND * 5),
        Some(3_000)
    );
    assert_eq!(peers.cause(4), Cause::Silent);
}

/// Node 4 is silent for `gap`, continues, and falls silent permanently; its peers hear it throughout.
fn bridged(rules: Rules, gap: Duration, later: Duration) -> (Option<u64>, Option<u64>) {
    let mut peers = Peers::new(4, rules);
    peers.falls_silent(4);
    peers.pass(gap);
    peers.goes_on(4, 4);
    peers.pass(later);
    let last_beat = peers.falls_silent(4);
    let unreachable = after(&mut peers, 4, Liveness::Unreachable, last_beat, SECOND * 30);
    (
        unreachable,
        after(&mut peers, 4, Liveness::Suspect, last_beat, SECOND * 30),
    )
}

#[test]
fn a_silence_that_peers_bridge_is_no_doubt_for_three_times_the_longest_one() {
    let later = SECOND * 10;
    // It is never suspect: it becomes unreachable directly, one window after the usual silence.
    assert_eq!(bridged(shipped(), ms(4_000), later), (Some(12_000 + 1_800), None));
    assert_eq!(bridged(shipped(), ms(4_700), later), (Some(14_100 + 1_800), None));
    assert_eq!(
        bridged(
            Rules {
                usual_gaps: 2,
                ..shipped()
            },
            ms(4_000),
            later
        ),
        (Some(8_000 + 1_800), None)
    );
}

#[test]
fn fifteen_seconds_of_silence_are_usual_at_most() {
    let later = SECOND * 10;
    assert_eq!(bridged(shipped(), ms(5_400), later), (Some(15_000 + 1_800), None));
    let rules = Rules {
        usual_gap: SECOND * 6,
        ..shipped()
    };
    assert_eq!(bridged(rules, ms(4_000), later), (Some(6_000 + 1_800), None));
}

#[test]
fn silences_are_usual_for_five_minutes() {
    let rules = Rules {
        gaps_for: SECOND * 60,
        ..shipped()
    };
    // Gaps of a second follow: 3 s of silence are always allowed.
    assert_eq!(bridged(rules, ms(4_000), SECOND * 46), (Some(12_000 + 1_800), None));
    assert_eq!(bridged(rules, ms(4_000), SECOND * 60), (Some(3_000 + 1_800), None));
    assert_eq!(
        bridged(shipped(), ms(4_000), SECOND * 250),
        (Some(12_000 + 1_800), None)
    );
    // Forgotten at the evaluation 5 s after its last heartbeat.
    assert_eq!(bridged(rules, ms(4_000), SECOND * 55), (Some(5_000), None));
}

#[test]
fn an_observer_whose_silence_is_bridged_is_not_counted_meanwhile() {
    let mut peers = Peers::new(4, shipped());
    peers.falls_silent(4);
    let index = peers.index(4);
    peers.pass(ms(2_999));
    assert!(peers.counts(index));
    peers.pass(ms(1));
    assert_eq!((peers.counts(index), peers.liveness(4)), (false, Liveness::Online));
}

#[test]
fn only_peers_that_have_spoken_since_a_window_of_silence_bridge_it() {
    // At 3 s they must have reported at 1.8 s or later.
    let spoke_last = |at: u64| {
        let mut peers = Peers::new(4, shipped());
        let last_beat = peers.falls_silent(4);
        peers.pass(ms(at));
        for number in 1..=3 {
            peers.goes_on(number, number.into());
            peers.falls_silent(number);
        }
        after(&mut peers, 4, Liveness::Suspect, last_beat, ms(4_700))
    };
    assert_eq!(spoke_last(1_799), Some(3_000));
    assert_eq!(spoke_last(1_800), None);
}

#[test]
fn more_peers_must_hear_a_silent_node_than_miss_it() {
    let heard_by = |hearing: u8| {
        let mut peers = Peers::new(5, shipped());
        peers.falls_silent(5);
        for observer in hearing + 1..=4 {
            peers.see(observer, 5, Sight::Silent);
        }
        // It answers once more.
        peers.goes_on(5, 5);
        let last_beat = peers.falls_silent(5);
        after(&mut peers, 5, Liveness::Suspect, last_beat, ms(4_700))
    };
    assert_eq!(heard_by(3), None);
    assert_eq!(heard_by(2), Some(3_000));
}

#[test]
fn whom_peers_bridge_is_in_doubt_once_they_no_longer_do() {
    let mut peers = Peers::new(4, shipped());
    let last_beat = peers.falls_silent(4);
    peers.pass(ms(3_500));
    peers.is_missed(4);
    // It was pinged a moment ago and is suspected without an answer, at the latest at the next evaluation.
    let suspect = after(&mut peers, 4, Liveness::Suspect, last_beat, SECOND * 6);
    assert_eq!(suspect, Some(4_300));
    assert_eq!(peers.liveness(4), Liveness::Offline);
}

#[test]
fn a_node_that_most_peers_miss_is_in_doubt_when_it_does_not_answer_in_time() {
    let missed_by = |rules, missing: u8| {
        let mut peers = Peers::new(5, rules);
        let asked = peers.falls_silent(5);
        for observer in 1..=missing {
            peers.see(observer, 5, Sight::Silent);
        }
        let suspect = after(&mut peers, 5, Liveness::Suspect, asked, ms(1_500));
        (suspect, peers.cause(5))
    };
    assert_eq!(missed_by(shipped(), 3), (Some(800), Cause::PeersLostIt));
    // A tie is no majority.
    assert_eq!(missed_by(shipped(), 2), (None, Cause::Heartbeat));
    let rules = Rules {
        ping_patience: SECOND,
        ..shipped()
    };
    assert_eq!(missed_by(rules, 3), (Some(1_000), Cause::PeersLostIt));
}

#[test]
fn a_node_that_answers_is_not_in_doubt_whoever_misses_it() {
    let mut peers = Peers::new(4, shipped());
    peers.falls_silent(4);
    peers.is_missed(4);
    assert_eq!(peers.pings(4), 1);
    peers.pass(ms(499));
    peers.goes_on(4, 4);
    peers.pass(SECOND * 20);
    assert_eq!(peers.liveness(4), Liveness::Online);
    assert_eq!(peers.rig.transitions(4).len(), 1);
}

#[test]
fn a_node_is_asked_once_and_only_for_what_is_new() {
    let mut peers = Peers::new(5, shipped());
    peers.falls_silent(5);
    peers.see(1, 5, Sight::Silent);
    peers.see(1, 5, Sight::Silent);
    peers.see(2, 5, Sight::Silent);
    assert_eq!(peers.pings(5), 1);
    peers.goes_on(5, 5);
    peers.see(1, 5, Sight::Silent);
    peers.see(3, 5, Sight::Heard);
    assert_eq!(peers.pings(5), 1);
    peers.see(3, 5, Sight::Silent);
    assert_eq!(peers.pings(5), 2);
}

#[test]
fn whom_peers_hear_again_is_unreachable_a_window_after_it_was_lost() {
    let heard = |rules| {
        let mut peers = Peers::new(4, rules);
        let cut_off = peers.is_cut_off(4);
        let unreachable = after(&mut peers, 4, Liveness::Unreachable, cut_off, SECOND * 60);
        (unreachable, peers.cause(4))
    };
    assert_eq!(heard(shipped()), (Some(1_800), Cause::PeersHearIt));
    assert_eq!(
        heard(Rules {
            window: SECOND * 3,
            ..shipped()
        }),
        (Some(3_000), Cause::PeersHearIt)
    );
}

#[test]
fn one_observer_that_hears_a_node_is_enough_when_it_counts() {
    let heard_by = |of: u8| {
        let mut peers = Peers::new(5, shipped());
        let cut_off = peers.is_cut_off(5);
        for observer in of + 1..=4 {
            peers.see(observer, 5, Sight::Silent);
        }
        peers.pass((cut_off + SECOND * 40).since(peers.rig.now));
        peers.liveness(5)
    };
    assert_eq!((heard_by(1), heard_by(0)), (Liveness::Unreachable, Liveness::Offline));
}

#[test]
fn an_observer_that_stands_still_again_and_again_may_vouch_but_not_miss() {
    let mut peers = Peers::new(4, shipped());
    peers.is_strained(1, true);
    peers.is_cut_off(4);
    for observer in [2, 3] {
        peers.see(observer, 4, Sight::Silent);
    }
    peers.pass(SECOND * 10);
    assert_eq!(peers.liveness(4), Liveness::Unreachable);
    let index = peers.index(4);
    let tally = peers.guardian(|guardian, ctx| guardian.tally(ctx, index));
    assert_eq!((tally.heard.len(), tally.silent.len()), (1, 2));
    peers.see(1, 4, Sight::Silent);
    let tally = peers.guardian(|guardian, ctx| guardian.tally(ctx, index));
    assert_eq!((tally.heard.len(), tally.silent.len()), (0, 2));
}

#[test]
fn the_word_of_an_observer_stands_for_twelve_seconds() {
    // Messages keep arriving from it, but they were sent before and delayed in transit.
    let vouches_after = |rules, waited| {
        let mut peers = Peers::new(4, rules);
        let (one, said) = (peers.index(1), peers.rig.now);
        peers.pass(waited);
        peers.rig.core.ctx.registry[one].said = said;
        peers.guardian(|guardian, ctx| guardian.vouches(ctx, one))
    };
    assert!(vouches_after(shipped(), ms(11_999)));
    assert!(!vouches_after(shipped(), ms(12_000)));
    assert!(!vouches_after(
        Rules {
            word_margin: SECOND,
            ..shipped()
        },
        ms(9_000)
    ));
}

#[test]
fn what_an_agent_says_of_its_peers_is_a_sign_of_life() {
    let mut peers = Peers::new(3, shipped());
    peers.falls_silent(3);
    for _ in 0..10 {
        peers.pass(SECOND);
        see(&mut peers.rig, 3, 1, Sight::Heard);
    }
    assert_eq!(peers.liveness(3), Liveness::Online);
    let noted = |peers: &Peers| {
        let to_3 = |(to, message): &&(ConnId, Message)| *to == ConnId(3) && *message == Message::Noted;
        peers.rig.sent.iter().filter(to_3).count()
    };
    let before = noted(&peers);
    peers.arrivals(3, vec![(node_id(1), true)]);
    assert_eq!(noted(&peers), before + 1);
    peers.pass(SECOND * 2);
    peers.arrivals(3, vec![(node_id(1), true)]);
    peers.pass(ms(2_999));
    assert_eq!(peers.liveness(3), Liveness::Online);
}

#[test]
fn what_is_said_before_the_welcome_ends_the_session() {
    let mut peers = Peers::new(3, shipped());
    peers.rig.stalled = true;
    peers.rig.hello(50, hello(9, 1, 0));
    see(&mut peers.rig, 50, 1, Sight::Heard);
    assert_eq!(peers.rig.refused(50), Some(RefusalReason::Invalid));
    see(&mut peers.rig, 51, 1, Sight::Heard);
    assert_eq!(peers.rig.refused(51), Some(RefusalReason::Invalid));
}

#[test]
fn an_observer_that_says_too_much_is_not_heard_out() {
    let mut peers = Peers::new(4, shipped());
    let many = |sight| {
        vec![
            (
                node_id(4),
                Observation {
                    sight,
                    last_heard_age_millis: Some(0)
                }
            );
            3_900
        ]
    };
    peers.says_of(1, many(Sight::Silent));
    let (one, four) = (peers.index(1), peers.index(4));
    assert!(
        peers.guardian(|guardian, _| guardian.mesh().hears(one, four))
            && peers.guardian(|guardian, ctx| guardian.is_distrusted(ctx, one))
    );
    assert!(!peers.counts(one) && !peers.guardian(|guardian, ctx| guardian.vouches(ctx, one)));
    peers.pass(SECOND * 70);
    assert!(peers.counts(one));
    // The same holds for beacons.
    peers.arrivals(2, vec![(node_id(4), true); 3_900]);
    let two = peers.index(2);
    assert!(peers.guardian(|guardian, ctx| guardian.is_distrusted(ctx, two)));
}

#[test]
fn an_observer_that_tells_of_strangers_again_and_again_is_not_counted() {
    let told = |number, times| {
        let mut peers = Peers::new(4, shipped());
        peers.rig.hello(90, hello(9, 1, 0));
        peers.pass(SECOND * 35);
        for _ in 0..times {
            let of = |number| {
                (
                    node_id(number),
                    Observation {
                        sight: Sight::Heard,
                        last_heard_age_millis: Some(0),
                    },
                )
            };
            peers.says_of(1, vec![of(2), of(number), of(3)]);
        }
        let one = peers.index(1);
        peers.counts(one)
    };
    assert!(told(77, 64) && !told(77, 65) && told(4, 65));
}

#[test]
fn who_asks_by_way_of_a_peer_is_there_for_as_long_as_a_question_counts() {
    let offline = |rules| {
        let mut peers = Peers::new(4, rules);
        let died = peers.dies(4);
        peers.pass(SECOND);
        peers.asks(4, 1, Vec::new());
        peers.offline_after(4, died, SECOND * 100)
    };
    // The window runs from the question; the node is evaluated once a second.
    assert_eq!(
        offline(Rules {
            asked_for: SECOND,
            ..shipped()
        }),
        Some(1_000 + 1_800)
    );
    let after = offline(shipped()).unwrap();
    assert!((3_500..=4_500).contains(&after), "{after}");
}

#[test]
fn a_verdict_says_who_saw_what() {
    let mut peers = Peers::new(5, shipped());
    peers.is_cut_off(5);
    peers.see(1, 5, Sight::Refused);
    for observer in [2, 3, 4] {
        peers.see(observer, 5, Sight::Silent);
    }
    peers.pass(SECOND * 3);
    let told = peers.decisions("nobody-hears-it");
    let facts = told[0].evidence.iter();
    let facts: Vec<(Source, Fact)> = facts.map(|one| (one.source.clone(), one.fact.clone())).collect();
    let span = ms(1_800);
    assert_eq!(facts[1], (Source::Mesh, Fact::NobodyHeard { span, window: span }));
    let seen = [1, 2, 3, 4].map(|observer| {
        let sight = if observer == 1 { Sight::Refused } else { Sight::Silent };
        let (id, name) = (node_id(observer), format!("node-{observer}").into());
        (Source::Node(Named { id, name }), Fact::Sees(sight))
    });
    assert_eq!(facts[2..], seen);
}

#[test]
fn a_verdict_says_by_whose_way_a_node_asked() {
    let mut peers = Peers::new(4, shipped());
    peers.is_cut_off(4);
    peers.pass(ms(1_500));
    peers.asks(4, 2, Vec::new());
    peers.pass(SECOND);
    let told = peers.decisions("peers-hear-it");
    let by_way = told[0].evidence.last().unwrap();
    assert_eq!(by_way.source.to_string(), "node-2");
    assert_eq!(by_way.fact, Fact::Relayed { ago: ms(300) });
}
