//! The caller of a call, and the object of the call.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tokio::sync::OnceCell;
use tonic::Status;
use wyneos::identity::{Principal, Role};
use wyneos_core::{id::NodeId, integrity::Digest, node::Origin};
use wyneos_shell::listener::{Peer, source as source_of};

use crate::{
    answers::Who,
    audit::{self, Audit, Intent, TARGET},
    status,
};

/// The caller of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// Name, for people, and for the audit.
    pub(crate) name: Arc<str>,
    /// The role; `None` for the unauthenticated caller.
    pub(crate) role: Option<Role>,
    /// Source address.
    pub(crate) source: Option<SocketAddr>,
    /// An agent's node and key, from its certificate.
    pub(crate) proven: Option<(NodeId, Digest)>,
    /// The principal in its certificate, and its key.
    pub(crate) shown: Option<(Principal, Digest)>,
    /// End of that certificate's validity.
    pub(super) ends: Option<SystemTime>,
    /// Digest of its bearer token.
    pub(super) bearer: Option<Digest>,
    pub(super) about: Arc<OnceLock<String>>,
    pub(super) adds: Arc<OnceLock<String>>,
    /// Set for a call that only plans, which changes nothing, whatever its rpc may do.
    pub(super) plans: Arc<OnceLock<()>>,
    /// Set for a call that ended its caller's own access.
    pub(super) hears: Arc<OnceLock<()>>,
    /// `None` for a call that changes nothing.
    pub(super) change: Option<Arc<Change>>,
}

/// A call that may change something, and its intent once that is durable.
pub(super) struct Change {
    audit: Audit,
    rpc: &'static str,
    intent: OnceCell<Intent>,
}

impl Change {
    pub(super) fn new(audit: &Audit, rpc: &'static str) -> Arc<Change> {
        Arc::new(Change {
            audit: audit.clone(),
            rpc,
            intent: OnceCell::new(),
        })
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Change").field(&self.rpc).finish()
    }
}

/// Proof that the intent of a call is in the audit. Every change requires it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded(u64);

impl Recorded {
    /// The intent's number.
    pub(crate) fn intent(self) -> u64 {
        self.0
    }
}

impl Caller {
    pub(super) fn new(name: &str, role: Option<Role>, peer: Option<&Peer>) -> Caller {
        Caller {
            name: name.into(),
            role,
            source: peer.map(|peer| peer.address),
            proven: None,
            shown: None,
            ends: None,
            bearer: None,
            about: Arc::default(),
            adds: Arc::default(),
            plans: Arc::default(),
            hears: Arc::default(),
            change: None,
        }
    }

    /// Returns whether the call may change something.
    pub(crate) fn changes(&self) -> bool {
        self.change.is_some() && self.plans.get().is_none()
    }

    /// Writes the intent of this call into the audit, unless that is done already; returns once it is durable.
    ///
    /// It cannot be written, and nothing may be changed.
    pub(crate) async fn intend(&self, target: impl Into<String>) -> Result<Recorded, Status> {
        self.about(target);
        let missing = || Status::internal("this rpc changes something, and its rule says that it does not");
        let change = self.change.as_ref().ok_or_else(missing)?;
        let target = self.about.get().map(|target| audit::short(target, TARGET));
        let record = wyneos::v1::AuditRecord {
            target: target.unwrap_or_default(),
            ..audit::record(&self.name, &self.source(), change.rpc)
        };
        let intent = change.intent.get_or_try_init(|| change.audit.intend(record)).await;
        match intent {
            Ok(intent) => Ok(Recorded(intent.number())),
            Err(error) => Err(status::unavailable("AUDIT", error.to_string())),
        }
    }

    /// Number of its intent; 0 if it has none.
    pub(super) fn intent(&self) -> u64 {
        let intent = self.change.as_ref().and_then(|change| change.intent.get());
        intent.map_or(0, Intent::number)
    }

    /// Records the object of the call, for the audit.
    pub(crate) fn about(&self, target: impl Into<String>) {
        // A call has one object; the first one takes precedence.
        let _ = self.about.set(target.into());
    }

    /// Records that the call only plans. It has no intent, and no entry unless it is refused because of its caller.
    pub(crate) fn plans(&self) {
        let _ = self.plans.set(());
    }

    /// Name of the calling operator; `None` for agents, and for callers without a proven name.
    pub(crate) fn operator(&self) -> Option<&str> {
        let is_person = self.role.is_some_and(Role::is_persons);
        let named = self
            .name
            .split_once('/')
            .filter(|_| is_person && (self.shown.is_some() || self.bearer.is_some()));
        named.map(|(_, name)| name)
    }

    /// Lets this call's answer reach its caller, whose access the call itself has ended.
    pub(crate) fn hears_the_outcome(&self) {
        let _ = self.hears.set(());
    }

    /// Records a detail for the audit that the caller must not learn.
    pub(crate) fn adds(&self, detail: String) {
        let _ = self.adds.set(detail);
    }

    /// Origin of a session, with its proof.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            address: self.source(),
            proven: self.proven,
        }
    }

    /// The owner of the share that the call takes: a proven name, or the address.
    pub(crate) fn who(&self) -> Who {
        match self.shown.is_some() || self.bearer.is_some() {
            true => Who::Named(Arc::clone(&self.name)),
            false => Who::Source(self.source.map(|source| source_of(source.ip()))),
        }
    }

    /// The owner of the share of a session's bytes: a proven node, or, without authentication, the connection.
    pub(super) fn who_of_session(&self) -> Who {
        match self.shown {
            Some(_) => Who::Named(Arc::clone(&self.name)),
            None => Who::Connection(self.source),
        }
    }

    pub(super) fn source(&self) -> String {
        self.source.map(|source| source.to_string()).unwrap_or_default()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.who(), self.source) {
            (Who::Source(_), Some(source)) => write!(f, "{}", source.ip()),
            _ => f.write_str(&self.name),
        }
    }
}
