//! Starts of instances; instances that may have been started before are not started again.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::{super::*, CLUSTER, Rig, SECOND};
use crate::{
    id::{Revision, Uuid},
    node::ConnId,
    protocol::{Message, ProbePlan, Work},
    workload::{Assigned, AssignmentId, Kind, Phase, Spec, Status},
};

const OTHER: Uuid = Uuid([8; 16]);

fn assigned(id: u64, kind: Kind, singleton: bool) -> Assigned {
    let mut spec = Spec::new("web", "/bin/true");
    (spec.kind, spec.singleton) = (kind, singleton);
    Assigned {
        id: AssignmentId(id),
        slot: 0,
        revision: Revision(1),
        spec: Arc::new(spec),
    }
}

fn kind() -> impl Strategy<Value = (Kind, bool)> {
    prop_oneof![
        Just((Kind::Service { replicas: 1 }, false)),
        Just((Kind::Service { replicas: 1 }, true)),
        Just((
            Kind::Batch {
                replicas: 1,
                retries: 3
            },
            false
        )),
        Just((Kind::Daemon, false)),
    ]
}

impl Rig {
    /// The newest transport.
    fn conn(&self) -> u64 {
        let made = |effect: &Effect| match effect {
            Effect::Connect { conn, .. } => Some(conn.0),
            _ => None,
        };
        self.effects.iter().rev().find_map(made).unwrap_or_default()
    }

    fn cut(&mut self) {
        let (conn, reason) = (ConnId(self.conn()), "cut".to_owned());
        self.input(Input::Closed { conn, reason });
        while self.conn() == conn.0 {
            self.pass(SECOND / 10);
        }
    }

    /// Opens a session with a coordinator that will assign this id next.
    fn joined(&mut self, cluster: Uuid, next: u64) {
        let conn = self.conn();
        self.input(Input::Connected { conn: ConnId(conn) });
        self.welcome_from(conn, cluster, AssignmentId(next), ProbePlan::default());
        self.pass(SECOND);
    }

    fn told(&mut self, assign: Vec<Assigned>) {
        let work = Work {
            assign,
            ..Work::default()
        };
        self.message(self.conn(), Message::Work(Box::new(work)));
        self.pass(SECOND);
    }

    fn begun(&self) -> BTreeSet<u64> {
        let run = |effect: &Effect| match effect {
            Effect::Run(assigned) => Some(assigned.id.0),
            _ => None,
        };
        self.effects.iter().filter_map(run).collect()
    }

    /// The last reported status of an instance.
    fn said(&self, id: u64) -> Option<Status> {
        let said = self.effects.iter().rev().filter_map(|effect| match effect {
            Effect::Send {
                report: FromAgent::Instances { instances, .. },
                ..
            } => Some(instances),
            _ => None,
        });
        let of = |(of, _): &&(AssignmentId, Status)| of.0 == id;
        said.flatten().find(of).map(|(_, status)| status.clone())
    }

    fn presumed(&self) -> Vec<(Uuid, u64)> {
        let presumed = |effect: &Effect| match effect {
            Effect::Presume { cluster, below } => Some((*cluster, below.0)),
            _ => None,
        };
        self.effects.iter().filter_map(presumed).collect()
    }
}

fn is_lost(status: &Status) -> bool {
    status.phase == Phase::Ended && status.unknown && !status.complete && !status.detail.is_empty()
}

proptest! {
    /// Whatever the coordinator sends, in any order and number: an instance that may have been started before is never
    /// run and is reported as lost; any other is run once.
    #[test]
    fn what_may_have_been_begun_is_never_begun_again(
        begun in prop_oneof![Just(Begun::None), Just(Begun::Any), (1..30u64).prop_map(|id| Begun::Below(CLUSTER, AssignmentId(id))),
            Just(Begun::Below(OTHER, AssignmentId(30)))],
        next in 1..30u64,
        assignments in prop::collection::vec((1..30u64, kind()), 1..20),
        cuts in 1..4usize,
    ) {
        let mut rig = Rig::with(Vec::new(), begun);
        rig.joined(CLUSTER, next);
        let below = match begun {
            Begun::Any => next,
            Begun::Below(CLUSTER, below) => below.0,
            _ => 0,
        };
        prop_assert_eq!(rig.presumed(), if begun == Begun::Any { vec![(CLUSTER, next)] } else { vec![] });
        let assignments: Vec<Assigned> = assignments.into_iter().map(|(id, (kind, singleton))| assigned(id, kind, singleton)).collect();
        for part in assignments.chunks(assignments.len().div_ceil(cuts)) {
            rig.told(part.to_vec());
        }
        // Everything is repeated in the next session.
        rig.cut();
        rig.joined(CLUSTER, next + 50);
        rig.told(assignments.clone());
        let wanted: BTreeSet<u64> = assignments.iter().map(|assigned| assigned.id.0).collect();
        let (lost, new): (BTreeSet<u64>, BTreeSet<u64>) = wanted.into_iter().partition(|id| *id < below);
        prop_assert_eq!(rig.begun(), new);
        for id in lost {
            let said = rig.said(id);
            prop_assert!(said.as_ref().is_some_and(is_lost), "{}: {:?}", id, said);
        }
    }
}

proptest! {
    /// An instance known to the coordinator is never run by an agent that does not find it, whatever its list says, in
    /// this and later sessions; an unknown one is run once, and instances of this process keep running.
    #[test]
    fn what_the_coordinator_has_heard_of_is_never_begun_again(
        rounds in prop::collection::vec((prop::collection::btree_map(1..30u64, (kind(), any::<bool>()), 1..10), any::<bool>()), 1..6),
    ) {
        let mut rig = Rig::with(Vec::new(), Begun::None);
        rig.joined(CLUSTER, 1);
        let (mut run, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for (assignments, cut) in rounds {
            let mut work = Work::default();
            for (id, ((kind, singleton), repeated)) in assignments {
                let known = run.contains(&id) || lost.contains(&id);
                match repeated {
                    _ if known => {}
                    true => drop(lost.insert(id)),
                    false => drop(run.insert(id)),
                }
                work.repeated.extend(repeated.then_some(AssignmentId(id)));
                work.assign.push(assigned(id, kind, singleton));
            }
            rig.message(rig.conn(), Message::Work(Box::new(work)));
            rig.pass(SECOND);
            prop_assert_eq!(&rig.begun(), &run);
            for id in &lost {
                prop_assert!(rig.said(*id).as_ref().is_some_and(is_lost), "{}", id);
            }
            if cut {
                rig.cut();
                rig.joined(CLUSTER, 1);
            }
        }
    }
}

#[test]
fn the_end_of_what_was_told_of_and_is_not_found_is_not_known() {
    let mut rig = Rig::with(Vec::new(), Begun::None);
    rig.joined(CLUSTER, 9);
    let stop = [4, 5].map(|id| (AssignmentId(id), "scaled down".to_owned())).to_vec();
    let repeated = vec![AssignmentId(4)];
    let work = Work {
        stop,
        repeated,
        ..Work::default()
    };
    rig.message(1, Message::Work(Box::new(work)));
    assert!(rig.said(4).as_ref().is_some_and(is_lost));
    assert!(rig.said(5).is_some_and(|status| status.complete && !status.unknown));
}

#[test]
fn what_was_found_as_lost_is_told_and_not_begun_again() {
    let ended = Status {
        phase: Phase::Ended,
        unknown: true,
        detail: "its directory is not there".to_owned(),
        ..Status::default()
    };
    let found = Found {
        id: AssignmentId(7),
        assigned: None,
        status: ended.clone(),
        of_another: false,
    };
    let mut rig = Rig::with(vec![found], Begun::None);
    rig.joined(CLUSTER, 9);
    assert_eq!(rig.said(7), Some(ended));
    rig.told(vec![
        assigned(7, Kind::Service { replicas: 1 }, true),
        assigned(9, Kind::Service { replicas: 1 }, true),
    ]);
    assert_eq!(rig.begun(), BTreeSet::from([9]));
}

#[test]
fn of_a_coordinator_that_does_not_say_what_it_gives_out_next_the_first_word_counts() {
    let mut rig = Rig::with(Vec::new(), Begun::Any);
    rig.joined(CLUSTER, 0);
    assert!(rig.presumed().is_empty());
    let service = Kind::Service { replicas: 1 };
    rig.told(vec![assigned(4, service, false), assigned(6, service, false)]);
    assert_eq!(rig.presumed(), [(CLUSTER, 7)]);
    rig.told(vec![assigned(7, service, false)]);
    assert_eq!(rig.begun(), BTreeSet::from([7]));
    assert!(rig.said(6).as_ref().is_some_and(is_lost));
}

#[test]
fn the_end_of_what_may_have_been_begun_is_not_known_either() {
    let mut rig = Rig::with(Vec::new(), Begun::Below(CLUSTER, AssignmentId(5)));
    rig.joined(CLUSTER, 9);
    let stop = [4, 5].map(|id| (AssignmentId(id), "scaled down".to_owned())).to_vec();
    rig.message(
        1,
        Message::Work(Box::new(Work {
            stop,
            ..Work::default()
        })),
    );
    assert!(rig.said(4).as_ref().is_some_and(is_lost));
    assert!(rig.said(5).is_some_and(|status| status.complete && !status.unknown));
}

#[test]
fn what_was_given_to_another_node_is_lent_nothing_and_ends_with_the_welcome() {
    let service = Kind::Service { replicas: 1 };
    let found = |id: u64, of_another: bool| Found {
        id: AssignmentId(id),
        assigned: Some(Arc::new(assigned(id, service, true))),
        status: Status {
            phase: Phase::Running,
            ..Status::default()
        },
        of_another,
    };
    let mut rig = Rig::with(vec![found(3, true), found(4, false)], Begun::None);
    rig.joined(CLUSTER, 9);
    rig.told(Vec::new());
    let (mut ended, mut lent) = (BTreeSet::new(), BTreeSet::new());
    for effect in &rig.effects {
        match effect {
            Effect::Halt { id, .. } => drop(ended.insert(id.0)),
            Effect::Lease { id, .. } => drop(lent.insert(id.0)),
            _ => {}
        }
    }
    assert_eq!((ended, lent), (BTreeSet::from([3]), BTreeSet::from([4])));
}
