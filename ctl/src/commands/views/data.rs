//! The cluster in the views: four nodes in two zones, a service, a batch and a daemon. In protobuf's JSON, for brevity.

use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::context::pool;

/// A message from its JSON; an unknown field, or an invalid value, fails the test.
pub(super) fn message<M: Message + Name + Default>(json: Value) -> M {
    let descriptor = pool().unwrap().get_message_by_name(&M::full_name()).unwrap();
    let dynamic = DynamicMessage::deserialize(descriptor, json).unwrap();
    dynamic.transcode_to().unwrap()
}

pub(super) const NODES: [&str; 4] = [
    "515f4fb3-1c0e-4f3a-9f5e-8a1c2b3d4e5f",
    "62a06ac4-2d1f-4a4b-8a6f-9b2d3c4e5f60",
    "73b17bd5-3e20-4b5c-9b70-ac3e4d5f6071",
    "84c28ce6-4f31-4c6d-8c81-bd4f5e607182",
];

fn node(number: usize, zone: &str) -> Value {
    json!({
        "id": NODES[number - 1],
        "name": format!("node-{number}"),
        "admission": "ADMISSION_ADMITTED",
        "liveness": "LIVENESS_ONLINE",
        "cause": "LIVENESS_CAUSE_HEARTBEAT",
        "eligibility": "ELIGIBILITY_ELIGIBLE",
        "livenessSince": "2026-11-27T10:00:00Z",
        "lastSeen": "2026-11-29T11:59:59.600Z",
        "incarnation": 3,
        "session": 12,
        "loadPercent": 20 + number,
        "agentVersion": "0.1.0",
        "probeAddress": format!("10.0.0.{number}:7402"),
        "capacity": { "cpuMillis": 8_000, "memoryBytes": 34_359_738_368_u64, "diskBytes": 549_755_813_888_u64 },
        "attributes": {
            "os": "linux",
            "kernel": "6.12.41+deb13-cloud-amd64",
            "architecture": "x86_64",
            "cpus": 8,
            "cgroups": "v2",
            "containment": "pid-namespace",
            "users": { "defaultUser": "nobody", "permitted": [{ "name": "nobody", "uid": 65_534 }, { "name": "www-data", "uid": 33 }] },
        },
        "labels": [{ "key": "zone", "value": zone }, { "key": "disk", "value": "nvme" }],
        "binaryDigest": "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=",
        "configDigest": "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=",
        "bootTime": "2026-11-20T08:30:00Z",
    })
}

fn with(mut base: Value, changes: Value) -> Value {
    let (Value::Object(base_fields), Value::Object(changes)) = (&mut base, changes) else {
        panic!("objects");
    };
    base_fields.extend(changes);
    base
}

/// A healthy node, a cordoned and suspected one, an offline one, and a pending one.
pub(super) fn nodes() -> Value {
    json!([
        node(1, "a"),
        with(
            node(2, "a"),
            json!({ "liveness": "LIVENESS_SUSPECT", "cause": "LIVENESS_CAUSE_SILENT", "eligibility": "ELIGIBILITY_CORDONED", "livenessSince": "2026-11-29T11:59:58Z" })
        ),
        with(
            node(3, "b"),
            json!({ "liveness": "LIVENESS_OFFLINE", "cause": "LIVENESS_CAUSE_HOST_SILENT", "livenessSince": "2026-11-29T11:40:12Z", "lastSeen": "2026-11-29T11:40:10Z" })
        ),
        with(
            node(4, "b"),
            json!({
                "admission": "ADMISSION_PENDING",
                "ruling": { "by": "coordinator", "reason": "its join token does not admit", "time": "2026-11-29T11:58:00Z" },
                "attributes": { "os": "linux", "kernel": "6.1.0", "architecture": "aarch64", "cgroups": "none", "containment": "none",
                    "containmentReason": "cannot make a PID namespace: Operation not permitted (os error 1)" },
            })
        ),
    ])
}

pub(super) fn finding() -> Value {
    json!({ "id": 7, "kind": "FINDING_KIND_NODES_DOWN", "since": "2026-11-29T11:40:12Z", "near": [NODES[2]], "far": [], "detail": "all of zone=b" })
}

pub(super) fn link(subject: usize, changes: Value) -> Value {
    let up =
        json!({ "subjectId": NODES[subject - 1], "state": "LINK_STATE_UP", "rttMicros": 240, "rttP95Micros": 1_310 });
    with(up, changes)
}

pub(super) fn decision() -> Value {
    json!({
        "id": 4_711,
        "time": "2026-11-29T11:40:12.389Z",
        "epoch": 2,
        "cycle": 86_412,
        "nodeId": NODES[2],
        "kind": "liveness",
        "rule": "nobody-hears-it",
        "action": "node-3 is offline: its work is to be placed elsewhere, as the mode of `heal` allows",
        "evidence": [
            { "time": "2026-11-29T11:40:10.120Z", "source": "coordinator", "fact": "no heartbeat for 2.1s; the window is 1.8s" },
            { "time": "2026-11-29T11:40:12.001Z", "source": "node-1", "fact": "3 probes in a row had no answer",
              "observerId": NODES[0], "sight": "SIGHT_SILENT" },
        ],
        "causedBy": [{ "eventSequence": 90_121 }, { "decisionId": 4_709 }],
        "alternatives": [{ "action": "wait for further observers", "rejectedBecause": "all observers of node-3 have reported" }],
        "mode": "AUTONOMY_MODE_ACT",
        "outcome": "DECISION_OUTCOME_DONE",
    })
}

pub(super) fn decisions() -> Value {
    json!([
        decision(),
        { "id": 4_712, "time": "2026-11-29T11:40:12.400Z", "kind": "heal", "rule": "node-offline", "mode": "AUTONOMY_MODE_ADVISE", "outcome": "DECISION_OUTCOME_PENDING",
          "action": "start web.2 on node-1 in the place of the instance on node-3", "causedBy": [{ "decisionId": 4_711 }] },
        { "id": 4_700, "time": "2026-11-28T09:12:00Z", "kind": "rebalance", "rule": "gain", "mode": "AUTONOMY_MODE_OBSERVE", "outcome": "DECISION_OUTCOME_OBSERVED",
          "action": "move report.4 from node-2 to node-1" },
    ])
}

pub(super) fn invariants() -> Value {
    json!([
        { "id": "heartbeats-fresh", "severity": "SEVERITY_WARNING", "checked": 4, "broken": 1, "holds": false, "nodeIds": [NODES[1]],
          "meaning": "every online node was heard within 1.5 heartbeat intervals", "detail": "node-2 has been silent for 1.9s" },
        { "id": "cycle-on-time", "severity": "SEVERITY_NOTICE", "checked": 1, "broken": 0, "holds": true, "meaning": "cycles are on time" },
    ])
}

pub(super) fn snapshot() -> Value {
    json!({
        "clusterId": "0b9d6a1e-7a52-4a0f-9d3c-5a1e2f3b4c5d",
        "epoch": 2,
        "cycle": 86_500,
        "time": "2026-11-29T11:59:59.500Z",
        "coordinatorVersion": "0.1.0",
        "nodes": nodes(),
        "telemetry": { "channels": [
            { "channel": "cpu.used", "count": 3, "min": 0.1, "mean": 0.35, "p50": 0.3, "p95": 0.7, "max": 0.72 },
            { "channel": "memory.used", "count": 3, "min": 0.4, "mean": 0.45, "p50": 0.44, "p95": 0.52, "max": 0.52 },
        ], "history": 600 },
        "predictive": { "published": 6, "unskilled": 2, "warming": 1, "crossings": [forecast()] },
        "mesh": {
            "nodes": 4, "plannedLinks": 6, "liveLinks": 3, "lossyLinks": 1, "downLinks": 2, "unobservedLinks": 1, "componentsTotal": 2,
            "components": [{ "nodeIds": [NODES[0], NODES[1]] }, { "nodeIds": [NODES[2], NODES[3]] }],
            "unobserved": [{ "observerId": NODES[3], "subjectId": NODES[2] }],
            "findings": [finding()],
        },
        "links": [
            { "observerId": NODES[0], "links": [
                link(3, json!({ "state": "LINK_STATE_DOWN", "lossPercent": 100, "failure": "LINK_FAILURE_LATE", "lastSuccess": "2026-11-29T11:40:10Z" })),
                link(2, json!({ "state": "LINK_STATE_LOSSY", "lossPercent": 12, "lastSuccess": "2026-11-29T11:59:59Z" })),
            ] },
            { "observerId": NODES[1], "links": [link(1, json!({}))] },
        ],
        "autonomy": { "decisionsTotal": 4_712, "open": 1, "recent": decisions() },
        "behaviour": { "issued": 14, "done": 11, "failed": 1, "expired": 1, "pending": [
            { "id": 14, "nodeId": NODES[0], "order": "refresh", "state": "DIRECTIVE_STATE_DELIVERED" },
        ] },
        "integrity": { "publicKey": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "previousEpoch": 2, "previousCycle": 86_499,
            "binaries": [{ "nodes": 4 }], "configs": [{ "nodes": 3 }, { "nodes": 1 }] },
        "coherence": { "score": 87.5, "invariants": invariants() },
        "workloads": workloads(),
    })
}

pub(super) fn forecast() -> Value {
    json!({ "nodeId": NODES[0], "channel": "disk", "horizon": "60s", "value": 0.91, "low": 0.88, "high": 0.95, "timeToThreshold": "754s", "skill": 0.41, "coverage": 0.93 })
}

pub(super) fn waiting() -> Value {
    json!([{
        "slots": 1,
        "reason": "no node takes it: 1 has too little memory left, 1 is cordoned, 1 is offline",
        "nodes": [
            { "nodeName": "node-1", "reason": "too little memory: 2.0 GiB of 4.0 GiB" },
            { "nodeName": "node-2", "reason": "cordoned" },
        ],
    }])
}

/// A service that waits for room, a batch with a permanently failed part, a healthy daemon, and a service that fails
/// repeatedly.
pub(super) fn workloads() -> Value {
    json!([
        { "name": "web", "kind": "service", "revision": 4, "stableRevision": 4, "desired": 3, "running": 2, "healthy": 2, "current": 2, "lost": 1, "unwell": 1,
          "time": "2026-11-28T16:20:00Z", "declaredBy": "operator/ada", "waiting": waiting() },
        { "name": "report", "kind": "batch", "revision": 1, "stableRevision": 1, "desired": 5, "running": 1, "healthy": 1, "current": 5, "complete": 3, "run": 2,
          "time": "2026-11-29T08:00:00Z", "declaredBy": "anybody",
          "waiting": [{ "slots": 1, "failures": 2, "givenUp": true, "reason": "failed twice, and is not tried again: exit status 1" }] },
        { "name": "node-exporter", "kind": "daemon", "revision": 2, "stableRevision": 2, "desired": 3, "running": 3, "healthy": 3, "current": 3,
          "time": "2026-11-01T00:00:00Z", "declaredBy": "operator/ada" },
        { "name": "mail", "kind": "service", "revision": 7, "stableRevision": 6, "desired": 1, "running": 0, "failing": 1, "failingRestarts": 4, "failure": "out of memory",
          "oomKills": 4, "unwell": 1, "time": "2026-11-29T11:55:00Z", "declaredBy": "operator/grace" },
    ])
}

pub(super) fn instance(workload: &str, slot: u32, node: usize, changes: Value) -> Value {
    let one = json!({
        "id": format!("6b0a1b2c0000000{}", slot + 1),
        "workload": workload,
        "slot": slot,
        "revision": 4,
        "nodeId": NODES[node - 1],
        "goal": "GOAL_RUN",
        "placed": "2026-11-28T16:20:01Z",
        "reason": "the zone with the fewest instances, and the highest score of 3 nodes",
        "score": { "total": 4_210, "headroom": 820, "calm": 900, "affinity": 0, "trust": 1_000, "record": 990, "closeness": 500 },
        "status": { "phase": "INSTANCE_PHASE_RUNNING", "healthy": true, "since": "2026-11-28T16:20:03Z", "pid": 4_242, "restarts": 0 },
    });
    json!({
        "assignment": with(one, changes),
        "nodeName": format!("node-{node}"),
        "addresses": [format!("10.0.0.{node}:2100{slot}")],
        "user": "www-data",
    })
}

pub(super) fn instances() -> Value {
    json!([
        instance("web", 0, 1, json!({})),
        instance(
            "web",
            1,
            2,
            json!({ "goal": "GOAL_STOP", "stopReason": "its node is drained" })
        ),
        instance(
            "web",
            2,
            3,
            json!({ "status": { "phase": "INSTANCE_PHASE_LOST", "since": "2026-11-29T11:40:12Z", "restarts": 2, "detail": "node-3 is offline" } })
        ),
        instance(
            "old",
            0,
            1,
            json!({ "id": "6b0a1b2c0000000a", "orphaned": true, "revision": 9 })
        ),
    ])
}

/// An instance that ended earlier.
pub(super) fn ended() -> Value {
    instance(
        "web",
        2,
        2,
        json!({ "id": "6b0a1b2c00000009", "status": { "phase": "INSTANCE_PHASE_ENDED", "since": "2026-11-29T09:00:00Z", "detail": "exit status 1",
            "lastStderr": "bind: address already in use" } }),
    )
}

pub(super) fn change(changes: Value) -> Value {
    let plan = json!({
        "name": "web",
        "revision": 4,
        "changed": true,
        "replicasBefore": 3,
        "spec": { "name": "web", "command": "/usr/sbin/nginx", "user": "www-data", "service": { "replicas": 5 } },
        "starts": [
            { "workload": "web", "slot": 3, "nodeName": "node-1", "reason": "the highest score of 3 nodes",
              "score": { "total": 4_210, "headroom": 820, "calm": 900, "affinity": 0, "trust": 1_000, "record": 990, "closeness": 500 } },
            { "workload": "web", "slot": 2, "nodeName": "node-1", "reason": "the highest score of 3 nodes",
              "score": { "total": 4_210, "headroom": 820, "calm": 900, "affinity": 0, "trust": 1_000, "record": 990, "closeness": 500 } },
        ],
        "stops": [{ "assignmentId": "6b0a1b2c00000003", "nodeName": "node-3", "slot": 2, "reason": "its node is offline" }],
        "later": 1,
        "waiting": waiting(),
    });
    with(plan, changes)
}
