use std::time::Duration;

use wyneos::v1;

use super::{hand_out, line};
use crate::{args::Format, config::Way, context::Context};

fn event(sequence: u64) -> v1::Event {
    v1::Event {
        sequence,
        node_id: "n".to_owned(),
        node_name: "one\u{1b}".to_owned(),
        summary: "up\nand\rdown".to_owned(),
        ..v1::Event::default()
    }
}

#[test]
fn an_event_is_one_line() {
    let line = line(&event(1), None);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(!line.contains('\r'), "{line}");
}

#[test]
fn repeated_events_are_passed_over_and_gaps_are_told() {
    let context = Context::new(Way::nowhere(), Duration::from_secs(1), Format::Json);
    let other = Some("other");
    assert_eq!(hand_out(&context, &event(4), 5, other).unwrap(), 5);
    assert_eq!(hand_out(&context, &event(5), 5, other).unwrap(), 6);
    hand_out(&context, &event(7), 6, other).unwrap_err();
}
