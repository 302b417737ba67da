use prost::Message as _;

use super::{Need, RULES, Role, rule, sees_environment};

/// All rpcs of the protocol, from the descriptor set.
fn rpcs() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| {
        let package = file.package();
        file.service.iter().map(move |service| (package.to_owned(), service))
    });
    services
        .flat_map(|(package, service)| {
            let name = service.name().to_owned();
            let methods = service.method.iter();
            methods.map(move |method| format!("{package}.{name}/{}", method.name()))
        })
        .collect()
}

#[test]
fn every_rpc_has_a_row_and_every_row_of_ours_an_rpc() {
    let rpcs = rpcs();
    assert!(rpcs.len() > 30, "{}", rpcs.len());
    for rpc in &rpcs {
        assert!(rule(rpc).is_some(), "{rpc} has no row");
    }
    for rule in RULES.iter().filter(|rule| rule.rpc.starts_with("wyneos.")) {
        assert!(rpcs.iter().any(|rpc| rpc == rule.rpc), "{} is no rpc", rule.rpc);
    }
    assert!(
        RULES.is_sorted_by(|one, other| one.rpc < other.rpc),
        "looked up by halves"
    );
    assert_eq!(rule("wyneos.v1.ClusterService/Erase"), None);
}

/// The permissions of every role, spelled out, so that every change of them changes this table.
const RIGHTS: &[(&str, &str)] = &[
    ("grpc.health.v1.Health/Check", "anybody"),
    ("grpc.health.v1.Health/List", "anybody"),
    ("grpc.health.v1.Health/Watch", "anybody"),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "anybody"),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "anybody",
    ),
    ("AccessService/CreateJoinToken", "admin"),
    ("AccessService/CreateOperator", "admin"),
    ("AccessService/DeleteJoinToken", "admin"),
    ("AccessService/GetAuthorities", "admin"),
    ("AccessService/ListAudit", "admin"),
    ("AccessService/ListJoinTokens", "admin"),
    ("AccessService/ListOperators", "admin"),
    ("AccessService/RevokeOperator", "admin"),
    ("AccessService/RotateAuthority", "admin"),
    ("AccessService/WatchAudit", "admin"),
    ("AgentService/Session", "agent"),
    ("ClusterService/AdmitNode", "admin"),
    ("ClusterService/Backup", "admin"),
    ("ClusterService/CordonNode", "operator admin"),
    ("ClusterService/DrainNode", "operator admin"),
    ("ClusterService/EstimateRtt", "viewer operator deployer admin"),
    ("ClusterService/ForgetNode", "admin"),
    ("ClusterService/GetCluster", "viewer operator deployer admin"),
    ("ClusterService/GetNode", "viewer operator deployer admin"),
    ("ClusterService/LabelNode", "operator admin"),
    ("ClusterService/ListNodes", "viewer operator deployer admin"),
    ("ClusterService/RefreshNode", "operator admin"),
    ("ClusterService/RevokeNode", "admin"),
    ("ClusterService/SetHeartbeatInterval", "operator admin"),
    ("ClusterService/UncordonNode", "operator admin"),
    ("CoherenceService/GetSnapshot", "viewer operator deployer admin"),
    ("CoherenceService/ListSnapshots", "viewer operator deployer admin"),
    ("CoherenceService/ReadSnapshots", "viewer operator deployer admin"),
    ("CoherenceService/WatchSnapshots", "viewer operator deployer admin"),
    ("DecisionService/ApproveDecision", "operator admin"),
    ("DecisionService/ExplainNode", "viewer operator deployer admin"),
    ("DecisionService/GetAutonomy", "viewer operator deployer admin"),
    ("DecisionService/ListDecisions", "viewer operator deployer admin"),
    ("DecisionService/RejectDecision", "operator admin"),
    ("DecisionService/SetAutonomy", "admin"),
    ("EnrollmentService/Enroll", "anybody"),
    ("EnrollmentService/Recover", "anybody"),
    ("EnrollmentService/Renew", "viewer operator deployer admin agent"),
    ("EventService/ListEvents", "viewer operator deployer admin"),
    ("EventService/WatchEvents", "viewer operator deployer admin"),
    ("MeshService/Ask", "agent"),
    ("MeshService/Probe", "agent"),
    ("TelemetryService/GetNodeTelemetry", "viewer operator deployer admin"),
    ("TelemetryService/ListChannels", "viewer operator deployer admin"),
    ("TelemetryService/ListForecasts", "viewer operator deployer admin"),
    ("TelemetryService/ListTelemetry", "viewer operator deployer admin"),
    ("WorkloadService/ApplyWorkload", "deployer admin"),
    ("WorkloadService/DeleteWorkload", "deployer admin"),
    ("WorkloadService/ExplainWorkload", "viewer operator deployer admin"),
    ("WorkloadService/GetWorkload", "viewer operator deployer admin"),
    ("WorkloadService/ListAssignments", "viewer operator deployer admin"),
    ("WorkloadService/ListWorkloads", "viewer operator deployer admin"),
    ("WorkloadService/PlanWorkload", "viewer operator deployer admin"),
    ("WorkloadService/PromoteWorkload", "deployer admin"),
    ("WorkloadService/ReadLogs", "deployer admin"),
    ("WorkloadService/Rebalance", "operator admin"),
    ("WorkloadService/RestartWorkload", "operator deployer admin"),
    ("WorkloadService/ScaleWorkload", "operator deployer admin"),
    ("WorkloadService/WatchAssignments", "viewer operator deployer admin"),
    ("WorkloadService/WhatIf", "viewer operator deployer admin"),
];

/// Callers that meet a need, in the format of [`RIGHTS`].
fn callers(need: Need) -> String {
    if need.is_met_by(None) {
        return "anybody".to_owned();
    }
    let met = Role::ALL.into_iter().filter(|role| need.is_met_by(Some(*role)));
    met.map(Role::name).collect::<Vec<&str>>().join(" ")
}

#[test]
fn every_role_has_exactly_the_rights_that_are_written_out() {
    let table: Vec<(String, String)> = RULES
        .iter()
        .map(|rule| (rule.rpc.trim_start_matches("wyneos.v1.").to_owned(), callers(rule.need)))
        .collect();
    let rights = RIGHTS
        .iter()
        .map(|(rpc, callers)| ((*rpc).to_owned(), (*callers).to_owned()));
    assert_eq!(table, rights.collect::<Vec<_>>());
    let seeing = Role::ALL.into_iter().filter(|role| sees_environment(Some(*role)));
    assert_eq!(seeing.collect::<Vec<Role>>(), [Role::Deployer, Role::Admin]);
    assert!(!sees_environment(None));
}

#[test]
fn docs_security_md_has_the_same_table() {
    let page = include_str!("../../docs/security.md");
    let rows = page
        .lines()
        .skip_while(|line| *line != "| rpc | callers |")
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let documented: Vec<&str> = rows.collect();
    let expected: Vec<String> = RULES
        .iter()
        .map(|rule| {
            let callers = match rule.need {
                Need::Holder => "holders of a certificate".to_owned(),
                need => callers(need).replace(' ', ", "),
            };
            let rpc = rule.rpc.trim_start_matches("wyneos.v1.");
            format!("| `{rpc}` | {callers} |")
        })
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn only_an_admin_includes_another_role_than_viewer() {
    let may = |role: Role| -> Vec<&str> {
        let rules = RULES.iter().filter(|rule| rule.need.is_met_by(Some(role)));
        rules.map(|rule| rule.rpc).collect()
    };
    let includes = |one: Role, other: Role| may(other).iter().all(|rpc| may(one).contains(rpc));
    let people = Role::ALL.into_iter().filter(|role| role.is_persons());
    for one in people.clone() {
        for other in people.clone() {
            let expected = one == other || one == Role::Admin || other == Role::Viewer;
            assert_eq!(includes(one, other), expected, "{one:?} includes {other:?}");
        }
    }
}
