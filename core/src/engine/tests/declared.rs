//! Guarantees of specifications: fixed ports, the order of updates, the number of parallel parts, and interruptions.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    rig::{SECOND, node_id},
    workloads::{Site, service},
};
use crate::{
    autonomy::{Mode, PolicyChange},
    command,
    engine::{ChangeWorkload, FromAgent, Input, Refusal, WorkloadVerb},
    id::Revision,
    node::{ConnId, Liveness},
    workload::{
        AssignmentId, AssignmentRow, Constraint, FixedPort, Goal, Interruption, Kind, Operator, Order, Phase, Protocol,
        Spec, Status,
    },
};

const DNS: FixedPort = FixedPort {
    port: 53,
    protocol: Protocol::Udp,
};

fn with_port(name: &str, replicas: u32, port: FixedPort) -> Spec {
    let mut spec = service(name, replicas);
    spec.ports = vec!["dns".to_owned()];
    spec.fixed_ports.insert("dns".to_owned(), port);
    spec
}

impl Site {
    fn all_rows(&self, name: &str) -> Vec<Arc<AssignmentRow>> {
        let of = |row: &&Arc<AssignmentRow>| &*row.record.workload == name;
        self.rig.view.assignments.iter().filter(of).cloned().collect()
    }

    fn held_there(&self, name: &str) -> Vec<Arc<AssignmentRow>> {
        let rows = self.all_rows(name).into_iter();
        rows.filter(|row| row.record.end.is_none()).collect()
    }

    fn tells(&mut self, row: &AssignmentRow, status: Status) {
        let conn = self.conns.iter().find(|conn| node_id(**conn as u8) == row.record.node);
        let (conn, instances, all) = (ConnId(*conn.unwrap()), vec![(row.record.id, status)], false);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    /// An instance is ended by its host.
    fn is_cut_off(&mut self, row: &AssignmentRow) {
        let status = Status {
            phase: Phase::Ended,
            interrupted: true,
            detail: "its supervisor ended without saying why".to_owned(),
            ..Status::default()
        };
        self.tells(row, status);
    }

    fn drain(&mut self, node: &str) {
        let drain = command::Drain {
            node: node.to_owned(),
            deadline: None,
            plan: false,
            keep_daemons: false,
        };
        self.rig.command(drain).unwrap();
    }

    fn waits_for(&self, name: &str) -> String {
        let row = self.rig.view.workload(name).unwrap();
        row.waiting.iter().map(|waiting| waiting.reason.clone()).collect()
    }
}

#[test]
fn a_fixed_port_is_one_instances_alone_on_a_node_by_protocol() {
    let mut site = Site::new(3);
    site.apply(with_port("dns", 4, DNS));
    assert_eq!(site.running("dns"), 3);
    let waits = site.waits_for("dns");
    assert!(waits.contains("3 have its port taken"), "{waits}");
    // Another workload with the same port waits as well; for another protocol it is a different port.
    site.apply(with_port("other", 1, DNS));
    assert_eq!(site.running("other"), 0);
    let protocol = Protocol::Tcp;
    site.apply(with_port("tcp", 3, FixedPort { protocol, ..DNS }));
    assert_eq!(site.running("tcp"), 3);
    let name = "dns".to_owned();
    site.change(WorkloadVerb::Scale { name, replicas: 2 }, false).unwrap();
    assert_eq!((site.running("dns"), site.running("other")), (2, 1));
}

#[test]
fn an_update_frees_a_fixed_port_first_and_nobody_elses() {
    let mut site = Site::new(3);
    site.apply(with_port("dns", 3, DNS));
    assert_eq!(site.running("dns"), 3);
    site.pass(SECOND * 5);
    let mut spec = with_port("dns", 3, DNS);
    spec.args = vec!["2".to_owned()];
    site.apply(spec);
    for _ in 0..20 {
        site.pass(SECOND);
        let there = site.held_there("dns");
        let nodes: BTreeSet<_> = there.iter().map(|row| row.record.node).collect();
        assert_eq!(nodes.len(), there.len(), "two on a node: {there:?}");
        assert!(there.len() >= 2, "more than one at a time");
    }
    let revisions: Vec<u64> = site.held_there("dns").iter().map(|row| row.record.revision.0).collect();
    assert_eq!(revisions, [2, 2, 2]);
    // If another workload has the port, running instances stay.
    site.apply(with_port("api", 3, FixedPort { port: 80, ..DNS }));
    assert_eq!(site.running("api"), 3);
    site.pass(SECOND * 5);
    let before: Vec<AssignmentId> = site.held_there("api").iter().map(|row| row.record.id).collect();
    site.apply(with_port("api", 3, DNS));
    site.pass(SECOND * 10);
    let now: Vec<AssignmentId> = site.held_there("api").iter().map(|row| row.record.id).collect();
    assert_eq!(now, before);
}

#[test]
fn with_stop_first_no_two_of_a_slot_are_there_at_once() {
    for change in 0..3 {
        let mut site = Site::new(3);
        let mut spec = service("db", 2);
        spec.update.order = Order::StopFirst;
        site.apply(spec.clone());
        assert_eq!(site.running("db"), 2);
        site.pass(SECOND * 5);
        let before = site.held_there("db");
        match change {
            0 => {
                spec.args = vec!["2".to_owned()];
                site.apply(spec);
            }
            1 => {
                let name = "db".to_owned();
                site.change(WorkloadVerb::Restart { name }, false).unwrap();
            }
            _ => {
                let node = before[0].record.node;
                site.drain(&format!("node-{}", node.0[0]));
            }
        }
        for _ in 0..80 {
            site.pass(SECOND / 4);
            let there = site.held_there("db");
            let slots: BTreeSet<u32> = there.iter().map(|row| row.record.slot).collect();
            assert_eq!(slots.len(), there.len(), "{change}: {there:?}");
        }
        assert_eq!(site.running("db"), 2);
        let gone = |row: &&Arc<AssignmentRow>| !before.iter().any(|old| old.record.id == row.record.id);
        let new = site.held_there("db").iter().filter(gone).count();
        assert_eq!(new, if change == 2 { 1 } else { 2 }, "{change}");
    }
}

#[test]
fn what_would_stop_with_nothing_in_its_place_is_named_and_wants_force() {
    let mut site = Site::new(3);
    let mut spec = service("edge", 1);
    spec.kind = Kind::Daemon;
    site.apply(spec.clone());
    assert_eq!(site.running("edge"), 3);
    spec.constraints = vec![Constraint {
        key: "node.name".to_owned(),
        operator: Operator::In,
        values: vec!["node-1".to_owned(), "nod-2".to_owned()],
    }];
    let verb = WorkloadVerb::Apply(Arc::new(spec));
    let planned = site.change(verb.clone(), true).unwrap();
    let named: Vec<bool> = planned.stops.iter().map(|stop| stop.unreplaced).collect();
    assert_eq!(named, [true, true]);
    let refused = site.change(verb.clone(), false).unwrap_err();
    let Refusal::NotYet { reason, detail } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*reason, "UNREPLACED");
    for named in ["2 instances", "edge.1 on node-2", "edge.2 on node-3", "--force"] {
        assert!(detail.contains(named), "{detail}");
    }
    assert_eq!(site.running("edge"), 3);
    assert_eq!(site.rig.view.workload("edge").unwrap().record.revision, Revision(1));
    let forced = ChangeWorkload {
        plan: false,
        at: None,
        keep_replicas: false,
        force: true,
        verb,
    };
    site.rig.command(forced).unwrap();
    assert_eq!(site.running("edge"), 1);
}

fn job(replicas: u32, retries: u32) -> Spec {
    let mut spec = service("job", 1);
    spec.kind = Kind::Batch { replicas, retries };
    spec
}

#[test]
fn what_its_host_cut_off_is_run_again_without_a_retry_or_has_failed_as_declared() {
    for on_interruption in [Interruption::Rerun, Interruption::Fail] {
        let mut site = Site::new(2);
        let mut spec = job(1, 0);
        spec.on_interruption = on_interruption;
        site.apply(spec);
        for round in 0..3 {
            assert_eq!(site.running("job"), 1, "{on_interruption:?} {round}");
            let row = Arc::clone(&site.held_there("job")[0]);
            assert_eq!(row.record.attempt, 0);
            site.is_cut_off(&row);
            if on_interruption == Interruption::Fail {
                assert_eq!(site.running("job"), 0);
                assert!(
                    site.waits_for("job").contains("not tried again"),
                    "{}",
                    site.waits_for("job")
                );
                break;
            }
        }
    }
}

#[test]
fn failures_before_an_interruption_still_count() {
    let mut site = Site::new(2);
    site.apply(job(1, 1));
    assert_eq!(site.running("job"), 1);
    let row = Arc::clone(&site.held_there("job")[0]);
    let failed = Status {
        phase: Phase::Ended,
        detail: "exit status 1".to_owned(),
        ..Status::default()
    };
    site.tells(&row, failed.clone());
    site.pass(SECOND * 10);
    let row = Arc::clone(&site.held_there("job")[0]);
    assert_eq!(row.record.attempt, 1);
    site.is_cut_off(&row);
    site.pass(SECOND * 10);
    let row = Arc::clone(&site.held_there("job")[0]);
    assert_eq!(row.record.attempt, 1);
    site.tells(&row, failed);
    site.pass(SECOND * 30);
    assert_eq!(site.held_there("job").len(), 0);
    assert!(
        site.waits_for("job").contains("failed twice"),
        "{}",
        site.waits_for("job")
    );
}

#[test]
fn an_update_is_not_to_blame_for_what_its_host_cut_off() {
    let mut site = Site::new(3);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 5);
    let mut spec = service("web", 2);
    (spec.args, spec.update.min_healthy) = (vec!["2".to_owned()], SECOND * 20);
    site.apply(spec);
    site.pass(SECOND * 2);
    let is_new = |row: &&Arc<AssignmentRow>| row.record.revision == Revision(2);
    let row = Arc::clone(site.held_there("web").iter().find(is_new).unwrap());
    site.is_cut_off(&row);
    site.pass(SECOND * 90);
    let record = Arc::clone(&site.rig.view.workload("web").unwrap().record);
    assert_eq!(
        (record.revision, record.stable),
        (Revision(2), Revision(2)),
        "{}",
        record.rolled_back
    );
}

#[test]
fn a_part_that_must_not_run_twice_waits_for_its_node() {
    for on_interruption in [Interruption::Rerun, Interruption::Fail] {
        let mut site = Site::new(4);
        let mut spec = job(1, 3);
        spec.on_interruption = on_interruption;
        spec.reschedule_delay = Some(Duration::ZERO);
        site.apply(spec);
        assert_eq!(site.running("job"), 1);
        site.pass(SECOND * 3);
        let row = Arc::clone(&site.held_there("job")[0]);
        let number = row.record.node.0[0];
        site.dies(number);
        site.pass(SECOND * 30);
        assert_eq!(site.rig.transitions(number).last(), Some(&Liveness::Offline));
        let others = site.all_rows("job").len() - 1;
        assert_eq!(others, usize::from(on_interruption == Interruption::Rerun));
        if on_interruption == Interruption::Fail {
            assert!(
                site.waits_for("job").contains("on_interruption"),
                "{}",
                site.waits_for("job")
            );
        }
    }
}

#[test]
fn names_of_a_daemons_instances_are_unique_whatever_became_of_nodes() {
    let mut site = Site::new(6);
    let mut spec = service("edge", 1);
    spec.kind = Kind::Daemon;
    site.apply(spec);
    assert_eq!(site.running("edge"), 6);
    let names = |site: &Site| {
        let rows = site.held_there("edge");
        let slots: BTreeSet<u32> = rows.iter().map(|row| row.record.slot).collect();
        assert_eq!(slots.len(), rows.len(), "{rows:?}");
        slots
    };
    assert_eq!(names(&site), (0..6).collect());
    // As after a restart of the coordinator: node indexes differ from those at the time of numbering.
    let rows = site.held_there("edge");
    for (row, slot) in rows.iter().zip([5, 4, 3, 2, 1, 0]) {
        let held = site.rig.core.work.table_mut().held_mut(row.record.id).unwrap();
        Arc::make_mut(&mut held.record).slot = slot;
    }
    let gone = Status {
        phase: Phase::Ended,
        detail: "exit status 1".to_owned(),
        ..Status::default()
    };
    for row in rows.iter().take(3) {
        site.tells(row, gone.clone());
    }
    site.join(7, 7, 1);
    site.pass(SECOND * 20);
    assert_eq!(site.running("edge"), 7);
    assert_eq!(names(&site), (0..7).collect());
    // A replacement on the same node takes over its predecessor's number.
    let by_node = |rows: &[Arc<AssignmentRow>]| -> BTreeSet<_> {
        rows.iter().map(|row| (row.record.node, row.record.slot)).collect()
    };
    let first = by_node(&site.held_there("edge"));
    for row in site.held_there("edge") {
        site.tells(&row, gone.clone());
        site.pass(SECOND * 12);
    }
    assert_eq!(site.running("edge"), 7);
    assert_eq!(by_node(&site.held_there("edge")), first);
    assert!(site.all_rows("edge").iter().all(|row| row.record.goal == Goal::Run));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However parts end, the number of parallel parts is limited, and all complete in the end.
    #[test]
    fn no_more_parts_run_at_once_than_is_declared(
        parallelism in 1u32..6,
        replicas in 1u32..12,
        ends in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4), 40),
    ) {
        let mut site = Site::new(3);
        let mut spec = job(replicas, 50);
        spec.parallelism = parallelism;
        site.apply(spec);
        let mut ends = ends.into_iter();
        for round in 0..400 {
            site.pass(SECOND * 2);
            let there = site.held_there("job");
            prop_assert!(there.len() as u32 <= parallelism, "{there:?}");
            let done = site.rig.view.workload("job").unwrap().complete;
            if done == replicas {
                return Ok(());
            }
            let wanted = (replicas - done).min(parallelism) as usize;
            let next = ends.next();
            let how = next.as_ref().map_or(0, |(_, how)| *how);
            if there.len() < wanted {
                // A failed part waits for its retry.
                site.pass(SECOND * 300);
                continue;
            }
            let row = Arc::clone(next.map_or(&there[0], |(at, _)| at.get(&there)));
            match how {
                0 | 1 => site.ends(&row),
                2 => site.is_cut_off(&row),
                _ => {
                    let (phase, detail) = (Phase::Ended, "exit status 1".to_owned());
                    site.tells(&row, Status { phase, detail, ..Status::default() });
                }
            }
            prop_assert!(round < 399, "{done} of {replicas} are done");
        }
    }
}

/// Number of instances of `web` per zone.
fn zones(site: &Site) -> Vec<usize> {
    let of = |zone: u8| {
        let nodes = [zone, zone + 4].map(node_id);
        let there = site.held_there("web").into_iter();
        there.filter(|row| nodes.contains(&row.record.node)).count()
    };
    (1..=4).map(of).collect()
}

#[test]
fn what_is_spread_is_evened_out_when_its_nodes_are_back() {
    for mode in [Mode::Observe, Mode::Advise, Mode::Act] {
        let mut site = Site::new(0);
        for number in 1..=8 {
            site.join_in(number, ["a", "b", "c", "d"][usize::from(number - 1) % 4]);
        }
        let rebalance = Some(mode);
        let change = PolicyChange {
            rebalance,
            ..PolicyChange::default()
        };
        site.rig.command(command::SetPolicy(change)).unwrap();
        let mut spec = service("web", 4);
        spec.spread = "zone".to_owned();
        site.apply(spec);
        assert_eq!(site.running("web"), 4);
        assert_eq!(zones(&site), [1, 1, 1, 1]);
        site.pass(SECOND * 5);
        for name in ["node-3", "node-4", "node-7", "node-8"] {
            site.drain(name);
        }
        site.pass(SECOND * 60);
        assert_eq!(zones(&site), [2, 2, 0, 0]);
        for name in ["node-3", "node-4", "node-7", "node-8"] {
            let node = name.to_owned();
            site.rig.command(command::Uncordon { node }).unwrap();
        }
        let mut before = zones(&site);
        for _ in 0..120 {
            site.pass(SECOND * 6);
            let now = zones(&site);
            // One at a time, without interruption.
            assert!(now.iter().sum::<usize>() <= 5, "{now:?}");
            before = now;
        }
        let wanted = match mode {
            Mode::Act => vec![1, 1, 1, 1],
            _ => vec![2, 2, 0, 0],
        };
        assert_eq!(before, wanted, "{mode:?}");
    }
}

fn failed() -> Status {
    Status {
        phase: Phase::Ended,
        detail: "exit status 1".to_owned(),
        ..Status::default()
    }
}

impl Site {
    fn workload(&self, name: &str) -> Arc<crate::workload::WorkloadRow> {
        Arc::clone(self.rig.view.workload(name).unwrap())
    }

    fn cordons(&mut self, node: &str) {
        let node = node.to_owned();
        self.rig.command(command::Cordon { node }).unwrap();
    }
}

#[test]
fn a_daemon_is_not_well_before_its_successors_run_and_a_bad_one_is_taken_back() {
    for nodes in [1, 2] {
        let mut site = Site::new(nodes);
        let mut spec = service("edge", 1);
        (spec.kind, spec.update.deadline) = (Kind::Daemon, SECOND * 5);
        spec.update.min_healthy = SECOND * 3;
        site.apply(spec.clone());
        assert_eq!(site.running("edge"), usize::from(nodes));
        site.pass(SECOND * 5);
        spec.args = vec!["bad".to_owned()];
        site.apply(spec);
        // An ending instance is still present for a while.
        site.rig.pass(SECOND / 2);
        let row = site.workload("edge");
        assert_eq!(
            (row.record.stable, row.desired),
            (Revision(1), u32::from(nodes)),
            "{nodes}"
        );
        for _ in 0..60 {
            let new = site.held_there("edge").into_iter();
            for row in new.filter(|row| row.record.revision == Revision(2) && row.status.phase != Phase::Ended) {
                site.tells(&row, failed());
            }
            site.pass(SECOND);
            let row = site.workload("edge");
            assert!(row.record.stable != Revision(2), "{nodes}: a crash loop is well");
        }
        let record = Arc::clone(&site.workload("edge").record);
        assert_eq!((record.revision, record.stable), (Revision(3), Revision(3)), "{nodes}");
        assert_eq!(record.failed.as_ref().map(|(revision, _)| *revision), Some(Revision(2)));
        assert_eq!(site.running("edge"), usize::from(nodes));
    }
}

#[test]
fn a_daemons_update_is_judged_by_the_nodes_that_take_work() {
    let mut site = Site::new(2);
    let mut spec = service("edge", 1);
    (spec.kind, spec.update.deadline) = (Kind::Daemon, SECOND * 5);
    site.apply(spec.clone());
    assert_eq!(site.running("edge"), 2);
    site.pass(SECOND * 5);
    site.cordons("node-1");
    spec.args = vec!["2".to_owned()];
    site.apply(spec);
    site.pass(SECOND * 120);
    let mut revisions: Vec<u64> = site
        .held_there("edge")
        .iter()
        .map(|row| row.record.revision.0)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2]);
    let node = "node-1".to_owned();
    site.rig.command(command::Uncordon { node }).unwrap();
    site.pass(SECOND * 20);
    let record = Arc::clone(&site.workload("edge").record);
    assert_eq!((record.revision, record.stable), (Revision(2), Revision(2)));
}

#[test]
fn what_is_done_of_a_batch_is_counted_once_and_by_the_present_declaration() {
    let mut site = Site::new(2);
    let mut spec = job(4, 0);
    site.apply(spec.clone());
    assert_eq!(site.running("job"), 4);
    for row in site.held_there("job") {
        site.ends(&row);
    }
    site.pass(SECOND);
    assert_eq!(site.workload("job").complete, 4);
    let name = "job".to_owned();
    let scale = |replicas| WorkloadVerb::Scale {
        name: name.clone(),
        replicas,
    };
    for (replicas, done) in [(2, 2), (0, 0), (3, 3)] {
        site.change(scale(replicas), false).unwrap();
        site.pass(SECOND);
        let row = site.workload("job");
        assert_eq!((row.desired, row.complete), (replicas, done));
    }
    spec.args = vec!["2".to_owned()];
    (spec.kind, spec.parallelism) = (
        Kind::Batch {
            replicas: 3,
            retries: 0,
        },
        1,
    );
    site.apply(spec);
    site.pass(SECOND);
    assert_eq!(site.workload("job").complete, 0);
    for done in 1..=3 {
        let there = site.held_there("job");
        assert_eq!(there.len(), 1);
        site.ends(&there[0]);
        site.pass(SECOND * 2);
        assert_eq!(site.workload("job").complete, done);
    }
}

#[test]
fn a_second_declaration_of_a_batch_has_its_retries_and_is_not_taken_back() {
    let mut site = Site::new(2);
    let mut spec = job(1, 2);
    site.apply(spec.clone());
    assert_eq!(site.running("job"), 1);
    site.ends(&site.held_there("job")[0].clone());
    site.pass(SECOND);
    spec.args = vec!["2".to_owned()];
    site.apply(spec);
    for attempt in 0..3 {
        site.pass(SECOND * 15);
        let row = site.held_there("job")[0].clone();
        assert_eq!((row.record.attempt, row.record.revision), (attempt, Revision(2)));
        site.tells(&row, failed());
    }
    site.pass(SECOND * 60);
    assert_eq!(site.workload("job").record.revision, Revision(2));
    assert!(site.waits_for("job").contains("failed 3 times, and is not tried again"));
}

#[test]
fn a_restart_of_a_batch_replaces_what_runs_whatever_waits() {
    for waits in ["for its turn", "for nothing more"] {
        let mut site = Site::new(2);
        let mut spec = job(3, 0);
        if waits == "for its turn" {
            spec.parallelism = 1;
        }
        site.apply(spec);
        site.pass(SECOND * 2);
        if waits == "for nothing more" {
            site.tells(&site.held_there("job")[2].clone(), failed());
            site.pass(SECOND);
        }
        let before: BTreeSet<AssignmentId> = site.held_there("job").iter().map(|row| row.record.id).collect();
        let name = "job".to_owned();
        site.change(WorkloadVerb::Restart { name }, false).unwrap();
        site.pass(SECOND * 5);
        let there = site.held_there("job");
        assert!(
            !there.is_empty() && there.iter().all(|row| !before.contains(&row.record.id)),
            "{waits}"
        );
    }
}

#[test]
fn what_failed_by_another_declaration_holds_up_nothing() {
    let mut site = Site::new(1);
    site.apply(service("web", 1));
    for _ in 0..4 {
        site.pass(SECOND * 100);
        if let Some(row) = site.held_there("web").first().cloned() {
            site.tells(&row, failed());
        }
    }
    site.pass(SECOND / 2);
    assert!(site.waits_for("web").contains("in a row"), "{}", site.waits_for("web"));
    let mut mended = service("web", 1);
    mended.args = vec!["good".to_owned()];
    let applied = site.apply(mended);
    assert_eq!(applied.starts.len(), 1, "{applied:?}");
    assert_eq!(site.running("web"), 1);
}

#[test]
fn what_agents_start_again_by_themselves_fails_no_update() {
    let mut site = Site::new(1);
    site.apply(service("web", 1));
    assert_eq!(site.running("web"), 1);
    site.pass(SECOND * 5);
    let mut spec = service("web", 1);
    (spec.args, spec.update.min_healthy) = (vec!["2".to_owned()], SECOND * 20);
    site.apply(spec);
    site.pass(SECOND * 3);
    let is_new = |row: &&Arc<AssignmentRow>| row.record.revision == Revision(2);
    let row = site.held_there("web").iter().find(is_new).unwrap().clone();
    for again in 1..=5 {
        let status = Status {
            phase: Phase::Running,
            healthy: true,
            restarts: again,
            started_alone: again,
            ..Status::default()
        };
        site.tells(&row, status);
        site.pass(SECOND);
    }
    site.pass(SECOND * 60);
    let record = Arc::clone(&site.workload("web").record);
    assert_eq!(
        (record.revision, record.stable),
        (Revision(2), Revision(2)),
        "{}",
        record.rolled_back
    );
}

#[test]
fn a_port_that_was_handed_out_is_nobody_elses_fixed_one() {
    let mut site = Site::new(2);
    let mut spec = service("web", 1);
    spec.ports = vec!["http".to_owned()];
    site.apply(spec);
    site.pass(SECOND);
    let row = site.held_there("web")[0].clone();
    let status = Status {
        phase: Phase::Running,
        healthy: true,
        pid: 1,
        ports: vec![31_002],
        ..Status::default()
    };
    site.tells(&row, status);
    let port = FixedPort {
        port: 31_002,
        protocol: Protocol::Tcp,
    };
    let applied = site.apply(with_port("fixed", 2, port));
    assert_eq!(applied.starts.len(), 1);
    assert_ne!(applied.starts[0].node, row.record.node);
    assert!(site.waits_for("fixed").contains("port taken"));
}

#[test]
fn a_restart_of_what_waits_for_its_node_is_told_once() {
    let mut site = Site::new(4);
    let mut spec = job(1, 3);
    (spec.on_interruption, spec.reschedule_delay) = (Interruption::Fail, Some(Duration::ZERO));
    site.apply(spec);
    assert_eq!(site.running("job"), 1);
    let number = site.held_there("job")[0].record.node.0[0];
    site.dies(number);
    site.pass(SECOND * 30);
    let name = "job".to_owned();
    let restarted = site.change(WorkloadVerb::Restart { name }, false).unwrap();
    assert_eq!(
        (restarted.starts.len(), restarted.waiting.len()),
        (1, 0),
        "{restarted:?}"
    );
}

#[test]
fn a_name_that_fits_two_alike_is_told_and_that_of_a_successor_is_not() {
    let mut site = Site::new(2);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 5);
    assert!(site.rig.view.called("web.0").is_empty());
    let mut spec = service("web", 2);
    (spec.args, spec.update.min_healthy) = (vec!["2".to_owned()], SECOND * 30);
    site.apply(spec);
    site.pass(SECOND * 3);
    assert_eq!(
        site.held_there("web").iter().filter(|row| row.record.slot == 0).count(),
        2
    );
    assert!(site.rig.view.called("web.0").is_empty());
    // Neither replaces the other.
    let row = site
        .held_there("web")
        .iter()
        .find(|row| row.record.slot == 1)
        .unwrap()
        .clone();
    let held = site.rig.core.work.table_mut().held_mut(row.record.id).unwrap();
    Arc::make_mut(&mut held.record).slot = 0;
    let called = site.rig.core.work.table_mut().changed_view().unwrap().called("web.0");
    assert!(called.len() == 2 && called.contains(&row.record.id), "{called:?}");
}
