//! Operator commands.

use std::sync::Arc;

use wyneos_core::{
    autonomy::{Decision, Mode, PolicyChange},
    command::{
        ChangeWorkload, Changed, Cordon, Decide, Drain, Issued, Label, NodeEligibility, NodeLabels, PolicySet,
        Rebalance, Refresh, SetHeartbeat, SetPolicy, Uncordon, WhatIf, WorkloadVerb,
    },
    id::{DecisionId, Revision},
    limits, workload,
};

use super::{
    ConvertError, check,
    instance::{change_out, changes_out},
    node::labels_out,
    time::duration_in,
    workload::spec_in,
};
use crate::v1;

pub(super) fn node(node: String) -> Result<String, ConvertError> {
    check::lookup("node", node, limits::NAME, "an id, a unique prefix of one, or a name")
}

impl TryFrom<v1::CordonNodeRequest> for Cordon {
    type Error = ConvertError;

    fn try_from(request: v1::CordonNodeRequest) -> Result<Cordon, ConvertError> {
        Ok(Cordon {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::UncordonNodeRequest> for Uncordon {
    type Error = ConvertError;

    fn try_from(request: v1::UncordonNodeRequest) -> Result<Uncordon, ConvertError> {
        Ok(Uncordon {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::LabelNodeRequest> for Label {
    type Error = ConvertError;

    fn try_from(request: v1::LabelNodeRequest) -> Result<Label, ConvertError> {
        check::at_most("remove", request.remove.len(), limits::LABELS)?;
        for (at, key) in request.remove.iter().enumerate() {
            check::label_key(&format!("remove[{at}]"), key)?;
        }
        let set = check::labels("set", request.set)?;
        Ok(Label {
            node: node(request.node)?,
            set,
            remove: request.remove,
        })
    }
}

impl TryFrom<v1::RefreshNodeRequest> for Refresh {
    type Error = ConvertError;

    fn try_from(request: v1::RefreshNodeRequest) -> Result<Refresh, ConvertError> {
        Ok(Refresh {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::SetHeartbeatIntervalRequest> for SetHeartbeat {
    type Error = ConvertError;

    fn try_from(request: v1::SetHeartbeatIntervalRequest) -> Result<SetHeartbeat, ConvertError> {
        let interval = request
            .interval
            .map(|interval| duration_in("interval", &interval))
            .transpose()?;
        Ok(SetHeartbeat {
            node: node(request.node)?,
            interval,
        })
    }
}

impl TryFrom<v1::DrainNodeRequest> for Drain {
    type Error = ConvertError;

    fn try_from(request: v1::DrainNodeRequest) -> Result<Drain, ConvertError> {
        let deadline = request
            .deadline
            .map(|deadline| duration_in("deadline", &deadline))
            .transpose()?;
        if deadline.is_some_and(|deadline| deadline > workload::limits::SPAN) {
            return Err(ConvertError::new("deadline", "more than 7 days"));
        }
        Ok(Drain {
            node: node(request.node)?,
            deadline,
            keep_daemons: request.keep_daemons,
            plan: request.plan,
        })
    }
}

fn workload_name(name: String) -> Result<String, ConvertError> {
    check::lookup("name", name, workload::limits::NAME, "a workload's name")
}

fn on_workload(verb: WorkloadVerb, at: Option<u64>, plan: bool) -> ChangeWorkload {
    ChangeWorkload {
        plan,
        at: at.map(Revision),
        keep_replicas: false,
        force: false,
        verb,
    }
}

fn apply(
    spec: Option<v1::WorkloadSpec>,
    at: Option<u64>,
    plan: bool,
    (keep_replicas, force): (bool, bool),
) -> Result<ChangeWorkload, ConvertError> {
    let spec = check::require("spec", spec)?;
    let spec = spec_in(spec).map_err(|error| error.within("spec"))?;
    let checked = spec.check_declared();
    checked.map_err(|bad| ConvertError::new(bad.field, bad.reason).within("spec"))?;
    Ok(ChangeWorkload {
        plan,
        at: at.map(Revision),
        keep_replicas,
        force,
        verb: WorkloadVerb::Apply(Arc::new(spec)),
    })
}

impl TryFrom<v1::PlanWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::PlanWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        apply(request.spec, None, true, (request.keep_replicas, false))
    }
}

impl TryFrom<v1::ApplyWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::ApplyWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        apply(
            request.spec,
            request.revision,
            false,
            (request.keep_replicas, request.force),
        )
    }
}

impl TryFrom<v1::ScaleWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::ScaleWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        let (name, replicas) = (workload_name(request.name)?, request.replicas);
        let verb = WorkloadVerb::Scale { name, replicas };
        Ok(on_workload(verb, request.revision, request.plan))
    }
}

impl TryFrom<v1::RestartWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::RestartWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Restart { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::PromoteWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::PromoteWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Promote { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::DeleteWorkloadRequest> for ChangeWorkload {
    type Error = ConvertError;

    fn try_from(request: v1::DeleteWorkloadRequest) -> Result<ChangeWorkload, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Delete { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::WhatIfRequest> for WhatIf {
    type Error = ConvertError;

    fn try_from(request: v1::WhatIfRequest) -> Result<WhatIf, ConvertError> {
        let most = limits::LABEL_KEY + limits::LABEL_VALUE + 1;
        let nodes = check::lookup("nodes", request.nodes, most, "a node, or key=value of a label")?;
        let drained = request.drained;
        Ok(WhatIf { nodes, drained })
    }
}

impl TryFrom<v1::RebalanceRequest> for Rebalance {
    type Error = ConvertError;

    fn try_from(request: v1::RebalanceRequest) -> Result<Rebalance, ConvertError> {
        Ok(Rebalance { plan: request.plan })
    }
}

impl TryFrom<v1::ApproveDecisionRequest> for Decide {
    type Error = ConvertError;

    fn try_from(request: v1::ApproveDecisionRequest) -> Result<Decide, ConvertError> {
        let (id, approve) = (request.id, true);
        Ok(Decide {
            id: DecisionId(id),
            approve,
        })
    }
}

impl TryFrom<v1::RejectDecisionRequest> for Decide {
    type Error = ConvertError;

    fn try_from(request: v1::RejectDecisionRequest) -> Result<Decide, ConvertError> {
        let (id, approve) = (request.id, false);
        Ok(Decide {
            id: DecisionId(id),
            approve,
        })
    }
}

impl TryFrom<v1::SetAutonomyRequest> for SetPolicy {
    type Error = ConvertError;

    fn try_from(request: v1::SetAutonomyRequest) -> Result<SetPolicy, ConvertError> {
        let mode = |field: &str, mode: v1::AutonomyMode, value: i32| match (mode, value) {
            (v1::AutonomyMode::Unspecified, 0) => Ok(None),
            (mode, _) => Mode::try_from(mode)
                .map(Some)
                .map_err(|_| ConvertError::new(field, format!("{value} is not a value of this enum"))),
        };
        Ok(SetPolicy(PolicyChange {
            heal: mode("heal", request.heal(), request.heal)?,
            rebalance: mode("rebalance", request.rebalance(), request.rebalance)?,
            preempt: mode("preempt", request.preempt(), request.preempt)?,
        }))
    }
}

impl From<v1::GetAutonomyRequest> for SetPolicy {
    /// Converts to an empty policy update, which changes nothing and is answered with the policy.
    fn from(_: v1::GetAutonomyRequest) -> SetPolicy {
        SetPolicy(PolicyChange::default())
    }
}

impl From<NodeEligibility> for v1::CordonNodeResponse {
    fn from(reply: NodeEligibility) -> Self {
        v1::CordonNodeResponse {
            eligibility: v1::Eligibility::from(reply.eligibility).into(),
            changed: reply.changed,
            event_sequence: reply.event.0,
        }
    }
}

impl From<NodeEligibility> for v1::UncordonNodeResponse {
    fn from(reply: NodeEligibility) -> Self {
        v1::UncordonNodeResponse {
            eligibility: v1::Eligibility::from(reply.eligibility).into(),
            changed: reply.changed,
            event_sequence: reply.event.0,
        }
    }
}

impl From<NodeLabels> for v1::LabelNodeResponse {
    fn from(reply: NodeLabels) -> Self {
        v1::LabelNodeResponse {
            labels: labels_out(&reply.labels),
            changed: reply.changed,
            event_sequence: reply.event.0,
        }
    }
}

impl From<Issued> for v1::RefreshNodeResponse {
    fn from(reply: Issued) -> Self {
        v1::RefreshNodeResponse {
            directive_id: reply.id.0,
            event_sequence: reply.event.0,
        }
    }
}

impl From<Issued> for v1::SetHeartbeatIntervalResponse {
    fn from(reply: Issued) -> Self {
        v1::SetHeartbeatIntervalResponse {
            directive_id: reply.id.0,
            event_sequence: reply.event.0,
        }
    }
}

impl From<Vec<Changed>> for v1::DrainNodeResponse {
    fn from(changes: Vec<Changed>) -> Self {
        let changes = changes_out(changes);
        v1::DrainNodeResponse {
            changes: changes.listed,
            more_changes: changes.more,
            more_waiting: changes.more_waiting,
        }
    }
}

impl From<Vec<Changed>> for v1::WhatIfResponse {
    fn from(changes: Vec<Changed>) -> Self {
        let changes = changes_out(changes);
        v1::WhatIfResponse {
            changes: changes.listed,
            more_changes: changes.more,
            more_starts: changes.more_starts,
            more_waiting: changes.more_waiting,
        }
    }
}

impl From<Vec<Changed>> for v1::RebalanceResponse {
    fn from(changes: Vec<Changed>) -> Self {
        let changes = changes_out(changes);
        v1::RebalanceResponse {
            changes: changes.listed,
            more_changes: changes.more,
        }
    }
}

impl From<Arc<Decision>> for v1::ApproveDecisionResponse {
    fn from(decision: Arc<Decision>) -> Self {
        let decision = Some((&*decision).into());
        v1::ApproveDecisionResponse { decision }
    }
}

impl From<Arc<Decision>> for v1::RejectDecisionResponse {
    fn from(decision: Arc<Decision>) -> Self {
        let decision = Some((&*decision).into());
        v1::RejectDecisionResponse { decision }
    }
}

impl From<PolicySet> for v1::GetAutonomyResponse {
    fn from(reply: PolicySet) -> Self {
        let policy = reply.policy;
        v1::GetAutonomyResponse {
            heal: v1::AutonomyMode::from(policy.heal).into(),
            rebalance: v1::AutonomyMode::from(policy.rebalance).into(),
            preempt: v1::AutonomyMode::from(policy.preempt).into(),
        }
    }
}

impl From<PolicySet> for v1::SetAutonomyResponse {
    fn from(reply: PolicySet) -> Self {
        let PolicySet { policy, event } = reply;
        v1::SetAutonomyResponse {
            heal: v1::AutonomyMode::from(policy.heal).into(),
            rebalance: v1::AutonomyMode::from(policy.rebalance).into(),
            preempt: v1::AutonomyMode::from(policy.preempt).into(),
            event_sequence: event.0,
        }
    }
}

macro_rules! changes {
    ($($response:ident),+) => {
        $(impl From<Box<Changed>> for v1::$response {
            fn from(changed: Box<Changed>) -> Self {
                let change = Some(change_out(*changed));
                v1::$response { change }
            }
        })+
    };
}

changes!(
    PlanWorkloadResponse,
    ApplyWorkloadResponse,
    ScaleWorkloadResponse,
    RestartWorkloadResponse,
    PromoteWorkloadResponse,
    DeleteWorkloadResponse
);
