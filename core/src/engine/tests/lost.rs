//! Instances lost by their nodes, whose result is unknown.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    rig::{Rig, SECOND, hello},
    workloads::{Site, service},
};
use crate::{
    engine::{FromAgent, Input, Message, Refusal, WorkloadVerb},
    node::ConnId,
    time::Time,
    workload::{AssignmentId, Exit, Kind, Phase, Resources, Spec, Status},
};

/// Maximum duration of a lease granted now: twice 30 s plus a sixteenth.
const LEASE: Duration = Duration::from_millis(63_750);

pub(super) fn lost() -> Status {
    Status {
        phase: Phase::Ended,
        unknown: true,
        detail: "it was begun, and its directory is not there any more".to_owned(),
        ..Status::default()
    }
}

fn leader() -> Spec {
    let mut spec = service("leader", 1);
    spec.singleton = true;
    spec
}

impl Site {
    /// Instances of a workload that have not ended, with their nodes' sessions.
    pub(super) fn there(&self, name: &str) -> Vec<(AssignmentId, u64)> {
        let rows = self.rig.view.assignments.iter();
        let there = rows.filter(|row| &*row.record.workload == name && row.status.phase != Phase::Ended);
        there
            .map(|row| {
                let number = row.record.node.0[0];
                (row.record.id, self.conns[usize::from(number) - 1])
            })
            .collect()
    }

    /// An instance's node reports its status.
    pub(super) fn says(&mut self, (id, conn): (AssignmentId, u64), status: Status) {
        let (conn, all, instances) = (ConnId(conn), false, vec![(id, status)]);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
        self.rig.pass(SECOND / 10);
    }

    /// Restarts the coordinator, and lets agents reconnect.
    fn reborn(self) -> Site {
        let nodes = self.conns.len() as u8;
        let mut site = Site {
            rig: self.rig.restart(),
            conns: Vec::new(),
            taken: 0,
        };
        for number in 1..=nodes {
            site.join(number.into(), number, 2);
        }
        site
    }

    /// Time at which more than `before` instances had been assigned, checked each second.
    fn until_assigned(&mut self, before: usize, most: Duration) -> Option<Time> {
        let end = self.rig.now + most;
        while self.assigned() <= before {
            if self.rig.now >= end {
                return None;
            }
            self.pass(SECOND);
        }
        Some(self.rig.now)
    }
}

/// An agent that returns without its instances is told which of them it reported before.
#[test]
fn what_a_node_has_told_of_is_assigned_to_it_as_that() {
    let mut site = Site::new(1);
    site.apply(service("web", 3));
    site.rig.pass(SECOND);
    let assigned = |site: &Site, conn: u64| {
        let mut all = (Vec::new(), Vec::new());
        for (to, message) in &site.rig.sent {
            let Message::Work(work) = message else { continue };
            if *to == ConnId(conn) {
                all.0.extend(work.assign.iter().map(|assigned| assigned.id));
                all.1.extend(work.repeated.iter().copied());
            }
        }
        all
    };
    let (first, repeated) = assigned(&site, 1);
    assert_eq!((first.len(), repeated), (3, Vec::new()));
    let running = Status {
        phase: Phase::Running,
        pid: 1,
        ..Status::default()
    };
    site.says((first[1], 1), running);
    let (conn, by_peer) = (ConnId(1), true);
    site.rig.input(Input::Closed { conn, by_peer });
    site.join(2, 1, 2);
    site.rig.pass(SECOND);
    assert_eq!(assigned(&site, 2), (first.clone(), vec![first[1]]));
}

#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Declared,
    NodeLeaves,
    CoordinatorRestarts,
    DeletedAndDeclared,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens meanwhile, the successor of a lost singleton starts once its lease is over, and soon after.
    #[test]
    fn a_singleton_that_was_lost_has_no_successor_before_its_lease_is_over(
        nodes in 1..4u8,
        after in 0..50u64,
        meanwhile in prop_oneof![Just(Meanwhile::Nothing), Just(Meanwhile::Declared), Just(Meanwhile::NodeLeaves),
            Just(Meanwhile::CoordinatorRestarts), Just(Meanwhile::DeletedAndDeclared)],
    ) {
        let mut site = Site::new(nodes);
        site.apply(leader());
        site.pass(SECOND * 5);
        let one = site.there("leader")[0];
        // Counted from the last heartbeat.
        let mut free = site.rig.now + LEASE - SECOND;
        site.says(one, lost());
        site.pass(SECOND * 7);
        let waiting: Vec<String> = site.rig.view.workload("leader").unwrap().waiting.iter().map(|waiting| waiting.reason.clone()).collect();
        prop_assert!(waiting.iter().any(|reason| reason.contains("was lost by its node")), "{:?}", waiting);
        site.pass(SECOND * after as u32);
        prop_assert!(site.there("leader").is_empty());
        let mut again = leader();
        again.args = vec!["2".to_owned()];
        let again = WorkloadVerb::Apply(Arc::new(again));
        let mut before = site.assigned();
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Declared => drop(site.change(again, false).unwrap()),
            Meanwhile::NodeLeaves => {
                let (conn, reason) = (ConnId(one.1), "test".to_owned());
                site.rig.input(Input::FromAgent(conn, FromAgent::Goodbye { reason }));
            }
            Meanwhile::CoordinatorRestarts => {
                site = site.reborn();
                before = 0;
                free = site.rig.now + LEASE;
            }
            Meanwhile::DeletedAndDeclared => {
                let name = "leader".to_owned();
                site.change(WorkloadVerb::Delete { name }, false).unwrap();
                site.pass(SECOND);
                let refused = site.change(again.clone(), false);
                prop_assert!(matches!(refused, Err(Refusal::Deleting(_))), "{:?}", refused);
                while site.rig.now < free + SECOND * 2 {
                    site.pass(SECOND);
                }
                site.change(again, false).unwrap();
            }
        }
        match site.until_assigned(before, LEASE + SECOND * 20) {
            Some(at) => {
                prop_assert!(at >= free, "{:?} before its lease is over", free.since(at));
                prop_assert!(at.since(free) < SECOND * 12, "{:?} after that", at.since(free));
            }
            None => prop_assert!(nodes == 1 && matches!(meanwhile, Meanwhile::NodeLeaves), "none was started"),
        }
    }
}

#[test]
fn a_service_that_was_lost_is_replaced_like_one_that_failed() {
    let mut site = Site::new(2);
    site.apply(service("web", 2));
    site.pass(SECOND * 5);
    let one = site.there("web")[0];
    site.says(one, lost());
    assert_eq!(site.running("web"), 1);
    site.pass(SECOND * 6);
    assert_eq!(site.running("web"), 2);
    assert!(
        site.there("web").iter().all(|(id, _)| *id != one.0),
        "it is run again by its own id"
    );
}

#[test]
fn a_welcome_says_which_ids_were_not_given_out_yet() {
    let mut site = Site::new(2);
    site.apply(service("web", 5));
    site.pass(SECOND * 5);
    let newest = site.there("web").into_iter().map(|(id, _)| id).max().unwrap();
    site.rig.hello(50, hello(1, 2, 0));
    let next = next_of(&site.rig, 50);
    assert_eq!(next, AssignmentId(newest.0 + 1));
    site.apply(service("web", 9));
    site.pass(SECOND * 5);
    let given: Vec<AssignmentId> = site.there("web").into_iter().map(|(id, _)| id).collect();
    assert!(given.iter().filter(|id| **id >= next).count() >= 4);
}

fn next_of(rig: &Rig, conn: u64) -> AssignmentId {
    let welcome = rig.sent.iter().rev().find_map(|(to, message)| match message {
        Message::Welcome(welcome) if *to == ConnId(conn) => Some(welcome.next_assignment),
        _ => None,
    });
    welcome.unwrap()
}

/// Result of a part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
    Unknown,
}

fn ended(outcome: Outcome) -> Status {
    let code = i32::from(outcome == Outcome::Failed);
    match outcome {
        Outcome::Unknown => lost(),
        _ => Status {
            phase: Phase::Ended,
            exit: Some(Exit::Code(code)),
            complete: outcome == Outcome::Done,
            detail: format!("exit status {code}"),
            ..Status::default()
        },
    }
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Scaled,
    Declared,
    CoordinatorRestarts,
}

impl Site {
    /// Runs a batch until no part runs or is about to; counts the starts of each part.
    fn work_off(&mut self, outcomes: &[Outcome], starts: &mut BTreeMap<u32, u32>) {
        let mut quiet = 0;
        // Longer than the back-off of a part that failed twice.
        while quiet < 25 {
            self.pass(SECOND);
            let there = self.there("job");
            quiet = if there.is_empty() { quiet + 1 } else { 0 };
            for one in there {
                let slot = self.rig.core.work.table_mut().held(one.0).unwrap().record.slot;
                *starts.entry(slot).or_default() += 1;
                let outcome = outcomes.get(slot as usize).copied().unwrap_or(Outcome::Done);
                self.says(one, ended(outcome));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// `retries` cover known failures. A part with an unknown result runs once, whatever happens to the batch, until a
    /// restart is requested; the restart leaves completed parts alone.
    #[test]
    fn a_part_of_which_nobody_knows_whether_it_is_done_is_not_run_again_by_itself(
        outcomes in prop::collection::vec(prop_oneof![1 => Just(Outcome::Done), 1 => Just(Outcome::Failed), 2 => Just(Outcome::Unknown)], 1..40),
        retries in 0..3u32,
        then in prop_oneof![Just(Then::Nothing), Just(Then::Scaled), Just(Then::Declared), Just(Then::CoordinatorRestarts)],
    ) {
        let mut site = Site::new(4);
        let replicas = outcomes.len() as u32;
        let mut spec = Spec::new("job", "/bin/true");
        spec.kind = Kind::Batch { replicas, retries };
        spec.resources = Resources { cpu_millis: 10, memory_bytes: 1 << 20 };
        site.apply(spec.clone());
        let mut starts = BTreeMap::new();
        site.work_off(&outcomes, &mut starts);
        let expected = |slot: usize| match outcomes[slot] {
            Outcome::Failed => retries + 1,
            _ => 1,
        };
        let all: BTreeMap<u32, u32> = (0..replicas).map(|slot| (slot, expected(slot as usize))).collect();
        prop_assert_eq!(&starts, &all);
        let waiting = |site: &Site| {
            let row = site.rig.view.workload("job").unwrap();
            let unknown = row.waiting.iter().filter(|waiting| waiting.reason.contains("its outcome is not known"));
            unknown.map(|waiting| waiting.slots).sum::<u32>()
        };
        let unknown = outcomes.iter().filter(|outcome| **outcome == Outcome::Unknown).count() as u32;
        prop_assert_eq!(waiting(&site), unknown);
        let mut more = 0;
        match then {
            Then::Nothing => {}
            Then::Scaled => {
                more = 1;
                let (name, replicas) = ("job".to_owned(), replicas + more);
                site.change(WorkloadVerb::Scale { name, replicas }, false).unwrap();
            }
            Then::Declared => {
                // Changes only the priority, not what runs.
                spec.priority += 1;
                site.apply(spec.clone());
            }
            Then::CoordinatorRestarts => site = site.reborn(),
        }
        starts.clear();
        site.work_off(&outcomes, &mut starts);
        prop_assert_eq!(&starts, &(replicas..replicas + more).map(|slot| (slot, 1)).collect::<BTreeMap<u32, u32>>());
        prop_assert_eq!(waiting(&site), unknown);

        site.change(WorkloadVerb::Restart { name: "job".to_owned() }, false).unwrap();
        starts.clear();
        site.work_off(&vec![Outcome::Done; outcomes.len()], &mut starts);
        // Completed parts stay completed; a fully completed batch runs again as a whole.
        let is_done = |slot: u32| outcomes.get(slot as usize).is_none_or(|outcome| *outcome == Outcome::Done);
        let all_done = (0..replicas + more).all(is_done);
        let again = (0..replicas + more).filter(|slot| all_done || !is_done(*slot));
        prop_assert_eq!(&starts, &again.map(|slot| (slot, 1)).collect::<BTreeMap<u32, u32>>());
        prop_assert_eq!(waiting(&site), 0);
        let row = Arc::clone(site.rig.view.workload("job").unwrap());
        prop_assert_eq!(row.complete, replicas + more);
        prop_assert_eq!(row.record.run, 2);
    }
}
