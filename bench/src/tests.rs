use clap::CommandFactory as _;

use crate::{Cli, histogram::Buckets, ingest::Rate, output::Row, process, stats};

const METRICS: &str = "\
# TYPE apply histogram
apply_sum 1.0
apply_bucket{le=\"0.001\"} 50
apply_bucket{le=\"0.002\"} 99
apply_bucket{le=\"0.004\"} 100
apply_bucket{le=\"+Inf\"} 100
apply_count 100
heartbeats_total 7
";

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn quantiles_are_nearest_ranks() {
    let values = [4.0, 1.0, 3.0, 2.0];
    assert_eq!(stats::quantile(&values, 0.5), 2.0);
    assert_eq!(stats::quantile(&values, 0.99), 4.0);
    assert_eq!(stats::quantile(&values, 0.0), 1.0);
    assert_eq!(stats::median(&values), 2.5);
    assert!(stats::median(&[]).is_nan());
}

#[test]
fn histograms_are_interpolated_within_their_bucket() {
    let buckets = Buckets::read(METRICS, "apply");
    assert_eq!(buckets.count(), 100.0);
    assert_eq!(buckets.quantile(0.25), 0.000_5);
    assert_eq!(buckets.quantile(0.99), 0.002);
    let twice = buckets.with(&buckets);
    assert_eq!((twice.count(), twice.since(&buckets).count()), (200.0, 100.0));
    assert!(buckets.since(&buckets).quantile(0.99).is_nan());
}

#[test]
fn metrics_are_found_by_their_whole_name() {
    assert_eq!(process::value(METRICS, "heartbeats_total"), Some(7.0));
    assert_eq!(process::value(METRICS, "heartbeats"), None);
}

#[test]
fn rates_are_checked() {
    let rate: Rate = "2000x0.5".parse().expect("a rate");
    assert_eq!((rate.agents, rate.hz), (2000, 0.5));
    for wrong in ["2000", "0x1", "2000x0", "2000xNaN", "x", "20000x1"] {
        wrong.parse::<Rate>().expect_err(wrong);
    }
}

#[test]
fn rows_keep_their_order_and_four_digits() {
    let row = Row::new("test")
        .number("z", 1.234_56)
        .number("a", 123_456.7)
        .with("n", 1);
    let json = serde_json::to_string(&row).expect("JSON");
    assert_eq!(json, r#"{"bench":"test","z":1.235,"a":123457.0,"n":1}"#);
}

#[test]
fn what_is_not_a_number_is_null() {
    let json = serde_json::to_string(&Row::new("test").number("x", f64::NAN)).expect("JSON");
    assert_eq!(json, r#"{"bench":"test","x":null}"#);
}
