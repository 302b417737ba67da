//! Loading of durable state at startup.

use std::sync::Arc;

use super::{Coordinator, Timer};
use crate::node::{Node, NodeRecord};

impl Coordinator {
    /// Loads node records: departed nodes keep their liveness, all others are unseen.
    pub(super) fn recall(&mut self, records: Vec<Arc<NodeRecord>>) {
        let (now, wall) = (self.ctx.clock.now, self.ctx.wall_now());
        for record in records {
            let drain_lived = record.drain_lived;
            let index = self.ctx.registry.add(record.id(), || Node::new(record, wall, now));
            if let Some(by) = drain_lived {
                // Running time is used because the wall clock may have changed.
                self.ctx.registry[index].drain_until = Some(now + by.saturating_sub(self.ctx.lived()));
            }
            self.telemetry.matrix_mut().add(index);
        }
        self.ctx
            .timers
            .set(now + self.ctx.config.restart_grace, Timer::RestartGrace);
        self.guardian.replan(&mut self.ctx);
    }
}
