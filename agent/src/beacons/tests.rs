use wyneos_core::id::Uuid;

use super::*;

const A: NodeId = Uuid([1; 16]);
const B: NodeId = Uuid([2; 16]);

fn beacon(sender: NodeId, receiver: NodeId, sequence: u64) -> Beacon {
    Beacon {
        cluster: Uuid([9; 16]),
        sender,
        receiver,
        observes: true,
        sequence,
    }
}

fn sent(from: &Links, beacon: Beacon) -> Vec<u8> {
    beacon_out(beacon, Some(&from.outgoing(beacon.receiver)))
}

#[test]
fn beacons_pass_both_ways_once_a_key_was_handed_over_and_others_do_not() {
    let (a, b, stranger) = (Links::new([1; 32], 1), Links::new([2; 32], 1), Links::new([3; 32], 1));
    let first = beacon(A, B, 1);
    let bytes = sent(&a, first);
    assert!(!b.proves(&first, &bytes), "nothing was handed over yet");
    b.learn(A, a.own(B));
    assert!(b.proves(&first, &bytes));
    let back = beacon(B, A, 1);
    assert!(a.proves(&back, &sent(&b, back)));
    let forged = beacon(A, B, 2);
    assert!(!b.proves(&forged, &sent(&stranger, forged)));
    assert!(!b.proves(&forged, &beacon_out(forged, None)));
    // A key from one peer proves nothing of another.
    let other = beacon(Uuid([4; 16]), B, 2);
    assert!(!b.proves(&other, &sent(&a, other)));
}

#[test]
fn a_copy_of_an_older_beacon_is_passed_over_across_restarts() {
    let (a, b) = (Links::new([1; 32], 1), Links::new([2; 32], 1));
    b.learn(A, a.own(B));
    let numbered = |links: &Links| beacon(A, B, links.sequence.fetch_add(1, Ordering::Relaxed));
    let old = numbered(&a);
    let copy = sent(&a, old);
    assert!(b.proves(&old, &copy));
    assert!(!b.proves(&old, &copy));
    let restarted = Links::new([7; 32], 2);
    b.learn(A, restarted.own(B));
    let newer = numbered(&restarted);
    assert!(b.proves(&newer, &sent(&restarted, newer)));
    assert!(!b.proves(&old, &copy));
}

#[test]
fn keys_are_kept_of_members_alone_and_of_so_many_at_most() {
    let links = Links::new([1; 32], 1);
    for number in 0..=LINKS as u128 {
        links.learn(Uuid(number.to_be_bytes()), [0; 32]);
    }
    assert_eq!(links.peers().len(), LINKS);
    links.keep(&BTreeSet::from([Uuid(5u128.to_be_bytes())]));
    assert_eq!(links.peers().len(), 1);
}
