//! Admission: requests of operators and of joining hosts, and their effects on sessions, the mesh and work.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Refusal, RefusalReason, Refused};
use crate::{
    access::Enrolment,
    autonomy::{Evidence, Fact, Source},
    command::{Admit, Command, Enrol, NodeAdmission, Renew, Revoke},
    ctx::repeats::{Repeating, Told},
    event::EventBody,
    id::{EventNo, NodeId},
    integrity::Digest,
    node::{Admission, Cause, Liveness, NodeIndex},
    systems::admission::{self, Enrolled},
};

impl Coordinator {
    /// Handles the enrolment of a host.
    pub(super) fn enrol(&mut self, enrolment: Enrolment) -> Result<NodeAdmission, Refusal> {
        let joined = match self.admissions.enrol(&mut self.ctx, enrolment)? {
            Enrolled::Known(index) => return Ok(self.admission(index, false, EventNo::default())),
            Enrolled::Joined(joined) => joined,
        };
        let index = joined.index;
        if joined.is_new {
            self.telemetry.matrix_mut().add(index);
        }
        if joined.changed {
            self.guardian.plan_soon(&mut self.ctx);
        }
        if let Some((reason, detail)) = joined.ends {
            self.end_for(index, reason, detail);
        }
        let event = self.carried_out(index, Enrol::VERB, joined.detail, &joined.by);
        Ok(self.admission(index, joined.changed, event))
    }

    /// Handles the renewal of a node's certificate.
    pub(super) fn renew(&mut self, renewal: &Renew) -> Result<NodeAdmission, Refusal> {
        let index = self.admissions.renew(&mut self.ctx, renewal)?;
        Ok(self.admission(index, false, EventNo::default()))
    }

    /// Compares the identity that a hello's transport proves with the known one: a node that does not match its
    /// admission becomes pending.
    pub(super) fn recognise(
        &mut self,
        index: NodeIndex,
        proven: Option<(NodeId, Digest)>,
        machine: Digest,
        from: &str,
    ) {
        let recognised = admission::recognise(&mut self.ctx, index, proven, machine, from);
        if recognised.ruled {
            self.guardian.plan_soon(&mut self.ctx);
        }
        if let Some(detail) = recognised.impostor {
            self.impostor(index, detail);
        }
    }

    /// Changes a node's admission. Returns whether it changed; then the caller must end the session, since only a new
    /// one informs the agent.
    fn rule(&mut self, index: NodeIndex, admission: Admission, by: &str, reason: &str) -> bool {
        let changed = admission::rule(&mut self.ctx, index, admission, by, reason);
        if changed {
            self.guardian.plan_soon(&mut self.ctx);
        }
        changed
    }

    pub(super) fn admit_node(&mut self, node: &str, by: &str) -> Result<NodeAdmission, Refusal> {
        if let Some(answer) = self.admissions.unbar(&mut self.ctx, node, by) {
            return Ok(answer);
        }
        let index = self.ctx.registry.resolve(node)?;
        let node = &mut self.ctx.registry[index];
        // An admission applies to the machine that the node runs on now.
        let machine = node.session.as_ref().map(|session| session.machine);
        if let (Some(identity), Some(machine)) = (&mut Arc::make_mut(&mut node.record).identity, machine) {
            identity.machine = machine;
        }
        let changed = self.rule(index, Admission::Admitted, by, "admitted by an operator");
        let mut event = EventNo::default();
        if changed {
            if self.guardian.awaits(&mut self.ctx, index) {
                self.work.node_changed(&mut self.ctx, index);
            }
            event = self.carried_out(index, Admit::VERB, "it may take part".to_owned(), by);
            self.end_for(
                index,
                RefusalReason::Readmitted,
                "this node was admitted: begin a new session",
            );
        }
        Ok(self.admission(index, changed, event))
    }

    pub(super) fn revoke_node(&mut self, node: &str, reason: &str, by: &str) -> Result<NodeAdmission, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        let shown = if reason.is_empty() {
            "revoked by an operator"
        } else {
            reason
        };
        let changed = self.rule(index, Admission::Revoked, by, shown);
        let mut event = EventNo::default();
        if changed {
            event = self.carried_out(index, Revoke::VERB, shown.to_owned(), by);
            self.end_for(index, RefusalReason::Revoked, "this node was revoked");
            let (by, reason) = (by.to_owned(), shown.to_owned());
            let fact = Fact::Revoked { by, reason };
            let evidence = vec![Evidence::new(self.ctx.wall_now(), Source::Admission, fact)];
            if !matches!(self.ctx.registry[index].liveness(), Liveness::Offline | Liveness::Left) {
                self.transition(index, Liveness::Left, Cause::Revoked, evidence);
            }
            // Peers refuse the node as soon as they receive the new plan, which is therefore not delayed.
            self.guardian.replan(&mut self.ctx);
        }
        Ok(self.admission(index, changed, event))
    }

    fn admission(&self, index: NodeIndex, changed: bool, event: EventNo) -> NodeAdmission {
        let record = &self.ctx.registry[index].record;
        NodeAdmission {
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

    /// Notifies operators that two processes claim to be the same node.
    pub(super) fn impostor(&mut self, index: NodeIndex, detail: String) {
        let told = Told {
            node: Some(index),
            what: self.ctx.registry[index].name().to_owned(),
            detail: detail.clone(),
            body: EventBody::Impostor { detail },
        };
        self.ctx.record_repeating(Repeating::Impostor(index), 1, told);
    }
}
