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
    list: List,
}

type Listed = Arc<Vec<Arc<NodeRow>>>;

/// All rows by id. A row that changes is changed in the list before the newest one, once nobody reads that any more: a list of a large cluster costs
/// more to be copied than all else that is done to rows.
#[derive(Debug, Default)]
struct List {
    newest: Listed,
    /// Nodes whose rows may differ from those of the newest list.
    differ: Vec<NodeIndex>,
    before: Listed,
    /// Nodes whose rows may differ between the two.
    differed: Vec<NodeIndex>,
    /// By place of the node: where it is in a list.
    positions: Vec<u32>,
    /// For which members of the registry that holds.
    members: u64,
}

impl List {
    /// Makes the list anew: nodes came, or were forgotten.
    fn rebuild(&mut self, registry: &Registry, rows: &[Option<Arc<NodeRow>>]) {
        let mut list = Vec::with_capacity(registry.len());
        self.positions.clear();
        self.positions.resize(registry.places().len(), u32::MAX);
        for index in registry.places_by_id() {
            if let (Some(Some(row)), Some(position)) = (rows.get(index.get()), self.positions.get_mut(index.get())) {
                *position = list.len() as u32;
                list.push(Arc::clone(row));
            }
        }
        self.newest = Arc::new(list);
        (self.before, self.differ, self.differed) = (Arc::default(), Vec::new(), Vec::new());
        self.members = registry.members();
    }

    /// Changes the rows that differ.
    fn update(&mut self, rows: &[Option<Arc<NodeRow>>]) {
        let differ = std::mem::take(&mut self.differ);
        if differ.is_empty() {
            return;
        }
        let mut next = std::mem::take(&mut self.before);
        if Arc::get_mut(&mut next).is_none_or(|next| next.len() != self.newest.len()) {
            next = Arc::clone(&self.newest);
        }
        let list = Arc::make_mut(&mut next);
        for index in self.differed.iter().chain(&differ) {
            let position = self.positions.get(index.get()).map_or(u32::MAX, |position| *position);
            if let (Some(Some(row)), Some(listed)) = (rows.get(index.get()), list.get_mut(position as usize)) {
                listed.clone_from(row);
            }
        }
        self.before = std::mem::replace(&mut self.newest, next);
        self.differed = differ;
    }
}

impl Rows {
    /// Removes the row of a node that is forgotten.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(row) = self.rows.get_mut(index.get()) {
            *row = None;
        }
        self.dated.remove(&index);
        self.changed = true;
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
        self.changed = true;
        self.list.differ.push(index);
        registry.was_shown(index, state.load_percent);
    }

    /// The list of all rows.
    fn listed(&mut self, registry: &mut Registry, wall: WallClock) -> Listed {
        if self.list.members == registry.members() {
            self.list.update(&self.rows);
            return Arc::clone(&self.list.newest);
        }
        let is_missing = |index: &NodeIndex| !matches!(self.rows.get(index.get()), Some(Some(_)));
        let missing: Vec<NodeIndex> = registry.places_by_id().filter(is_missing).collect();
        for index in missing {
            self.make(registry, index, wall);
        }
        self.list.rebuild(registry, &self.rows);
        Arc::clone(&self.list.newest)
    }

    /// True when readers are to see something else than they do.
    pub(crate) fn is_changed(&self, ctx: &Ctx) -> bool {
        self.changed || ctx.outbox.is_touched()
    }

    /// All rows of a cycle, sorted by id. One that did not change is the same allocation as before, and so is the list. Only those are looked at
    /// that may have changed.
    pub(crate) fn all(&mut self, ctx: &mut Ctx) -> Listed {
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

    /// Checks that no row differs of which nobody said so, and that the list is that of the rows.
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
        if self.list.members == ctx.registry.members() && self.list.differ.is_empty() {
            let rows = ctx
                .registry
                .places_by_id()
                .filter_map(|index| self.rows[index.get()].as_ref());
            assert!(rows.eq(self.list.newest.iter()), "the list of rows");
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
