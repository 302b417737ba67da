//! Which role each rpc needs. One table; an rpc without a row is refused.

use super::Role;

/// Who may call an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everybody who can reach the server.
    Anybody,
    /// People of this role or a higher one: viewer, operator, admin.
    Person(Role),
    /// An agent, for its own node.
    Agent,
    /// Whoever has a certificate of an agent or of an operator, for itself.
    Holder,
}

impl Need {
    /// Whether somebody of `role` (`None`: nobody in particular) meets it.
    pub fn is_met_by(self, role: Option<Role>) -> bool {
        match (self, role) {
            (Need::Anybody, _) => true,
            (Need::Person(least), Some(role)) => role.is_persons() && role >= least,
            (Need::Agent, Some(role)) => role == Role::Agent,
            (Need::Holder, Some(role)) => role == Role::Agent || role.is_persons(),
            (_, None) => false,
        }
    }

    /// As people read it.
    pub fn describe(self) -> &'static str {
        match self {
            Need::Anybody => "nothing",
            Need::Person(Role::Viewer) => "the role viewer or a higher one",
            Need::Person(Role::Operator) => "the role operator or admin",
            Need::Person(_) => "the role admin",
            Need::Agent => "an agent's certificate",
            Need::Holder => "a certificate of an agent or an operator",
        }
    }
}

/// A rule for one rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rpc: `package.Service/Method`.
    pub rpc: &'static str,
    /// Who may call it.
    pub need: Need,
    /// It changes something: each call is in the audit, whatever came of it. Refusals are in any case.
    pub changes: bool,
}

const fn reads(rpc: &'static str, need: Need) -> Rule {
    let changes = false;
    Rule { rpc, need, changes }
}

const fn changes(rpc: &'static str, need: Need) -> Rule {
    let changes = true;
    Rule { rpc, need, changes }
}

const VIEWER: Need = Need::Person(Role::Viewer);
const OPERATOR: Need = Need::Person(Role::Operator);
const ADMIN: Need = Need::Person(Role::Admin);

/// Every rule.
pub const RULES: &[Rule] = &[
    reads("grpc.health.v1.Health/Check", Need::Anybody),
    reads("grpc.health.v1.Health/List", Need::Anybody),
    reads("grpc.health.v1.Health/Watch", Need::Anybody),
    // The protocol is public.
    reads(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Need::Anybody,
    ),
    reads(
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Need::Anybody,
    ),
    changes("wyneos.v1.AccessService/CreateJoinToken", ADMIN),
    changes("wyneos.v1.AccessService/CreateOperator", ADMIN),
    changes("wyneos.v1.AccessService/DeleteJoinToken", ADMIN),
    reads("wyneos.v1.AccessService/GetAuthorities", ADMIN),
    reads("wyneos.v1.AccessService/ListAudit", ADMIN),
    reads("wyneos.v1.AccessService/ListJoinTokens", ADMIN),
    reads("wyneos.v1.AccessService/ListOperators", ADMIN),
    changes("wyneos.v1.AccessService/RevokeOperator", ADMIN),
    changes("wyneos.v1.AccessService/RotateAuthority", ADMIN),
    reads("wyneos.v1.AccessService/WatchAudit", ADMIN),
    reads("wyneos.v1.AgentService/Session", Need::Agent),
    changes("wyneos.v1.ClusterService/AdmitNode", ADMIN),
    // It holds the cluster's keys. Nothing is changed by it, but who has taken one is to be known.
    changes("wyneos.v1.ClusterService/Backup", ADMIN),
    changes("wyneos.v1.ClusterService/CordonNode", OPERATOR),
    changes("wyneos.v1.ClusterService/DrainNode", OPERATOR),
    reads("wyneos.v1.ClusterService/EstimateRtt", VIEWER),
    reads("wyneos.v1.ClusterService/GetCluster", VIEWER),
    reads("wyneos.v1.ClusterService/GetNode", VIEWER),
    changes("wyneos.v1.ClusterService/LabelNode", OPERATOR),
    reads("wyneos.v1.ClusterService/ListNodes", VIEWER),
    changes("wyneos.v1.ClusterService/RefreshNode", OPERATOR),
    changes("wyneos.v1.ClusterService/RevokeNode", ADMIN),
    changes("wyneos.v1.ClusterService/SetHeartbeatInterval", OPERATOR),
    changes("wyneos.v1.ClusterService/UncordonNode", OPERATOR),
    reads("wyneos.v1.CoherenceService/GetSnapshot", VIEWER),
    reads("wyneos.v1.CoherenceService/ListSnapshots", VIEWER),
    reads("wyneos.v1.CoherenceService/ReadSnapshots", VIEWER),
    reads("wyneos.v1.CoherenceService/WatchSnapshots", VIEWER),
    changes("wyneos.v1.DecisionService/ApproveDecision", OPERATOR),
    reads("wyneos.v1.DecisionService/ExplainNode", VIEWER),
    reads("wyneos.v1.DecisionService/ListDecisions", VIEWER),
    changes("wyneos.v1.DecisionService/RejectDecision", OPERATOR),
    changes("wyneos.v1.DecisionService/SetAutonomy", ADMIN),
    changes("wyneos.v1.EnrollmentService/Enroll", Need::Anybody),
    changes("wyneos.v1.EnrollmentService/Recover", Need::Anybody),
    changes("wyneos.v1.EnrollmentService/Renew", Need::Holder),
    reads("wyneos.v1.EventService/ListEvents", VIEWER),
    reads("wyneos.v1.EventService/WatchEvents", VIEWER),
    reads("wyneos.v1.MeshService/Ask", Need::Agent),
    reads("wyneos.v1.MeshService/Probe", Need::Agent),
    reads("wyneos.v1.TelemetryService/GetNodeTelemetry", VIEWER),
    reads("wyneos.v1.TelemetryService/ListChannels", VIEWER),
    reads("wyneos.v1.TelemetryService/ListForecasts", VIEWER),
    reads("wyneos.v1.TelemetryService/ListTelemetry", VIEWER),
    changes("wyneos.v1.WorkloadService/ApplyWorkload", OPERATOR),
    changes("wyneos.v1.WorkloadService/DeleteWorkload", OPERATOR),
    reads("wyneos.v1.WorkloadService/ExplainWorkload", VIEWER),
    reads("wyneos.v1.WorkloadService/GetWorkload", VIEWER),
    reads("wyneos.v1.WorkloadService/ListAssignments", VIEWER),
    reads("wyneos.v1.WorkloadService/ListWorkloads", VIEWER),
    reads("wyneos.v1.WorkloadService/PlanWorkload", VIEWER),
    changes("wyneos.v1.WorkloadService/PromoteWorkload", OPERATOR),
    // What programs write may be for fewer eyes than what the cluster is like.
    reads("wyneos.v1.WorkloadService/ReadLogs", OPERATOR),
    changes("wyneos.v1.WorkloadService/Rebalance", OPERATOR),
    changes("wyneos.v1.WorkloadService/RestartWorkload", OPERATOR),
    changes("wyneos.v1.WorkloadService/ScaleWorkload", OPERATOR),
    reads("wyneos.v1.WorkloadService/WatchAssignments", VIEWER),
    reads("wyneos.v1.WorkloadService/WhatIf", VIEWER),
];

/// The rule for an rpc; `None` when there is none, and it must be refused.
pub fn rule(rpc: &str) -> Option<&'static Rule> {
    let at = RULES.binary_search_by(|rule| rule.rpc.cmp(rpc)).ok()?;
    RULES.get(at)
}
