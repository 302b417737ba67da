//! Access rules: the callers permitted for each rpc. An rpc without a rule is refused.

use super::Role;

/// Callers permitted for an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every caller that can reach the server.
    Anybody,
    /// People with one of these roles.
    People(&'static [Role]),
    /// An agent, for its own node.
    Agent,
    /// The holder of an agent's or a person's certificate, for itself.
    Holder,
}

impl Need {
    /// Whether a caller of `role` (`None`: unauthenticated) meets it.
    pub fn is_met_by(self, role: Option<Role>) -> bool {
        match (self, role) {
            (Need::Anybody, _) => true,
            (_, None) => false,
            (Need::People(roles), Some(role)) => roles.contains(&role),
            (Need::Agent, Some(role)) => role == Role::Agent,
            (Need::Holder, Some(role)) => role == Role::Agent || role.is_persons(),
        }
    }

    /// Human-readable requirement, for a caller who does not meet it.
    pub fn describe(self) -> String {
        match self {
            Need::Anybody => "nothing".to_owned(),
            Need::People([only]) => format!("the role {}", only.name()),
            Need::People(roles) => {
                let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
                format!("one of the roles {}", names.join(", "))
            }
            Need::Agent => "an agent's certificate".to_owned(),
            Need::Holder => "a certificate of an agent or a person".to_owned(),
        }
    }
}

/// Rule of one rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rpc: `package.Service/Method`.
    pub rpc: &'static str,
    /// Permitted callers.
    pub need: Need,
    /// Whether the rpc changes state: every call is recorded in the audit, whatever its result. Refusals are always
    /// recorded.
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

/// Reads without secrets: all roles of people.
const READ: Need = Need::People(&[Role::Viewer, Role::Operator, Role::Deployer, Role::Admin]);

/// Operation of the cluster and its nodes, without bringing code onto them.
const OPERATE: Need = Need::People(&[Role::Operator, Role::Admin]);

/// Changes of declared workloads without a new specification.
const OPERATE_OR_DEPLOY: Need = Need::People(&[Role::Operator, Role::Deployer, Role::Admin]);

/// Bringing code onto nodes, removing it, and reading its output.
const DEPLOY: Need = Need::People(DEPLOYERS);

/// Management of access and keys.
const ADMIN: Need = Need::People(&[Role::Admin]);

const DEPLOYERS: &[Role] = &[Role::Deployer, Role::Admin];

/// Whether a caller of `role` may see the values of environment variables.
pub fn sees_environment(role: Option<Role>) -> bool {
    role.is_some_and(|role| DEPLOYERS.contains(&role))
}

/// All rules, sorted by rpc.
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
    // A backup contains the cluster's keys and all values of `env`. It changes nothing, but the audit must show who
    // took it.
    changes("wyneos.v1.ClusterService/Backup", ADMIN),
    changes("wyneos.v1.ClusterService/CordonNode", OPERATE),
    changes("wyneos.v1.ClusterService/DrainNode", OPERATE),
    reads("wyneos.v1.ClusterService/EstimateRtt", READ),
    changes("wyneos.v1.ClusterService/ForgetNode", ADMIN),
    reads("wyneos.v1.ClusterService/GetCluster", READ),
    reads("wyneos.v1.ClusterService/GetNode", READ),
    changes("wyneos.v1.ClusterService/LabelNode", OPERATE),
    reads("wyneos.v1.ClusterService/ListNodes", READ),
    changes("wyneos.v1.ClusterService/RefreshNode", OPERATE),
    changes("wyneos.v1.ClusterService/RevokeNode", ADMIN),
    changes("wyneos.v1.ClusterService/SetHeartbeatInterval", OPERATE),
    changes("wyneos.v1.ClusterService/UncordonNode", OPERATE),
    reads("wyneos.v1.CoherenceService/GetSnapshot", READ),
    reads("wyneos.v1.CoherenceService/ListSnapshots", READ),
    reads("wyneos.v1.CoherenceService/ReadSnapshots", READ),
    reads("wyneos.v1.CoherenceService/WatchSnapshots", READ),
    changes("wyneos.v1.DecisionService/ApproveDecision", OPERATE),
    reads("wyneos.v1.DecisionService/ExplainNode", READ),
    reads("wyneos.v1.DecisionService/GetAutonomy", READ),
    reads("wyneos.v1.DecisionService/ListDecisions", READ),
    changes("wyneos.v1.DecisionService/RejectDecision", OPERATE),
    changes("wyneos.v1.DecisionService/SetAutonomy", ADMIN),
    changes("wyneos.v1.EnrollmentService/Enroll", Need::Anybody),
    changes("wyneos.v1.EnrollmentService/Recover", Need::Anybody),
    changes("wyneos.v1.EnrollmentService/Renew", Need::Holder),
    reads("wyneos.v1.EventService/ListEvents", READ),
    reads("wyneos.v1.EventService/WatchEvents", READ),
    reads("wyneos.v1.MeshService/Ask", Need::Agent),
    reads("wyneos.v1.MeshService/Probe", Need::Agent),
    reads("wyneos.v1.TelemetryService/GetNodeTelemetry", READ),
    reads("wyneos.v1.TelemetryService/ListChannels", READ),
    reads("wyneos.v1.TelemetryService/ListForecasts", READ),
    reads("wyneos.v1.TelemetryService/ListTelemetry", READ),
    changes("wyneos.v1.WorkloadService/ApplyWorkload", DEPLOY),
    changes("wyneos.v1.WorkloadService/DeleteWorkload", DEPLOY),
    reads("wyneos.v1.WorkloadService/ExplainWorkload", READ),
    reads("wyneos.v1.WorkloadService/GetWorkload", READ),
    reads("wyneos.v1.WorkloadService/ListAssignments", READ),
    reads("wyneos.v1.WorkloadService/ListWorkloads", READ),
    reads("wyneos.v1.WorkloadService/PlanWorkload", READ),
    changes("wyneos.v1.WorkloadService/PromoteWorkload", DEPLOY),
    // The output of programs may contain secrets.
    reads("wyneos.v1.WorkloadService/ReadLogs", DEPLOY),
    changes("wyneos.v1.WorkloadService/Rebalance", OPERATE),
    changes("wyneos.v1.WorkloadService/RestartWorkload", OPERATE_OR_DEPLOY),
    changes("wyneos.v1.WorkloadService/ScaleWorkload", OPERATE_OR_DEPLOY),
    reads("wyneos.v1.WorkloadService/WatchAssignments", READ),
    reads("wyneos.v1.WorkloadService/WhatIf", READ),
];

/// Finds the rule of an rpc; `None` if there is none, in which case it must be refused.
pub fn rule(rpc: &str) -> Option<&'static Rule> {
    let at = RULES.binary_search_by(|rule| rule.rpc.cmp(rpc)).ok()?;
    RULES.get(at)
}
