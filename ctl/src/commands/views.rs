//! Snapshots of views in `ctl/snapshots`: each view in 80 columns, and in 160 if that differs.
//!
//! `INSTA_UPDATE=always cargo test -p wynectl views` updates them; the differences belong into the same commit.

mod data;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wyneos::v1;

use super::{
    Names,
    access::{authorities, operators, tokens},
    assignments, audit, changes, cluster, decisions, drain, events, forget, mesh, predictions, snapshot, telemetry,
    why, workloads,
};
use crate::{failure::Failure, text};
use data::message;

const NARROW: usize = 80;
const WIDE: usize = 160;

/// 2026-11-29T12:00:00Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_953_600)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("snapshots")
}

/// Compares a view with its snapshot.
fn check(name: &str, view: impl Fn() -> String) {
    let shown = |columns| text::render(&text::fixed::at(columns, now(), &view), false, false);
    let (narrow, wide) = (shown(NARROW), shown(WIDE));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!(name, narrow);
        if wide != narrow {
            insta::assert_snapshot!(format!("{name}.wide"), wide);
        }
    });
    let leftover = wide == narrow && folder().join(format!("{name}.wide.snap")).exists();
    assert!(!leftover, "{name}: the same in {WIDE} columns; remove {name}.wide.snap");
}

macro_rules! views {
    ($($name:ident: $view:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name), || $view);
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

/// A failure as shown on standard error on a terminal.
fn failure(failure: &Failure) -> String {
    let remarks = failure.remarks();
    let lines = remarks
        .iter()
        .map(|remark| text::remark(remark, text::columns()) + "\n");
    lines.collect()
}

fn rows() -> Vec<v1::AssignmentRow> {
    message::<v1::ListAssignmentsResponse>(json!({ "assignments": data::instances() })).assignments
}

fn workloads_of() -> Vec<v1::Workload> {
    message::<v1::ListWorkloadsResponse>(json!({ "workloads": data::workloads() })).workloads
}

fn nodes() -> Vec<v1::NodeRow> {
    message::<v1::ListNodesResponse>(json!({ "nodes": data::nodes() })).nodes
}

fn change(changes: serde_json::Value) -> v1::WorkloadChange {
    message(data::change(changes))
}

fn node(at: usize) -> String {
    cluster::view(&message(json!({
        "node": data::nodes()[at],
        "lastHeartbeat": "2026-11-29T11:59:59.600Z",
        "heartbeatInterval": "0.500s",
        "clockSkew": "-0.012s",
        "acknowledgedCycle": 86_499,
        "heartbeats": 172_800,
        "relayed": { "viaId": data::NODES[1], "viaName": "node-2", "time": "2026-11-29T11:30:00Z" },
    })))
}

fn why_a_node() -> String {
    let answer: v1::ExplainNodeResponse = message(json!({
        "node": data::nodes()[2],
        "liveness": data::decision(),
        "recent": data::decisions(),
        "seenBy": [{ "observerId": data::NODES[0], "observerName": "node-1",
            "link": data::link(3, json!({ "state": "LINK_STATE_DOWN", "lossPercent": 100, "lastSuccess": "2026-11-29T11:40:10Z" })) }],
        "findings": [data::finding()],
        "sessionFailure": "heartbeat: sequence 7 is behind 9",
        "sessionFailureTime": "2026-11-29T11:00:00Z",
    }));
    let broken: v1::CoherenceReport = message(json!({ "invariants": data::invariants() }));
    why::view(&answer, &broken.invariants[..1], &Names::new(&nodes()))
}

fn workload(at: usize) -> String {
    let answer: v1::GetWorkloadResponse = message(json!({
        "workload": data::workloads()[at],
        "spec": { "name": "web", "command": "/usr/sbin/nginx", "args": ["-g", "daemon off;"], "env": [{ "name": "TOKEN", "value": "" }] },
        "assignments": [data::ended()["assignment"]],
    }));
    workloads::view::one(&answer, &rows()[..3])
}

fn why_workload(name: &str, with_instance: bool) -> String {
    let mut answer: v1::ExplainWorkloadResponse = message(json!({
        "workload": data::workloads()[0],
        "assignment": data::instances()[2],
        "before": data::ended(),
        "events": [
            { "time": "2026-11-29T11:40:12Z", "summary": "web.2 on node-3 is lost: its node is offline" },
            { "time": "2026-11-29T09:00:01Z", "summary": "web.2 is placed on node-3" },
        ],
        "decisions": [data::decisions()[1]],
        "causes": [data::decision()],
    }));
    if !with_instance {
        (answer.assignment, answer.before) = (None, None);
    }
    workloads::explain(name, &answer)
}

fn drained(plan: bool) -> String {
    let answer: v1::DrainNodeResponse = message(
        json!({ "changes": [data::change(json!({ "applied": !plan, "eventSequence": if plan { 0 } else { 912 } }))] }),
    );
    drain::drained("node-1", plan, &answer, &rows()[..3])
}

fn event(sequence: u64, node: &str, summary: &str) -> String {
    let event = message(
        json!({ "sequence": sequence, "time": "2026-11-29T11:40:12.389Z", "nodeName": node, "summary": summary }),
    );
    events::line(&event, text::columns())
}

fn audited() -> String {
    let record = |changes: serde_json::Value| {
        let mut record = json!({ "sequence": 88, "time": "2026-11-29T11:59:00Z", "principal": "operator/ada", "source": "10.0.0.9:54321",
            "action": "wyneos.v1.ClusterService/CordonNode", "target": "node node-2", "kind": "AUDIT_KIND_INTENT" });
        for (name, value) in changes.as_object().unwrap() {
            record[name] = value.clone();
        }
        audit::line(&message(json!({ "record": record })), text::columns())
    };
    [
        audit::heading(text::columns()),
        record(json!({})),
        record(json!({ "sequence": 89, "kind": "AUDIT_KIND_OUTCOME", "intent": 88 })),
        record(json!({ "sequence": 90, "kind": "AUDIT_KIND_UNSPECIFIED", "code": 7, "principal": "operator/eve", "repeats": 3,
            "reason": "wyneos.v1.ClusterService/CordonNode requires operator or admin; eve has viewer" })),
        record(json!({ "sequence": 91, "kind": "AUDIT_KIND_RECONCILED", "intent": 70, "reason": "cut off as the coordinator ended: carried out" })),
        audit::verified(91, 41, &wyneos::audit::Intents::default()).join("\n"),
    ]
    .concat()
}

fn watched() -> String {
    let answers = [
        json!({ "full": data::snapshot() }),
        json!({ "delta": { "fromEpoch": 2, "fromCycle": 86_500, "changed": { "clusterId": "0b9d6a1e-7a52-4a0f-9d3c-5a1e2f3b4c5d", "epoch": 2, "cycle": 86_501, "time": "2026-11-29T12:00:00.500Z",
            "nodes": [data::nodes()[0]], "coherence": { "score": 90.0 } } } }),
        json!({ "resetReason": "the resume token is of a cycle that is kept no longer", "full": data::snapshot() }),
    ];
    let mut state = None;
    let lines = answers.map(|answer| snapshot::watch::line(message(answer), &mut state).unwrap());
    lines.concat()
}

fn refused(code: Code, message: &str, details: ErrorDetails) -> String {
    let status = Status::with_error_details(code, message, details);
    failure(&Failure::status(
        "get node \"node-9\"",
        &status,
        "https://coordinator:7401",
    ))
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, "wyneos", std::collections::HashMap::new())
}

fn broken() -> ErrorDetails {
    let mut details = ErrorDetails::with_bad_request_violation("spec.checks[0].interval", "at least 1 s");
    details.add_bad_request_violation("spec.env.A", "has no value");
    details
}

views! {
    nodes_all: cluster::table(&nodes());
    node_well: node(0);
    node_pending: node(3);
    mesh_all: mesh::view(&message(data::snapshot()), 10);
    snapshot_all: snapshot::view::full(&message(data::snapshot()), None, None);
    snapshot_watch: watched();
    events_list: event(911, "node-3", "node-3 is offline: neither the coordinator nor its peers hear its host") + &event(912, "", "the cluster's CA was prepared for replacement");
    decisions_list: decisions::list(&message::<v1::AutonomyState>(json!({ "recent": data::decisions() })).recent);
    decision_approved: decisions::answered(Some(&message(data::decisions()[1].clone())));
    autonomy: decisions::modes(3, 2, 1);
    why_node: why_a_node();
    why_instance: why_workload("web.2", true);
    why_waiting_instance: why_workload("web.2", false);
    why_unknown: workloads::explain("old", &v1::ExplainWorkloadResponse::default());
    workloads_list: workloads::view::all(&workloads_of());
    workload_service: workload(0);
    workload_batch: workload(1);
    assignments: assignments::assignments_table(&rows(), &workloads_of()).text(0);
    plan_new: changes::declared(Some(&change(json!({ "revision": 0 }))));
    apply_done: changes::declared(Some(&change(json!({ "applied": true, "revision": 5, "eventSequence": 913 }))));
    apply_unchanged: changes::declared(Some(&change(json!({ "changed": false, "starts": [], "stops": [], "waiting": [] }))));
    plan_left_out: changes::change(Some(&change(json!({ "moreStarts": 40, "moreStops": 2, "moreWaiting": 1, "moreRejections": 3 }))));
    drain_plan: drained(true);
    drain_done: drained(false);
    what_if: workloads::view::what_if(&message(json!({ "changes": [data::change(json!({}))], "moreChanges": 2, "moreStarts": 4 })));
    rebalance_plan: workloads::view::rebalanced(&message(json!({ "changes": [data::change(json!({}))] })));
    forget_node: forget::told(&message(json!({ "name": "node-3", "nodeId": data::NODES[2], "applied": true, "eventSequence": 914, "barred": true,
        "notBefore": "2026-11-29T12:00:30Z", "changes": [data::change(json!({ "applied": true, "eventSequence": 914 }))] })));
    tokens_list: tokens::all(&message::<v1::ListJoinTokensResponse>(json!({ "tokens": [
        { "id": "k7f2", "usesLeft": 3, "expires": "2026-11-29T13:00:00Z", "createdBy": "operator/ada", "labels": [{ "key": "zone", "value": "a" }] },
        { "id": "p0q9", "usesLeft": 1, "expires": "2026-11-30T12:00:00Z", "createdBy": "operator/ada", "name": "node-5", "pending": true },
    ] })).tokens);
    operators_list: operators::all(&message::<v1::ListOperatorsResponse>(json!({ "operators": [
        { "name": "ada", "role": "ROLE_ADMIN", "expires": "2027-02-27T12:00:00Z", "createdBy": "local" },
        { "name": "ci", "role": "ROLE_DEPLOYER", "bearer": true, "expires": "2026-12-29T12:00:00Z", "createdBy": "operator/ada" },
        { "name": "eve", "role": "ROLE_VIEWER", "expires": "2026-12-29T12:00:00Z", "revoked": "2026-11-29T11:00:00Z", "createdBy": "operator/ada" },
        { "name": "typo", "revoked": "2026-11-29T11:30:00Z" },
    ] })).operators);
    operator_shut_out: operators::revoked("typo", Some(&v1::Operator::default()));
    authorities: authorities::shown(&message(json!({ "nodesBehind": 2, "authorities": [
        { "fingerprint": "aa".repeat(32), "expires": "2036-11-26T12:00:00Z", "signs": true },
        { "fingerprint": "bb".repeat(32), "expires": "2036-11-29T12:00:00Z" },
    ] })));
    authority_retired: authorities::cut_off(2).iter().map(|line| text::remark(line, text::columns()) + "\n").collect();
    audit_list: audited();
    telemetry_matrix: {
        let channels: v1::ListChannelsResponse = message(json!({ "channels": [{ "name": "cpu", "unit": "ratio" }, { "name": "net.rx", "unit": "bytes/s" }] }));
        let rows: v1::ListTelemetryResponse = message(json!({ "rows": [
            { "name": "node-1", "values": [{ "channel": "cpu", "value": 0.35 }, { "channel": "net.rx", "value": 1_250_000.0 }] },
            { "name": "node-2", "values": [{ "channel": "cpu", "value": 0.7 }] },
        ] }));
        telemetry::table(&channels.channels, &rows.rows)
    };
    telemetry_node: telemetry::summaries(&message::<v1::GetNodeTelemetryResponse>(json!({ "series": [
        { "channel": { "name": "disk", "unit": "ratio" }, "forecast": data::forecast(),
          "samples": [{ "cycle": 1, "value": 0.8 }, { "cycle": 2, "value": 0.9 }] },
    ] })).series);
    predictions_list: predictions::table(&[message(data::forecast())], &Names::new(&nodes()), &[("disk".to_owned(), "ratio".to_owned())].into());
    error_not_found: refused(Code::NotFound, "no node is \"node-9\"", info("NODE_UNKNOWN"));
    error_ambiguous: refused(Code::FailedPrecondition, "\"5\" is the beginning of 2 ids", info("NODE_AMBIGUOUS"));
    error_invalid: refused(Code::InvalidArgument, "spec.checks[0].interval: at least 1 s", broken());
    error_busy: refused(Code::ResourceExhausted, "too many reads at once", ErrorDetails::with_retry_info(Some(Duration::from_millis(1_500))));
    error_unreachable: failure(&Failure::timeout("list the nodes", Duration::from_secs(10), "https://coordinator:7401"));
    error_undated: failure(&Failure::undated("list the nodes", "https://coordinator:7401"));
    error_no_channel: failure(&telemetry::no_channel("cpus"));
}

#[test]
fn every_snapshot_on_file_has_a_view() {
    for file in fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let view = name.split('.').next().unwrap();
        assert!(NAMES.contains(&view), "{name} is of no view: remove it");
    }
}
