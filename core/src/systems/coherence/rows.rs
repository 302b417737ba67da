//! The rows of nodes: what readers see of them between cycles, and what a cycle's snapshot shows.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    coherence::{NodeRow, Nodes, RowState},
    ctx::Ctx,
    node::{Liveness, Node, NodeIndex},
    registry::Registry,
    time::WallClock,
};

/// The rows as they were made last, and what changed since.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By place; `None` for an empty one.
    rows: Vec<Option<Arc<NodeRow>>>,
    /// Nodes whose row says when they were heard last: by the wall clock, which may be set.
    dated: BTreeSet<NodeIndex>,
    /// The rows differ from those that readers see.
    changed: bool,
    /// The rows differ from the list.
    stale: bool,
    /// All rows by id.
    list: Arc<Vec<Arc<NodeRow>>>,
}

impl Rows {
    /// Removes the row of a node that is forgotten.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(row) = self.rows.get_mut(index.get()) {
            *row = None;
        }
        self.dated.remove(&index);
        (self.changed, self.stale) = (true, true);
    }

    /// The number of places.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.rows.len()
    }

    /// Makes the row of a node anew, if it differs from the one that was made last.
    fn make(&mut self, registry: &mut Registry, index: NodeIndex, wall: WallClock) {
        let Some(node) = registry.get(index) else { return };
        if self.rows.len() <= index.get() {
            self.rows.resize(index.get() + 1, None);
        }
        let kept = &mut self.rows[index.get()];
        let state = row_state(node, kept.as_deref(), wall);
        if let Some(row) = kept
            && row.state == state
            && Arc::ptr_eq(&row.record, &node.record)
        {
            return;
        }
        let record = Arc::clone(&node.record);
        *kept = Some(Arc::new(NodeRow { index, record, state }));
        match state.last_seen.is_some() {
            true => self.dated.insert(index),
            false => self.dated.remove(&index),
        };
        (self.changed, self.stale) = (true, true);
        registry.was_shown(index, state.load_percent);
    }

    /// The list of all rows, made anew if one of them differs.
    fn listed(&mut self, registry: &mut Registry, wall: WallClock) -> Arc<Vec<Arc<NodeRow>>> {
        if std::mem::take(&mut self.stale) {
            let all: Vec<NodeIndex> = registry.places_by_id().collect();
            let mut list = Vec::with_capacity(all.len());
            for index in all {
                if !matches!(self.rows.get(index.get()), Some(Some(_))) {
                    self.make(registry, index, wall);
                }
                list.extend(self.rows.get(index.get()).cloned().flatten());
            }
            (self.list, self.stale) = (Arc::new(list), false);
        }
        Arc::clone(&self.list)
    }

    /// True when readers are to see something else than they do.
    pub(crate) fn is_changed(&self, ctx: &Ctx) -> bool {
        self.changed || ctx.outbox.is_touched()
    }

    /// All rows of a cycle, sorted by id. One that did not change is the same allocation as before, and so is the list. Only those are looked at
    /// that may have changed.
    pub(crate) fn all(&mut self, ctx: &mut Ctx) -> Arc<Vec<Arc<NodeRow>>> {
        self.rows.resize(ctx.registry.places().len(), None);
        ctx.outbox.take_touched();
        let wall = ctx.clock.wall;
        for index in self.dated.clone() {
            self.make(&mut ctx.registry, index, wall);
        }
        while let Some(index) = ctx.registry.take_to_show() {
            self.make(&mut ctx.registry, index, wall);
        }
        self.listed(&mut ctx.registry, wall)
    }

    /// The nodes, if something was concluded of one; only the rows of such nodes are made anew. Costs a pointer a node.
    pub(crate) fn changed(&mut self, ctx: &mut Ctx) -> Option<Arc<Nodes>> {
        let event = ctx.outbox.last_event();
        let wall = ctx.clock.wall;
        if !self.changed && !ctx.outbox.is_touched() {
            return None;
        }
        for index in ctx.outbox.take_touched() {
            self.make(&mut ctx.registry, index, wall);
        }
        let rows = self.listed(&mut ctx.registry, wall);
        self.changed = false;
        Some(Arc::new(Nodes { rows, event }))
    }

    /// Checks that no row differs of which nobody said so.
    #[cfg(test)]
    pub(crate) fn recount(&self, ctx: &Ctx) {
        for (index, node) in ctx.registry.iter() {
            let kept = self.rows.get(index.get()).and_then(Option::as_deref);
            let is_same = kept.is_some_and(|row| {
                row.state == row_state(node, Some(row), ctx.clock.wall) && Arc::ptr_eq(&row.record, &node.record)
            });
            let is_known = ctx.registry.is_to_show(index) || self.dated.contains(&index);
            assert!(is_same || is_known, "the row of {} differs", node.name());
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
