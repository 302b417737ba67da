//! Counters that increase, decrease, appear and disappear.

use super::*;

fn counters(of: &[(&str, [u64; 2])]) -> Counters {
    of.iter().map(|(name, values)| ((*name).to_owned(), *values)).collect()
}

#[test]
fn rates_are_over_the_time_since_the_last_reading() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut rates = Rates::default();
    let mut update = |seconds, of: &[(&str, [u64; 2])]| rates.update(at(seconds), Some(counters(of)));
    assert_eq!(update(0, &[("a", [100, 0])]), [None, None], "the first");
    assert_eq!(update(2, &[("a", [300, 0])]), [Some(100.0), Some(0.0)]);
    assert_eq!(update(2, &[("a", [400, 0])]), [None, None], "no time passed");
    assert_eq!(
        update(4, &[("a", [500, 8]), ("b", [1 << 60, 1 << 60])]),
        [Some(50.0), Some(4.0)],
        "b is new"
    );
    assert_eq!(
        update(6, &[("b", [1 << 60, (1 << 60) + 2])]),
        [Some(0.0), Some(1.0)],
        "a is gone"
    );
    assert_eq!(
        update(8, &[("b", [5, (1 << 60) + 4])]),
        [None, Some(1.0)],
        "one direction went back"
    );
    assert_eq!(update(10, &[("b", [7, (1 << 60) + 4])]), [Some(1.0), Some(0.0)]);
    assert_eq!(update(12, &[]), [Some(0.0), Some(0.0)], "no device");
    assert_eq!(rates.update(at(14), None), [None, None], "unreadable");
    assert_eq!(
        rates.update(at(16), Some(counters(&[("b", [9, 9])]))),
        [None, None],
        "the first after a gap"
    );
}

#[test]
fn rates_stay_finite_at_the_extremes() {
    let start = Instant::now();
    let mut rates = Rates::default();
    rates.update(start, Some(counters(&[("a", [0, 0]), ("b", [0, 0])])));
    let most = counters(&[("a", [u64::MAX, 0]), ("b", [u64::MAX, 0])]);
    let [rate, _] = rates.update(start + Duration::from_nanos(1), Some(most));
    assert!((rate.unwrap() as f32).is_finite());
    assert_eq!(
        rates.update(start, Some(counters(&[("c", [0, 0])]))),
        [None, None],
        "a clock that went back"
    );
}
