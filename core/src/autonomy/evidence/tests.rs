use super::*;
use crate::id::{DecisionId, Revision, SessionNo};
use crate::{id::Uuid, workload::AssignmentId};

fn on(name: &str) -> Named {
    Named {
        id: Uuid([7; 16]),
        name: name.into(),
    }
}

fn web(slot: u32) -> Instance {
    Instance::new(&"web".into(), slot)
}

fn lost() -> Loss {
    Loss {
        node: Uuid([7; 16]),
        cause: Cause::HostSilent,
        decision: Some(DecisionId(9)),
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Every fact, with the sentence used before facts were data.
fn facts() -> Vec<(Fact, String)> {
    let because = Cause::HostSilent.meaning();
    let told = |fact: Fact, words: &str| (fact, words.to_owned());
    vec![
        told(Fact::NeverHeard, "never heard since the coordinator started"),
        told(Fact::LastHeard { heartbeat: None }, "last heard"),
        told(Fact::LastHeard { heartbeat: Some(7) }, "last heard: heartbeat 7"),
        told(
            Fact::Silent {
                span: millis(1_520),
                limit: millis(1_500),
            },
            "silent for 1.52s; the limit is 1.5s",
        ),
        told(Fact::Unanswered { ago: millis(300) }, "asked 300ms ago, no answer yet"),
        told(Fact::Sees(Sight::Heard), "hears it"),
        told(Fact::Sees(Sight::Silent), "does not hear it"),
        told(
            Fact::Sees(Sight::Refused),
            "gets the answer, from the host of the node it probes, that no agent listens there",
        ),
        told(
            Fact::NobodyHeard {
                span: millis(2_000),
                window: millis(1_800),
            },
            "nobody heard it for 2s; the window is 1.8s",
        ),
        told(
            Fact::NoSign {
                liveness: Liveness::Suspect,
                span: millis(15_000),
            },
            "suspect without a sign of life for 15s",
        ),
        told(Fact::Relayed { ago: millis(300) }, "passed on its question 300ms ago"),
        told(
            Fact::SessionEnded(Ending::ByHost),
            "its host ended the session's transport without a goodbye",
        ),
        told(
            Fact::SessionEnded(Ending::Silent),
            "nothing came through the session's transport any more",
        ),
        told(
            Fact::SessionEnded(Ending::Content("its agent sent something invalid: x".to_owned())),
            "its agent sent something invalid: x",
        ),
        told(
            Fact::EndedBefore(Ending::Content("x".to_owned())),
            "an earlier one ended: x",
        ),
        told(
            Fact::NotBack { grace: millis(15_000) },
            "not back 15s after the coordinator started",
        ),
        told(Fact::Heartbeat { sequence: 4 }, "heartbeat 4 arrived"),
        told(
            Fact::Opened {
                session: SessionNo(0x1_0000_0002),
                incarnation: 3,
            },
            "session 100000002 opened, incarnation 3",
        ),
        told(
            Fact::Returns {
                within: millis(300_000),
                times: 2,
                steady: millis(64_000),
            },
            "returns within 5m: 2; it is online again once it is heard for 64s without a break",
        ),
        told(Fact::Goodbye("SIGTERM".to_owned()), "the agent said goodbye: SIGTERM"),
        told(
            Fact::Revoked {
                by: "eva".to_owned(),
                reason: "stolen".to_owned(),
            },
            "revoked by eva: stolen",
        ),
        told(
            Fact::Reading {
                channel: "memory.used".to_owned(),
                value: 0.9,
                threshold: 0.95,
            },
            "memory.used is 0.9000; its threshold is 0.95",
        ),
        told(
            Fact::Expected {
                within: millis(10_000),
                value: 0.96,
                low: 0.9,
                high: 1.0,
            },
            "expected in 10s: 0.9600 (80%: 0.9000 to 1.0000)",
        ),
        told(
            Fact::Skill {
                skill: 0.5,
                coverage: 0.81,
                forecasts: 20,
            },
            "skill 0.50 against persistence, interval coverage 0.81, over 20 forecasts",
        ),
        told(
            Fact::Load {
                here: on("node-1"),
                load: 90,
                there: on("node-2"),
                after: 40,
            },
            "node-1 has a load of 90%, node-2 would have 40%",
        ),
        told(
            Fact::Hot {
                node: on("node-1"),
                cycles: 3,
            },
            "node-1 was hot for 3 cycles",
        ),
        told(
            Fact::Uneven {
                label: "zone".to_owned(),
                fullest: Some("a".into()),
                many: 3,
                emptiest: None,
                few: 1,
            },
            "zone a has 3 instances, no value has 1 and room for more",
        ),
        told(
            Fact::Start {
                of: web(3),
                on: on("node-1"),
                score: 4_210,
                why: Why::Declared,
            },
            "start web.3 on node-1 (score 4210): declared",
        ),
        (
            Fact::Stop {
                of: Instance {
                    id: Some(AssignmentId(5)),
                    ..web(3)
                },
                on: on("node-1"),
                why: Why::Lost(lost()),
            },
            format!("stop web.3 on node-1: its node is gone: {because}"),
        ),
        told(
            Fact::Keep {
                of: web(3),
                on: on("node-1"),
                revision: Revision(2),
            },
            "keep web.3 on node-1: it runs by revision 2, which differs in nothing that it would have to start anew for",
        ),
        (
            Fact::HeldBack {
                of: web(3),
                on: on("node-1"),
                why: Why::Lost(lost()),
            },
            format!("web.3 on node-1 was lost: its node is gone: {because}"),
        ),
        told(
            Fact::WouldStop {
                of: web(3),
                on: on("node-1"),
                why: Why::GivesWay {
                    to: "db".into(),
                    priority: 80,
                    own: 50,
                },
            },
            "web.3 on node-1: gives way to db: priority 80 above 50",
        ),
        told(
            Fact::Waits {
                slots: 1,
                reason: "there are no nodes".to_owned(),
            },
            "1 waits: there are no nodes",
        ),
        told(
            Fact::Waits {
                slots: 2,
                reason: "there are no nodes".to_owned(),
            },
            "2 wait: there are no nodes",
        ),
        told(
            Fact::UpdateFailed("web.3 failed: exit status 1".to_owned()),
            "web.3 failed: exit status 1",
        ),
        told(
            Fact::LeftOut { facts: 4, room: 16_384 },
            "4 more facts are left out, as an event has room for 16384 bytes of them",
        ),
        told(Fact::Told("whatever".to_owned()), "whatever"),
    ]
}

#[test]
fn a_fact_has_the_words_that_it_had_as_a_sentence() {
    for (fact, words) in facts() {
        assert_eq!(fact.to_string(), words);
    }
}

#[test]
fn a_cause_has_the_words_that_it_had_as_a_sentence() {
    let lost = lost();
    let because = lost.cause.meaning();
    let text = |text: &str| text.to_owned();
    let causes = [
        (Why::DeclaredForNode, text("declared for every node that fits")),
        (Why::Deleted, text("the workload was deleted")),
        (Why::ScaledDown, text("scaled down")),
        (Why::LostBefore(lost), format!("the one before was lost: {because}")),
        (
            Why::Failed(text("exit status 1")),
            text("the one before failed: exit status 1"),
        ),
        (
            Why::Interrupted(text("reboot")),
            text("its host ended the one before: reboot"),
        ),
        (
            Why::StoppedBefore(text("scaled down")),
            text("the one before scaled down"),
        ),
        (Why::Restarted, text("a restart was asked for")),
        (Why::NodeEmptied, text("its node is to be emptied")),
        (
            Why::Revised {
                to: Revision(3),
                from: Revision(2),
            },
            text("revision 3 takes the place of 2"),
        ),
        (Why::Unfit, text("its node no longer meets the constraints")),
        (
            Why::NotMeant,
            text("its node no longer meets the constraints, or takes no work"),
        ),
        (Why::SlotTaken, text("another instance has its slot")),
        (
            Why::Leaves {
                reason: text("its node is hot"),
                because: None,
            },
            text("its node is hot"),
        ),
        (
            Why::Succeeds {
                of: web(1),
                why: Box::new(Why::NodeEmptied),
            },
            text("web.1 is to leave: its node is to be emptied"),
        ),
        (
            Why::Overdue(Box::new(Why::NodeEmptied)),
            text("its node is to be emptied, and the time for that is over"),
        ),
    ];
    for (why, words) in causes {
        assert_eq!(why.to_string(), words);
    }
}

#[test]
fn a_long_fact_stays_data_and_its_sentence_is_cut_as_before() {
    for detail in ["x".repeat(2_000), "a\u{1b}b".to_owned(), "é".repeat(600)] {
        let mut fact = Fact::Start {
            of: web(3),
            on: on("node-1"),
            score: 1,
            why: Why::Failed(detail),
        };
        let before = shortened(&fact.to_string(), SENTENCE);
        fact.shorten();
        assert_eq!(fact.to_string(), before);
        assert_eq!(fact.instance(), Some(&web(3)));
    }
    let mut fact = Fact::Told("x".repeat(2_000));
    fact.shorten();
    assert_eq!(fact.to_string(), shortened(&"x".repeat(2_000), SENTENCE));
}
