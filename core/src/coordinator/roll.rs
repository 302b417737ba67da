//! The rows of nodes: what readers see of them between cycles, and what a cycle's snapshot shows.

use std::sync::Arc;

use super::{Coordinator, Effect};
use crate::{
    coherence::{NodeRow, Nodes, RowState},
    node::{Liveness, Node, NodeIndex},
    time::WallClock,
};

/// The rows as they were made last, and what changed since.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// By place; `None` for an empty one.
    rows: Vec<Option<Arc<NodeRow>>>,
    /// The rows differ from those that readers see.
    changed: bool,
    /// Those that readers see.
    shown: Arc<Vec<Arc<NodeRow>>>,
}

impl Roll {
    /// Removes the row of a node that is forgotten.
    pub(super) fn forget(&mut self, index: NodeIndex) {
        if let Some(row) = self.rows.get_mut(index.get()) {
            *row = None;
        }
        self.changed = true;
    }

    /// The number of places.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.rows.len()
    }

    /// The row of a node: the one that was made last, unless it differs.
    fn row(&mut self, index: NodeIndex, node: &Node, wall: WallClock) -> Arc<NodeRow> {
        if self.rows.len() <= index.get() {
            self.rows.resize(index.get() + 1, None);
        }
        let kept = &mut self.rows[index.get()];
        let state = row_state(node, kept.as_deref(), wall);
        match kept {
            Some(row) if row.state == state && Arc::ptr_eq(&row.record, &node.record) => Arc::clone(row),
            _ => {
                let row = Arc::new(NodeRow {
                    index,
                    record: Arc::clone(&node.record),
                    state,
                });
                *kept = Some(Arc::clone(&row));
                self.changed = true;
                row
            }
        }
    }
}

impl Coordinator {
    /// All rows of a cycle, sorted by id. One that did not change is the same allocation as before.
    pub(super) fn node_stage(&mut self) -> Vec<Arc<NodeRow>> {
        self.roll.rows.resize(self.ctx.registry.places().len(), None);
        self.ctx.outbox.take_touched();
        let (roll, wall) = (&mut self.roll, self.ctx.clock.wall);
        let nodes = self.ctx.registry.by_id();
        nodes.map(|(index, node)| roll.row(index, node, wall)).collect()
    }

    /// The nodes, if something was concluded of one; only the rows of such nodes are made anew. Costs a pointer a node.
    fn changed_nodes(&mut self) -> Option<Arc<Nodes>> {
        let event = self.ctx.outbox.last_event();
        let (roll, wall) = (&mut self.roll, self.ctx.clock.wall);
        if !roll.changed && !self.ctx.outbox.is_touched() {
            return None;
        }
        for index in self.ctx.outbox.take_touched() {
            if let Some(node) = self.ctx.registry.get(index) {
                roll.row(index, node, wall);
            }
        }
        if roll.changed {
            let rows = self.ctx.registry.by_id().map(|(index, node)| {
                let made = roll.rows.get(index.get()).cloned().flatten();
                made.unwrap_or_else(|| roll.row(index, node, wall))
            });
            roll.shown = Arc::new(rows.collect());
            roll.changed = false;
        }
        let rows = Arc::clone(&roll.shown);
        Some(Arc::new(Nodes { rows, event }))
    }

    /// Has readers see nodes, workloads and instances as they are now, behind the batch that makes that durable. While the store is behind,
    /// readers see what they saw: a crash must not take back what they were shown.
    pub(super) fn view_now(&mut self) {
        let work = self.work.show(&mut self.ctx);
        if !self.roll.changed && !self.ctx.outbox.is_touched() && !work {
            return;
        }
        self.flush();
        if self.ctx.outbox.is_held_back() {
            self.ctx.view_soon();
            return;
        }
        // Nodes first: instances are shown with their nodes' names.
        if let Some(nodes) = self.changed_nodes() {
            self.ctx.outbox.push(Effect::Nodes(nodes));
        }
        if let Some(view) = self.work.changed_view() {
            self.ctx.outbox.push(Effect::View(view));
        }
    }
}

fn row_state(node: &Node, shown: Option<&NodeRow>, wall: WallClock) -> RowState {
    let online = node.liveness == Liveness::Online;
    let load = node.session.as_ref().map_or(0.0, |session| session.load) * 100.0;
    // Published anew only when it moved by a whole hundredth, so that a load on the edge between two does not flicker.
    let load_percent = match shown.map(|row| row.state.load_percent) {
        Some(old) if online && (load - old as f32).abs() < 1.0 => old,
        _ if online => load.round() as u32,
        _ => 0,
    };
    RowState {
        liveness: node.liveness,
        cause: node.cause,
        liveness_since: node.liveness_since,
        last_seen: if online {
            None
        } else {
            node.last_seen.map(|at| wall.at(at))
        },
        load_percent,
    }
}
