//! The rows of nodes: what readers see of them between cycles, and what a cycle's snapshot shows.

use std::sync::Arc;

use crate::{
    coherence::{NodeRow, Nodes, RowState},
    ctx::Ctx,
    node::{Liveness, Node, NodeIndex},
    time::WallClock,
};

/// The rows as they were made last, and what changed since.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By place; `None` for an empty one.
    rows: Vec<Option<Arc<NodeRow>>>,
    /// The rows differ from those that readers see.
    changed: bool,
    /// Those that readers see.
    shown: Arc<Vec<Arc<NodeRow>>>,
}

impl Rows {
    /// Removes the row of a node that is forgotten.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(row) = self.rows.get_mut(index.get()) {
            *row = None;
        }
        self.changed = true;
    }

    /// The number of places.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
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

    /// True when readers are to see something else than they do.
    pub(crate) fn is_changed(&self, ctx: &Ctx) -> bool {
        self.changed || ctx.outbox.is_touched()
    }

    /// All rows of a cycle, sorted by id. One that did not change is the same allocation as before.
    pub(crate) fn all(&mut self, ctx: &mut Ctx) -> Vec<Arc<NodeRow>> {
        self.rows.resize(ctx.registry.places().len(), None);
        ctx.outbox.take_touched();
        let wall = ctx.clock.wall;
        let nodes = ctx.registry.by_id();
        nodes.map(|(index, node)| self.row(index, node, wall)).collect()
    }

    /// The nodes, if something was concluded of one; only the rows of such nodes are made anew. Costs a pointer a node.
    pub(crate) fn changed(&mut self, ctx: &mut Ctx) -> Option<Arc<Nodes>> {
        let event = ctx.outbox.last_event();
        let wall = ctx.clock.wall;
        if !self.changed && !ctx.outbox.is_touched() {
            return None;
        }
        for index in ctx.outbox.take_touched() {
            if let Some(node) = ctx.registry.get(index) {
                self.row(index, node, wall);
            }
        }
        if self.changed {
            let rows = ctx.registry.by_id().map(|(index, node)| {
                let made = self.rows.get(index.get()).cloned().flatten();
                made.unwrap_or_else(|| self.row(index, node, wall))
            });
            self.shown = Arc::new(rows.collect());
            self.changed = false;
        }
        let rows = Arc::clone(&self.shown);
        Some(Arc::new(Nodes { rows, event }))
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
