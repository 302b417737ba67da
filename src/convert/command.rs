//! Operator commands.

use std::sync::Arc;

use wyneos_core::{
    autonomy::{Mode, PolicyChange},
    coordinator::{Answer, Command, WorkloadCommand, WorkloadVerb},
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

impl TryFrom<v1::CordonNodeRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::CordonNodeRequest) -> Result<Command, ConvertError> {
        Ok(Command::Cordon {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::UncordonNodeRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::UncordonNodeRequest) -> Result<Command, ConvertError> {
        Ok(Command::Uncordon {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::LabelNodeRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::LabelNodeRequest) -> Result<Command, ConvertError> {
        check::at_most("remove", request.remove.len(), limits::LABELS)?;
        for (at, key) in request.remove.iter().enumerate() {
            check::label_key(&format!("remove[{at}]"), key)?;
        }
        let set = check::labels("set", request.set)?;
        Ok(Command::Label {
            node: node(request.node)?,
            set,
            remove: request.remove,
        })
    }
}

impl TryFrom<v1::RefreshNodeRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::RefreshNodeRequest) -> Result<Command, ConvertError> {
        Ok(Command::Refresh {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::SetHeartbeatIntervalRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::SetHeartbeatIntervalRequest) -> Result<Command, ConvertError> {
        let interval = request
            .interval
            .map(|interval| duration_in("interval", &interval))
            .transpose()?;
        Ok(Command::SetHeartbeat {
            node: node(request.node)?,
            interval,
        })
    }
}

impl TryFrom<v1::DrainNodeRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::DrainNodeRequest) -> Result<Command, ConvertError> {
        let deadline = request
            .deadline
            .map(|deadline| duration_in("deadline", &deadline))
            .transpose()?;
        if deadline.is_some_and(|deadline| deadline > workload::limits::SPAN) {
            return Err(ConvertError::new("deadline", "more than 7 days"));
        }
        Ok(Command::Drain {
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

fn on_workload(verb: WorkloadVerb, at: Option<u64>, plan: bool) -> Command {
    Command::Workload(Box::new(WorkloadCommand {
        plan,
        at,
        keep_replicas: false,
        force: false,
        verb,
    }))
}

fn apply(
    spec: Option<v1::WorkloadSpec>,
    at: Option<u64>,
    plan: bool,
    (keep_replicas, force): (bool, bool),
) -> Result<Command, ConvertError> {
    let spec = check::require("spec", spec)?;
    let spec = spec_in(spec).map_err(|error| error.within("spec"))?;
    let checked = spec.check_declared();
    checked.map_err(|bad| ConvertError::new(bad.field, bad.reason).within("spec"))?;
    Ok(Command::Workload(Box::new(WorkloadCommand {
        plan,
        at,
        keep_replicas,
        force,
        verb: WorkloadVerb::Apply(Arc::new(spec)),
    })))
}

impl TryFrom<v1::PlanWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::PlanWorkloadRequest) -> Result<Command, ConvertError> {
        apply(request.spec, None, true, (request.keep_replicas, false))
    }
}

impl TryFrom<v1::ApplyWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::ApplyWorkloadRequest) -> Result<Command, ConvertError> {
        apply(
            request.spec,
            request.revision,
            false,
            (request.keep_replicas, request.force),
        )
    }
}

impl TryFrom<v1::ScaleWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::ScaleWorkloadRequest) -> Result<Command, ConvertError> {
        let (name, replicas) = (workload_name(request.name)?, request.replicas);
        let verb = WorkloadVerb::Scale { name, replicas };
        Ok(on_workload(verb, request.revision, request.plan))
    }
}

impl TryFrom<v1::RestartWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::RestartWorkloadRequest) -> Result<Command, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Restart { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::PromoteWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::PromoteWorkloadRequest) -> Result<Command, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Promote { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::DeleteWorkloadRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::DeleteWorkloadRequest) -> Result<Command, ConvertError> {
        let name = workload_name(request.name)?;
        Ok(on_workload(
            WorkloadVerb::Delete { name },
            request.revision,
            request.plan,
        ))
    }
}

impl TryFrom<v1::WhatIfRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::WhatIfRequest) -> Result<Command, ConvertError> {
        let most = limits::LABEL_KEY + limits::LABEL_VALUE + 1;
        let nodes = check::lookup("nodes", request.nodes, most, "a node, or key=value of a label")?;
        let drained = request.drained;
        Ok(Command::WhatIf { nodes, drained })
    }
}

impl TryFrom<v1::RebalanceRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::RebalanceRequest) -> Result<Command, ConvertError> {
        Ok(Command::Rebalance { plan: request.plan })
    }
}

impl TryFrom<v1::ApproveDecisionRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::ApproveDecisionRequest) -> Result<Command, ConvertError> {
        let (id, approve) = (request.id, true);
        Ok(Command::Decide { id, approve })
    }
}

impl TryFrom<v1::RejectDecisionRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::RejectDecisionRequest) -> Result<Command, ConvertError> {
        let (id, approve) = (request.id, false);
        Ok(Command::Decide { id, approve })
    }
}

impl TryFrom<v1::SetAutonomyRequest> for Command {
    type Error = ConvertError;

    fn try_from(request: v1::SetAutonomyRequest) -> Result<Command, ConvertError> {
        let mode = |field: &str, mode: v1::AutonomyMode, value: i32| match (mode, value) {
            (v1::AutonomyMode::Unspecified, 0) => Ok(None),
            (mode, _) => Mode::try_from(mode)
                .map(Some)
                .map_err(|_| ConvertError::new(field, format!("{value} is not a value of this enum"))),
        };
        Ok(Command::SetPolicy(PolicyChange {
            heal: mode("heal", request.heal(), request.heal)?,
            rebalance: mode("rebalance", request.rebalance(), request.rebalance)?,
            preempt: mode("preempt", request.preempt(), request.preempt)?,
        }))
    }
}

impl From<v1::GetAutonomyRequest> for Command {
    /// Converts to an empty policy update, which changes nothing and is answered with the policy.
    fn from(_: v1::GetAutonomyRequest) -> Command {
        Command::SetPolicy(PolicyChange::default())
    }
}

/// Conversion of answers to commands; `None` for an answer to another command.
pub trait FromAnswer: Sized {
    /// Converts the core's answer.
    fn from_answer(answer: Answer) -> Option<Self>;
}

impl FromAnswer for v1::CordonNodeResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Eligibility {
            eligibility,
            changed,
            event,
        } = answer
        else {
            return None;
        };
        let eligibility = v1::Eligibility::from(eligibility).into();
        Some(v1::CordonNodeResponse {
            eligibility,
            changed,
            event_sequence: event,
        })
    }
}

impl FromAnswer for v1::UncordonNodeResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Eligibility {
            eligibility,
            changed,
            event,
        } = answer
        else {
            return None;
        };
        let eligibility = v1::Eligibility::from(eligibility).into();
        Some(v1::UncordonNodeResponse {
            eligibility,
            changed,
            event_sequence: event,
        })
    }
}

impl FromAnswer for v1::LabelNodeResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Labels { labels, changed, event } = answer else {
            return None;
        };
        Some(v1::LabelNodeResponse {
            labels: labels_out(&labels),
            changed,
            event_sequence: event,
        })
    }
}

impl FromAnswer for v1::RefreshNodeResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Directive { id, event } = answer else {
            return None;
        };
        Some(v1::RefreshNodeResponse {
            directive_id: id,
            event_sequence: event,
        })
    }
}

impl FromAnswer for v1::SetHeartbeatIntervalResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Directive { id, event } = answer else {
            return None;
        };
        Some(v1::SetHeartbeatIntervalResponse {
            directive_id: id,
            event_sequence: event,
        })
    }
}

impl FromAnswer for v1::DrainNodeResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Workloads(changes) = answer else {
            return None;
        };
        let changes = changes_out(changes);
        Some(v1::DrainNodeResponse {
            changes: changes.listed,
            more_changes: changes.more,
            more_waiting: changes.more_waiting,
        })
    }
}

impl FromAnswer for v1::WhatIfResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Workloads(changes) = answer else {
            return None;
        };
        let changes = changes_out(changes);
        Some(v1::WhatIfResponse {
            changes: changes.listed,
            more_changes: changes.more,
            more_starts: changes.more_starts,
            more_waiting: changes.more_waiting,
        })
    }
}

impl FromAnswer for v1::RebalanceResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Workloads(changes) = answer else {
            return None;
        };
        let changes = changes_out(changes);
        Some(v1::RebalanceResponse {
            changes: changes.listed,
            more_changes: changes.more,
        })
    }
}

impl FromAnswer for v1::ApproveDecisionResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Decision(decision) = answer else {
            return None;
        };
        let decision = Some((&*decision).into());
        Some(v1::ApproveDecisionResponse { decision })
    }
}

impl FromAnswer for v1::RejectDecisionResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Decision(decision) = answer else {
            return None;
        };
        let decision = Some((&*decision).into());
        Some(v1::RejectDecisionResponse { decision })
    }
}

impl FromAnswer for v1::GetAutonomyResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Policy { policy, .. } = answer else {
            return None;
        };
        Some(v1::GetAutonomyResponse {
            heal: v1::AutonomyMode::from(policy.heal).into(),
            rebalance: v1::AutonomyMode::from(policy.rebalance).into(),
            preempt: v1::AutonomyMode::from(policy.preempt).into(),
        })
    }
}

impl FromAnswer for v1::SetAutonomyResponse {
    fn from_answer(answer: Answer) -> Option<Self> {
        let Answer::Policy { policy, event } = answer else {
            return None;
        };
        Some(v1::SetAutonomyResponse {
            heal: v1::AutonomyMode::from(policy.heal).into(),
            rebalance: v1::AutonomyMode::from(policy.rebalance).into(),
            preempt: v1::AutonomyMode::from(policy.preempt).into(),
            event_sequence: event,
        })
    }
}

/// Converts the change of one workload.
fn change(answer: Answer) -> Option<Option<v1::WorkloadChange>> {
    let Answer::Workloads(changes) = answer else {
        return None;
    };
    Some(changes.into_iter().next().map(change_out))
}

macro_rules! changes {
    ($($response:ident),+) => {
        $(impl FromAnswer for v1::$response {
            fn from_answer(answer: Answer) -> Option<Self> {
                Some(v1::$response { change: change(answer)? })
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
