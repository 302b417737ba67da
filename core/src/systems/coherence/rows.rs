//! Rows of nodes, as readers see them between cycles and in snapshots.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    coherence::{NodeRow, Nodes, RowState},
    ctx::Ctx,
    node::{Liveness, Node, NodeIndex},
    registry::Registry,
    time::WallClock,
};

/// The current rows, and the changes since they were published.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Rows by place of the node; `None` for an empty place.
    rows: Vec<Option<Arc<NodeRow>>>,
    /// Nodes whose row contains the time of the last heartbeat, which depends on the adjustable wall clock.
    dated: BTreeSet<NodeIndex>,
    /// Whether rows differ from the published ones.
    changed: bool,
    list: List,
}

type Listed = Arc<Vec<Arc<NodeRow>>>;

/// All rows by id, in two alternating lists. Changes are applied to the older list once it has no readers: in a large
/// cluster, copying the list would cost more than all other work on rows.
#[derive(Debug, Default)]
struct List {
    newest: Listed,
    /// Nodes whose rows may differ from those in the newest list.
    differ: Vec<NodeIndex>,
    before: Listed,
    /// Nodes whose rows may differ between the two lists.
    differed: Vec<NodeIndex>,
    /// Position in the list, by place of the node.
    positions: Vec<u32>,
    /// Version of the registry's members for which the positions are valid.
    members: u64,
}

impl List {
    /// Rebuilds the list after nodes were added or forgotten.
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

    /// Applies the changed rows.
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
    /// Removes the row of a forgotten node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(row) = self.rows.get_mut(index.get()) {
            *row = None;
        }
        self.dated.remove(&index);
        self.changed = true;
    }

    /// Returns the number of places.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.rows.len()
    }

    /// Builds the row of a node again if it differs from the current one.
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

    /// Returns the list of all rows.
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

    /// Returns whether rows differ from the published ones.
    pub(crate) fn is_changed(&self, ctx: &Ctx) -> bool {
        self.changed || ctx.outbox.is_touched()
    }

    /// Returns all rows for a cycle, sorted by id. Unchanged rows are shared with the previous cycle, and so is an
    /// unchanged list. Only rows that may have changed are evaluated.
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

    /// Returns the nodes if conclusions about any changed; only the rows of such nodes are built again. Costs a pointer
    /// per node.
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

    /// Checks that every changed row was marked, and that the list matches the rows.
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
    let online = node.liveness() == Liveness::Online;
    let load = node.session.as_ref().map_or(0.0, |session| session.load) * 100.0;
    // Updated only after a change of at least one hundredth, so that a load between two values does not flicker.
    let load_percent = match shown.map(|row| row.state.load_percent) {
        Some(old) if online && (load - old as f32).abs() < 1.0 => old,
        _ if online => load.round() as u32,
        _ => 0,
    };
    RowState {
        liveness: node.liveness(),
        cause: node.cause(),
        liveness_since: node.liveness_since(),
        last_seen: if online {
            None
        } else {
            node.last_seen.map(|at| wall.at(at))
        },
        load_percent,
    }
}
