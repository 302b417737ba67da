//! Admission, join tokens and operators.

use wyneos_core::{
    access::{Credential, OperatorRecord, Role, ShutOut, TokenRecord},
    command::{Admit, DeleteToken, Forget, Forgotten, NodeAdmission, Revoke, RevokeOperator},
    limits,
    node::Admission,
};

use super::{
    ConvertError, check,
    command::node,
    instance::changes_out,
    node::{labels_out, same},
    time::timestamp,
};
use crate::v1;

same!(
    Role,
    v1::Role {
        Viewer,
        Operator,
        Deployer,
        Admin,
        Agent,
        Coordinator
    }
);

impl TryFrom<v1::AdmitNodeRequest> for Admit {
    type Error = ConvertError;

    fn try_from(request: v1::AdmitNodeRequest) -> Result<Admit, ConvertError> {
        Ok(Admit {
            node: node(request.node)?,
        })
    }
}

impl TryFrom<v1::RevokeNodeRequest> for Revoke {
    type Error = ConvertError;

    fn try_from(request: v1::RevokeNodeRequest) -> Result<Revoke, ConvertError> {
        Ok(Revoke {
            node: node(request.node)?,
            reason: check::text("reason", request.reason, limits::REASON)?,
        })
    }
}

impl TryFrom<v1::ForgetNodeRequest> for Forget {
    type Error = ConvertError;

    fn try_from(request: v1::ForgetNodeRequest) -> Result<Forget, ConvertError> {
        Ok(Forget {
            node: node(request.node)?,
            plan: request.plan,
            reason: check::text("reason", request.reason, limits::REASON)?,
        })
    }
}

impl TryFrom<v1::DeleteJoinTokenRequest> for DeleteToken {
    type Error = ConvertError;

    fn try_from(request: v1::DeleteJoinTokenRequest) -> Result<DeleteToken, ConvertError> {
        Ok(DeleteToken {
            id: check::lookup("id", request.id, limits::OPERATOR, "a join token's id")?,
        })
    }
}

impl TryFrom<v1::RevokeOperatorRequest> for RevokeOperator {
    type Error = ConvertError;

    fn try_from(request: v1::RevokeOperatorRequest) -> Result<RevokeOperator, ConvertError> {
        Ok(RevokeOperator {
            name: operator_name(request.name)?,
        })
    }
}

/// Validates an operator's name.
///
/// # Errors
/// The name has invalid characters or is too long.
pub fn operator_name(name: String) -> Result<String, ConvertError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=limits::OPERATOR).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(name);
    }
    let reason = "1 to 64 letters, digits, '.', '_' and '-'";
    Err(ConvertError::new("name", reason))
}

/// Validates the role of an operator.
///
/// # Errors
/// The role is not one for people.
pub fn operator_role(role: v1::Role) -> Result<Role, ConvertError> {
    let known = Role::try_from(role).ok().filter(|role| role.is_persons());
    known.ok_or_else(|| {
        ConvertError::new(
            "role",
            "one of ROLE_VIEWER, ROLE_OPERATOR, ROLE_DEPLOYER and ROLE_ADMIN",
        )
    })
}

/// Converts a request for a join token; the caller adds id, hash and authority.
///
/// # Errors
/// A field is invalid.
pub fn token_in(request: v1::CreateJoinTokenRequest) -> Result<TokenRecord, ConvertError> {
    Ok(TokenRecord {
        id: String::new(),
        hash: Default::default(),
        created: Default::default(),
        created_by: String::new(),
        expires: Default::default(),
        lived: Default::default(),
        uses_left: request.uses.max(1),
        labels: check::labels("labels", request.labels)?,
        name: check::text("name", request.name, limits::NAME)?,
        admission: match request.pending {
            true => Admission::Pending,
            false => Admission::Admitted,
        },
        authority: None,
    })
}

impl From<&TokenRecord> for v1::JoinToken {
    fn from(token: &TokenRecord) -> v1::JoinToken {
        v1::JoinToken {
            id: token.id.clone(),
            created: Some(timestamp(token.created)),
            created_by: token.created_by.clone(),
            expires: Some(timestamp(token.expires)),
            uses_left: token.uses_left,
            labels: labels_out(&token.labels),
            name: token.name.clone(),
            pending: token.admission != Admission::Admitted,
        }
    }
}

/// Converts a barred operator name without a record.
pub fn shut_out((name, shut): (&String, &ShutOut)) -> v1::Operator {
    let time = timestamp(shut.time);
    let (created, revoked) = match shut.revoked {
        true => (None, Some(time)),
        false => (Some(time), None),
    };
    v1::Operator {
        name: name.clone(),
        created,
        revoked,
        ..v1::Operator::default()
    }
}

impl From<&OperatorRecord> for v1::Operator {
    fn from(operator: &OperatorRecord) -> v1::Operator {
        v1::Operator {
            name: operator.name.clone(),
            role: operator
                .known_role()
                .map_or(v1::Role::Unspecified, v1::Role::from)
                .into(),
            bearer: matches!(operator.credential, Credential::Bearer(_)),
            created: Some(timestamp(operator.created)),
            created_by: operator.created_by.clone(),
            expires: Some(timestamp(operator.expires)),
            revoked: operator.revoked.as_ref().map(|(time, _)| timestamp(*time)),
            revoked_by: operator.revoked.clone().map_or_else(String::new, |(_, by)| by),
        }
    }
}

/// The replies about a node's admission.
macro_rules! admission_replies {
    ($($response:ident),+) => {
        $(impl From<NodeAdmission> for v1::$response {
            fn from(reply: NodeAdmission) -> Self {
                v1::$response {
                    admission: v1::Admission::from(reply.admission).into(),
                    changed: reply.changed,
                    event_sequence: reply.event.0,
                }
            }
        })+
    };
}
admission_replies!(AdmitNodeResponse, RevokeNodeResponse);

impl From<Box<Forgotten>> for v1::ForgetNodeResponse {
    fn from(forgotten: Box<Forgotten>) -> Self {
        let changes = changes_out(forgotten.changes);
        v1::ForgetNodeResponse {
            node_id: forgotten.node.to_string(),
            name: forgotten.name,
            applied: forgotten.applied,
            barred: forgotten.barred,
            not_before: forgotten.not_before.map(timestamp),
            changes: changes.listed,
            event_sequence: forgotten.event.0,
            more_changes: changes.more,
            more_stops: changes.more_stops,
        }
    }
}

impl From<Box<TokenRecord>> for v1::DeleteJoinTokenResponse {
    fn from(token: Box<TokenRecord>) -> Self {
        v1::DeleteJoinTokenResponse {
            details: Some((&*token).into()),
        }
    }
}

impl From<Box<OperatorRecord>> for v1::RevokeOperatorResponse {
    fn from(operator: Box<OperatorRecord>) -> Self {
        v1::RevokeOperatorResponse {
            details: Some((&*operator).into()),
        }
    }
}
