mod lease;
mod membership;
mod work;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    session::{BACKOFF_MAX, BACKOFF_MIN},
    *,
};
use crate::{
    behaviour::{Directive, Order, State},
    id::{Cycle, DirectiveId, Epoch, ProcessId, Revision, SessionNo, Uuid},
    integrity::Sealer,
    mesh::{LinkFailure, LinkState, Sight},
    node::{Admission, Attributes, Capacity, ConnId, Facts},
    protocol::{Heartbeat, Message, ProbePlan, RefusalReason, Refused, Welcome, Work},
    telemetry::{Channel, Reading},
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, Spec},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const CLUSTER: Uuid = Uuid([9; 16]);

pub(super) struct Rig {
    pub(super) core: Agent,
    pub(super) now: Time,
    pub(super) effects: Vec<Effect>,
    /// Measurement returned immediately.
    reading: Reading,
    /// Whether peers answer probes immediately.
    pub(super) answering: bool,
    /// Whether the coordinator acknowledges evidence immediately.
    pub(super) noting: bool,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(Vec::new(), Begun::None)
    }

    /// Creates an agent that found these instances, on a node where others may have been started.
    pub(super) fn with(instances: Vec<Found>, begun: Begun) -> Rig {
        let facts = Facts {
            id: Uuid([1; 16]),
            name: "one".to_owned(),
            agent_version: "1".to_owned(),
            boot_time: WallTime(0),
            capacity: Capacity::default(),
            attributes: Attributes::default(),
            labels: Default::default(),
            binary_digest: [0; 32],
            config_digest: [0; 32],
            probe_address: String::new(),
        };
        let coordinators = vec!["a:1".to_owned(), "b:2".to_owned()];
        let config = Config {
            facts,
            incarnation: 4,
            coordinators,
            seed: 1,
            process_id: ProcessId([7; 16]),
            machine: [8; 32],
            instances,
            begun,
        };
        let now = Time(1);
        let core = Agent::new(now, WallTime(5), config);
        let mut rig = Rig {
            core,
            now,
            effects: Vec::new(),
            reading: [Some(0.5); Channel::COUNT],
            answering: false,
            noting: true,
        };
        rig.pass(Duration::ZERO);
        rig
    }

    pub(super) fn live() -> Rig {
        let mut rig = Rig::new();
        rig.input(Input::Connected { conn: ConnId(1) });
        rig.welcome(1);
        rig
    }

    pub(super) fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    pub(super) fn message(&mut self, conn: u64, message: Message) {
        self.input(Input::Message {
            conn: ConnId(conn),
            message,
        });
    }

    pub(super) fn welcome(&mut self, conn: u64) {
        self.welcome_with(conn, ProbePlan::default());
    }

    fn welcome_with(&mut self, conn: u64, probe_plan: ProbePlan) {
        self.welcome_from(conn, CLUSTER, AssignmentId::default(), probe_plan);
    }

    pub(super) fn welcome_from(
        &mut self,
        conn: u64,
        cluster: Uuid,
        next_assignment: AssignmentId,
        probe_plan: ProbePlan,
    ) {
        let welcome = Welcome {
            cluster,
            epoch: Epoch(3),
            session: SessionNo(77),
            cycle_interval: SECOND * 6,
            heartbeat_interval: SECOND * 2,
            probe_plan,
            admission: Admission::Admitted,
            lease: SECOND * 30,
            notes_sightings: true,
            next_assignment,
        };
        self.message(conn, Message::Welcome(Box::new(welcome)));
    }

    pub(super) fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            let measure = effect == Effect::Measure;
            if let (true, Effect::Send { conn, report }) = (self.noting, &effect)
                && matches!(report, FromAgent::Evidence { .. } | FromAgent::Arrivals(_))
            {
                let (conn, message) = (*conn, Message::Noted);
                self.core.handle(self.now, Input::Message { conn, message });
            }
            if let (true, Effect::Probe { target, sequence, .. }) = (self.answering, &effect) {
                let probed = Input::Probed {
                    target: *target,
                    sequence: *sequence,
                    outcome: ProbeOutcome::Answered(Duration::from_millis(1), None),
                };
                self.core.handle(self.now, probed);
            }
            self.effects.push(effect);
            if measure {
                self.core.handle(self.now, Input::Measured(self.reading));
            }
        }
    }

    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.core.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(super) fn connects(&self) -> Vec<String> {
        let address = |effect: &Effect| match effect {
            Effect::Connect { address, .. } => Some(address.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(address).collect()
    }

    pub(super) fn heartbeats(&self) -> Vec<Heartbeat> {
        let heartbeat = |effect: &Effect| match effect {
            Effect::Send {
                report: FromAgent::Heartbeat(heartbeat),
                ..
            } => Some(heartbeat.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(heartbeat).collect()
    }

    fn updates(&self) -> Vec<(DirectiveId, State)> {
        let update = |effect: &Effect| match effect {
            Effect::Send {
                report: FromAgent::Directive { id, state, .. },
                ..
            } => Some((*id, *state)),
            _ => None,
        };
        self.effects.iter().filter_map(update).collect()
    }

    fn directive(&mut self, id: u64, epoch: u64, session: u64, order: Order) {
        let directive = Directive {
            id: DirectiveId(id),
            epoch: Epoch(epoch),
            session: SessionNo(session),
            expires_in: SECOND,
            order,
        };
        self.message(1, Message::Directive(directive));
    }

    pub(super) fn plan(&mut self, version: u64, targets: &[u8]) {
        self.message(1, Message::ProbePlan(plan(version, targets)));
    }
}

fn plan(version: u64, targets: &[u8]) -> ProbePlan {
    let targets = targets.iter().map(|at| (Uuid([*at; 16]), format!("h{at}:1"))).collect();
    ProbePlan {
        version,
        interval: SECOND,
        targets,
        observers: Vec::new(),
    }
}

#[test]
fn what_was_found_is_its_own_from_the_first_welcome_on() {
    let taken_over = |rig: &Rig| {
        let all = rig.effects.iter();
        all.filter(|effect| **effect == Effect::TakeOver).count()
    };
    let mut rig = Rig::new();
    rig.input(Input::Connected { conn: ConnId(1) });
    rig.pass(SECOND);
    let refused = Refused {
        reason: RefusalReason::Disputed,
        detail: "another process".to_owned(),
        retry_after: None,
    };
    rig.message(1, Message::Refused(refused));
    assert_eq!(taken_over(&rig), 0);
    rig.pass(SECOND * 2);
    rig.input(Input::Connected { conn: ConnId(2) });
    assert_eq!(taken_over(&rig), 0);
    rig.welcome(2);
    assert_eq!(taken_over(&rig), 1);
    // The agent takes over before it starts anything.
    let position = |wanted: fn(&Effect) -> bool| rig.effects.iter().position(wanted);
    assert!(position(|effect| *effect == Effect::TakeOver) < position(|effect| *effect == Effect::Measure));
    let reason = "gone".to_owned();
    rig.input(Input::Closed {
        conn: ConnId(2),
        reason,
    });
    rig.pass(SECOND * 2);
    rig.input(Input::Connected { conn: ConnId(3) });
    rig.welcome(3);
    assert_eq!(taken_over(&rig), 1);
}

#[test]
fn a_session_opens_with_hello_and_goes_on_with_heartbeats() {
    let mut rig = Rig::live();
    let hello = rig.effects.iter().find_map(|effect| match effect {
        Effect::Send {
            report: FromAgent::Hello(hello),
            ..
        } => Some(hello),
        _ => None,
    });
    let hello = hello.unwrap();
    assert_eq!(
        (hello.incarnation, hello.attempt, hello.channels.len()),
        (4, 0, Channel::COUNT)
    );
    rig.pass(SECOND * 10);
    let heartbeats = rig.heartbeats();
    assert_eq!(
        heartbeats.iter().map(|one| one.sequence).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(heartbeats[0].values, vec![0.5; Channel::COUNT]);
    assert!(heartbeats[0].absent.is_empty());
}

#[test]
fn readings_that_are_missing_or_not_finite_are_absent() {
    let mut rig = Rig::new();
    rig.reading[2] = None;
    rig.reading[5] = Some(f32::NAN);
    rig.input(Input::Connected { conn: ConnId(1) });
    rig.welcome(1);
    let heartbeat = &rig.heartbeats()[0];
    assert_eq!(heartbeat.absent, [2, 5]);
    assert_eq!((heartbeat.values[2], heartbeat.values[5]), (0.0, 0.0));
}

#[test]
fn it_tries_the_coordinators_in_turn_for_ever_with_bounded_waits() {
    let mut rig = Rig::new();
    let mut waits = Vec::new();
    for attempt in 1..=40 {
        let before = rig.now;
        rig.input(Input::Closed {
            conn: ConnId(attempt),
            reason: "refused".to_owned(),
        });
        while rig.connects().len() as u64 == attempt {
            rig.pass(Duration::from_millis(10));
        }
        waits.push(rig.now.since(before));
    }
    let connects = rig.connects();
    assert_eq!(&connects[..4], ["a:1", "b:2", "a:1", "b:2"]);
    assert!(
        waits
            .iter()
            .all(|wait| *wait <= BACKOFF_MAX + Duration::from_millis(10))
    );
    assert!(waits[20..].iter().any(|wait| *wait > BACKOFF_MAX / 2), "{waits:?}");
    assert!(
        waits[..3]
            .iter()
            .all(|wait| *wait <= BACKOFF_MIN * 4 + Duration::from_millis(10))
    );
}

#[test]
fn a_refusal_can_say_when_to_come_back() {
    let mut rig = Rig::new();
    rig.input(Input::Connected { conn: ConnId(1) });
    let refused = Refused {
        reason: RefusalReason::Shutdown,
        detail: "later".to_owned(),
        retry_after: Some(SECOND * 60),
    };
    rig.message(1, Message::Refused(refused));
    rig.pass(SECOND * 60 - Duration::from_millis(1));
    assert_eq!(rig.connects().len(), 1);
    rig.pass(SECOND);
    assert_eq!(rig.connects().len(), 2);
}

#[test]
fn a_coordinator_that_does_not_answer_or_falls_quiet_is_left() {
    let mut rig = Rig::new();
    rig.input(Input::Connected { conn: ConnId(1) });
    rig.pass(SECOND * 11);
    assert!(rig.effects.contains(&Effect::Close { conn: ConnId(1) }));
    let mut rig = Rig::live();
    let mut sealer = Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    for cycle in 1..=10 {
        rig.pass(SECOND * 6);
        rig.message(
            1,
            Message::Seal {
                seal: Arc::new(sealer.seal(Epoch(3), Cycle(cycle), b"")),
                heard: 0,
            },
        );
    }
    assert!(rig.core.is_live());
    assert_eq!(rig.heartbeats().last().unwrap().acknowledged, (Epoch(3), Cycle(9)));
    rig.pass(SECOND * 31);
    assert!(
        !rig.effects
            .iter()
            .any(|effect| matches!(effect, Effect::Connect { conn, .. } if conn.0 == 1) && rig.core.is_live())
    );
    assert!(rig.effects.contains(&Effect::Close { conn: ConnId(1) }));
}

#[test]
fn what_an_older_transport_says_does_not_count() {
    let mut rig = Rig::live();
    rig.input(Input::Closed {
        conn: ConnId(1),
        reason: String::new(),
    });
    rig.pass(SECOND);
    rig.input(Input::Connected { conn: ConnId(2) });
    rig.welcome(1);
    assert!(!rig.core.is_live());
    rig.input(Input::Closed {
        conn: ConnId(1),
        reason: String::new(),
    });
    rig.welcome(2);
    assert!(rig.core.is_live());
}

#[test]
fn directives_are_fenced_and_each_is_done_once() {
    let mut rig = Rig::live();
    let before = rig.heartbeats().len();
    rig.directive(1, 3, 77, Order::Refresh);
    assert_eq!(rig.heartbeats().len(), before + 1);
    rig.directive(1, 3, 77, Order::Refresh);
    assert_eq!(rig.heartbeats().len(), before + 1);
    rig.directive(2, 2, 77, Order::Refresh);
    rig.directive(3, 3, 76, Order::Refresh);
    rig.directive(4, 3, 77, Order::SetHeartbeat(Duration::ZERO));
    let expected = [
        (1, State::Acknowledged),
        (1, State::Done),
        (1, State::Done),
        (2, State::Refused),
        (3, State::Refused),
        (4, State::Acknowledged),
        (4, State::Failed),
    ];
    assert_eq!(rig.updates(), expected.map(|(id, state)| (DirectiveId(id), state)));
    rig.directive(5, 3, 77, Order::SetHeartbeat(Duration::from_millis(500)));
    let before = rig.heartbeats().len();
    rig.pass(SECOND * 2);
    assert_eq!(rig.heartbeats().len(), before + 4);
}

/// Probes sent: target and number.
fn probes(rig: &Rig) -> Vec<(Uuid, u64)> {
    let sent = rig.effects.iter().filter_map(|effect| match effect {
        Effect::Probe { target, sequence, .. } => Some((*target, *sequence)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn each_target_is_probed_once_an_interval() {
    let mut rig = Rig::live();
    rig.plan(1, &[2, 3]);
    for _ in 0..10 {
        let before = probes(&rig).len();
        rig.pass(SECOND);
        let now = probes(&rig)[before..].to_vec();
        assert_eq!(now.len(), 2, "{now:?}");
        for (target, sequence) in now {
            let outcome = match target.0[0] {
                2 => ProbeOutcome::Answered(Duration::from_micros(150), None),
                _ => ProbeOutcome::Failed(LinkFailure::Late),
            };
            rig.input(Input::Probed {
                target,
                sequence,
                outcome,
            });
        }
    }
    rig.pass(SECOND * 2);
    let links: Vec<_> = rig
        .heartbeats()
        .into_iter()
        .flat_map(|heartbeat| heartbeat.links)
        .collect();
    let last = |number: u8| {
        links
            .iter()
            .rev()
            .find(|(id, _)| id.0[0] == number)
            .map(|(_, link)| link.state)
    };
    assert_eq!((last(2), last(3)), (Some(LinkState::Up), Some(LinkState::Down)));
    // A dropped target is not probed again, and an outdated plan is ignored.
    rig.plan(3, &[2]);
    rig.plan(2, &[3]);
    let before = probes(&rig).len();
    rig.pass(SECOND * 3);
    assert!(probes(&rig)[before..].iter().all(|(target, _)| target.0[0] == 2));
}

#[test]
fn what_was_missed_is_asked_again_and_the_newest_answer_counts() {
    let mut rig = Rig::live();
    rig.plan(1, &[2]);
    rig.pass(SECOND);
    let end = |rig: &mut Rig, sequence, outcome| {
        let target = Uuid([2; 16]);
        rig.message(1, Message::Noted);
        rig.input(Input::Probed {
            target,
            sequence,
            outcome,
        });
    };
    let sights = |rig: &Rig| -> Vec<Sight> {
        let told = rig.effects.iter().filter_map(|effect| match effect {
            Effect::Send {
                report: FromAgent::Evidence { observations, .. },
                ..
            } => Some(observations.iter().map(|(_, seen)| seen.sight).collect::<Vec<_>>()),
            _ => None,
        });
        told.flatten().collect()
    };
    // Unanswered probes: at most four are in flight.
    rig.pass(SECOND * 10);
    let sent: Vec<u64> = probes(&rig).into_iter().map(|(_, sequence)| sequence).collect();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(sights(&rig), [Sight::Silent]);
    end(&mut rig, sent[2], ProbeOutcome::Answered(SECOND, None));
    // The failure of an older probe and the refusal of a newer one are distinguished.
    end(&mut rig, sent[0], ProbeOutcome::Failed(LinkFailure::Late));
    assert_eq!(sights(&rig), [Sight::Silent, Sight::Heard]);
    end(&mut rig, sent[3], ProbeOutcome::Refused);
    end(&mut rig, sent[1], ProbeOutcome::Answered(SECOND, None));
    assert_eq!(sights(&rig), [Sight::Silent, Sight::Heard, Sight::Refused]);
    // A probe that is not in flight has no effect.
    end(&mut rig, sent[3], ProbeOutcome::Answered(SECOND, None));
    rig.pass(SECOND);
    let next = probes(&rig).last().copied().unwrap().1;
    end(&mut rig, next, ProbeOutcome::Answered(SECOND, None));
    assert_eq!(
        sights(&rig),
        [Sight::Silent, Sight::Heard, Sight::Refused, Sight::Heard]
    );
}

#[test]
fn what_left_before_the_last_answer_is_no_silence() {
    let mut rig = Rig::live();
    rig.plan(1, &[2]);
    rig.pass(SECOND * 10);
    let target = Uuid([2; 16]);
    let end = |rig: &mut Rig, sequence, outcome| {
        rig.message(1, Message::Noted);
        rig.input(Input::Probed {
            target,
            sequence,
            outcome,
        });
    };
    let sent: Vec<u64> = probes(&rig).into_iter().map(|(_, sequence)| sequence).collect();
    assert_eq!(sent.len(), 4, "{sent:?}");
    // A link recovers: the oldest probe is answered, the others remain lost.
    end(&mut rig, sent[0], ProbeOutcome::Answered(SECOND * 2, None));
    for sequence in &sent[1..] {
        end(&mut rig, *sequence, ProbeOutcome::Failed(LinkFailure::Late));
    }
    let seen = |rig: &Rig| rig.core.probes.sight_of(target).flatten();
    assert_eq!(seen(&rig), Some(Sight::Heard));
    // Probes sent from now on are decisive, and not delayed by those still in flight.
    rig.pass(SECOND * 5);
    assert!(probes(&rig).len() > 4);
    assert_eq!(seen(&rig), Some(Sight::Silent));
}

#[test]
fn a_new_session_hears_of_every_link_again() {
    let mut rig = Rig::live();
    rig.plan(1, &[2]);
    rig.pass(SECOND);
    rig.input(Input::Probed {
        target: Uuid([2; 16]),
        sequence: probes(&rig)[0].1,
        outcome: ProbeOutcome::Answered(SECOND / 1000, None),
    });
    rig.pass(SECOND * 2);
    let reported = |rig: &Rig| {
        rig.heartbeats()
            .iter()
            .map(|heartbeat| heartbeat.links.len())
            .sum::<usize>()
    };
    assert_eq!(reported(&rig), 1);
    rig.input(Input::Closed {
        conn: ConnId(1),
        reason: String::new(),
    });
    rig.pass(SECOND);
    rig.input(Input::Connected { conn: ConnId(2) });
    rig.welcome_with(2, plan(1, &[2]));
    assert_eq!(reported(&rig), 2);
}

#[test]
fn shutdown_says_goodbye() {
    let mut rig = Rig::live();
    rig.input(Input::Shutdown {
        reason: "SIGTERM".to_owned(),
    });
    let goodbye = Effect::Send {
        conn: ConnId(1),
        report: FromAgent::Goodbye {
            reason: "SIGTERM".to_owned(),
        },
    };
    assert_eq!(
        rig.effects[rig.effects.len() - 3..],
        [goodbye, Effect::Close { conn: ConnId(1) }, Effect::Stopped]
    );
    rig.pass(SECOND * 60);
    assert_eq!(rig.connects().len(), 1);
}

fn some_input() -> impl Strategy<Value = Input> {
    let conn = (1u64..4).prop_map(ConnId);
    let seconds = |seconds: u64| Duration::from_secs(seconds);
    prop_oneof![
        conn.clone().prop_map(|conn| Input::Connected { conn }),
        conn.clone().prop_map(|conn| Input::Closed {
            conn,
            reason: String::new()
        }),
        (conn.clone(), 0u64..100).prop_map(move |(conn, after)| {
            let refused = Refused {
                reason: RefusalReason::Stale,
                detail: String::new(),
                retry_after: Some(seconds(after)),
            };
            Input::Message {
                conn,
                message: Message::Refused(refused),
            }
        }),
        (conn, any::<u64>(), prop::collection::vec(0u8..9, 0..9)).prop_map(move |(conn, version, targets)| {
            let targets = targets.into_iter().map(|at| (Uuid([at; 16]), String::new())).collect();
            let plan = ProbePlan {
                version,
                interval: seconds(version % 3),
                targets,
                observers: Vec::new(),
            };
            Input::Message {
                conn,
                message: Message::ProbePlan(plan),
            }
        }),
        (0u8..9, 0u64..9).prop_map(|(at, sequence)| Input::Probed {
            target: Uuid([at; 16]),
            sequence,
            outcome: ProbeOutcome::Failed(LinkFailure::Late),
        }),
        Just(Input::Measured([None; Channel::COUNT])),
        any::<i64>().prop_map(|wall| Input::WallClock(WallTime(wall))),
    ]
}

#[test]
fn it_says_what_its_instances_are_for_when_it_is_asked() {
    let mut rig = Rig::new();
    rig.input(Input::Connected { conn: ConnId(1) });
    rig.welcome(1);
    let assigned = Assigned {
        id: AssignmentId(4),
        slot: 2,
        revision: Revision(7),
        spec: Arc::new(Spec::new("web", "/bin/true")),
    };
    let assign = Work {
        assign: vec![assigned.clone()],
        ..Work::default()
    };
    rig.message(1, Message::Work(Box::new(assign)));
    let describe = Work {
        describe: vec![AssignmentId(3), AssignmentId(4)],
        ..Work::default()
    };
    rig.message(1, Message::Work(Box::new(describe)));
    let described = rig.effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            report: FromAgent::Described { instances, .. },
            ..
        } => instances.first(),
        _ => None,
    });
    assert_eq!(described.collect::<Vec<_>>(), [&assigned]);
}

proptest! {
    /// Whatever inputs arrive, the agent has a session, an attempt at one, or a timer for the next attempt.
    #[test]
    fn it_never_gives_up(inputs in prop::collection::vec(some_input(), 0..60)) {
        let mut rig = Rig::new();
        for input in inputs {
            rig.input(input);
            rig.pass(Duration::from_millis(300));
        }
        prop_assert!(rig.core.poll_timeout().is_some());
        let before = rig.connects().len();
        rig.pass(SECOND * 600);
        prop_assert!(rig.connects().len() > before);
    }
}

fn seal(rig: &mut Rig, conn: u64, cycle: u64) {
    let mut sealer = Sealer::new(CLUSTER, &[7; 32], [0; 32]);
    let seal = Arc::new(sealer.seal(Epoch(3), Cycle(cycle), b""));
    rig.message(conn, Message::Seal { seal, heard: 0 });
}

/// Retry delays reported by the agent.
fn waits(rig: &Rig) -> Vec<Duration> {
    let wait = |effect: &Effect| match effect {
        Effect::Tell(Notice::Lost { retry_in, .. }) => Some(*retry_in),
        _ => None,
    };
    rig.effects.iter().filter_map(wait).collect()
}

/// Returns what the newest hello reports about the previous session.
fn last_failure(rig: &Rig) -> String {
    let hello = |effect: &Effect| match effect {
        Effect::Send {
            report: FromAgent::Hello(hello),
            ..
        } => Some(hello.last_failure.clone()),
        _ => None,
    };
    rig.effects.iter().rev().find_map(hello).unwrap()
}

#[test]
fn a_session_that_ends_over_its_content_is_told_and_waited_for_longer_each_time() {
    let mut rig = Rig::live();
    assert_eq!(last_failure(&rig), "");
    for session in 1..=10 {
        let detail = format!("{} bytes", "7".repeat(2_000));
        let conn = ConnId(session);
        rig.input(Input::Unreadable { conn, detail });
        // The end of the transport follows and is not reported again.
        let reason = "over".to_owned();
        rig.input(Input::Closed { conn, reason });
        let wait = *waits(&rig).last().unwrap();
        let limit = Duration::from_secs(60).min(SECOND * 2u32.pow(session as u32 - 1));
        assert!(limit / 2 <= wait && wait <= limit, "{wait:?} after session {session}");
        rig.pass(wait);
        rig.input(Input::Connected {
            conn: ConnId(session + 1),
        });
        assert!(last_failure(&rig).starts_with("the coordinator sent a message that cannot be read here: 777"));
        assert!(last_failure(&rig).len() <= 512);
        rig.welcome(session + 1);
    }
    assert_eq!(waits(&rig).len(), 10);
    // A session that lasts resets the back-off.
    for cycle in 1..=12 {
        rig.pass(SECOND * 6);
        seal(&mut rig, 11, cycle);
    }
    let reason = "connection reset".to_owned();
    rig.input(Input::Closed {
        conn: ConnId(11),
        reason,
    });
    assert!(*waits(&rig).last().unwrap() <= Duration::from_millis(250));
    rig.pass(SECOND);
    rig.input(Input::Connected { conn: ConnId(12) });
    assert_eq!(last_failure(&rig), "");
}

#[test]
fn what_the_coordinator_cannot_accept_is_not_said_again_at_once() {
    let mut rig = Rig::live();
    for session in 1..=6 {
        let refused = Refused {
            reason: RefusalReason::Invalid,
            detail: "heartbeat.load: 7 is not between 0 and 1".to_owned(),
            retry_after: None,
        };
        rig.message(session, Message::Refused(refused));
        let wait = *waits(&rig).last().unwrap();
        rig.pass(wait);
        rig.input(Input::Connected {
            conn: ConnId(session + 1),
        });
        rig.welcome(session + 1);
    }
    let all: Duration = waits(&rig).iter().sum();
    assert!(all >= Duration::from_millis(31_500), "{all:?} for six");
}

#[test]
fn a_declaration_that_is_not_accepted_is_told_as_one_that_failed() {
    let mut rig = Rig::live();
    let refused = vec![(AssignmentId(9), "spec.near: too long".to_owned())];
    let work = Work {
        refused,
        ..Work::default()
    };
    rig.message(1, Message::Work(Box::new(work)));
    let told = rig.effects.iter().find_map(|effect| match effect {
        Effect::Send {
            report: FromAgent::Instances { instances, .. },
            ..
        } => instances.first().cloned(),
        _ => None,
    });
    let (id, status) = told.unwrap();
    assert_eq!(
        (id, status.phase, status.complete),
        (AssignmentId(9), crate::workload::Phase::Ended, false)
    );
    assert!(status.detail.contains("spec.near"), "{}", status.detail);
}
