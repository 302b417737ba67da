//! Evidence from one version of the store to another and back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wyneos_core::{
    autonomy::{Decision, Evidence, Fact, Kind, Loss, Mode, Outcome, Source, Why},
    event::{Event, EventBody},
    id::{Because, Cycle, DecisionId, Epoch, EventNo, Uuid},
    node::{Cause, Named},
    time::WallTime,
    workload::Instance,
};

use super::event;

/// A row as read and written by versions without data beside sentences.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Before {
    time: WallTime,
    source: String,
    fact: String,
}

fn lost() -> Evidence {
    let node = Named {
        id: Uuid([7; 16]),
        name: "node-7".into(),
    };
    let loss = Loss {
        node: node.id,
        cause: Cause::HostSilent,
        decision: Some(DecisionId(9)),
    };
    let (of, why) = (Instance::new(&"web".into(), 3), Why::Lost(loss));
    let fact = Fact::Stop {
        of,
        on: node.clone(),
        why,
    };
    Evidence::new(WallTime(1), Source::Node(node), fact)
}

/// An event about a decision with data as its evidence, and with causes.
pub(super) fn decided(sequence: u64) -> Arc<Event> {
    let reading = Fact::Reading {
        channel: "memory.used".to_owned(),
        value: 0.123_456_79,
        threshold: 0.95,
    };
    let decision = Decision {
        id: DecisionId(10),
        time: WallTime(2),
        epoch: Epoch(1),
        cycle: Cycle(3),
        node: Some(Uuid([7; 16])),
        kind: Kind::Placement,
        rule: "placement".to_owned(),
        action: "web.3 is started elsewhere".to_owned(),
        evidence: vec![lost(), Evidence::new(WallTime(1), Source::Telemetry, reading)],
        alternatives: Vec::new(),
        mode: Mode::Act,
        outcome: Outcome::Helped,
        channel: String::new(),
        workload: "web".to_owned(),
        lost: Vec::new(),
        displaced: Vec::new(),
        caused_by: vec![Because::Decision(DecisionId(9)), Because::Event(EventNo(6))],
    };
    let mut about = Event::clone(&event(sequence, None));
    about.body = EventBody::Decision(Arc::new(decision));
    Arc::new(about)
}

#[test]
fn a_row_keeps_its_data() {
    let written = serde_json::to_string(&lost()).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&written).unwrap(), lost());
    let value = Fact::Reading {
        channel: "memory.used".to_owned(),
        value: 0.123_456_79,
        threshold: 0.95,
    };
    let reading = Evidence::new(WallTime(1), Source::Telemetry, value);
    let written = serde_json::to_string(&reading).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&written).unwrap(), reading);
}

#[test]
fn an_earlier_version_reads_a_rows_sentence_and_its_rows_are_read_as_sentences() {
    let written = serde_json::to_string(&lost()).unwrap();
    let before: Before = serde_json::from_str(&written).unwrap();
    assert_eq!(before.source, "node-7");
    assert_eq!(before.fact, lost().fact.to_string());
    let written = serde_json::to_string(&before).unwrap();
    let read: Evidence = serde_json::from_str(&written).unwrap();
    let told = |text: &str| text.to_owned();
    assert_eq!(read.source, Source::Told(told(&before.source)));
    assert_eq!(read.fact, Fact::Told(told(&before.fact)));
    // A sentence remains unchanged, byte for byte.
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
}

#[test]
fn data_of_a_later_version_is_read_as_its_sentence() {
    let written =
        r#"{"time":1,"source":"oracle","fact":"it was so","by":{"oracle":{"x":1}},"data":{"dreamt":[1,{"of":"it"}]}}"#;
    let read: Evidence = serde_json::from_str(written).unwrap();
    assert_eq!(read.source, Source::Told("oracle".to_owned()));
    assert_eq!(read.fact, Fact::Told("it was so".to_owned()));
}
