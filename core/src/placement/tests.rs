use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    id::{DecisionId, Revision, Uuid},
    node::{Admission, Eligibility, Labels, Liveness, NOT_CONTAINED, NodeRecord, PID_NAMESPACE},
    workload::{Constraint, Kind, Operator},
};

fn node(number: u32, zone: &str) -> Node {
    let mut record = NodeRecord::enrolled(Uuid(u128::from(number).to_be_bytes()), &format!("node-{number}"));
    let facts = Arc::make_mut(&mut record.facts);
    facts.labels = Labels::from([("zone".to_owned(), zone.to_owned())]);
    facts.attributes.os = "linux".to_owned();
    facts.attributes.containment = PID_NAMESPACE.to_owned();
    Node {
        index: NodeIndex(number),
        record: Arc::new(record),
        admission: Admission::Admitted,
        liveness: Liveness::Online,
        eligibility: Eligibility::Eligible,
        capacity: Resources {
            cpu_millis: 1_000,
            memory_bytes: 1 << 30,
        },
        promised: Resources::default(),
        taken: Vec::new(),
        load_percent: 10,
        trust_percent: 100,
        coordinate: None,
    }
}

fn fleet(zones: &[&str]) -> Fleet {
    Fleet::new((0u32..).zip(zones).map(|(number, zone)| node(number, zone)).collect())
}

fn web(replicas: u32) -> Spec {
    let mut spec = Spec::new("web", "/bin/web");
    spec.kind = Kind::Service { replicas };
    spec
}

fn places(outcome: &Outcome) -> Vec<u32> {
    let mut places: Vec<u32> = outcome.placed.iter().map(|placed| placed.node.0).collect();
    places.sort_unstable();
    places
}

#[test]
fn instances_are_spread_over_nodes_and_over_the_label() {
    let mut fleet = fleet(&["a", "a", "a", "b"]);
    let mut standing = Standing::default();
    assert_eq!(places(&fleet.place(&web(4), &mut standing, 4)), [0, 1, 2, 3]);
    let mut spec = web(4);
    spec.spread = "zone".to_owned();
    let mut fleet = self::fleet(&["a", "a", "a", "b"]);
    let outcome = fleet.place(&spec, &mut Standing::default(), 4);
    let in_b = places(&outcome).iter().filter(|node| **node == 3).count();
    assert_eq!(in_b, 2, "{outcome:?}");
}

#[test]
fn the_rest_goes_where_there_are_fewest_already() {
    let mut fleet = fleet(&["a", "a", "a"]);
    let mut standing = Standing::default();
    standing.instances.extend([(NodeIndex(0), 1), (NodeIndex(2), 1)]);
    assert_eq!(places(&fleet.place(&web(3), &mut standing, 1)), [1]);
}

#[test]
fn what_does_not_fit_says_why() {
    let mut fleet = fleet(&["a", "b", "a", "a", "a", "a"]);
    fleet.nodes[0].liveness = Liveness::Suspect;
    fleet.nodes[2].eligibility = Eligibility::Cordoned;
    fleet.nodes[3].admission = Admission::Pending;
    fleet.nodes[4].promised.cpu_millis = 950;
    let mut spec = web(1);
    spec.alone = true;
    spec.constraints = vec![Constraint {
        key: "zone".to_owned(),
        operator: Operator::In,
        values: vec!["a".to_owned()],
    }];
    let mut standing = Standing::default();
    standing.instances.insert(NodeIndex(5), 1);
    let why: Vec<String> = fleet
        .nodes()
        .iter()
        .map(|node| fleet.unfit(&spec, &standing, node).unwrap().to_string())
        .collect();
    assert_eq!(
        why,
        [
            "it is suspect",
            "constraint on \"zone\" is not met",
            "it is cordoned: it takes no new work",
            "it is not admitted",
            "50m of CPU are free, 100m wanted",
            "it has an instance already"
        ]
    );
    let outcome = fleet.place(&spec, &mut standing, 2);
    assert_eq!((outcome.placed.len(), outcome.pending), (0, 2));
}

fn containment(fleet: &mut Fleet, node: usize, is: &str) {
    let record = Arc::make_mut(&mut fleet.nodes[node].record);
    Arc::make_mut(&mut record.facts).attributes.containment = is.to_owned();
}

#[test]
fn a_singleton_goes_only_where_the_kernel_ends_what_it_started() {
    let mut fleet = fleet(&["a", "a", "a", "a"]);
    containment(&mut fleet, 0, NOT_CONTAINED);
    containment(&mut fleet, 1, "");
    containment(&mut fleet, 2, "of-a-later-version");
    let mut leader = web(1);
    leader.singleton = true;
    let mut standing = Standing::default();
    let why: Vec<String> = fleet
        .nodes()
        .iter()
        .filter_map(|node| fleet.unfit(&leader, &standing, node))
        .map(|unfit| unfit.to_string())
        .collect();
    assert_eq!(
        why,
        [
            "it cannot contain what it runs (node.containment is none)",
            "its agent does not tell whether it can contain what it runs (node.containment is not set)",
            "it cannot contain what it runs (node.containment is of-a-later-version)",
        ]
    );
    let placed = fleet.clone().place(&leader, &mut standing.clone(), 1);
    assert_eq!(places(&placed), [3]);
    // A singleton is not placed elsewhere when that node is full; other workloads are.
    fleet.nodes[3].promised.cpu_millis = 1_000;
    let outcome = fleet.clone().place(&leader, &mut standing.clone(), 1);
    assert_eq!((outcome.placed.len(), outcome.pending), (0, 1), "{outcome:?}");
    assert_eq!(outcome.unfit["cannot contain what they run (node.containment)"], 2);
    let outcome = fleet.place(&web(3), &mut standing, 3);
    assert_eq!(places(&outcome), [0, 1, 2]);
}

#[test]
fn what_an_agent_does_not_tell_is_no_label() {
    let mut fleet = fleet(&["a", "a", "a"]);
    containment(&mut fleet, 1, "");
    containment(&mut fleet, 2, NOT_CONTAINED);
    let value = |node: &Node| node.label("node.containment").map(str::to_owned);
    let values: Vec<_> = fleet.nodes().iter().map(value).collect();
    let told = |value: &str| Some(value.to_owned());
    assert_eq!(values, [told(PID_NAMESPACE), None, told(NOT_CONTAINED)]);
}

#[test]
fn a_node_on_which_it_failed_loaded_or_distrusted_does_not_win() {
    for spoil in 0..3 {
        let mut fleet = fleet(&["a", "a"]);
        let mut standing = Standing::default();
        // The node that would be selected.
        let winner = fleet.clone().place(&web(1), &mut Standing::default(), 1).placed[0].node;
        match spoil {
            0 => drop(standing.failures.insert(winner, 1)),
            1 => fleet.nodes[winner.get()].load_percent = 90,
            _ => fleet.nodes[winner.get()].trust_percent = 10,
        }
        assert_ne!(fleet.place(&web(1), &mut standing, 1).placed[0].node, winner);
    }
}

#[test]
fn a_daemon_takes_every_node_once() {
    let mut fleet = fleet(&["a", "b", "c"]);
    let mut spec = web(0);
    spec.kind = Kind::Daemon;
    let outcome = fleet.place(&spec, &mut Standing::default(), 5);
    assert_eq!((places(&outcome), outcome.pending), (vec![0, 1, 2], 2));
}

proptest! {
    #[test]
    fn nobody_is_promised_more_than_it_has_and_the_order_of_nodes_changes_nothing(
        sizes in prop::collection::vec(0u64..3_000, 1..40),
        wants in prop::collection::vec((50u64..900, 1u32..30), 1..8),
    ) {
        let zones = ["a", "b", "c"];
        let nodes: Vec<Node> = (0u32..).zip(&sizes).map(|(number, size)| {
            let mut node = node(number, zones[number as usize % 3]);
            node.capacity.cpu_millis = *size;
            node
        }).collect();
        let mut fleet = Fleet::new(nodes);
        let before = fleet.clone();
        let mut outcomes = Vec::new();
        for (number, (cpu_millis, count)) in wants.iter().enumerate() {
            let mut spec = web(*count);
            spec.name = format!("web-{number}");
            spec.resources.cpu_millis = *cpu_millis;
            spec.spread = if number % 2 == 0 { "zone".to_owned() } else { String::new() };
            let outcome = fleet.place(&spec, &mut Standing::default(), *count);
            prop_assert_eq!(outcome.placed.len() as u32 + outcome.pending, *count);
            if outcome.pending > 0 {
                // No node with room is left.
                prop_assert!(fleet.nodes().iter().all(|node| node.free().cpu_millis < *cpu_millis || !node.free().has(spec.resources)));
            }
            outcomes.push((spec, outcome));
        }
        for node in fleet.nodes() {
            prop_assert!(node.capacity.has(node.promised), "{:?}", node);
        }
        // Repeating the placement gives the same result.
        let mut again = before;
        for (spec, outcome) in &outcomes {
            let count = outcome.placed.len() as u32 + outcome.pending;
            prop_assert_eq!(&again.place(spec, &mut Standing::default(), count), outcome);
        }
        // Released resources are free again.
        for (spec, outcome) in &outcomes {
            for placed in &outcome.placed {
                fleet.release(placed.node, spec.resources, &[]);
            }
        }
        prop_assert!(fleet.nodes().iter().all(|node| node.promised == Resources::default()));
    }
}

#[test]
fn what_is_to_be_near_goes_where_the_way_is_short() {
    use crate::{
        mesh::Coordinate,
        time::{Time, WallTime},
        workload::{Assignment, AssignmentId, Goal, Table, Workload},
    };
    let record = |spec: &Spec| {
        Arc::new(Workload {
            revisions: [(Revision(1), Arc::new(spec.clone()))].into(),
            revision: Revision(1),
            stable: Revision(1),
            time: WallTime(0),
            by: String::new(),
            deleted: false,
            restarted: None,
            promoted: Revision(0),
            rolled_back: String::new(),
            run: 1,
            failed: None,
            run_from: None,
        })
    };
    let mut fleet = fleet(&["a", "a", "a", "a"]);
    for (node, millis) in fleet.nodes.iter_mut().zip([0.0, 20.0, 40.0, 1.0]) {
        let place: f64 = millis / 1_000.0;
        let mut position = Coordinate::default().position;
        position[0] = place;
        node.coordinate = Coordinate::new(position, 0.0, 0.1);
    }
    let mut table = Table::default();
    let db = Spec::new("db", "/bin/db");
    table.declare("db", record(&db));
    let held = Assignment {
        id: AssignmentId(1),
        workload: "db".into(),
        slot: 0,
        revision: Revision(1),
        node: fleet.nodes[1].id(),
        goal: Goal::Run,
        placed: WallTime(0),
        reason: String::new(),
        score: Score::default(),
        decision: DecisionId(0),
        replaces: None,
        attempt: 0,
        stop_reason: String::new(),
        leaving: String::new(),
        leaving_because: None,
        end: None,
        orphan: None,
    };
    table.hold(Arc::new(held), NodeIndex(1), Time(0));
    let mut spec = web(1);
    (spec.near, spec.alone) = ("db".to_owned(), true);
    table.declare("web", record(&spec));
    let mut standing = fleet.standing(&table, table.declared("web").unwrap(), Time(0));
    let outcome = fleet.place(&spec, &mut standing, 4);
    let order: Vec<(u32, i64)> = outcome
        .placed
        .iter()
        .map(|placed| (placed.node.0, placed.score.closeness))
        .collect();
    let nodes: Vec<u32> = order.iter().map(|(node, _)| *node).collect();
    assert_eq!(nodes, [1, 3, 0, 2], "{order:?}");
    assert_eq!((order[0].1, order[2].1), (1_000, 47), "1 ms ÷ (1 ms + 20 ms)");
    // A workload without `near` gets no closeness.
    spec.near.clear();
    table.declare("web", record(&spec));
    let mut standing = fleet.standing(&table, table.declared("web").unwrap(), Time(0));
    assert_eq!(
        fleet
            .place(&spec, &mut standing, 1)
            .placed
            .first()
            .map(|placed| placed.score.closeness),
        Some(0)
    );
}

#[test]
fn a_node_takes_only_users_that_its_agent_permits() {
    use crate::node::{User, Users};
    let user = |name: &str, uid| User {
        name: name.to_owned(),
        uid,
    };
    let users = |default: &str, permitted: &[User]| Users {
        default: default.to_owned(),
        permitted: permitted.to_vec(),
        unknown: vec!["ghost".to_owned()],
        own_only: false,
    };
    let some = users(
        "nobody",
        &[user("nobody", Some(65_534)), user("admin", Some(0)), user("ldap", None)],
    );
    for (declared, permitted) in [
        ("", true),
        ("nobody", true),
        ("65534", true),
        ("0", true),
        ("00", true),
        ("ldap", true),
        // The host may map the name to the same number; only its agent can tell.
        ("root", false),
        ("ghost", false),
        ("1", false),
    ] {
        assert_eq!(some.permit(declared), permitted, "{declared:?}");
    }
    assert!(some.root() && !users("", &[user("web", Some(800))]).root());
    assert!(!users("", &[]).permit(""));
    assert_eq!(some.names(), "nobody, admin, ldap");
    let mut fleet = fleet(&["a", "a"]);
    let facts = Arc::make_mut(&mut Arc::make_mut(&mut fleet.nodes[1].record).facts);
    facts.attributes.users = Some(some);
    let mut spec = web(2);
    spec.user = "root".to_owned();
    let unfit = |spec: &Spec, at: usize| {
        let unfit = fleet.unfit(spec, &Standing::default(), &fleet.nodes()[at]);
        unfit.map(|unfit| unfit.to_string())
    };
    // An agent that does not report its users accepts all of them.
    assert_eq!(unfit(&spec, 0), None);
    let why = "its agent runs no program as \"root\", only as nobody, admin, ldap: see `work_user` and `users` in its configuration";
    assert_eq!(unfit(&spec, 1).as_deref(), Some(why));
    spec.user.clear();
    assert_eq!(unfit(&spec, 1), None);
    // A listed user unknown to the host is not reported as missing from the list.
    let users = |fleet: &mut Fleet, change: &dyn Fn(&mut Users)| {
        let facts = Arc::make_mut(&mut Arc::make_mut(&mut fleet.nodes[1].record).facts);
        change(facts.attributes.users.as_mut().unwrap());
    };
    users(&mut fleet, &|users| users.unknown = vec!["ghost".to_owned()]);
    let told = |fleet: &Fleet, user: &str| {
        let spec = Spec {
            user: user.to_owned(),
            ..web(2)
        };
        fleet
            .unfit(&spec, &Standing::default(), &fleet.nodes()[1])
            .map(|unfit| unfit.to_string())
    };
    let why = "the user \"ghost\" is permitted but unknown on this host: create it, then restart the agent";
    assert_eq!(told(&fleet, "ghost").as_deref(), Some(why));
    // An agent that is not root cannot be configured to run programs of other users.
    users(&mut fleet, &|users| users.own_only = true);
    let why = told(&fleet, "root").unwrap();
    assert!(
        why.contains("run the agent as root") && !why.contains("`users`"),
        "{why}"
    );
}

#[test]
fn one_node_is_counted_in_the_singular() {
    use super::fit::nodes_that;
    for (kind, one) in [
        (Unfit::Taken, "1 has an instance already"),
        (
            Unfit::User {
                declared: String::new(),
                permitted: String::new(),
            },
            "1 does not permit its user",
        ),
        (Unfit::Constraint(String::new()), "1 does not meet the constraints"),
        (Unfit::Eligibility(Eligibility::Cordoned), "1 takes no new work"),
        (Unfit::Admission, "1 not admitted"),
        (
            Unfit::Uncontained(String::new()),
            "1 cannot contain what it runs (node.containment)",
        ),
        (
            Unfit::ContainmentUntold,
            "1 has an agent that does not tell whether it can contain what it runs",
        ),
    ] {
        assert_eq!(nodes_that(1, kind.kind()), one);
        assert_eq!(nodes_that(2, kind.kind()), format!("2 {}", kind.kind()));
    }
}
