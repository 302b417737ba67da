//! The Orchestrator Registry: registration, lookup and removal of nodes, and a [census](Census) of all nodes.

mod census;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use census::Census;
pub(crate) use census::FLAPS;

use crate::{
    id::{Cycle, NodeId, Uuid},
    node::{Admission, Cause, ConnId, Eligibility, Liveness, Node, NodeIndex, NodeRecord},
    text::Quoted,
    time::{Time, WallTime},
};

/// All nodes of the cluster, with indexes.
///
/// A node's index also addresses tables of several systems, including the telemetry history. The index of a forgotten
/// node therefore stays reserved while that history contains it, and is reused only afterwards.
#[derive(Clone, Debug)]
pub struct Registry {
    nodes: Vec<Option<Node>>,
    /// Placeholder returned for an unused index: a node that is gone and takes no work. `written_off` receives writes
    /// to unused indexes and is never read.
    nobody: Box<Node>,
    written_off: Box<Node>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    by_conn: BTreeMap<ConnId, NodeIndex>,
    /// Reserved indexes and the cycle from which each may be reused, earliest first.
    resting: VecDeque<(Cycle, NodeIndex)>,
    /// Indexes that may be reused.
    free: BTreeSet<NodeIndex>,
    kept: census::Kept,
    /// Changes whenever a node is added or removed.
    members: u64,
}

/// Number of indexes, including unused ones, per node that may be known. At this limit a joining node waits until a
/// reserved index is released.
const PLACES: usize = 2;

fn nobody() -> Node {
    let record = NodeRecord {
        admission: Admission::Revoked,
        eligibility: Eligibility::Isolated,
        departed: Some((Liveness::Left, Cause::Goodbye, WallTime(0))),
        ..NodeRecord::enrolled(Uuid([0; 16]), "")
    };
    Node::new(Arc::new(record), WallTime(0), Time(0))
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            nodes: Vec::new(),
            nobody: Box::new(nobody()),
            written_off: Box::new(nobody()),
            by_id: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            resting: VecDeque::new(),
            free: BTreeSet::new(),
            kept: census::Kept::default(),
            members: 0,
        }
    }
}

/// Reason why a text identifies no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// No node matches.
    #[error("no node has the id, id prefix or name {}", Quoted(.0))]
    Unknown(String),
    /// Several nodes match.
    #[error("{text} fits {many} nodes: use the id", text = Quoted(.0), many = .1)]
    Ambiguous(String, usize),
}

/// Finds the row that `text` identifies: by id, else by name, else by a unique prefix of the id (at least 4
/// characters). It is used for the registry and for snapshots, so that every interface accepts the same names.
pub fn resolve<T>(
    text: &str,
    rows: impl Iterator<Item = (NodeId, T)>,
    is_named: impl Fn(&T, &str) -> bool,
) -> Result<T, NoSuchNode> {
    let exact = text.parse::<NodeId>().ok();
    let (mut named, mut prefixed) = (Vec::new(), Vec::new());
    for (id, row) in rows {
        if exact == Some(id) {
            return Ok(row);
        }
        if is_named(&row, text) {
            named.push(row);
        } else if text.len() >= 4 && text.len() < 36 && id.to_string().starts_with(text) {
            prefixed.push(row);
        }
    }
    let mut found = if named.is_empty() { prefixed } else { named };
    match (found.pop(), found.len()) {
        (Some(row), 0) => Ok(row),
        (Some(_), more) => Err(NoSuchNode::Ambiguous(text.to_owned(), more + 1)),
        (None, _) => Err(NoSuchNode::Unknown(text.to_owned())),
    }
}

impl Registry {
    /// Adds a node unless it exists, and returns its index.
    pub fn add(&mut self, id: NodeId, node: impl FnOnce() -> Node) -> NodeIndex {
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let index = self.free.pop_first().unwrap_or_else(|| {
            self.nodes.push(None);
            NodeIndex(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) = self.nodes.get_mut(index.get()) {
            *place = Some(node());
        }
        self.kept.lend(index);
        self.by_id.insert(id, index);
        self.members += 1;
        index
    }

    /// Removes a node; its index is not reused before [`Registry::tidy`] is called with cycle `until`.
    pub fn remove(&mut self, index: NodeIndex, until: Cycle) -> Option<Node> {
        let node = self.nodes.get_mut(index.get())?.take()?;
        self.kept.lend(index);
        self.members += 1;
        self.by_id.remove(&node.record.id());
        if let Some(session) = &node.session {
            let tied = self.by_conn.remove(&session.conn);
            tied.into_iter().for_each(|tied| self.kept.lend(tied));
        }
        self.resting.push_back((until, index));
        Some(node)
    }

    /// Releases reserved indexes at the start of a cycle and drops unused ones at the end. Returns the number of
    /// indexes.
    pub fn tidy(&mut self, cycle: Cycle) -> usize {
        while let Some((_, index)) = self.resting.pop_front_if(|(until, _)| *until <= cycle) {
            self.free.insert(index);
        }
        while let Some(last) = self
            .free
            .last()
            .filter(|last| last.get() + 1 == self.nodes.len())
            .copied()
        {
            self.free.remove(&last);
            self.nodes.pop();
        }
        self.nodes.len()
    }

    /// Whether an index is available for a further node if at most `most` nodes may be known.
    pub fn has_place(&self, most: usize) -> bool {
        !self.free.is_empty() || self.nodes.len() < most.saturating_mul(PLACES)
    }

    /// A node; `None` for an unused index.
    pub fn get(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.get())?.as_ref()
    }

    /// A node's row for updates that every sign of life makes; otherwise like `registry[index]`. Fields counted by the
    /// [census](Census) must not change.
    pub fn heard(&mut self, index: NodeIndex) -> &mut Node {
        match self.nodes.get_mut(index.get()) {
            Some(Some(node)) => {
                // Readers see the time of the last sign of life for nodes that are not online.
                if node.liveness() != Liveness::Online {
                    self.kept.lend(index);
                }
                node
            }
            _ => &mut self.written_off,
        }
    }

    /// The census of all nodes. The cost is proportional to the changes since the last call.
    pub fn census(&mut self) -> &Census {
        self.kept.settle(&self.nodes, &self.by_conn)
    }

    /// The last census, for callers that change nothing.
    pub fn settled(&self) -> &Census {
        self.kept.settled()
    }

    /// Marks a row for publication that was not handed out for modification.
    pub fn show(&mut self, index: NodeIndex) {
        self.kept.show(index);
    }

    /// Records the load of a node that readers were shown, in percent.
    pub(crate) fn was_shown(&mut self, index: NodeIndex, load_percent: u32) {
        if let Some(Some(node)) = self.nodes.get_mut(index.get()) {
            node.shown_load = load_percent;
        }
    }

    /// Takes a row marked for publication; each mark is returned once.
    pub(crate) fn take_to_show(&mut self) -> Option<NodeIndex> {
        self.kept.take_to_show()
    }

    #[cfg(test)]
    pub(crate) fn is_to_show(&self, index: NodeIndex) -> bool {
        self.kept.is_to_show(index)
    }

    /// A census from a full recount.
    #[cfg(test)]
    pub(crate) fn recounted(&self) -> Census {
        census::recounted(self.iter(), &self.by_conn)
    }

    /// Finds a node by its id.
    pub fn find(&self, id: NodeId) -> Option<NodeIndex> {
        self.by_id.get(&id).copied()
    }

    /// Finds the node whose session has that transport.
    pub fn of_conn(&self, conn: ConnId) -> Option<NodeIndex> {
        self.by_conn.get(&conn).copied()
    }

    /// Associates a transport with a node.
    pub fn attach(&mut self, conn: ConnId, index: NodeIndex) {
        let before = self.by_conn.insert(conn, index);
        before.into_iter().chain([index]).for_each(|tied| self.kept.lend(tied));
    }

    /// Removes the association of a transport; further messages on it are not attributed to the node.
    pub fn detach(&mut self, conn: ConnId) -> Option<NodeIndex> {
        let tied = self.by_conn.remove(&conn)?;
        self.kept.lend(tied);
        Some(tied)
    }

    /// Finds the node that an operator's text identifies.
    pub fn resolve(&self, text: &str) -> Result<NodeIndex, NoSuchNode> {
        let rows = self.by_id.iter().map(|(&id, &index)| (id, index));
        resolve(text, rows, |&index, text| self[index].name() == text)
    }

    /// A number that changes whenever a node is added or removed.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Indexes in the order of node ids.
    pub fn places_by_id(&self) -> impl Iterator<Item = NodeIndex> {
        self.by_id.values().copied()
    }

    /// Nodes in the order of their ids.
    pub fn by_id(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.by_id.values().map(|&index| (index, &self[index]))
    }

    /// Nodes in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let places = (0u32..).map(NodeIndex).zip(&self.nodes);
        places.filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// All indexes in order; `None` for an unused one.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (NodeIndex, Option<&Node>)> {
        let places = self.nodes.iter().enumerate();
        places.map(|(at, node)| (NodeIndex(at as u32), node.as_ref()))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of transports.
    pub fn conns(&self) -> usize {
        self.by_conn.len()
    }
}

impl std::ops::Index<NodeIndex> for Registry {
    type Output = Node;

    /// The node; for an unused index, a placeholder that is gone and takes no work.
    fn index(&self, index: NodeIndex) -> &Node {
        self.get(index).unwrap_or(&self.nobody)
    }
}

impl std::ops::IndexMut<NodeIndex> for Registry {
    /// The node; for an unused index, writes are discarded.
    fn index_mut(&mut self, index: NodeIndex) -> &mut Node {
        match self.nodes.get_mut(index.get()) {
            Some(Some(node)) => {
                self.kept.lend(index);
                node
            }
            _ => &mut self.written_off,
        }
    }
}

#[cfg(test)]
mod tests;
