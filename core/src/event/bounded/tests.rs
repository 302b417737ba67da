use proptest::prelude::*;

use super::*;
use crate::{
    autonomy::{Kind, Mode, Outcome},
    behaviour::{DirectiveRecord, State},
    id::{Cycle, DecisionId, DirectiveId, Epoch, EventNo, Uuid},
    mesh::{Finding, FindingKind},
    time::WallTime,
};

fn decision(action: &str, evidence: usize, alternatives: usize) -> Decision {
    Decision {
        id: DecisionId(1),
        time: WallTime(1),
        epoch: Epoch(1),
        cycle: Cycle(1),
        node: None,
        kind: Kind::Placement,
        rule: "declared-runs".to_owned(),
        action: action.to_owned(),
        evidence: (0..evidence)
            .map(|at| Evidence::new(WallTime(1), Source::Placement, Fact::Told(format!("{at} {action}"))))
            .collect(),
        alternatives: (0..alternatives).map(|_| Alternative::new(action, action)).collect(),
        mode: Mode::Act,
        outcome: Outcome::Done,
        channel: String::new(),
        workload: "web".to_owned(),
        lost: Vec::new(),
        displaced: Vec::new(),
        caused_by: Vec::new(),
    }
}

fn bodies(text: &str, many: usize) -> Vec<EventBody> {
    let text = text.to_owned();
    let nodes = |side: u8| (0..64).map(|at| Uuid([side + at; 16])).collect();
    let finding = Finding {
        id: 1,
        kind: FindingKind::NodesDown,
        since: WallTime(1),
        near: nodes(1),
        far: nodes(2),
        detail: text.clone(),
    };
    vec![
        EventBody::Command {
            verb: "label".to_owned(),
            detail: text.clone(),
            by: text.clone(),
        },
        EventBody::Impostor { detail: text.clone() },
        EventBody::Session { detail: text.clone() },
        EventBody::Directive(DirectiveRecord {
            id: DirectiveId(1),
            order: "refresh".to_owned(),
            state: State::Failed,
            detail: text.clone(),
            attempts: 1,
        }),
        EventBody::Finding { finding, open: true },
        EventBody::Decision(Arc::new(decision(&text, many, many))),
    ]
}

fn event(summary: &str, body: EventBody) -> Event {
    Event {
        sequence: EventNo(1),
        time: WallTime(1),
        epoch: Epoch(1),
        cycle: Cycle(1),
        node: None,
        node_name: String::new(),
        summary: summary.to_owned(),
        body,
        times: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_event_is_bounded_in_bytes(
        (one, times) in ("[a-z=\u{e9}\\x00-\\x1f\"]{1,12}|[a-z ]{1,12}", prop_oneof![0usize..3, 30usize..60, 400usize..800]),
        many in prop_oneof![0usize..4, 200usize..300],
    ) {
        let text = one.repeat(times);
        for body in bodies(&text, many) {
            let whole = event(&text, body);
            let bounded = whole.clone().bounded();
            // Debug output escapes like JSON.
            let bytes = format!("{bounded:?}").len();
            prop_assert!(bytes < 100 * 1024, "{bytes}: {:?}", &bounded.summary);
            prop_assert!(bounded.summary.len() <= SENTENCE);
            if text.len() < 40 && many < 4 && !text.contains(char::is_control) {
                prop_assert_eq!(bounded, whole, "what is short stays as it is");
            }
        }
    }
}
