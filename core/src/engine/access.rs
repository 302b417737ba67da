//! Admission, join tokens and operators: commands that decide who may do what.

use std::{sync::Arc, time::Duration};

use super::{Answer, Coordinator, Denial, Limit, Refusal, RefusalReason, Refused, TokenProblem};
use crate::{
    access::{CREDENTIAL_LIFE, Enrolment, Identity, Ruling, TOKENS, TOKENS_KEPT, TokenRecord, USES},
    autonomy::{Evidence, Fact, Source},
    ctx::repeats::{Repeating, Told},
    event::EventBody,
    id::NodeId,
    integrity::{Digest, ZERO_DIGEST},
    node::{Admission, Cause, Liveness, Node, NodeIndex, NodeRecord},
    text::{Span, count},
    time::WallTime,
};

/// Join tokens and operators hold for at most 366 days, and at least a second.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = CREDENTIAL_LIFE;

pub(super) fn after(now: WallTime, ttl: Duration) -> Result<WallTime, Refusal> {
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        let reason = format!("{} is not between {} and 366 days", Span(ttl), Span(TTL_MIN));
        return Err(Refusal::Invalid { field: "ttl", reason });
    }
    Ok(WallTime(now.0.saturating_add(ttl.as_millis() as i64)))
}

impl Coordinator {
    /// Rules on a node's admission; true when that changed. Its session is the caller's to end: only a new one tells the agent.
    fn rule(&mut self, index: NodeIndex, admission: Admission, by: &str, reason: &str) -> bool {
        let time = self.ctx.wall_now();
        let record = Arc::make_mut(&mut self.ctx.registry[index].record);
        let changed = std::mem::replace(&mut record.admission, admission) != admission;
        if changed || record.ruling.is_none() {
            let (by, reason) = (by.to_owned(), reason.to_owned());
            record.ruling = Some(Arc::new(Ruling { by, reason, time }));
        }
        self.ctx.keep(index);
        if changed {
            self.guardian.plan_soon(&mut self.ctx);
        }
        changed
    }

    pub(super) fn admit_node(&mut self, node: &str, by: &str) -> Result<Answer, Refusal> {
        if let Some(answer) = self.unbar(node, by) {
            return Ok(answer);
        }
        let index = self.ctx.registry.resolve(node)?;
        let node = &mut self.ctx.registry[index];
        // Whoever admits a node means the machine that it is on now.
        let machine = node.session.as_ref().map(|session| session.machine);
        if let (Some(identity), Some(machine)) = (&mut Arc::make_mut(&mut node.record).identity, machine) {
            identity.machine = machine;
        }
        let changed = self.rule(index, Admission::Admitted, by, "admitted by an operator");
        let mut event = 0;
        if changed {
            let wall = self.ctx.wall_now();
            let node = &mut self.ctx.registry[index];
            if (node.liveness, node.cause) == (Liveness::Left, Cause::Revoked) {
                node.cause = Cause::Awaited;
                Arc::make_mut(&mut node.record).departed = Some((Liveness::Left, Cause::Awaited, wall));
                self.ctx.keep(index);
                self.work.node_changed(&mut self.ctx, index);
            }
            event = self.carried_out(index, "admit", "it may take part".to_owned(), by);
            self.end_for(
                index,
                RefusalReason::Readmitted,
                "this node was admitted: begin a new session",
            );
        }
        Ok(self.admission(index, changed, event))
    }

    pub(super) fn revoke_node(&mut self, node: &str, reason: &str, by: &str) -> Result<Answer, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        let shown = if reason.is_empty() {
            "revoked by an operator"
        } else {
            reason
        };
        let changed = self.rule(index, Admission::Revoked, by, shown);
        let mut event = 0;
        if changed {
            event = self.carried_out(index, "revoke", shown.to_owned(), by);
            self.end_for(index, RefusalReason::Revoked, "this node was revoked");
            let (by, reason) = (by.to_owned(), shown.to_owned());
            let fact = Fact::Revoked { by, reason };
            let evidence = vec![Evidence::new(self.ctx.wall_now(), Source::Admission, fact)];
            if !matches!(self.ctx.registry[index].liveness, Liveness::Offline | Liveness::Left) {
                self.transition(index, Liveness::Left, Cause::Revoked, evidence);
            }
            // Its peers refuse it as soon as they hear of it; that does not wait for others.
            self.guardian.replan(&mut self.ctx);
        }
        Ok(self.admission(index, changed, event))
    }

    fn admission(&self, index: NodeIndex, changed: bool, event: u64) -> Answer {
        let record = &self.ctx.registry[index].record;
        Answer::Admission {
            node: record.id(),
            admission: record.admission,
            changed,
            event,
        }
    }

    /// Ends a node's session.
    fn end_for(&mut self, index: NodeIndex, reason: RefusalReason, detail: &str) {
        if let Some(session) = self.ctx.registry[index].session.take() {
            self.ctx.registry.detach(session.conn);
            let refused = Refused {
                reason,
                detail: detail.to_owned(),
                retry_after: (reason == RefusalReason::Readmitted).then_some(Duration::ZERO),
            };
            self.ctx.refuse(session.conn, refused);
        }
    }

    /// A host joins. With a key that the node is known by already nothing is used up.
    pub(super) fn enrol(&mut self, enrolment: Enrolment) -> Result<Answer, Refusal> {
        let wall = self.ctx.wall_now();
        let known = self.ctx.registry.find(enrolment.node);
        if let Some(index) = known
            && self.ctx.registry[index].record.admission == Admission::Revoked
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
            let record = &self.ctx.registry[index].record;
            // Whoever has a token for anybody must not become somebody who is there already.
            let other_key = record.identity.is_some_and(|known| known.key != identity.key);
            if other_key && token.name != record.facts.name {
                return Err(Refusal::Denied(Denial::Taken));
            }
            let same = record
                .identity
                .is_some_and(|known| (known.key, known.machine) == (identity.key, identity.machine));
            let admits = record.admission != Admission::Admitted && token.admission == Admission::Admitted;
            if same && !admits {
                Arc::make_mut(&mut self.ctx.registry[index].record).identity = Some(identity);
                self.ctx.keep(index);
                return Ok(self.admission(index, false, 0));
            }
        }
        if let (None, Some(full)) = (known, self.no_room_for_node()) {
            return Err(Refusal::Overloaded(Limit::stands(full)));
        }
        if token.uses_left == 0 {
            return Err(Refusal::Denied(Denial::Token(TokenProblem::UsedUp)));
        }
        let access = Arc::make_mut(&mut self.access);
        if let Some(token) = access.tokens.get_mut(&token.id) {
            token.uses_left -= 1;
        }
        self.ctx.outbox.keep_access(&self.access);
        let index = match known {
            Some(index) => index,
            None => self.add_enrolled(&enrolment),
        };
        let old = &self.ctx.registry[index].record;
        // A node of before there was TLS: whoever has a token for anybody, or for another one, could claim to be it.
        let claimed = known.is_some() && old.identity.is_none() && token.name != old.facts.name;
        let other_key = old.identity.is_some_and(|known| known.key != identity.key);
        let record = Arc::make_mut(&mut self.ctx.registry[index].record);
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
            // A token takes nobody's admission away.
            (_, Some(_)) => (before, "joined again"),
            (_, None) => (
                Admission::Pending,
                "joined with a token that leaves admission to an operator",
            ),
        };
        let changed = self.rule(index, admission, &by, reason);
        if other_key {
            let detail = "this node is known by another key: it joined anew";
            self.end_for(index, RefusalReason::Revoked, detail);
        } else if changed {
            let detail = "the admission of this node changed as it joined: begin a new session";
            self.end_for(index, RefusalReason::Readmitted, detail);
        }
        let detail = format!("{reason}, by {by}");
        let event = self.carried_out(index, "join", detail, &by);
        Ok(self.admission(index, changed, event))
    }

    /// A node that joined and was never heard: it is there once its agent runs.
    fn add_enrolled(&mut self, enrolment: &Enrolment) -> NodeIndex {
        let (now, wall) = (self.ctx.clock.now, self.ctx.wall_now());
        let record = NodeRecord::enrolled(enrolment.node, &enrolment.name);
        let departed = (Liveness::Left, Cause::Awaited, wall);
        let record = NodeRecord {
            departed: Some(departed),
            ..record
        };
        let index = self
            .ctx
            .registry
            .add(enrolment.node, || Node::new(Arc::new(record), wall, now));
        self.telemetry.matrix_mut().add(index);
        index
    }

    /// A node's certificate is to be renewed: it must be known by this key, and not be shut out.
    pub(super) fn renew(&mut self, node: NodeId, key: Digest, ca_step: u64) -> Result<Answer, Refusal> {
        let denied = |denial| Err(Refusal::Denied(denial));
        let Some(index) = self.ctx.registry.find(node) else {
            let barred = self.access.is_barred(node, Some(&key));
            return denied(if barred { Denial::Revoked } else { Denial::Unknown });
        };
        let wall = self.ctx.wall_now();
        let record = Arc::make_mut(&mut self.ctx.registry[index].record);
        match (&mut record.identity, record.admission) {
            (_, Admission::Revoked) => return denied(Denial::Revoked),
            (None, _) => return denied(Denial::Unknown),
            (Some(identity), _) if identity.key != key => return denied(Denial::Key),
            (Some(identity), _) => (identity.issued, identity.ca_step) = (wall, ca_step),
        }
        self.ctx.keep(index);
        Ok(self.admission(index, false, 0))
    }

    /// What a hello's transport proves, against what is known: the node becomes pending when it is not what was admitted.
    pub(super) fn recognise(
        &mut self,
        index: NodeIndex,
        proven: Option<(NodeId, Digest)>,
        machine: Digest,
        from: &str,
    ) {
        let Some((_, key)) = proven else {
            return;
        };
        let wall = self.ctx.wall_now();
        let record = Arc::make_mut(&mut self.ctx.registry[index].record);
        let Some(identity) = record.identity else {
            // By which CA its certificate was made is not known here.
            let (issued, ca_step) = (wall, 0);
            record.identity = Some(Identity {
                key,
                machine,
                issued,
                ca_step,
            });
            let reason = "its certificate is genuine, but it is not known here: it was forgotten, or the state was restored from before it joined";
            self.rule(index, Admission::Pending, "coordinator", reason);
            return;
        };
        // Once it told its machine, saying nothing is no way around.
        let moved = identity.machine != ZERO_DIGEST && machine != identity.machine;
        if !moved || record.admission != Admission::Admitted {
            return;
        }
        let short = |digest: Digest| digest[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let detail = format!(
            "it joined on machine {} and comes from machine {} at {from}: its disk was moved or copied; it is pending until it \
             is admitted there",
            short(identity.machine),
            short(machine)
        );
        self.rule(index, Admission::Pending, "coordinator", &detail);
        self.impostor(index, detail);
    }

    /// Tells the operator of two that claim to be one node.
    pub(super) fn impostor(&mut self, index: NodeIndex, detail: String) {
        let told = Told {
            node: Some(index),
            what: self.ctx.registry[index].name().to_owned(),
            detail: detail.clone(),
            body: EventBody::Impostor { detail },
        };
        self.ctx.record_repeating(Repeating::Impostor(index), 1, told);
    }

    pub(super) fn create_token(&mut self, token: TokenRecord, ttl: Duration, by: &str) -> Result<Answer, Refusal> {
        let wall = self.ctx.wall_now();
        let expires = after(wall, ttl)?;
        if !(1..=USES).contains(&token.uses_left) {
            let reason = format!("{} is not between 1 and {USES}", token.uses_left);
            return Err(Refusal::Invalid { field: "uses", reason });
        }
        let lived = self.ctx.lived();
        let access = Arc::make_mut(&mut self.access);
        access.tokens.retain(|_, token| !token.is_over(wall, lived));
        let good = access.tokens.values().filter(|token| wall < token.expires).count();
        if good >= TOKENS || access.tokens.len() >= TOKENS_KEPT {
            let full = "there are 256 join tokens, the limit; delete some";
            return Err(Refusal::Overloaded(Limit::stands(full)));
        }
        let token = TokenRecord {
            created: wall,
            created_by: by.to_owned(),
            expires,
            lived,
            ..token
        };
        access.tokens.insert(token.id.clone(), token.clone());
        self.ctx.outbox.keep_access(&self.access);
        self.noted(
            "token create",
            format!("join token {}, {}", token.id, count(token.uses_left, "use")),
            by,
        );
        Ok(Answer::Token(Box::new(token)))
    }

    pub(super) fn delete_token(&mut self, id: &str, by: &str) -> Result<Answer, Refusal> {
        let removed = Arc::make_mut(&mut self.access).tokens.remove(id);
        let token = removed.ok_or_else(|| Refusal::Unknown {
            what: "join token",
            name: id.to_owned(),
        })?;
        self.ctx.outbox.keep_access(&self.access);
        self.noted("token delete", format!("join token {id}"), by);
        Ok(Answer::Token(Box::new(token)))
    }

    /// Records a command that is about no node.
    pub(super) fn noted(&mut self, verb: &str, detail: String, by: &str) {
        let summary = format!("{verb}: {detail}, by {by}");
        let (verb, by) = (verb.to_owned(), by.to_owned());
        self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
    }
}
