//! Operators' commands.

use wyneos_core::{
    coordinator::{Answer, Command},
    limits,
};

use super::{ConvertError, check, node::labels_out, time::duration_in};
use crate::v1;

pub(super) fn node(node: String) -> Result<String, ConvertError> {
    let node = check::text("node", node, limits::NAME)?;
    if node.is_empty() {
        return Err(ConvertError::new(
            "node",
            "missing: give an id, a unique prefix of one, or a name",
        ));
    }
    Ok(node)
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

/// The answers to commands; `None` for an answer to another command.
pub trait FromAnswer: Sized {
    /// From what the core answered.
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
