//! Joining: enrolment with join tokens, certificate renewal, and verification of the identity that a session's
//! transport proves.

use std::sync::Arc;

use super::Admissions;
use crate::{
    access::{Denial, Enrolment, TokenProblem},
    command::{Limit, Refusal, Renew},
    ctx::Ctx,
    id::NodeId,
    integrity::{Digest, ZERO_DIGEST},
    node::{Admission, Cause, Identity, Liveness, Node, NodeIndex, NodeRecord, Ruling},
    protocol::RefusalReason,
};

/// Result of an enrolment.
#[derive(Debug)]
pub(crate) enum Enrolled {
    /// The node was known by this key; its admission is unchanged and no token use was spent.
    Known(NodeIndex),
    /// The node joined and one use of the token was spent.
    Joined(Joined),
}

/// A node that has joined, or joined again.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) index: NodeIndex,
    /// Whether the node was unknown before.
    pub(crate) is_new: bool,
    /// Whether the node's admission changed.
    pub(crate) changed: bool,
    /// Human-readable description.
    pub(crate) detail: String,
    pub(crate) by: String,
    /// Reason to end the node's current session, if any.
    pub(crate) ends: Option<(RefusalReason, &'static str)>,
}

/// Result of comparing the identity proven by a session's transport with the record.
#[derive(Debug, Default)]
pub(crate) struct Recognised {
    /// Whether the node's admission changed.
    pub(crate) ruled: bool,
    /// Human-readable description of the mismatch, if the process is not what was admitted.
    pub(crate) impostor: Option<String>,
}

impl Admissions {
    /// Enrols a host. No token use is spent for a key that the node is already known by.
    pub(crate) fn enrol(&mut self, ctx: &mut Ctx, enrolment: Enrolment) -> Result<Enrolled, Refusal> {
        let wall = ctx.wall_now();
        let known = ctx.registry.find(enrolment.node);
        if let Some(index) = known
            && ctx.registry[index].record.admission == Admission::Revoked
        {
            return Err(Refusal::Denied(Denial::Revoked));
        }
        if known.is_none() && self.access.is_barred(enrolment.node, Some(&enrolment.key)) {
            return Err(Refusal::Denied(Denial::Revoked));
        }
        let token = self.access.token(&enrolment, wall).map_err(Refusal::Denied)?.clone();
        let identity = Identity {
            key: enrolment.key,
            machine: enrolment.machine,
            issued: wall,
            ca_step: enrolment.ca_step,
        };
        if let Some(index) = known {
            let record = &ctx.registry[index].record;
            // The holder of a generic token must not take over an existing node.
            let other_key = record.identity.is_some_and(|known| known.key != identity.key);
            if other_key && token.name != record.facts.name {
                return Err(Refusal::Denied(Denial::Taken));
            }
            let same = record
                .identity
                .is_some_and(|known| (known.key, known.machine) == (identity.key, identity.machine));
            let admits = record.admission != Admission::Admitted && token.admission == Admission::Admitted;
            if same && !admits {
                Arc::make_mut(&mut ctx.registry[index].record).identity = Some(identity);
                ctx.keep(index);
                return Ok(Enrolled::Known(index));
            }
        }
        if let (None, Some(full)) = (known, no_room(ctx)) {
            return Err(Refusal::Overloaded(Limit::stands(full)));
        }
        if token.uses_left == 0 {
            return Err(Refusal::Denied(Denial::Token(TokenProblem::UsedUp)));
        }
        let access = Arc::make_mut(&mut self.access);
        if let Some(token) = access.tokens.get_mut(&token.id) {
            token.uses_left -= 1;
        }
        ctx.outbox.keep_access(&self.access);
        let index = match known {
            Some(index) => index,
            None => add_enrolled(ctx, &enrolment),
        };
        let old = &ctx.registry[index].record;
        // A node recorded before TLS was enabled: the holder of a token for any or another node could claim to be it.
        let claimed = known.is_some() && old.identity.is_none() && token.name != old.facts.name;
        let other_key = old.identity.is_some_and(|known| known.key != identity.key);
        let record = Arc::make_mut(&mut ctx.registry[index].record);
        let before = record.admission;
        record.identity = Some(identity);
        record.operator_labels.extend(token.labels);
        let by = format!("join token {}", token.id);
        let (admission, reason) = match (token.admission, known) {
            _ if claimed => {
                let reason = "a node of before it had a certificate: an operator must say that this is it";
                (Admission::Pending, reason)
            }
            (Admission::Admitted, _) => (Admission::Admitted, "joined with a token that admits"),
            // A token never withdraws an admission.
            (_, Some(_)) => (before, "joined again"),
            (_, None) => (
                Admission::Pending,
                "joined with a token that leaves admission to an operator",
            ),
        };
        let changed = rule(ctx, index, admission, &by, reason);
        let ends = match (other_key, changed) {
            (true, _) => Some((
                RefusalReason::Revoked,
                "this node is known by another key: it joined anew",
            )),
            (false, true) => Some((
                RefusalReason::Readmitted,
                "the admission of this node changed as it joined: begin a new session",
            )),
            (false, false) => None,
        };
        Ok(Enrolled::Joined(Joined {
            index,
            is_new: known.is_none(),
            changed,
            detail: format!("{reason}, by {by}"),
            by,
            ends,
        }))
    }

    /// Renews a node's certificate; the node must be known by this key and not be revoked.
    pub(crate) fn renew(&mut self, ctx: &mut Ctx, renewal: &Renew) -> Result<NodeIndex, Refusal> {
        let &Renew { node, key, ca_step } = renewal;
        let denied = |denial| Err(Refusal::Denied(denial));
        let Some(index) = ctx.registry.find(node) else {
            let barred = self.access.is_barred(node, Some(&key));
            return denied(if barred { Denial::Revoked } else { Denial::Unknown });
        };
        let wall = ctx.wall_now();
        let record = Arc::make_mut(&mut ctx.registry[index].record);
        match (&mut record.identity, record.admission) {
            (_, Admission::Revoked) => return denied(Denial::Revoked),
            (None, _) => return denied(Denial::Unknown),
            (Some(identity), _) if identity.key != key => return denied(Denial::Key),
            (Some(identity), _) => (identity.issued, identity.ca_step) = (wall, ca_step),
        }
        ctx.keep(index);
        Ok(index)
    }
}

/// Compares the identity proven by a hello's transport with the record; a node that is not what was admitted becomes
/// pending.
pub(crate) fn recognise(
    ctx: &mut Ctx,
    index: NodeIndex,
    proven: Option<(NodeId, Digest)>,
    machine: Digest,
    from: &str,
) -> Recognised {
    let Some((_, key)) = proven else {
        return Recognised::default();
    };
    let wall = ctx.wall_now();
    let record = Arc::make_mut(&mut ctx.registry[index].record);
    let Some(identity) = record.identity else {
        // The CA that issued the certificate is unknown here.
        let (issued, ca_step) = (wall, 0);
        record.identity = Some(Identity {
            key,
            machine,
            issued,
            ca_step,
        });
        let reason = "its certificate is genuine, but it is not known here: it was forgotten, or the state was restored from before it joined";
        return Recognised {
            ruled: rule(ctx, index, Admission::Pending, "coordinator", reason),
            impostor: None,
        };
    };
    // After a node has reported its machine, omitting it does not bypass the check.
    let moved = identity.machine != ZERO_DIGEST && machine != identity.machine;
    if !moved || record.admission != Admission::Admitted {
        return Recognised::default();
    }
    let short = |digest: Digest| digest[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let detail = format!(
        "it joined on machine {} and comes from machine {} at {from}: its disk was moved or copied; it is pending until it \
         is admitted there",
        short(identity.machine),
        short(machine)
    );
    Recognised {
        ruled: rule(ctx, index, Admission::Pending, "coordinator", &detail),
        impostor: Some(detail),
    }
}

/// Sets a node's admission and returns whether it changed. The caller must end the session: an agent learns its
/// admission only from a new one.
pub(crate) fn rule(ctx: &mut Ctx, index: NodeIndex, admission: Admission, by: &str, reason: &str) -> bool {
    let time = ctx.wall_now();
    let record = Arc::make_mut(&mut ctx.registry[index].record);
    let changed = std::mem::replace(&mut record.admission, admission) != admission;
    if changed || record.ruling.is_none() {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        record.ruling = Some(Arc::new(Ruling { by, reason, time }));
    }
    ctx.keep(index);
    changed
}

/// Adds a node that joined and was never heard; it is expected once its agent runs.
fn add_enrolled(ctx: &mut Ctx, enrolment: &Enrolment) -> NodeIndex {
    let (now, wall) = (ctx.clock.now, ctx.wall_now());
    let record = NodeRecord::enrolled(enrolment.node, &enrolment.name);
    let departed = (Liveness::Left, Cause::Awaited, wall);
    let record = NodeRecord {
        departed: Some(departed),
        ..record
    };
    ctx.registry
        .add(enrolment.node, || Node::new(Arc::new(record), wall, now))
}

/// Reason why no further node can be registered, if any.
pub(crate) fn no_room(ctx: &Ctx) -> Option<&'static str> {
    let most = ctx.config.max_nodes;
    if ctx.registry.len() >= most {
        return Some(
            "the cluster has as many nodes as it may (max_nodes); `wynectl forget` removes those that are gone",
        );
    }
    let full = "there is no place for another node: those of recently forgotten nodes are free once telemetry has no data of them";
    (!ctx.registry.has_place(most)).then_some(full)
}
