//! Restoration from a backup, and other unknown instances.

use std::{sync::Arc, time::Duration};

use super::rig::{Rig, SECOND, hello, node_id};
use crate::{
    engine::{ChangeWorkload, Changed, FromAgent, Input, Message, Refusal, WorkloadVerb},
    id::{DecisionId, Epoch, EventNo, Revision, Uuid},
    node::{ConnId, NodeRecord},
    placement::Score,
    store::{Durable, Restored},
    time::WallTime,
    workload::{
        Assigned, Assignment, AssignmentId, AssignmentRow, Doubt, Exit, Goal, Kind, Phase, Spec, Status, Workload,
    },
};

/// Epochs of the backup and of the restored coordinator.
const BEFORE: u64 = 3;
const AFTER: u64 = 1_001;

fn of_before(count: u64) -> AssignmentId {
    AssignmentId(BEFORE << 32 | count)
}

fn service(name: &str, replicas: u32) -> Arc<Spec> {
    let mut spec = Spec::new(name, "/bin/true");
    spec.kind = Kind::Service { replicas };
    spec.update.min_healthy = SECOND;
    Arc::new(spec)
}

fn singleton(name: &str) -> Arc<Spec> {
    Arc::new(Spec {
        singleton: true,
        ..Spec::clone(&service(name, 1))
    })
}

fn workload(revision: u64, spec: &Arc<Spec>) -> Arc<Workload> {
    Arc::new(Workload {
        revisions: [(Revision(revision), Arc::clone(spec))].into(),
        revision: Revision(revision),
        stable: Revision(revision),
        time: WallTime(7),
        by: "ada".to_owned(),
        deleted: false,
        restarted: None,
        promoted: Revision(0),
        rolled_back: String::new(),
        run: 1,
        failed: None,
        run_from: None,
    })
}

fn assignment(count: u64, name: &str, slot: u32, node: u8) -> Arc<Assignment> {
    Arc::new(Assignment {
        id: of_before(count),
        workload: name.into(),
        slot,
        revision: Revision(1),
        node: node_id(node),
        goal: Goal::Run,
        placed: WallTime(7),
        reason: "declared".to_owned(),
        score: Score::default(),
        decision: DecisionId(9),
        replaces: None,
        attempt: 0,
        stop_reason: String::new(),
        leaving: String::new(),
        leaving_because: None,
        end: None,
        orphan: None,
    })
}

/// A restored coordinator, and agents with given instances.
struct Site {
    rig: Rig,
    conns: Vec<u64>,
    /// Descriptions that agents would return.
    known: Vec<Assigned>,
}

impl Site {
    fn new(workloads: Vec<Arc<Workload>>, assignments: Vec<Arc<Assignment>>, restored: bool) -> Site {
        let mut durable = Durable::new(Uuid([9; 16]));
        durable.epoch = if restored { Epoch(AFTER) } else { Epoch(BEFORE + 1) };
        durable.nodes = (1..=3)
            .map(|number| {
                let record = NodeRecord::new(Arc::new(hello(number, 1, 0).facts));
                (record.id(), Arc::new(record))
            })
            .collect();
        let named = |record: Arc<Workload>| (record.spec().unwrap().name.as_str().into(), record);
        durable.workloads = workloads.into_iter().map(named).collect();
        durable.assignments = assignments.into_iter().map(|record| (record.id, record)).collect();
        let taken = WallTime(0);
        durable.restored = restored.then_some(Restored {
            taken,
            time: WallTime(60_000),
            epoch: Epoch(AFTER - 1),
            event: EventNo(5_000),
            settled: false,
        });
        durable.last_event = EventNo(5_000);
        Site {
            rig: Rig::from(durable),
            conns: Vec::new(),
            known: Vec::new(),
        }
    }

    /// A node joins with these instances, running and healthy.
    fn joins(&mut self, number: u8, has: &[(u64, &Arc<Spec>, u32, u64)]) {
        let conn = u64::from(number);
        self.rig.join(conn, number);
        self.rig.beat(conn);
        self.conns.push(conn);
        let mut instances = Vec::new();
        for (count, spec, slot, revision) in has {
            let id = of_before(*count);
            self.known.push(Assigned {
                id,
                slot: *slot,
                revision: Revision(*revision),
                spec: Arc::clone(spec),
            });
            instances.push((id, running()));
        }
        self.tells(conn, instances, true);
        self.obey();
    }

    fn tells(&mut self, conn: u64, instances: Vec<(AssignmentId, Status)>, all: bool) {
        let conn = ConnId(conn);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    /// Agents answer requests, execute orders, and report.
    fn obey(&mut self) {
        let mut taken = 0;
        while taken < self.rig.sent.len() {
            let (conn, message) = self.rig.sent[taken].clone();
            taken += 1;
            let Message::Work(work) = message else { continue };
            let described = work.describe.iter();
            let described = described.filter_map(|id| self.known.iter().find(|known| known.id == *id).cloned());
            let instances: Vec<Assigned> = described.collect();
            if !instances.is_empty() {
                self.rig.input(Input::FromAgent(
                    conn,
                    FromAgent::Described {
                        instances,
                        refused: Vec::new(),
                    },
                ));
            }
            let runs = work.assign.into_iter().map(|assigned| (assigned.id, running()));
            let ends = work.stop.into_iter().map(|(id, _)| (id, ended()));
            let instances = runs.chain(ends).collect();
            self.tells(conn.0, instances, false);
            self.rig.pass(Duration::ZERO);
        }
        self.rig
            .sent
            .retain(|(_, message)| !matches!(message, Message::Work(_)));
    }

    fn pass(&mut self, span: Duration) {
        let conns = self.conns.clone();
        let end = self.rig.now + span;
        while self.rig.now < end {
            self.rig.beat_for(&conns, SECOND.min(end.since(self.rig.now)));
            self.obey();
        }
        self.rig.pass(SECOND / 10);
    }

    fn rows(&self, name: &str) -> Vec<Arc<AssignmentRow>> {
        let rows = self
            .rig
            .view
            .assignments
            .iter()
            .filter(|row| &*row.record.workload == name);
        rows.filter(|row| row.record.end.is_none()).cloned().collect()
    }

    fn ids(&self, name: &str) -> Vec<AssignmentId> {
        self.rows(name).iter().map(|row| row.record.id).collect()
    }

    fn change(&mut self, verb: WorkloadVerb, plan: bool) -> Result<Changed, Refusal> {
        let at = None;
        let command = ChangeWorkload {
            plan,
            at,
            verb,
            keep_replicas: false,
            force: false,
        };
        self.rig.command(command).map(|changed| *changed)
    }

    fn apply(&mut self, spec: &Arc<Spec>, plan: bool) -> Changed {
        self.change(WorkloadVerb::Apply(Arc::clone(spec)), plan).unwrap()
    }

    fn told(&self, what: &str) -> usize {
        let told = self.rig.events.iter().filter(|event| event.summary.contains(what));
        told.count()
    }
}

fn running() -> Status {
    Status {
        phase: Phase::Running,
        healthy: true,
        pid: 1,
        ..Status::default()
    }
}

fn ended() -> Status {
    Status {
        phase: Phase::Ended,
        complete: true,
        ..Status::default()
    }
}

#[test]
fn numbers_go_on_above_whatever_was_given_out() {
    let (taken, now) = (WallTime(1_700_000_000_000), WallTime(1_700_000_060_000));
    let restored = Restored::new(Epoch(4), EventNo(900), taken, now).unwrap();
    assert_eq!((restored.epoch.0, restored.event.0), (1_700_000_060, 1_700_000_060_000));
    // A later restoration of the same backup uses numbers above those of the first one.
    let again = Restored::new(Epoch(4), EventNo(900), taken, WallTime(now.0 + 60_000)).unwrap();
    assert!(again.epoch.0 > restored.epoch.0 + 59 && again.event > restored.event);
    assert_eq!(
        Restored::new(Epoch(4), EventNo(900), now, taken),
        None,
        "the clock is behind"
    );

    let mut site = Site::new(Vec::new(), Vec::new(), true);
    site.joins(1, &[]);
    site.pass(SECOND * 70);
    site.apply(&service("web", 1), false);
    site.pass(SECOND * 2);
    assert_eq!(site.ids("web"), [AssignmentId(AFTER << 32 | 1)]);
    let numbers: Vec<u64> = site.rig.events.iter().map(|event| event.sequence.0).collect();
    assert_eq!(numbers[0], 5_001);
}

#[test]
fn what_no_workload_has_runs_on_until_it_is_declared_again() {
    let web = service("web", 2);
    for leader in [singleton("leader"), service("leader", 1)] {
        let mut site = Site::new(Vec::new(), Vec::new(), true);
        site.joins(1, &[(5, &web, 0, 3), (7, &leader, 0, 1)]);
        site.joins(2, &[(6, &web, 1, 3)]);
        site.pass(SECOND * 200);
        assert_eq!(site.ids("web"), [of_before(5), of_before(6)]);
        assert!(
            site.rows("web")
                .iter()
                .all(|row| row.record.orphan.as_ref() == Some(&web))
        );
        assert_eq!(site.told("which is not known here"), 3);
        // A plan leaves no trace.
        let planned = site.apply(&web, true);
        assert_eq!((planned.adopted, planned.starts.len(), planned.stops.len()), (2, 0, 0));
        assert!(site.rows("web").iter().all(|row| row.record.orphan.is_some()));
        let done = site.apply(&web, false);
        assert_eq!((done.adopted, done.starts.len(), done.stops.len()), (2, 0, 0));
        assert_eq!(site.apply(&leader, false).adopted, 1);
        site.pass(SECOND * 30);
        assert_eq!(site.ids("web"), [of_before(5), of_before(6)]);
        assert_eq!(site.ids("leader"), [of_before(7)]);
        assert!(site.rows("web").iter().all(|row| row.record.orphan.is_none()));
        // A revision number assigned before the restoration is not reused.
        assert_eq!(done.revision, Revision(4));
        assert!(site.rows("web").iter().all(|row| row.record.revision == Revision(4)));
    }
}

#[test]
fn what_no_workload_has_is_deleted_by_its_name() {
    let web = service("web", 2);
    let mut site = Site::new(Vec::new(), Vec::new(), true);
    site.joins(1, &[(5, &web, 0, 1), (6, &web, 1, 1)]);
    site.pass(SECOND);
    let name = || "web".to_owned();
    let planned = site.change(WorkloadVerb::Delete { name: name() }, true).unwrap();
    assert_eq!((planned.stops.len(), planned.applied), (2, false));
    site.pass(SECOND * 2);
    assert_eq!(site.ids("web").len(), 2);
    let done = site.change(WorkloadVerb::Delete { name: name() }, false).unwrap();
    assert_eq!((done.stops.len(), done.applied), (2, true));
    site.pass(SECOND * 2);
    assert_eq!(site.rig.view.assignments.len(), 0);
    let mut kept = site.rig.batches.iter().flat_map(|batch| &batch.assignments);
    let last = kept.rfind(|(id, _)| *id == of_before(5));
    assert_eq!(last, Some(&(of_before(5), None)), "nothing of it is kept");
    assert!(site.change(WorkloadVerb::Delete { name: name() }, false).is_err());
}

#[test]
fn a_singleton_that_is_being_stopped_is_waited_for() {
    let leader = singleton("leader");
    let mut site = Site::new(Vec::new(), Vec::new(), true);
    site.joins(1, &[(5, &leader, 0, 1)]);
    site.joins(2, &[]);
    site.pass(SECOND * 200);
    let name = "leader".to_owned();
    site.change(WorkloadVerb::Delete { name }, false).unwrap();
    // The node has not reported the end yet.
    let done = site.apply(&leader, false);
    assert_eq!((done.adopted, done.starts.len()), (0, 0));
    assert!(
        done.waiting[0].reason.contains("has not ended yet"),
        "{:?}",
        done.waiting
    );
    site.pass(SECOND * 3);
    assert_eq!(site.ids("leader"), [AssignmentId(AFTER << 32 | 1)]);
}

#[test]
fn what_moved_after_the_backup_is_taken_over_where_it_is() {
    for web in [service("web", 1), singleton("web")] {
        let mut site = Site::new(vec![workload(1, &web)], vec![assignment(1, "web", 0, 1)], true);
        // The instance in the backup is gone; its id is not reused.
        site.joins(1, &[]);
        site.pass(SECOND * 5);
        assert_eq!(site.ids("web"), []);
        site.joins(2, &[(8, &web, 0, 1)]);
        site.joins(3, &[]);
        site.pass(SECOND * 200);
        assert_eq!(site.ids("web"), [of_before(8)]);
        assert_eq!(site.told("is taken over as it runs"), 1);
        let decisions = site.told("web: start");
        assert_eq!(decisions, 0, "nothing was started");
    }
}

#[test]
fn a_revision_that_is_not_known_is_replaced_one_after_another() {
    let (old, new) = (service("web", 2), Arc::new(Spec::new("web", "/bin/new")));
    let known = vec![workload(3, &old)];
    let mut site = Site::new(known, Vec::new(), true);
    site.joins(1, &[(8, &new, 0, 4), (9, &new, 1, 4)]);
    site.joins(2, &[]);
    site.pass(SECOND * 50);
    assert_eq!(site.ids("web"), [of_before(8), of_before(9)]);
    let row = site.rig.view.workload("web").unwrap().clone();
    assert_eq!(
        (row.record.revision, row.record.stable),
        (Revision(5), Revision(5)),
        "above the one that was given out"
    );
    assert_eq!(row.record.revisions.get(&Revision(4)), Some(&new));
    for _ in 0..60 {
        site.pass(SECOND);
        assert!(
            (2..=3).contains(&site.rows("web").len()),
            "one at a time, each beside its successor"
        );
    }
    let rows = site.rows("web");
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter()
            .all(|row| row.record.id.epoch() == Epoch(AFTER) && row.record.revision == Revision(5))
    );
}

#[test]
fn nothing_is_started_before_agents_had_the_time_to_tell() {
    let workloads = vec![workload(1, &service("web", 1)), workload(1, &singleton("leader"))];
    let assignments = vec![assignment(1, "web", 0, 3), assignment(2, "leader", 0, 3)];
    let mut site = Site::new(workloads, assignments, true);
    site.joins(1, &[]);
    site.joins(3, &[]);
    site.pass(SECOND * 55);
    assert_eq!((site.ids("web"), site.ids("leader")), (vec![], vec![]));
    let waits = |site: &Site, name: &str| site.rig.view.workload(name).unwrap().waiting.clone();
    assert!(
        waits(&site, "web")[0].reason.contains("restored"),
        "{:?}",
        waits(&site, "web")
    );
    site.pass(SECOND * 7);
    assert_eq!(site.ids("web"), [AssignmentId(AFTER << 32 | 1)]);
    // A lease is 30 s, twice that for a singleton, plus a sixteenth for clock drift: 63.75 s.
    assert_eq!(site.ids("leader"), []);
    site.pass(SECOND * 4);
    assert_eq!(site.ids("leader"), [AssignmentId(AFTER << 32 | 2)]);
    let settled = site.rig.batches.iter().rev().find_map(|batch| batch.restored);
    assert!(settled.unwrap().settled, "a later start does not wait again");
}

#[test]
fn a_singleton_waits_while_a_node_has_not_said_what_it_runs() {
    let leader = singleton("leader");
    let mut site = Site::new(Vec::new(), Vec::new(), false);
    site.joins(1, &[]);
    site.joins(2, &[]);
    // It is asked and does not answer.
    site.tells(2, vec![(of_before(4), running())], false);
    site.apply(&leader, false);
    site.pass(SECOND * 20);
    assert_eq!(site.ids("leader"), []);
    let waiting = site.rig.view.workload("leader").unwrap().waiting.clone();
    assert!(waiting[0].reason.contains("has yet to say"), "{waiting:?}");
    site.tells(2, vec![(of_before(4), ended())], false);
    site.pass(SECOND * 3);
    assert_eq!(site.ids("leader").len(), 1);
}

#[test]
fn of_two_in_one_slot_the_known_one_stays() {
    let web = service("web", 1);
    let mut site = Site::new(vec![workload(1, &web)], vec![assignment(1, "web", 0, 1)], true);
    site.joins(2, &[(8, &web, 0, 1)]);
    site.joins(1, &[(1, &web, 0, 1)]);
    site.pass(SECOND * 40);
    // While agents' reports are pending, both keep running.
    assert_eq!(site.ids("web"), [of_before(1), of_before(8)]);
    site.pass(SECOND * 40);
    assert_eq!(site.ids("web"), [of_before(1)]);
}

#[test]
fn slots_beyond_what_was_declared_run_on_until_they_are_scaled_to() {
    let web = service("web", 1);
    let mut site = Site::new(vec![workload(1, &web)], vec![assignment(1, "web", 0, 1)], true);
    site.joins(1, &[(1, &web, 0, 1), (2, &service("web", 3), 2, 2)]);
    site.pass(SECOND * 200);
    assert_eq!(site.ids("web"), [of_before(1), of_before(2)]);
    let (name, replicas) = ("web".to_owned(), 3);
    let done = site.change(WorkloadVerb::Scale { name, replicas }, false).unwrap();
    assert_eq!((done.adopted, done.starts.len(), done.stops.len()), (1, 1, 0));
    site.pass(SECOND * 20);
    assert_eq!(
        site.ids("web"),
        [of_before(1), of_before(2), AssignmentId(AFTER << 32 | 1)]
    );
}

#[test]
fn numbers_that_were_never_given_out_are_not_asked_about() {
    let mut site = Site::new(Vec::new(), Vec::new(), true);
    site.joins(1, &[]);
    let later = [AssignmentId(AFTER << 32 | 50), AssignmentId((AFTER + 7) << 32 | 1)];
    for _ in 0..2 {
        site.tells(1, later.map(|id| (id, running())).to_vec(), false);
    }
    site.pass(SECOND * 2);
    assert_eq!(site.told("was never given to it"), 2);
    assert_eq!(site.rig.view.assignments.len(), 0);
    // Unrequested descriptions are ignored as well.
    let instances = vec![Assigned {
        id: of_before(3),
        slot: 0,
        revision: Revision(1),
        spec: service("web", 1),
    }];
    let conn = ConnId(1);
    site.rig.input(Input::FromAgent(
        conn,
        FromAgent::Described {
            instances,
            refused: Vec::new(),
        },
    ));
    site.pass(SECOND * 2);
    assert_eq!(site.rig.view.assignments.len(), 0);
}

#[test]
fn a_part_of_a_batch_that_was_stopped_after_the_backup_is_not_done() {
    let mut spec = Spec::new("job", "/bin/true");
    spec.kind = Kind::Batch {
        replicas: 2,
        retries: 0,
    };
    let known = vec![assignment(1, "job", 0, 1), assignment(2, "job", 1, 1)];
    let mut site = Site::new(vec![workload(1, &Arc::new(spec))], known, true);
    site.rig.join(1, 1);
    site.conns.push(1);
    let done = Status {
        exit: Some(Exit::Code(0)),
        ..ended()
    };
    let stopped = Status {
        exit: Some(Exit::Signal(15)),
        ..ended()
    };
    site.tells(1, vec![(of_before(1), done), (of_before(2), stopped)], true);
    site.pass(SECOND * 70);
    assert_eq!(site.ids("job"), [AssignmentId(AFTER << 32 | 1)], "slot 1 alone");
    assert_eq!(site.rows("job")[0].record.slot, 1);
}

#[test]
fn a_daemons_instances_are_their_nodes_in_whatever_order_those_are_known_now() {
    let daemon = Arc::new(Spec {
        kind: Kind::Daemon,
        ..Spec::clone(&service("web", 0))
    });
    // Node 2 had index 0 before, so the new instance of node 1 gets the same slot.
    let before = vec![assignment(1, "web", 0, 2), assignment(2, "web", 2, 3)];
    let mut site = Site::new(vec![workload(1, &daemon)], before, false);
    site.joins(1, &[]);
    site.joins(2, &[(1, &daemon, 0, 1)]);
    site.joins(3, &[(2, &daemon, 2, 1)]);
    site.pass(SECOND * 60);
    let ids = site.ids("web");
    assert_eq!((ids.len(), &ids[..2]), (3, &[of_before(1), of_before(2)][..]));
    assert_eq!(site.told("was stopped"), 0);
}

#[test]
fn what_the_store_alone_tells_of_is_unknown_until_its_node_has_spoken() {
    let web = service("web", 2);
    let mut site = Site::new(
        vec![workload(1, &web)],
        vec![assignment(1, "web", 0, 1), assignment(2, "web", 1, 1)],
        false,
    );
    let doubts = |site: &Site| site.rows("web").iter().map(|row| row.doubt).collect::<Vec<_>>();
    site.rig.pass(SECOND / 10);
    assert_eq!(doubts(&site), [Some(Doubt::Unknown); 2]);
    // The node is back but has not reported its instances.
    site.rig.join(1, 1);
    site.rig.beat(1);
    site.rig.pass(SECOND / 10);
    assert_eq!(doubts(&site), [Some(Doubt::Unknown); 2]);
    site.tells(1, vec![(of_before(1), running())], false);
    site.rig.pass(SECOND / 10);
    assert_eq!(doubts(&site), [None, Some(Doubt::Unknown)]);
    // It does not have the other one, which is about to start.
    site.tells(1, Vec::new(), true);
    site.rig.pass(SECOND / 10);
    assert_eq!(doubts(&site), [None; 2]);
    assert_eq!(site.rows("web")[1].status.phase, Phase::Assigned);
}
