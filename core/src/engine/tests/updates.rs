//! Updates: a running instance is not given up before its replacement runs, and an unhealthy revision is not rolled out
//! further.

use std::{sync::Arc, time::Duration};

use super::{
    rig::{SECOND, node_id, see},
    workloads::{Site, service},
};
use crate::{
    command,
    engine::{ChangeWorkload, FromAgent, Input, Refusal, WorkloadVerb},
    id::Revision,
    mesh::Sight,
    node::{ConnId, Liveness},
    workload::{AssignmentId, AssignmentRow, Constraint, Doubt, Exit, Goal, Kind, Operator, Phase, Spec, Status},
};

fn web(version: &str) -> Spec {
    let mut spec = service("web", 4);
    spec.args = vec![version.to_owned()];
    spec.update.deadline = SECOND * 30;
    spec
}

/// A site of `nodes` nodes with four healthy instances of `web`.
fn with_web(nodes: u8) -> Site {
    let mut site = Site::new(nodes);
    site.apply(web("1"));
    assert_eq!(site.running("web"), 4);
    site.pass(SECOND * 5);
    site
}

impl Site {
    /// Revisions of a workload's wanted instances.
    fn revisions(&self, name: &str) -> Vec<u64> {
        let mut revisions: Vec<u64> = self.wanted(name).iter().map(|row| row.record.revision.0).collect();
        revisions.sort_unstable();
        revisions
    }

    fn wanted(&self, name: &str) -> Vec<Arc<AssignmentRow>> {
        let is_wanted = |row: &&Arc<AssignmentRow>| {
            &*row.record.workload == name && row.record.goal == Goal::Run && row.status.phase != Phase::Ended
        };
        self.rig.view.assignments.iter().filter(is_wanted).cloned().collect()
    }

    fn reports(&mut self, row: &AssignmentRow, phase: Phase, restarts: u32) {
        let conn = self.conns.iter().find(|conn| node_id(**conn as u8) == row.record.node);
        let status = Status {
            phase,
            healthy: phase == Phase::Running,
            restarts,
            detail: "exit code 1".to_owned(),
            ..Status::default()
        };
        let (conn, instances, all) = (ConnId(*conn.unwrap()), vec![(row.record.id, status)], false);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    /// Instances of revision 2 of `web`.
    fn newest(&self) -> Vec<Arc<AssignmentRow>> {
        let rows = self.wanted("web").into_iter();
        rows.filter(|row| row.record.revision == Revision(2)).collect()
    }

    /// A node falls silent and its peers miss it; returns the position and number of its connection.
    pub(super) fn dies(&mut self, number: u8) -> (usize, u64) {
        let at = self.conns.iter().position(|conn| *conn as u8 == number).unwrap();
        let conn = self.conns.remove(at);
        for other in self.conns.clone() {
            see(&mut self.rig, other, number, Sight::Silent);
        }
        (at, conn)
    }

    /// An instance's program completes its work.
    pub(super) fn ends(&mut self, row: &AssignmentRow) {
        let conn = self.conns.iter().find(|conn| node_id(**conn as u8) == row.record.node);
        let status = Status {
            phase: Phase::Ended,
            exit: Some(Exit::Code(0)),
            complete: true,
            ..Status::default()
        };
        let (conn, instances, all) = (ConnId(*conn.unwrap()), vec![(row.record.id, status)], false);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    fn ids(&self, name: &str) -> Vec<AssignmentId> {
        self.wanted(name).iter().map(|row| row.record.id).collect()
    }

    fn rolled_back(&self, name: &str) -> String {
        self.rig.view.workload(name).unwrap().record.rolled_back.clone()
    }
}

fn cordon(site: &mut Site, node: &str) {
    let node = node.to_owned();
    site.rig.command(command::Cordon { node }).unwrap();
}

#[test]
fn an_update_that_fits_nowhere_stops_nothing_and_is_taken_back_at_its_deadline() {
    let unfit: [fn(&mut Spec); 3] = [
        |spec| spec.resources.memory_bytes = 900 << 30,
        |spec| spec.resources.cpu_millis = 64_000,
        |spec| {
            spec.constraints = vec![Constraint {
                key: "zone".to_owned(),
                operator: Operator::In,
                values: vec!["aa".to_owned()],
            }];
        },
    ];
    // Also if the old instance would have to be stopped first.
    for (alone, nodes) in [(false, 3), (false, 1), (true, 4)] {
        for change in unfit {
            let mut site = Site::new(nodes);
            let mut spec = web("1");
            spec.alone = alone;
            site.apply(spec.clone());
            assert_eq!(site.running("web"), 4);
            site.pass(SECOND * 5);
            let before = site.ids("web");
            change(&mut spec);
            let planned = site.apply(spec);
            assert_eq!((planned.stops.len(), planned.starts.len()), (0, 0), "{planned:?}");
            site.pass(SECOND * 28);
            assert_eq!(site.ids("web"), before, "{alone} {nodes}");
            assert_eq!(site.rig.view.workload("web").unwrap().record.revision, Revision(2));
            site.pass(SECOND * 6);
            let workload = Arc::clone(site.rig.view.workload("web").unwrap());
            assert_eq!(
                (workload.record.revision, workload.record.stable),
                (Revision(3), Revision(3)),
                "{alone} {nodes}"
            );
            assert_eq!(site.ids("web"), before);
            assert_eq!(site.rolled_back("web"), "", "all is well again");
            let told = |text: &str| site.rig.events.iter().any(|event| event.summary.contains(text));
            assert!(told("none was placed within 30s: no node takes it"), "{alone} {nodes}");
        }
    }
}

#[test]
fn an_update_uses_the_room_of_the_one_that_it_replaces() {
    // Each node is full: each replacement has exactly its predecessor's room.
    let mut site = Site::new(2);
    let full = |version: &str, cpu| {
        let mut spec = service("web", 2);
        spec.args = vec![version.to_owned()];
        (spec.resources.cpu_millis, spec.update.deadline) = (cpu, SECOND * 30);
        spec
    };
    site.apply(full("1", 600));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 5);
    site.apply(full("2", 900));
    site.pass(SECOND * 30);
    assert_eq!((site.running("web"), site.revisions("web")), (2, vec![2, 2]));
    // No node has room for two.
    let before = site.ids("web");
    site.apply(full("3", 1_100));
    site.pass(SECOND * 10);
    assert_eq!(site.ids("web"), before);
}

#[test]
fn a_daemon_is_not_stopped_on_a_node_that_takes_no_successor() {
    let mut site = Site::new(3);
    let daemon = |version: &str| {
        let mut spec = service("collector", 0);
        (spec.kind, spec.args) = (Kind::Daemon, vec![version.to_owned()]);
        spec
    };
    site.apply(daemon("1"));
    assert_eq!(site.running("collector"), 3);
    site.pass(SECOND * 5);
    cordon(&mut site, "node-2");
    site.apply(daemon("2"));
    site.pass(SECOND * 60);
    assert_eq!(site.running("collector"), 3);
    assert_eq!(site.revisions("collector"), [1, 2, 2]);
    let node = "node-2".to_owned();
    site.rig.command(command::Uncordon { node }).unwrap();
    site.pass(SECOND * 20);
    assert_eq!(site.revisions("collector"), [2, 2, 2]);
}

#[test]
fn a_release_that_is_well_once_and_then_fails_is_taken_back() {
    let mut site = with_web(4);
    site.apply(web("2"));
    site.pass(SECOND / 2);
    // Each new instance is briefly healthy and ends; its agent restarts it.
    for round in 1..20 {
        let new = site.newest();
        assert!(new.len() <= 1, "round {round}: {}", new.len());
        for row in new {
            site.reports(&row, Phase::Backoff, round);
        }
        site.rig.pass(SECOND / 2);
        let new = site.newest();
        for row in new {
            site.reports(&row, Phase::Running, round);
        }
        site.pass(SECOND / 2);
    }
    site.pass(SECOND * 20);
    let workload = Arc::clone(site.rig.view.workload("web").unwrap());
    assert_eq!(
        (workload.record.revision, workload.record.stable),
        (Revision(3), Revision(3))
    );
    assert_eq!((site.running("web"), site.revisions("web")), (4, vec![3; 4]));
}

#[test]
fn a_drain_during_an_update_moves_nothing_onto_what_is_not_known_to_be_well() {
    let mut site = with_web(4);
    let mut slow = web("2");
    slow.update.min_healthy = Duration::from_secs(25);
    site.apply(slow);
    site.pass(SECOND);
    assert_eq!(
        site.revisions("web").iter().filter(|revision| **revision == 2).count(),
        1
    );
    let (new, old): (Vec<_>, Vec<_>) = site
        .wanted("web")
        .into_iter()
        .partition(|row| row.record.revision == Revision(2));
    let old = old
        .into_iter()
        .find(|row| row.record.node != new[0].record.node)
        .unwrap();
    let node = format!("node-{}", old.record.node.0[0]);
    let (deadline, plan) = (None, false);
    site.rig
        .command(command::Drain {
            node,
            deadline,
            keep_daemons: false,
            plan,
        })
        .unwrap();
    for _ in 0..20 {
        site.pass(SECOND);
        let new = site
            .wanted("web")
            .into_iter()
            .filter(|row| row.record.revision == Revision(2))
            .count();
        assert!(new <= 1, "{new} run by what is tried");
    }
    site.pass(SECOND * 200);
    assert_eq!((site.running("web"), site.revisions("web")), (4, vec![2; 4]));
}

#[test]
fn what_was_well_is_restored_wherever_one_of_its_instances_fails() {
    let mut site = with_web(4);
    site.apply(web("2"));
    site.pass(SECOND / 2);
    let new = site
        .wanted("web")
        .into_iter()
        .find(|row| row.record.revision == Revision(2))
        .unwrap();
    site.reports(&new, Phase::Ended, 3);
    site.rig.pass(SECOND / 2);
    assert_eq!(site.rig.view.workload("web").unwrap().record.revision, Revision(3));
    // An instance of the restored revision fails permanently as well, because of its node.
    let restored = site.wanted("web").into_iter().next().unwrap();
    site.reports(&restored, Phase::Ended, 3);
    site.pass(SECOND * 60);
    assert_eq!((site.running("web"), site.revisions("web")), (4, vec![3; 4]));
    assert_eq!(site.rolled_back("web"), "");
}

#[test]
fn a_spread_holds_through_restarts_and_updates() {
    for (zones, replicas, parallel) in [(4u8, 4, 1), (4, 4, 4), (3, 6, 2), (2, 5, 3)] {
        let mut site = Site::new(0);
        for number in 1..=zones * 2 {
            site.join_in(number, &format!("zone-{}", number % zones));
        }
        let mut spec = web("1");
        (spec.kind, spec.spread, spec.update.max_parallel) = (Kind::Service { replicas }, "zone".to_owned(), parallel);
        site.apply(spec.clone());
        site.pass(SECOND * 10);
        for round in 2..5 {
            spec.args = vec![round.to_string()];
            site.apply(spec.clone());
            site.pass(SECOND * 40);
            let mut counts = vec![0; usize::from(zones)];
            for row in site.wanted("web") {
                counts[usize::from(row.record.node.0[0] % zones)] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(
                most - least <= 1,
                "{zones} zones, {replicas}, {parallel} at once: {counts:?}"
            );
            assert_eq!(site.revisions("web"), vec![round as u64; replicas as usize]);
        }
    }
}

/// A workload pinned to a node, or its daemon, that fits nowhere else.
fn pinned(kind: Kind) -> Spec {
    let mut spec = service("pinned", 1);
    spec.kind = kind;
    spec.constraints = vec![Constraint {
        key: "node.name".to_owned(),
        operator: Operator::In,
        values: vec!["node-1".to_owned()],
    }];
    spec
}

#[test]
fn what_nothing_takes_the_place_of_goes_on_when_its_node_is_back() {
    let batch = Kind::Batch {
        replicas: 1,
        retries: 3,
    };
    for kind in [Kind::Service { replicas: 1 }, Kind::Daemon, batch] {
        let mut site = Site::new(4);
        site.apply(pinned(kind));
        assert_eq!(site.running("pinned"), 1);
        site.pass(SECOND * 5);
        let before = site.ids("pinned");
        // The agent is stalled; its instances are not.
        let number = site.wanted("pinned")[0].record.node.0[0];
        let (at, conn) = site.dies(number);
        for silent in [12, 90] {
            site.pass(SECOND * silent);
            assert_eq!(site.rig.transitions(number).last(), Some(&Liveness::Offline));
            assert_eq!(
                site.ids("pinned"),
                before,
                "{kind:?}: given up with nothing in its place"
            );
        }
        site.conns.insert(at, conn);
        site.restarted(number, Ok(()));
        site.pass(SECOND * 30);
        assert_eq!(site.ids("pinned"), before, "{kind:?}");
        let all = site
            .rig
            .view
            .assignments
            .iter()
            .filter(|row| &*row.record.workload == "pinned");
        assert_eq!(all.count(), 1, "{kind:?}: started anew");
    }
}

#[test]
fn each_declaration_has_its_own_deadline_to_find_a_place() {
    let mut site = with_web(3);
    let unfit = |version: &str| {
        let mut spec = web(version);
        spec.resources.memory_bytes = 900 << 30;
        spec
    };
    site.apply(unfit("2"));
    site.pass(SECOND * 20);
    site.apply(unfit("3"));
    site.pass(SECOND * 25);
    assert_eq!(site.rig.view.workload("web").unwrap().record.revision, Revision(3));
    site.pass(SECOND * 10);
    assert_eq!(site.rig.view.workload("web").unwrap().record.stable, Revision(4));
}

#[test]
fn what_waits_for_room_is_told_once_for_all_that_wait_for_the_same() {
    let mut site = Site::new(3);
    site.apply(service("many", 20));
    assert_eq!(site.running("many"), 20);
    site.pass(SECOND * 5);
    let mut spec = service("many", 20);
    spec.resources.cpu_millis = 64_000;
    let planned = site.apply(spec);
    let waits: Vec<(u32, &str)> = planned.waiting.iter().map(|one| (one.slots, &*one.reason)).collect();
    let why = "what runs stays until a node takes its successor: no node takes it: 3 have too little CPU left";
    assert_eq!((waits, planned.later), (vec![(20, why)], 20));
}

#[test]
fn the_old_one_stays_while_its_successor_waits_after_a_failure() {
    let mut site = Site::new(4);
    let mut spec = web("1");
    spec.update.rollback = false;
    site.apply(spec.clone());
    assert_eq!(site.running("web"), 4);
    site.pass(SECOND * 5);
    spec.args = vec!["2".to_owned()];
    site.apply(spec.clone());
    site.pass(SECOND / 2);
    let new = site.newest();
    site.reports(&new[0], Phase::Ended, 1);
    // Another attempt at once: its slot still waits for the failed one.
    spec.args = vec!["3".to_owned()];
    site.apply(spec);
    for _ in 0..10 {
        site.rig.pass(SECOND / 10);
        assert!(site.wanted("web").len() >= 4, "the old one went first");
    }
}

#[test]
fn a_node_that_dies_during_an_update_neither_fails_it_nor_holds_it_up() {
    for version in ["1", "2"] {
        let mut site = Site::new(4);
        let daemon = |version: &str| {
            let mut spec = service("collector", 0);
            (spec.kind, spec.args) = (Kind::Daemon, vec![version.to_owned()]);
            spec.update.deadline = SECOND * 20;
            spec
        };
        site.apply(daemon("1"));
        assert_eq!(site.running("collector"), 4);
        site.pass(SECOND * 5);
        if version == "2" {
            site.apply(daemon("2"));
            site.pass(SECOND);
        }
        let newest = site.wanted("collector").into_iter().max_by_key(|row| row.record.id);
        let died = newest.unwrap().record.node.0[0];
        site.dies(died);
        site.pass(SECOND * 30);
        assert_eq!(site.rig.transitions(died).last(), Some(&Liveness::Offline));
        if version == "1" {
            site.apply(daemon("2"));
        }
        site.pass(SECOND * 60);
        let workload = site.rig.view.workload("collector").unwrap();
        assert_eq!(
            (workload.record.revision, workload.record.stable),
            (Revision(2), Revision(2)),
            "{version}"
        );
    }
}

#[test]
fn what_was_stopped_for_another_reason_is_not_taken_back() {
    let mut site = Site::new(4);
    site.apply(service("web", 4));
    assert_eq!(site.running("web"), 4);
    site.pass(SECOND * 5);
    let last = site.wanted("web").into_iter().find(|row| row.record.slot == 3).unwrap();
    let (at, conn) = site.dies(last.record.node.0[0]);
    site.pass(SECOND / 2);
    site.apply(service("web", 3));
    site.conns.insert(at, conn);
    site.restarted(last.record.node.0[0], Ok(()));
    site.pass(SECOND * 5);
    assert!(!site.ids("web").contains(&last.record.id));
    let stops = site
        .rig
        .events
        .iter()
        .filter(|event| event.summary.starts_with("web: stop"));
    assert_eq!(stops.count(), 1, "it was taken back, and stopped again");
}

impl Site {
    /// Doubt about each instance of a daemon, in order; `None` for a healthy one.
    fn doubts(&self, name: &str) -> Vec<Option<Doubt>> {
        let rows = self.wanted(name);
        let well = rows.iter().filter(|row| row.status.healthy).count();
        let row = self.rig.view.workload(name).unwrap();
        let count = |doubt| rows.iter().filter(|row| row.doubt == Some(doubt)).count();
        assert_eq!(
            (row.lost as usize, row.unknown as usize),
            (count(Doubt::Lost), count(Doubt::Unknown))
        );
        assert_eq!(row.healthy as usize, well);
        assert!(row.running + row.lost + row.unknown <= rows.len() as u32);
        let mut by_node: Vec<_> = rows.iter().map(|row| (row.record.node, row.doubt)).collect();
        by_node.sort_unstable_by_key(|(node, _)| *node);
        by_node.into_iter().map(|(_, doubt)| doubt).collect()
    }

    /// Declared work in the snapshot: the number of items, and how many are missing.
    fn work_runs(&self) -> (u32, u32) {
        let report = &self.rig.snapshots.last().unwrap().coherence;
        let found = report.invariants.iter().find(|one| one.id == "work-runs").unwrap();
        (found.checked, found.broken)
    }
}

#[test]
fn a_batch_that_is_done_runs_again_as_often_as_is_asked_for() {
    let mut site = Site::new(2);
    let mut job = service("job", 3);
    job.kind = Kind::Batch {
        replicas: 3,
        retries: 0,
    };
    site.apply(job);
    for run in 1..=30 {
        site.pass(SECOND * 3);
        let parts = site.wanted("job");
        assert_eq!(parts.len(), 3, "run {run}");
        for part in parts {
            site.ends(&part);
        }
        site.pass(SECOND * 3);
        let row = Arc::clone(site.rig.view.workload("job").unwrap());
        assert_eq!((row.record.run, row.complete, row.running), (run, 3, 0));
        let name = "job".to_owned();
        let restarted = site.change(WorkloadVerb::Restart { name }, false).unwrap();
        assert_eq!((restarted.changed, restarted.starts.len()), (true, 3), "run {run}");
    }
    // Instances of earlier runs are not retained forever.
    let kept = site
        .rig
        .view
        .assignments
        .iter()
        .filter(|row| &*row.record.workload == "job");
    assert!(kept.count() < 40);
}

#[test]
fn a_declaration_may_leave_the_number_of_instances_as_it_is() {
    let mut site = with_web(3);
    let name = "web".to_owned();
    let scaled = site.change(WorkloadVerb::Scale { name, replicas: 6 }, false).unwrap();
    assert_eq!(scaled.replicas_before, Some(4));
    site.pass(SECOND * 5);
    let apply = |site: &mut Site, keep_replicas, plan| {
        let command = ChangeWorkload {
            plan,
            at: None,
            keep_replicas,
            force: false,
            verb: WorkloadVerb::Apply(Arc::new(web("1"))),
        };
        *site.rig.command(command).unwrap()
    };
    let kept = apply(&mut site, true, false);
    assert_eq!((kept.changed, kept.replicas_before), (false, None));
    assert_eq!(site.running("web"), 6);
    // Six instances of a kind limited to one.
    let mut alone = web("1");
    (alone.singleton, alone.kind) = (true, Kind::Service { replicas: 1 });
    let refused = site.rig.command(ChangeWorkload {
        plan: false,
        at: None,
        keep_replicas: true,
        force: false,
        verb: WorkloadVerb::Apply(Arc::new(alone)),
    });
    let field = "replicas";
    assert!(
        matches!(refused, Err(Refusal::Invalid { field: named, .. }) if named == field),
        "{refused:?}"
    );
    assert_eq!(site.running("web"), 6);
    // A specification with a replica count is applied as it is, and its plan shows that.
    let planned = apply(&mut site, false, true);
    assert_eq!((planned.stops.len(), planned.replicas_before), (2, Some(6)));
    // While a workload is being deleted its name stays in use until its instances have ended.
    site.change(WorkloadVerb::Delete { name: "web".to_owned() }, false)
        .unwrap();
    let refused = site.change(WorkloadVerb::Apply(Arc::new(web("2"))), false);
    assert_eq!(refused.unwrap_err(), Refusal::Deleting("web".to_owned()));
}

#[test]
fn of_a_node_that_is_not_online_no_instance_is_shown_as_well() {
    let mut site = Site::new(3);
    let mut edge = service("edge", 1);
    edge.kind = Kind::Daemon;
    site.apply(edge);
    site.pass(SECOND * 10);
    assert_eq!(site.doubts("edge"), [None; 3]);
    assert_eq!(site.work_runs(), (3, 0));
    let (at, conn) = site.dies(3);
    site.pass(SECOND + SECOND / 5);
    assert_eq!(site.doubts("edge"), [None, None, Some(Doubt::Unknown)]);
    site.pass(SECOND * 10);
    assert_eq!(site.doubts("edge"), [None, None, Some(Doubt::Lost)]);
    assert_eq!(site.work_runs(), (3, 1));
    let row = site.wanted("edge").into_iter().find(|row| row.doubt.is_some()).unwrap();
    assert_eq!(row.status.detail, "its node is offline");
    site.conns.insert(at, conn);
    site.restarted(3, Ok(()));
    site.pass(SECOND * 10);
    assert_eq!(site.doubts("edge"), [None; 3]);
    assert_eq!(site.work_runs(), (3, 0));
}

#[test]
fn what_does_not_stay_up_or_has_no_place_is_not_there() {
    let mut site = with_web(3);
    site.pass(SECOND * 10);
    assert_eq!(site.work_runs(), (4, 0));
    // Two of them keep ending and look briefly healthy in between.
    let failing = site.wanted("web");
    for restarts in 1..=4 {
        for row in &failing[..2] {
            site.reports(row, Phase::Backoff, restarts);
        }
    }
    site.pass(SECOND * 6);
    assert_eq!(site.work_runs(), (4, 2));
    // And two more have no room.
    let mut large = service("large", 2);
    large.resources.memory_bytes = 900 << 30;
    site.apply(large);
    site.pass(SECOND * 12);
    assert_eq!(site.work_runs().0, 6);
    assert!(site.work_runs().1 >= 2, "{:?}", site.work_runs());
}

#[test]
fn a_drain_may_leave_daemons_where_they_are() {
    let drained = |keep_daemons: bool| {
        let mut site = with_web(3);
        let mut edge = service("edge", 1);
        edge.kind = Kind::Daemon;
        site.apply(edge);
        site.pass(SECOND * 10);
        let before = site.ids("edge");
        let drain = |plan| command::Drain {
            node: "node-1".to_owned(),
            deadline: Some(SECOND * 20),
            keep_daemons,
            plan,
        };
        let changed = site.rig.command(drain(true)).unwrap();
        let of_edge = changed.iter().filter(|change| change.name == "edge");
        let planned = of_edge.map(|change| change.stops.len()).sum();
        site.rig.command(drain(false)).unwrap();
        site.pass(SECOND * 40);
        let here = |row: &&Arc<AssignmentRow>| row.record.node == node_id(1);
        assert_eq!(site.wanted("web").iter().filter(here).count(), 0);
        assert_eq!(site.wanted("web").len(), 4);
        let stays = site.ids("edge") == before;
        // A restarted coordinator retains it.
        let records = site.rig.batches.iter().flat_map(|batch| &batch.nodes);
        let kept = records.into_iter().any(|record| record.drain_keeps_daemons);
        site.rig
            .command(command::Uncordon {
                node: "node-1".to_owned(),
            })
            .unwrap();
        site.pass(SECOND * 10);
        assert_eq!(site.wanted("edge").len(), 3);
        (planned, stays, kept)
    };
    assert_eq!(drained(true), (0, true, true));
    assert_eq!(drained(false), (1, false, false));
}
