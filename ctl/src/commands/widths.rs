//! Views with the longest contents of real clusters, in 80 columns.

use prost_types::Timestamp;
use wyneos::v1;

use super::{assignments, audit, changes, cluster, events, forget, why, workloads};
use crate::text::{self, Fields};

/// Wider than `view_columns` if the tests run on a narrow terminal.
fn fits(what: &str, text: &str) {
    let plain = text::render(text, false, true);
    for line in plain.lines() {
        let (width, most) = (line.chars().count(), text::view_columns());
        assert!(width <= most, "{what}: {width} of {most} columns: {line}");
    }
}

const NODE: &str = "rack-12-node-3.fra.example.net";
const WORKLOAD: &str = "payments-reconciliation-worker";

fn time() -> Option<Timestamp> {
    let (seconds, nanos) = (1_795_882_266, 389_000_000);
    Some(Timestamp { seconds, nanos })
}

fn node() -> v1::NodeRow {
    let user = |name: &str, uid| v1::NodeUser {
        name: name.to_owned(),
        uid,
    };
    v1::NodeRow {
        id: "515f4fb3-1c0e-4f3a-9f5e-8a1c2b3d4e5f".to_owned(),
        name: NODE.to_owned(),
        admission: v1::Admission::Pending.into(),
        ruling: Some(v1::Ruling {
            by: "coordinator".to_owned(),
            reason: "it comes from another machine than it joined on: its disk was moved or copied; `wynectl admit` accepts it".to_owned(),
            time: time(),
        }),
        liveness: v1::Liveness::Unreachable.into(),
        cause: v1::LivenessCause::PeersHearIt.into(),
        liveness_since: time(),
        last_seen: time(),
        incarnation: 1_234,
        session: 1_795_882_266 << 32,
        agent_version: "0.1.0".to_owned(),
        probe_address: "[2001:db8:85a3::8a2e:370:7334]:7402".to_owned(),
        boot_time: time(),
        attributes: Some(v1::Attributes {
            os: "linux".to_owned(),
            kernel: "6.12.41+deb13-cloud-amd64".to_owned(),
            architecture: "x86_64".to_owned(),
            cgroups: "none".to_owned(),
            containment: wyneos_core::node::NOT_CONTAINED.to_owned(),
            containment_reason: "cannot make a PID namespace: Operation not permitted (os error 1); in a container the agent needs \
                                 CAP_SYS_ADMIN, and user namespaces are not enough for it"
                .to_owned(),
            users: Some(v1::NodeUsers {
                default_user: "nobody".to_owned(),
                permitted: vec![user("nobody", Some(65_534)), user("root", Some(0)), user("www-data", Some(33))],
                unknown: vec!["postgres".to_owned(), "prometheus-node-exporter".to_owned()],
                own_only: false,
            }),
            ..v1::Attributes::default()
        }),
        labels: (0..6)
            .map(|at| v1::Label {
                key: format!("topology.example.net/level-{at}"),
                value: "frankfurt".to_owned(),
            })
            .collect(),
        binary_digest: vec![0xab; 32],
        config_digest: vec![0xcd; 32],
        ..v1::NodeRow::default()
    }
}

fn row() -> v1::AssignmentRow {
    v1::AssignmentRow {
        assignment: Some(v1::Assignment {
            id: "6b0a1b2c00000001".to_owned(),
            workload: WORKLOAD.to_owned(),
            slot: 12,
            revision: 107,
            orphaned: true,
            placed: time(),
            reason: "the node with the fewest instances in the zone with the fewest, and the highest score of 12 nodes"
                .to_owned(),
            status: Some(v1::InstanceStatus {
                phase: v1::InstancePhase::Running.into(),
                since: time(),
                restarts: 128,
                detail: "health check 1 failed 3 times: GET http://127.0.0.1:21000/health: 503 Service Unavailable"
                    .to_owned(),
                ..v1::InstanceStatus::default()
            }),
            ..v1::Assignment::default()
        }),
        node_name: NODE.to_owned(),
        addresses: vec!["rack-12-node-3.fra.example.net:21000".to_owned(); 3],
        user: "www-data".to_owned(),
    }
}

fn waiting() -> v1::Waiting {
    v1::Waiting {
        slots: 3,
        reason:
            "no node takes it: 4 have too little CPU left, 3 do not meet the constraints, 1 have an instance already"
                .to_owned(),
        nodes: vec![v1::Rejection {
            node_name: NODE.to_owned(),
            reason: "its agent does not tell whether it can contain what it runs (node.containment is not set)"
                .to_owned(),
            ..v1::Rejection::default()
        }],
        ..v1::Waiting::default()
    }
}

fn change() -> v1::WorkloadChange {
    let start = |node: &str| v1::PlannedStart {
        workload: WORKLOAD.to_owned(),
        node_name: node.to_owned(),
        score: Some(v1::PlacementScore {
            total: 23_456,
            headroom: 1_000,
            calm: 1_000,
            affinity: 1_000,
            trust: 1_000,
            record: 1_000,
            closeness: 1_000,
        }),
        reason: "the node with the fewest instances in the zone with the fewest, and the highest score of 12 nodes"
            .to_owned(),
        ..v1::PlannedStart::default()
    };
    v1::WorkloadChange {
        name: WORKLOAD.to_owned(),
        revision: 107,
        changed: true,
        spec: Some(v1::WorkloadSpec::default()),
        starts: vec![start(NODE), start("node-2")],
        stops: vec![v1::PlannedStop {
            assignment_id: "6b0a1b2c00000001".to_owned(),
            node_name: NODE.to_owned(),
            reason: "given up for good: its node is forgotten".to_owned(),
            slot: Some(12),
            unreplaced: true,
        }],
        later: 40,
        adopted: 12,
        waiting: vec![waiting()],
        rejections: waiting().nodes,
        ..v1::WorkloadChange::default()
    }
}

fn decision() -> v1::Decision {
    v1::Decision {
        id: 1_795_882_266 << 32,
        time: time(),
        kind: "liveness".to_owned(),
        rule: "nobody-hears-it".to_owned(),
        action: format!("{NODE} is offline: its work is to be placed elsewhere, as the mode of `heal` allows"),
        evidence: vec![v1::Evidence {
            time: time(),
            source: NODE.to_owned(),
            fact: "nobody heard it for 1.812s; the window is 1.8s; 12 of 12 observers have lost it".to_owned(),
            ..v1::Evidence::default()
        }],
        alternatives: vec![v1::Alternative {
            action: "wait until its node is back, or until an operator approves the move".to_owned(),
            rejected_because: "nobody who would know has heard it for longer than it may stand still".to_owned(),
        }],
        ..v1::Decision::default()
    }
}

#[test]
fn node_and_why_of_a_node() {
    let mut fields = Fields::default();
    cluster::row(&mut fields, &node());
    fits("node", &fields.text());
    let words: Vec<String> = fields.text().split_whitespace().map(str::to_owned).collect();
    assert!(words.join(" ").contains("postgres (unknown on this host)"), "{words:?}");
    fits("why", &why::in_full(&decision()));
    let invariant = v1::Invariant {
        id: "heartbeats-fresh".to_owned(),
        broken: 12,
        checked: 1_200,
        meaning: "every online node was heard within 1.5 heartbeat intervals".to_owned(),
        detail: format!("{NODE} has been silent for 12.3s"),
        ..v1::Invariant::default()
    };
    fits("invariants", &why::invariants(&[invariant]));
}

#[test]
fn plan_and_forget() {
    fits("plan", &changes::change(Some(&change())));
    let forgotten = v1::ForgetNodeResponse {
        name: NODE.to_owned(),
        node_id: node().id,
        barred: true,
        changes: vec![change()],
        ..v1::ForgetNodeResponse::default()
    };
    fits("forget", &forget::told(&forgotten));
}

#[test]
fn workload_and_why_of_one() {
    let workload = v1::Workload {
        name: WORKLOAD.to_owned(),
        desired: 12,
        waiting: vec![waiting()],
        ..v1::Workload::default()
    };
    let mut answer = v1::ExplainWorkloadResponse {
        workload: Some(workload),
        decisions: vec![decision()],
        events: vec![v1::WorkloadHappening {
            time: time(),
            summary: format!(
                "{WORKLOAD}.12 on {NODE} is started again, 12 times in the last minute; the last time: exit status 1"
            ),
            ..v1::WorkloadHappening::default()
        }],
        ..v1::ExplainWorkloadResponse::default()
    };
    let name = format!("{WORKLOAD}.11");
    let told = workloads::explain(&name, &answer);
    fits("why of an instance that waits", &told);
    assert!(
        told.contains(&format!("{name}: waits")) && told.contains("no node takes it"),
        "{told}"
    );
    answer.assignment = Some(row());
    let told = workloads::explain(&name, &answer);
    fits("why of an instance", &told);
    assert!(told.contains("www-data"), "{told}");
    fits(
        "assignments",
        &assignments::assignments_table(&[row(), row()], &[]).view(0),
    );
}

fn part(slots: u32, failures: u32, given_up: bool, reason: &str) -> v1::Waiting {
    v1::Waiting {
        slots,
        failures,
        given_up,
        reason: reason.to_owned(),
        ..v1::Waiting::default()
    }
}

#[test]
fn a_workload_that_does_not_stay_up_is_failing_and_says_why() {
    let mut one = v1::Workload {
        name: "web".to_owned(),
        kind: "service".to_owned(),
        revision: 1,
        desired: 1,
        running: 1,
        ..v1::Workload::default()
    };
    assert_eq!(workloads::state(&one), "starting");
    (one.failing, one.failing_restarts, one.failure) = (1, 4, "out of memory".to_owned());
    let failing = "failing: 1 instance; 4 restarts, the last because of: out of memory";
    assert_eq!(workloads::state(&one), failing);
    one.failing = 0;
    one.waiting = vec![part(
        1,
        3,
        false,
        "failed 3 times in a row, and is tried again in a while: exit status 1",
    )];
    let told = workloads::state(&one);
    assert!(
        told.starts_with("failing: 1 instance; failed 3 times in a row"),
        "{told}"
    );
    one.waiting.clear();
    (one.healthy, one.current) = (1, 1);
    assert!(workloads::state(&one).contains("min_healthy"));
}

#[test]
fn a_batch_says_what_is_done_and_what_failed_for_good() {
    let mut one = v1::Workload {
        kind: "batch".to_owned(),
        revision: 1,
        desired: 3,
        complete: 1,
        waiting: vec![
            part(1, 2, true, "failed twice, and is not tried again: exit status 1"),
            part(1, 2, true, "failed twice, and is not tried again: signal 9"),
        ],
        ..v1::Workload::default()
    };
    let told = workloads::state(&one);
    assert!(told.starts_with("1 of 3 done, 2 failed: "), "{told}");
    assert!(
        told.contains("exit status 1") && told.contains("signal 9") && !told.contains("wait"),
        "{told}"
    );
    let table = changes::waiting(&one.waiting);
    assert!(table.contains("FAILED") && !table.contains("WAIT"), "{table}");
    one.waiting.push(part(1, 0, false, "no node takes it"));
    assert!(workloads::state(&one).ends_with("; 1 waits: no node takes it"));
}

#[test]
fn assignments_that_are_watched_on_a_terminal() {
    let line = assignments::watched_line(
        ["6b0a1b2c00000001", "payments-reconciliation-worker.12", NODE],
        "running, not healthy; rack-12-node-3.fra.example.net:21000",
        Some(80),
    );
    fits("assignments -w", &line);
}

#[test]
fn what_is_stopped_has_a_name() {
    let told = changes::change(Some(&change()));
    assert!(told.contains(&format!("{WORKLOAD}.12")), "{told}");
}

#[test]
fn events_and_audit_on_a_terminal() {
    let event = v1::Event {
        sequence: 1_234_567,
        time: time(),
        node_name: NODE.to_owned(),
        summary: format!("{NODE} is offline: neither the coordinator nor its peers hear its host"),
        ..v1::Event::default()
    };
    fits("events", &events::line(&event, Some(80)));
    assert_eq!(events::line(&event, None).lines().count(), 1);
    let entry = v1::AuditEntry {
        record: Some(v1::AuditRecord {
            sequence: 1_234_567,
            time: time(),
            principal: "operator/ada.lovelace@example.net".to_owned(),
            source: "[2001:db8:85a3::8a2e:370:7334]:54321".to_owned(),
            action: "wyneos.v1.ClusterService/SetHeartbeatInterval".to_owned(),
            target: format!("node {NODE}"),
            code: tonic::Code::PermissionDenied as u32,
            reason: "wyneos.v1.ClusterService/SetHeartbeatInterval requires operator or admin; ada has viewer"
                .to_owned(),
            ..v1::AuditRecord::default()
        }),
        ..v1::AuditEntry::default()
    };
    let line = audit::line(&entry, Some(80));
    fits("audit", &line);
    assert!(line.contains("PERMISSION_DENIED"), "{line}");
    assert_eq!(audit::line(&entry, None).lines().count(), 1);
}
