use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::rig::{Rig, SECOND, hello, node_id};
use crate::{
    autonomy::{Mode, PolicyChange},
    command,
    engine::{ChangeWorkload, Changed, FromAgent, Input, Message, Refusal, Work, WorkloadVerb},
    id::{DecisionId, NodeId, Revision},
    node::{ConnId, Hello, Labels, Liveness},
    workload::{AssignmentId, AssignmentRow, FixedPort, Goal, Kind, Order, Phase, Protocol, Resources, Spec, Status},
};

/// Number of operations of the random test; `WYNEOS_OPERATIONS` increases it.
const OPERATIONS: usize = 3_000;

/// A coordinator and agents that run everything they are assigned.
pub(super) struct Site {
    pub(super) rig: Rig,
    pub(super) conns: Vec<u64>,
    pub(super) taken: usize,
}

impl Site {
    pub(super) fn new(nodes: u8) -> Site {
        let (rig, conns, taken) = (Rig::new(), Vec::new(), 0);
        let mut site = Site { rig, conns, taken };
        for number in 1..=nodes {
            site.join(number.into(), number, 1);
        }
        site
    }

    /// An agent without instances joins.
    pub(super) fn join(&mut self, conn: u64, number: u8, incarnation: u64) {
        self.welcome(conn, super::rig::hello(number, incarnation, 0));
    }

    /// An agent without instances joins in a zone.
    pub(super) fn join_in(&mut self, number: u8, zone: &str) {
        let mut hello = super::rig::hello(number, 1, 0);
        hello.facts.labels = Labels::from([("zone".to_owned(), zone.to_owned())]);
        self.welcome(number.into(), hello);
    }

    fn welcome(&mut self, conn: u64, hello: Hello) {
        self.rig.hello(conn, hello);
        self.rig.beat(conn);
        self.conns.push(conn);
        let (conn, all) = (ConnId(conn), true);
        let instances = Vec::new();
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    /// Agents execute their orders and report.
    fn obey(&mut self) {
        while self.taken < self.rig.sent.len() {
            let (conn, message) = self.rig.sent[self.taken].clone();
            self.taken += 1;
            let Message::Work(work) = message else { continue };
            let Work { assign, stop, .. } = *work;
            let runs = assign.into_iter().map(|assigned| {
                let status = Status {
                    phase: Phase::Running,
                    healthy: true,
                    pid: 1,
                    ..Status::default()
                };
                (assigned.id, status)
            });
            let ended = stop.into_iter().map(|(id, detail)| {
                let status = Status {
                    phase: Phase::Ended,
                    complete: true,
                    detail,
                    ..Status::default()
                };
                (id, status)
            });
            let instances: Vec<(AssignmentId, Status)> = runs.chain(ended).collect();
            let all = false;
            self.rig
                .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
            self.rig.pass(Duration::ZERO);
        }
    }

    /// Number of instances that agents were told to start.
    pub(super) fn assigned(&self) -> usize {
        let assigned = |(_, message): &(ConnId, Message)| match message {
            Message::Work(work) => work.assign.len(),
            _ => 0,
        };
        self.rig.sent.iter().map(assigned).sum()
    }

    pub(super) fn pass(&mut self, span: Duration) {
        let conns = self.conns.clone();
        let end = self.rig.now + span;
        self.obey();
        while self.rig.now < end {
            self.rig.beat_for(&conns, SECOND.min(end.since(self.rig.now)));
            self.obey();
        }
        // Publications to readers follow shortly.
        self.rig.pass(SECOND / 10);
    }

    pub(super) fn change(&mut self, verb: WorkloadVerb, plan: bool) -> Result<Changed, Refusal> {
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

    pub(super) fn apply(&mut self, spec: Spec) -> Changed {
        self.change(WorkloadVerb::Apply(Arc::new(spec)), false).unwrap()
    }

    pub(super) fn running(&mut self, name: &str) -> usize {
        self.pass(SECOND * 2);
        let registry = &self.rig.core.ctx.registry;
        let is_gone = |liveness| matches!(liveness, Liveness::Offline | Liveness::Left);
        let on_a_node = |row: &AssignmentRow| {
            let index = registry.find(row.record.node);
            index.is_some_and(|index| !is_gone(registry[index].liveness()))
        };
        let of = |row: &&Arc<AssignmentRow>| &*row.record.workload == name && on_a_node(row);
        let rows = self.rig.view.assignments.iter().filter(of);
        rows.filter(|row| row.status.phase == Phase::Running && row.record.goal == Goal::Run)
            .count()
    }
}

pub(super) fn service(name: &str, replicas: u32) -> Spec {
    let mut spec = Spec::new(name, "/bin/true");
    spec.kind = Kind::Service { replicas };
    spec.update.min_healthy = Duration::from_secs(1);
    spec
}

/// Content of a plan, to be compared with the answer to the same change.
fn moves(change: &Changed) -> (Vec<(u32, String)>, Vec<AssignmentId>, u32) {
    let starts = change.starts.iter().map(|start| (start.slot, start.node_name.clone()));
    let stops = change.stops.iter().map(|stop| stop.id);
    (starts.collect(), stops.collect(), change.later)
}

#[test]
fn what_is_planned_is_what_is_done() {
    let operations = std::env::var("WYNEOS_OPERATIONS")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let mut done = 0;
    while done < operations.unwrap_or(OPERATIONS) {
        // Starts afresh from time to time, so that retained test data stays small.
        let mut site = Site::new(6);
        for _ in 0..300 {
            let name = ["a", "b", "c", "d"][rng.random_range(0..4)];
            let verb = match rng.random_range(0..10) {
                0..=4 => {
                    let mut spec = service(name, rng.random_range(0..12));
                    spec.args = vec![rng.random_range(0..3).to_string()];
                    spec.alone = rng.random_bool(0.1);
                    spec.update.max_parallel = rng.random_range(1..4);
                    if rng.random_bool(0.2) {
                        spec.update.order = Order::StopFirst;
                    }
                    if rng.random_bool(0.2) {
                        let (port, protocol) = (rng.random_range(1..3), Protocol::Tcp);
                        spec.ports = vec!["fixed".to_owned()];
                        let fixed = FixedPort { port, protocol };
                        spec.fixed_ports.insert("fixed".to_owned(), fixed);
                    }
                    spec.resources = Resources {
                        cpu_millis: rng.random_range(1..6) * 200,
                        memory_bytes: 1 << 20,
                    };
                    WorkloadVerb::Apply(Arc::new(spec))
                }
                5..=6 => WorkloadVerb::Scale {
                    name: name.to_owned(),
                    replicas: rng.random_range(0..12),
                },
                7 => WorkloadVerb::Restart { name: name.to_owned() },
                8 => WorkloadVerb::Delete { name: name.to_owned() },
                _ => {
                    site.pass(Duration::from_secs(rng.random_range(0..4)));
                    continue;
                }
            };
            let planned = site.change(verb.clone(), true);
            let applied = site.change(verb.clone(), false);
            match (planned, applied) {
                (Ok(planned), Ok(applied)) => {
                    assert_eq!(moves(&planned), moves(&applied), "{verb:?}");
                    assert_eq!(planned.changed, applied.changed);
                }
                (planned, applied) => assert_eq!(planned.unwrap_err(), applied.unwrap_err(), "{verb:?}"),
            }
            site.obey();
            done += 1;
        }
        check_promises(&site);
    }
}

/// No node is overcommitted.
fn check_promises(site: &Site) {
    for (index, node) in site.rig.core.ctx.registry.iter() {
        let capacity = node.record.facts.capacity;
        let promised = site.rig.core.work.table().promised(index);
        assert!(
            promised.cpu_millis <= capacity.cpu_millis,
            "{}: {promised:?}",
            node.name()
        );
        let held: u64 = site
            .rig
            .core
            .work
            .table()
            .of_node(index)
            .map(|held| held.resources.cpu_millis)
            .sum();
        assert_eq!(held, promised.cpu_millis);
    }
}

#[test]
fn a_quiet_cluster_does_nothing() {
    let mut site = Site::new(4);
    site.apply(service("web", 8));
    assert_eq!(site.running("web"), 8);
    site.pass(SECOND * 30);
    let (events, sent) = (site.rig.events.len(), site.rig.sent.len());
    site.pass(SECOND * 120);
    assert_eq!(site.rig.events.len(), events, "{:?}", site.rig.events.last());
    let told = site.rig.sent[sent..]
        .iter()
        .any(|(_, message)| matches!(message, Message::Work(_)));
    assert!(!told);
}

#[test]
fn nothing_is_handed_out_before_it_is_durable() {
    let mut site = Site::new(2);
    site.rig.stalled = true;
    for (number, name) in [(1, "web"), (2, "other")] {
        let verb = WorkloadVerb::Apply(Arc::new(service(name, 4)));
        let (plan, at) = (false, None);
        let change = ChangeWorkload {
            plan,
            at,
            verb,
            keep_replicas: false,
            force: false,
        };
        let command = change.into();
        let request = crate::engine::RequestId(number);
        let by = "ada".into();
        site.rig.input(Input::Command { request, command, by });
    }
    assert!(site.assigned() == 0 && site.rig.answers.is_empty());
    // The first is durable, the second is not, and both are known.
    site.rig.unconfirmed -= 1;
    site.rig.input(Input::Committed);
    assert_eq!(site.assigned(), 4);
    site.rig.resume();
    assert_eq!((site.assigned(), site.rig.answers.len()), (8, 2));
}

#[test]
fn an_update_replaces_as_many_at_once_as_it_says() {
    let mut site = Site::new(4);
    site.apply(service("web", 8));
    assert_eq!(site.running("web"), 8);
    let mut spec = service("web", 8);
    spec.args = vec!["new".to_owned()];
    spec.update.max_parallel = 3;
    let change = site.apply(spec);
    assert_eq!((change.starts.len(), change.later, change.stops.len()), (3, 5, 0));
    site.obey();
    for _ in 0..20 {
        assert!(site.running("web") >= 8, "fewer than were declared");
    }
    let row = Arc::clone(site.rig.view.workload("web").unwrap());
    assert_eq!(
        (row.record.stable, row.record.revision, row.current),
        (Revision(2), Revision(2), 8)
    );
    assert_eq!(row.record.revisions.len(), 1, "old declarations are kept");
}

#[test]
fn where_there_is_no_room_beside_it_the_old_one_goes_first() {
    let mut site = Site::new(2);
    let full = |version: &str| {
        let mut spec = service("web", 2);
        spec.args = vec![version.to_owned()];
        spec.alone = true;
        spec
    };
    site.apply(full("1"));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 10);
    let change = site.apply(full("2"));
    assert_eq!((change.starts.len(), change.stops.len(), change.later), (0, 1, 1));
    site.obey();
    site.pass(SECOND * 30);
    assert_eq!(site.running("web"), 2);
    assert_eq!(site.rig.view.workload("web").unwrap().record.stable, Revision(2));
}

impl Site {
    /// Restarts a node's agent, which reports this containment; its instances keep running.
    pub(super) fn restarted(&mut self, number: u8, contained: Result<(), String>) {
        let at = usize::from(number) - 1;
        let conn = self.conns[at] + 100;
        let mut hello = hello(number, 2, 0);
        hello.facts.attributes = hello.facts.attributes.with_containment(contained);
        self.rig.hello(conn, hello);
        self.conns[at] = conn;
        self.rig.beat(conn);
        let rows = self.rig.view.assignments.iter();
        let own = rows.filter(|row| row.record.node == node_id(number) && row.status.phase != Phase::Ended);
        // The state shown while the node was away is not what the node reports.
        let status = |row: &crate::workload::AssignmentRow| Status {
            healthy: row.status.phase == Phase::Running,
            detail: String::new(),
            ..row.status.clone()
        };
        let instances = own.map(|row| (row.record.id, status(row))).collect();
        let (conn, all) = (ConnId(conn), true);
        self.rig
            .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    }

    /// Nodes that run instances of a workload.
    fn places(&mut self, name: &str) -> Vec<NodeId> {
        self.pass(SECOND * 2);
        let of = |row: &&Arc<crate::workload::AssignmentRow>| &*row.record.workload == name;
        let rows = self.rig.view.assignments.iter().filter(of);
        let runs = rows.filter(|row| row.status.phase == Phase::Running);
        runs.map(|row| row.record.node).collect()
    }
}

#[test]
fn a_singleton_stays_where_it_runs_and_goes_only_where_it_is_contained() {
    let mut site = Site::new(1);
    let leader = |version: &str| {
        let mut spec = service("leader", 1);
        spec.args = vec![version.to_owned()];
        spec.singleton = true;
        spec
    };
    site.apply(leader("1"));
    assert_eq!(site.places("leader"), [node_id(1)]);
    site.restarted(1, Err("not permitted".to_owned()));
    site.pass(SECOND * 60);
    assert_eq!(site.places("leader"), [node_id(1)], "moved, or stopped, for this alone");
    // An update would stop it permanently, so it waits for a suitable node and reports that.
    let planned = site.change(WorkloadVerb::Apply(Arc::new(leader("2"))), true).unwrap();
    assert_eq!((planned.stops.len(), planned.starts.len()), (0, 0), "{planned:?}");
    let waits: Vec<&str> = planned.waiting.iter().map(|waiting| &*waiting.reason).collect();
    assert_eq!(
        waits,
        [
            "what runs stays until a node takes its successor: no node takes it: 1 cannot contain what it runs (node.containment)"
        ]
    );
    site.apply(leader("2"));
    site.pass(SECOND * 30);
    assert_eq!(site.places("leader"), [node_id(1)]);
    site.join(2, 2, 1);
    site.pass(SECOND * 30);
    assert_eq!(site.places("leader"), [node_id(2)]);
    // A new singleton has no suitable node once none is contained; other workloads do.
    site.restarted(2, Err("not permitted".to_owned()));
    let mut other = leader("1");
    other.name = "other".to_owned();
    let change = site.apply(other);
    let [waiting] = &change.waiting[..] else {
        panic!("{change:?}")
    };
    assert_eq!(
        waiting.reason,
        "no node takes it: 2 cannot contain what they run (node.containment)"
    );
    let why = waiting.nodes.iter().map(|(_, name, why)| (&**name, &**why));
    let none = "it cannot contain what it runs (node.containment is none)";
    assert_eq!(why.collect::<Vec<_>>(), [("node-1", none), ("node-2", none)]);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
}

#[test]
fn a_change_meant_for_another_revision_is_refused() {
    let mut site = Site::new(1);
    site.apply(service("web", 1));
    let command = |at, replicas| {
        let name = "web".to_owned();
        let verb = WorkloadVerb::Scale { name, replicas };
        ChangeWorkload {
            plan: false,
            at: Some(at),
            keep_replicas: false,
            force: false,
            verb,
        }
    };
    assert!(site.rig.command(command(Revision(1), 2)).is_ok());
    let refused = site.rig.command(command(Revision(1), 3)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "workload \"web\" is at revision 2, not 1: somebody changed it; plan again"
    );
}

#[test]
fn a_node_speaks_for_its_own_instances_alone() {
    let mut site = Site::new(2);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
    let of_two = site
        .rig
        .view
        .assignments
        .iter()
        .find(|row| row.record.node == super::rig::node_id(2))
        .unwrap();
    let status = Status {
        phase: Phase::Running,
        detail: "another's".to_owned(),
        ..Status::default()
    };
    let (conn, instances, all) = (ConnId(1), vec![(of_two.record.id, status)], false);
    site.rig
        .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    assert_eq!(site.running("web"), 2);
    let claims = |event: &&Arc<crate::event::Event>| event.summary.contains("was never given to it");
    assert_eq!(site.rig.events.iter().filter(claims).count(), 1);
}

#[test]
fn modes_are_durable_and_a_decision_is_answered_once() {
    let mut site = Site::new(1);
    let change = PolicyChange {
        heal: Some(Mode::Observe),
        ..PolicyChange::default()
    };
    site.rig.command(command::SetPolicy(change)).unwrap();
    let kept: BTreeSet<&str> = site
        .rig
        .batches
        .iter()
        .filter_map(|batch| batch.policy)
        .map(|policy| policy.heal.name())
        .collect();
    assert_eq!(kept, BTreeSet::from(["observe"]));
    let refused = site
        .rig
        .command(command::Decide {
            id: DecisionId(5),
            approve: true,
        })
        .unwrap_err();
    assert_eq!(refused.to_string(), "no decision that waits \"5\"");
}

#[test]
fn daemons_are_updated_a_few_at_a_time() {
    let mut site = Site::new(4);
    let daemon = |version: &str| {
        let mut spec = service("collector", 0);
        (spec.kind, spec.args) = (Kind::Daemon, vec![version.to_owned()]);
        spec
    };
    site.apply(daemon("1"));
    assert_eq!(site.running("collector"), 4);
    site.pass(SECOND * 10);
    let change = site.apply(daemon("2"));
    assert_eq!((change.stops.len(), change.later), (1, 3));
    // Even if reconciled for another reason, no other instance follows before this one is back.
    site.rig.pass(SECOND * 5);
    let stopped = site.rig.view.assignments.iter();
    assert_eq!(stopped.filter(|row| row.record.goal == Goal::Stop).count(), 1);
    site.pass(SECOND * 60);
    assert_eq!(site.running("collector"), 4);
    assert_eq!(site.rig.view.workload("collector").unwrap().record.stable, Revision(2));
}

#[test]
fn a_drain_that_is_taken_back_leaves_what_is_well() {
    let mut site = Site::new(2);
    site.apply(service("web", 2));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 10);
    let before: BTreeSet<AssignmentId> = site.rig.view.assignments.iter().map(|row| row.record.id).collect();
    let node = "node-1".to_owned();
    let (deadline, plan) = (None, false);
    site.rig
        .command(command::Drain {
            node,
            deadline,
            keep_daemons: false,
            plan,
        })
        .unwrap();
    site.rig.pass(SECOND / 10);
    assert_eq!(site.rig.view.assignments.len(), 3, "nothing was started in its place");
    let node = "node-1".to_owned();
    site.rig.command(command::Uncordon { node }).unwrap();
    site.pass(SECOND * 20);
    let wanted = site
        .rig
        .view
        .assignments
        .iter()
        .filter(|row| row.record.goal == Goal::Run);
    assert_eq!(wanted.map(|row| row.record.id).collect::<BTreeSet<_>>(), before);
}

#[test]
fn an_instance_that_was_well_once_does_not_undo_an_update() {
    let mut site = Site::new(2);
    let spec = |version: &str| {
        let mut spec = service("web", 2);
        spec.args = vec![version.to_owned()];
        (spec.update.max_parallel, spec.update.deadline) = (1, Duration::from_secs(20));
        spec
    };
    site.apply(spec("1"));
    assert_eq!(site.running("web"), 2);
    site.pass(SECOND * 5);
    let mut slow = spec("2");
    slow.update.min_healthy = Duration::from_secs(60);
    site.apply(slow);
    site.pass(SECOND * 40);
    // Long after the deadline, one of the new instances is briefly unhealthy.
    let of_two = |row: &&Arc<crate::workload::AssignmentRow>| row.record.revision == Revision(2);
    let row = Arc::clone(site.rig.view.assignments.iter().find(of_two).unwrap());
    let node = row.record.node;
    let conn = site
        .conns
        .iter()
        .copied()
        .find(|conn| super::rig::node_id(*conn as u8) == node)
        .unwrap();
    let status = Status {
        phase: Phase::Backoff,
        restarts: 1,
        ..Status::default()
    };
    let (conn, instances, all) = (ConnId(conn), vec![(row.record.id, status)], false);
    site.rig
        .input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
    site.pass(SECOND * 3);
    let workload = site.rig.view.workload("web").unwrap();
    assert_eq!(
        (workload.record.revision, workload.record.rolled_back.as_str()),
        (Revision(2), "")
    );
}
