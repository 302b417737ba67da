//! Instances that their nodes have lost: how they ended is not known, and what follows.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    rig::{Rig, SECOND, hello},
    workloads::{Site, service},
};
use crate::{
    coordinator::{Input, Message, Refusal, WorkloadVerb},
    node::ConnId,
    time::Time,
    workload::{AssignmentId, Phase, Spec, Status},
};

/// Twice 30 s and a sixteenth: how long a lease that was given now may run.
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
    /// The instances of a workload that have not ended, with the sessions of their nodes.
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

    /// The node of an instance says how that is.
    pub(super) fn says(&mut self, (id, conn): (AssignmentId, u64), status: Status) {
        let (conn, all, instances) = (ConnId(conn), false, vec![(id, status)]);
        self.rig.input(Input::Instances { conn, instances, all });
        self.rig.pass(SECOND / 10);
    }

    /// The coordinator is started again, and its agents come back.
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

    /// When more than so many instances had been assigned, looking each second.
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

    /// Whatever happens meanwhile, the successor of a singleton that was lost starts once no lease of it can run any more, and then soon.
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
        // Since its last heartbeat.
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
                site.rig.input(Input::Goodbye { conn, reason });
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
                prop_assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{:?}", refused);
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
