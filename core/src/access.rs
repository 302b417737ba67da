//! Access control: roles, join tokens and operators. The admission state of nodes is in their records.

mod shut_out;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use crate::node::{Identity, Ruling};
use crate::{
    id::NodeId,
    integrity::{Digest, ZERO_DIGEST},
    node::{Admission, Labels},
    time::WallTime,
};

pub use shut_out::{CREDENTIAL_LIFE, NAMES, NAMES_OF_CREATED, NoRoom, ShutOut};

/// Maximum number of valid join tokens. A further one is refused.
pub const TOKENS: usize = 256;

/// Maximum number of retained join tokens, including those that expired by a clock that may be wrong. A further one is
/// refused.
pub const TOKENS_KEPT: usize = 2 * TOKENS;

/// Maximum number of operators on record. Invalid ones make room for others; a further one is refused if all are valid.
pub const OPERATORS: usize = 1_000;

/// Maximum number of retained nodes that were revoked and then forgotten. At the limit, entries whose certificates have
/// expired are removed; if there are none, no further revoked node is forgotten.
pub const BARRED: usize = 1_024;

/// Maximum number of uses of a join token.
pub const USES: u32 = 10_000;

/// A set of permissions. Roles are not ordered; the table `wyneos::identity::RULES` states which rpcs each may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and operates the cluster: nodes, decisions, and the scaling and restart of declared workloads.
    Operator,
    /// Reads and declares workloads, and so brings code onto the nodes. Sees values of `env` and logs.
    Deployer,
    /// Has all permissions of people, including the management of access.
    Admin,
    /// A node's agent: its session, and probes of its peers.
    Agent,
    /// The cluster's own servers.
    Coordinator,
}

/// Error for an unknown role name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such role: viewer, operator, deployer, admin, agent or coordinator")]
pub struct UnknownRole;

impl Role {
    /// All roles.
    pub const ALL: [Role; 6] = [
        Role::Viewer,
        Role::Operator,
        Role::Deployer,
        Role::Admin,
        Role::Agent,
        Role::Coordinator,
    ];

    /// Name of the role.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Deployer => "deployer",
            Role::Admin => "admin",
            Role::Agent => "agent",
            Role::Coordinator => "coordinator",
        }
    }

    /// Whether the role is for people.
    pub const fn is_persons(self) -> bool {
        matches!(self, Role::Viewer | Role::Operator | Role::Deployer | Role::Admin)
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        let named = Role::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or(UnknownRole)
    }
}

/// A join token. The record does not allow anybody to join with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Public identifier.
    pub id: String,
    /// Hash of the token.
    pub hash: Digest,
    /// Time of creation.
    pub created: WallTime,
    /// Creator.
    pub created_by: String,
    /// Time of expiry.
    pub expires: WallTime,
    /// Accumulated running time of the cluster's coordinators when it was created.
    #[serde(default)]
    pub lived: Duration,
    /// Number of remaining uses.
    pub uses_left: u32,
    /// Labels of nodes that join with it, with the precedence of operators' labels.
    pub labels: Labels,
    /// Required name of the node; empty for any.
    pub name: String,
    /// Admission state of nodes that join with it: admitted, or pending until an operator admits them.
    pub admission: Admission,
    /// Fingerprint of the CA that the token pins; `None` in records of earlier versions.
    #[serde(default)]
    pub authority: Option<Digest>,
}

impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRecord")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Credential of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// Public key of the certificate: BLAKE3 of its SubjectPublicKeyInfo.
    Key(Digest),
    /// Hash of a bearer token.
    Bearer(Digest),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Key(_) => "Key",
            Credential::Bearer(_) => "Bearer",
        })
    }
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// The name.
    pub name: String,
    /// Role of the operator.
    pub role: Role,
    /// Credential of the operator.
    pub credential: Credential,
    /// Time of creation.
    pub created: WallTime,
    /// Creator.
    pub created_by: String,
    /// Time of expiry.
    pub expires: WallTime,
    /// Accumulated running time of the cluster's coordinators when it was created.
    #[serde(default)]
    pub lived: Duration,
    /// Time and author of the revocation, if revoked.
    pub revoked: Option<(WallTime, String)>,
    /// Accumulated running time when it was last revoked; `None` if it was not, and in records of versions that did not
    /// record it.
    #[serde(default)]
    pub revoked_lived: Option<Duration>,
}

/// Whether a record valid from `created` to `expires` need not be retained: it has expired by the clock, and the same
/// time has passed in accumulated running time. A clock that is briefly ahead removes nothing permanently.
fn is_over(created: WallTime, expires: WallTime, from: Duration, now: WallTime, lived: Duration) -> bool {
    now >= expires && lived.saturating_sub(from) >= expires.after(created)
}

impl TokenRecord {
    /// Whether the record need not be retained at wall-clock time `now` and accumulated running time `lived`.
    pub fn is_over(&self, now: WallTime, lived: Duration) -> bool {
        is_over(self.created, self.expires, self.lived, now, lived)
    }
}

impl OperatorRecord {
    /// Whether the record need not be retained at wall-clock time `now` and accumulated running time `lived`.
    pub fn is_over(&self, now: WallTime, lived: Duration) -> bool {
        is_over(self.created, self.expires, self.lived, now, lived)
    }

    /// Creates a record that revokes a name without a record: an admin created on the coordinator's host, or an unused
    /// name. Role and credential are unknown; `role` is a placeholder.
    pub fn shut_out_by_name(name: &str, now: WallTime, lived: Duration) -> OperatorRecord {
        let expires = now.plus(CREDENTIAL_LIFE);
        OperatorRecord {
            name: name.to_owned(),
            role: Role::Viewer,
            credential: Credential::Key(ZERO_DIGEST),
            created: now,
            created_by: String::new(),
            expires,
            lived,
            revoked: None,
            revoked_lived: None,
        }
    }

    /// Revokes the operator. A repeated revocation also covers certificates issued since the last one.
    pub fn revoke(&mut self, now: WallTime, lived: Duration, by: &str) {
        if self.revoked.is_none() {
            self.revoked = Some((now, by.to_owned()));
        }
        self.revoked_lived = Some(lived);
    }

    /// The operator's role; `None` if the name was revoked without a record.
    pub fn known_role(&self) -> Option<Role> {
        let is_placeholder = self.created_by.is_empty() && self.credential == Credential::Key(ZERO_DIGEST);
        (!is_placeholder).then_some(self.role)
    }

    /// Whether the credential is valid.
    pub fn holds(&self, now: WallTime) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

/// A revoked node that was forgotten; its revocation stays in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// Former name of the node.
    pub name: String,
    /// Identity of the node; `None` if it never had a certificate.
    pub identity: Option<Identity>,
    /// Time at which it was forgotten.
    pub time: WallTime,
    /// Accumulated running time of the cluster's coordinators when it was forgotten; `None` in records of versions that
    /// did not record it.
    #[serde(default)]
    pub lived: Option<Duration>,
}

impl Barred {
    /// Whether no certificate of the node can be valid any more, given a certificate lifetime of `life`: all were
    /// requested before it was forgotten, and `life` has passed since in accumulated running time. Wall-clock changes
    /// do not affect this.
    pub fn is_over(&self, life: Duration, lived: Duration) -> bool {
        let since = self.lived.map(|from| lived.saturating_sub(from));
        self.identity.is_some() && since.is_some_and(|since| since >= life)
    }
}

/// Join tokens, operators and barred nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Join tokens by id.
    pub tokens: BTreeMap<String, TokenRecord>,
    /// Operators by name.
    pub operators: BTreeMap<String, OperatorRecord>,
    /// Nodes that were revoked and then forgotten.
    #[serde(default)]
    pub barred: BTreeMap<NodeId, Barred>,
    /// Revoked or replaced names of operators without a record; at most [`NAMES`].
    #[serde(default)]
    pub shut_out: Arc<BTreeMap<String, ShutOut>>,
    /// Accumulated running time when the signing CA was last about to be activated; `None` if it never was.
    #[serde(default)]
    pub signs_from: Option<Duration>,
    /// Accumulated running time before which no trusted certificate was issued, because the CA used then was retired;
    /// `None` if none was.
    #[serde(default)]
    pub trusted_from: Option<Duration>,
}

/// Reason why an operator's certificate is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shut {
    /// The operator was revoked.
    #[error("this operator was revoked")]
    Revoked,
    /// Another credential of this name replaced it.
    #[error("another credential of this operator took its place")]
    Replaced,
    /// The certificate's role differs from the operator's.
    #[error("this operator has another role now")]
    Role,
    /// The credential has expired.
    #[error("this operator's credential has expired")]
    Expired,
}

impl Access {
    /// Checks whether an operator's genuine certificate grants access. A certificate without a record was created on
    /// the coordinator's host and is accepted unless its name is on record or barred.
    ///
    /// # Errors
    /// The reason why the certificate is rejected.
    pub fn check(&self, name: &str, role: Role, key: &Digest, now: WallTime) -> Result<(), Shut> {
        let Some(record) = self.operators.get(name) else {
            return match self.shut_out.get(name) {
                None => Ok(()),
                Some(shut) if shut.revoked => Err(Shut::Revoked),
                Some(_) => Err(Shut::Replaced),
            };
        };
        if record.revoked.is_some() {
            return Err(Shut::Revoked);
        }
        if record.credential != Credential::Key(*key) {
            return Err(Shut::Replaced);
        }
        if record.role != role {
            return Err(Shut::Role);
        }
        if record.holds(now) { Ok(()) } else { Err(Shut::Expired) }
    }

    /// Whether a node was revoked and then forgotten, or the key belongs to such a node.
    pub fn is_barred(&self, node: NodeId, key: Option<&Digest>) -> bool {
        let holds = |barred: &Barred| key.is_some() && barred.identity.as_ref().map(|identity| &identity.key) == key;
        self.barred.contains_key(&node) || self.barred.values().any(holds)
    }

    /// Finds the token that an enrolment presents and checks it, except for its remaining uses.
    ///
    /// # Errors
    /// The reason why the token is rejected.
    pub fn token(&self, enrolment: &Enrolment, now: WallTime) -> Result<&TokenRecord, Denial> {
        let token = self.tokens.get(&enrolment.token);
        let token = token.ok_or(Denial::Token(TokenProblem::Unknown))?;
        if token.hash != enrolment.hash {
            return Err(Denial::Token(TokenProblem::Secret));
        }
        if now >= token.expires {
            return Err(Denial::Token(TokenProblem::Expired));
        }
        if !token.name.is_empty() && token.name != enrolment.name {
            return Err(Denial::Name);
        }
        Ok(token)
    }

    /// Finds the operator with a valid bearer token of this hash.
    pub fn bearer(&self, hash: &Digest, now: WallTime) -> Option<&OperatorRecord> {
        let wanted = Credential::Bearer(*hash);
        let mut operators = self.operators.values();
        operators.find(|record| record.credential == wanted && record.holds(now))
    }
}

/// A host's request for a certificate with a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Id of the token.
    pub token: String,
    /// Hash of the token.
    pub hash: Digest,
    /// Requested node id.
    pub node: NodeId,
    /// Requested node name.
    pub name: String,
    /// Digest of the host's public key.
    pub key: Digest,
    /// Identity of the machine; zero if not reported.
    pub machine: Digest,
    /// The newest step of a CA replacement ([`Identity::ca_step`]).
    pub ca_step: u64,
}

/// Reason why no certificate is issued. The caller does not learn what is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is unknown, expired, used up, or its secret is wrong.
    #[error(
        "the join token cannot be used: it expired, was used up or was never given out; make a new one with `wynectl token create`"
    )]
    Token(TokenProblem),
    /// The token is for a node of another name.
    #[error("the join token is for a node of another name: join with --name as it was made for")]
    Name,
    /// The node was revoked.
    #[error("this node was revoked: `wynectl admit` takes that back")]
    Revoked,
    /// The node is unknown.
    #[error("this node is not known here: join with a token")]
    Unknown,
    /// The node is known by another key.
    #[error("this node is known by another key: join with a token")]
    Key,
    /// The node exists with another key, and the token is not exclusively for it.
    #[error(
        "a node of this id is known by another key: `wynectl token create --name` with its name makes a token that replaces the key; or remove \
             the data_dir to join as a new node"
    )]
    Taken,
}

/// Defect of a join token, for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// No token has this id.
    Unknown,
    /// The secret is wrong.
    Secret,
    /// The token has expired.
    Expired,
    /// The token has no uses left.
    UsedUp,
}

impl TokenProblem {
    /// Display name.
    pub const fn name(self) -> &'static str {
        match self {
            TokenProblem::Unknown => "unknown",
            TokenProblem::Secret => "wrong secret",
            TokenProblem::Expired => "expired",
            TokenProblem::UsedUp => "used up",
        }
    }
}
