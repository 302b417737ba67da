//! Access: who may do what, and by what they are let in. Tokens and operators; nodes' own admission is in their records.

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

/// Join tokens at most, expired ones not counted. A further one is refused.
pub const TOKENS: usize = 256;

/// Join tokens kept at most, those among them that have expired by a clock which may be wrong. A further one is refused.
pub const TOKENS_KEPT: usize = 2 * TOKENS;

/// Maximum number of operators on record. Those that let nobody in make room for others; a further one is refused where all hold.
pub const OPERATORS: usize = 1_000;

/// Nodes that were revoked and then forgotten, remembered at most. At the limit those go whose certificates have expired; where there is
/// none, no further revoked node is forgotten.
pub const BARRED: usize = 1_024;

/// Uses of one join token at most.
pub const USES: u32 = 10_000;

/// A set of permissions. Roles are not ordered: which rpcs each may call is the table of `wyneos::identity::RULES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and runs the cluster: its nodes, decisions, and the number and restarts of workloads that are declared.
    Operator,
    /// Reads, and declares what runs: whoever has it brings code onto the nodes. Sees values of `env` and logs.
    Deployer,
    /// Everything that people may do, who may do what among it.
    Admin,
    /// A machine: its session, and probes of its peers.
    Agent,
    /// The cluster's own servers.
    Coordinator,
}

/// There is no such role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such role: viewer, operator, deployer, admin, agent or coordinator")]
pub struct UnknownRole;

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] = [
        Role::Viewer,
        Role::Operator,
        Role::Deployer,
        Role::Admin,
        Role::Agent,
        Role::Coordinator,
    ];

    /// Its name, as names and people have it.
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

    /// True for the roles of people.
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

/// A join token: what is kept of it cannot be used to join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Names it; no secret.
    pub id: String,
    /// Of the token.
    pub hash: Digest,
    /// When it was made.
    pub created: WallTime,
    /// By whom.
    pub created_by: String,
    /// Until when it can be used.
    pub expires: WallTime,
    /// The cluster's running time when it was created, across restarts of the coordinator.
    #[serde(default)]
    pub lived: Duration,
    /// How often it can be used still.
    pub uses_left: u32,
    /// Labels that its nodes get, as if an operator had given them.
    pub labels: Labels,
    /// The name that its node must have; empty for any.
    pub name: String,
    /// What its nodes are: admitted, or pending until somebody admits them.
    pub admission: Admission,
    /// The fingerprint of the CA that the token pins; `None` in records of earlier versions.
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

/// By what an operator is known.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The public key of the certificate: BLAKE3 of its SubjectPublicKeyInfo.
    Key(Digest),
    /// A bearer token: its hash.
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
    /// What it may do.
    pub role: Role,
    /// By what it is known.
    pub credential: Credential,
    /// When it was made.
    pub created: WallTime,
    /// By whom.
    pub created_by: String,
    /// Until when it holds.
    pub expires: WallTime,
    /// The cluster's running time when it was created, across restarts of the coordinator.
    #[serde(default)]
    pub lived: Duration,
    /// Since when it is shut out, and by whom.
    pub revoked: Option<(WallTime, String)>,
    /// The cluster's running time when it was last revoked; `None` if it was not, and in records of versions that did not note it.
    #[serde(default)]
    pub revoked_lived: Option<Duration>,
}

/// True once what holds from `created` until `expires` need not be kept: it has expired by the clock, and its time was lived through as
/// well. A clock that is ahead for a moment takes nothing away for good.
fn is_over(created: WallTime, expires: WallTime, from: Duration, now: WallTime, lived: Duration) -> bool {
    now >= expires && lived.saturating_sub(from) >= expires.after(created)
}

impl TokenRecord {
    /// True once it need not be kept, when the clock says `now` and coordinators of this cluster have run for `lived`.
    pub fn is_over(&self, now: WallTime, lived: Duration) -> bool {
        is_over(self.created, self.expires, self.lived, now, lived)
    }
}

impl OperatorRecord {
    /// True once it need not be kept, when the clock says `now` and coordinators of this cluster have run for `lived`.
    pub fn is_over(&self, now: WallTime, lived: Duration) -> bool {
        is_over(self.created, self.expires, self.lived, now, lived)
    }

    /// A record that shuts out a name of which there was no record: an admin created on the coordinator's host, or a name that nobody has.
    /// Its role and credential are unknown; `role` is a placeholder.
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

    /// Shuts the operator out. A repeated revocation also covers certificates made since the last one.
    pub fn revoke(&mut self, now: WallTime, lived: Duration, by: &str) {
        if self.revoked.is_none() {
            self.revoked = Some((now, by.to_owned()));
        }
        self.revoked_lived = Some(lived);
    }

    /// The operator's role; `None` if the name was shut out without having been on record.
    pub fn known_role(&self) -> Option<Role> {
        let is_placeholder = self.created_by.is_empty() && self.credential == Credential::Key(ZERO_DIGEST);
        (!is_placeholder).then_some(self.role)
    }

    /// True while it lets somebody in.
    pub fn holds(&self, now: WallTime) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

/// A revoked node that was forgotten; its revocation stays in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// The name that it had.
    pub name: String,
    /// The identity it was known by; `None` for a node that never had a certificate.
    pub identity: Option<Identity>,
    /// When it was forgotten.
    pub time: WallTime,
    /// The cluster's running time when it was forgotten, across restarts of the coordinator; `None` in records of versions that did not
    /// note it.
    #[serde(default)]
    pub lived: Option<Duration>,
}

impl Barred {
    /// True once no certificate of it can hold, where those hold for `life`: all were asked for before it was forgotten, and `life` was
    /// lived through since. No clock that is set lets it in again.
    pub fn is_over(&self, life: Duration, lived: Duration) -> bool {
        let since = self.lived.map(|from| lived.saturating_sub(from));
        self.identity.is_some() && since.is_some_and(|since| since >= life)
    }
}

/// Tokens, operators, and nodes that stay shut out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Join tokens by their ids.
    pub tokens: BTreeMap<String, TokenRecord>,
    /// Operators by their names.
    pub operators: BTreeMap<String, OperatorRecord>,
    /// Nodes that were revoked and then forgotten.
    #[serde(default)]
    pub barred: BTreeMap<NodeId, Barred>,
    /// Names of operators that are shut out and have no record any more; at most [`NAMES`].
    #[serde(default)]
    pub shut_out: Arc<BTreeMap<String, ShutOut>>,
    /// The cluster's running time when the CA that signs was last about to be activated; `None` if it never was.
    #[serde(default)]
    pub signs_from: Option<Duration>,
    /// The cluster's running time before which no trusted certificate was made, because the CA of then was retired; `None` if none was.
    #[serde(default)]
    pub trusted_from: Option<Duration>,
}

/// Why an operator's certificate lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shut {
    /// Revoked.
    #[error("this operator was revoked")]
    Revoked,
    /// Another certificate of this name took its place.
    #[error("another credential of this operator took its place")]
    Replaced,
    /// Of another role than the operator now has.
    #[error("this operator has another role now")]
    Role,
    /// Expired.
    #[error("this operator's credential has expired")]
    Expired,
}

impl Access {
    /// Whether the certificate of an operator, which is genuine, lets it in. One that is not on record was made on the coordinator's own
    /// host, and is good as long as its name is neither on record nor shut out.
    ///
    /// # Errors
    /// It does not.
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

    /// True for a node that was revoked and then forgotten, and for whoever shows its key.
    pub fn is_barred(&self, node: NodeId, key: Option<&Digest>) -> bool {
        let holds = |barred: &Barred| key.is_some() && barred.identity.as_ref().map(|identity| &identity.key) == key;
        self.barred.contains_key(&node) || self.barred.values().any(holds)
    }

    /// The token that an enrolment presents, if it is good for it; uses aside.
    ///
    /// # Errors
    /// It is not.
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

    /// The operator whose bearer token has this hash, if it lets it in.
    pub fn bearer(&self, hash: &Digest, now: WallTime) -> Option<&OperatorRecord> {
        let wanted = Credential::Bearer(*hash);
        let mut operators = self.operators.values();
        operators.find(|record| record.credential == wanted && record.holds(now))
    }
}

/// A host that asks for a certificate with a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The token's id.
    pub token: String,
    /// The token's hash.
    pub hash: Digest,
    /// The node that it wants to be.
    pub node: NodeId,
    /// The name that it wants.
    pub name: String,
    /// Of its public key.
    pub key: Digest,
    /// Of its machine; zero when that does not tell.
    pub machine: Digest,
    /// The newest step of the CA's replacement ([`Identity::ca_step`]).
    pub ca_step: u64,
}

/// Why somebody gets no certificate. What of a token is wrong is not said to whoever presents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// There is no such token, or it is another one's secret, or it has expired or was used up.
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
    /// The node is not known.
    #[error("this node is not known here: join with a token")]
    Unknown,
    /// The node is known by another key.
    #[error("this node is known by another key: join with a token")]
    Key,
    /// The node is there, with another key, and the token is not for it alone.
    #[error(
        "a node of this id is known by another key: `wynectl token create --name` with its name makes a token that replaces the key; or remove \
             the data_dir to join as a new node"
    )]
    Taken,
}

/// What is wrong with a join token; for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// There is none of this id.
    Unknown,
    /// Its secret is another one.
    Secret,
    /// Expired.
    Expired,
    /// Used up.
    UsedUp,
}

impl TokenProblem {
    /// Its name, as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            TokenProblem::Unknown => "unknown",
            TokenProblem::Secret => "wrong secret",
            TokenProblem::Expired => "expired",
            TokenProblem::UsedUp => "used up",
        }
    }
}
