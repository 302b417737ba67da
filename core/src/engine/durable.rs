//! Durability: batches for the store, and the actions that depend on each.

use super::{Coordinator, Effect};
use crate::ctx::{Ctx, outbox::Then};

impl Coordinator {
    /// Submits the assembled changes to the store.
    pub(super) fn flush(&mut self) {
        let Ctx {
            clock,
            registry,
            outbox,
            ..
        } = &mut self.ctx;
        if let Some(batch) = outbox.flush(clock.now, registry, self.work.table(), self.autonomy.total()) {
            outbox.push(Effect::Commit(Box::new(batch)));
        }
    }

    /// Handles the confirmation that the oldest batch is durable.
    pub(super) fn committed(&mut self) {
        self.guardian.note_held(&mut self.ctx);
        for then in self.ctx.outbox.committed() {
            match then {
                Then::Reply(request, answer) => self.ctx.outbox.push(Effect::Reply { request, answer }),
                Then::Welcome(conn, index) => self.welcome(conn, index),
                Then::Deliver(id) => self.behaviour.redeliver(&mut self.ctx, id),
                Then::Kept(ids) => {
                    self.work.kept(ids);
                }
                Then::Tell(index) => self.work.tell(&mut self.ctx, index),
            }
        }
    }
}
