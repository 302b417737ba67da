//! Revoked nodes that were forgotten; they remain barred while their certificates may be valid.

use std::sync::Arc;

use super::Admissions;
use crate::{
    access::{BARRED, Barred},
    command::{Admit, Command, NodeAdmission},
    ctx::Ctx,
    event::EventBody,
    node::{Admission, NodeRecord},
    registry::{self, NoSuchNode},
};

impl Admissions {
    /// Whether a certificate of a barred node may still be valid.
    fn holds(&self, ctx: &Ctx, barred: &Barred) -> bool {
        !barred.is_over(ctx.config.certificate_life, ctx.lived())
    }

    /// Whether another revoked node can be retained as barred.
    pub(crate) fn has_room_for_barred(&self, ctx: &Ctx) -> bool {
        let mut barred = self.access.barred.values();
        barred.len() < BARRED || barred.any(|barred| !self.holds(ctx, barred))
    }

    /// Bars a forgotten revoked node. At the limit, entries whose certificates have expired are removed.
    pub(crate) fn bar(&mut self, ctx: &mut Ctx, record: &NodeRecord) {
        let mut access = Arc::clone(&self.access);
        let barred = &mut Arc::make_mut(&mut access).barred;
        if barred.len() >= BARRED {
            barred.retain(|_, barred| self.holds(ctx, barred));
        }
        let entry = Barred {
            name: record.facts.name.clone(),
            identity: record.identity,
            time: ctx.wall_now(),
            lived: Some(ctx.lived()),
        };
        barred.insert(record.id(), entry);
        self.access = access;
        ctx.outbox.keep_access(&self.access);
    }

    /// Lifts the revocation of a forgotten node, which may then join again or return and be admitted.
    pub(crate) fn unbar(&mut self, ctx: &mut Ctx, node: &str, by: &str) -> Option<NodeAdmission> {
        let unknown = matches!(ctx.registry.resolve(node), Err(NoSuchNode::Unknown(_)));
        let rows = self.access.barred.iter().map(|(id, barred)| (*id, (*id, barred)));
        let found = registry::resolve(node, rows, |(_, barred), text| barred.name == text);
        let (id, _) = found.ok().filter(|_| unknown)?;
        Arc::make_mut(&mut self.access).barred.remove(&id);
        ctx.outbox.keep_access(&self.access);
        let detail = "its revocation is lifted; the node was forgotten, and is pending when it comes back".to_owned();
        let (verb, by, summary) = (Admit::VERB.to_owned(), by.to_owned(), format!("admit {node}: {detail}"));
        let event = ctx.record(None, summary, EventBody::Command { verb, detail, by });
        Some(NodeAdmission {
            node: id,
            admission: Admission::Pending,
            changed: true,
            event,
        })
    }

    /// Number of revoked nodes that were forgotten.
    #[cfg(test)]
    pub(crate) fn barred(&self) -> usize {
        self.access.barred.len()
    }
}
