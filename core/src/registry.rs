//! The Orchestrator Registry: register, find, list, forget; and the [census](Census) of all nodes.

mod census;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use census::Census;
pub(crate) use census::FLAPS;

use crate::{
    id::{NodeId, Uuid},
    node::{Admission, Cause, ConnId, Eligibility, Liveness, Node, NodeIndex, NodeRecord},
    text::Quoted,
    time::{Time, WallTime},
};

/// Every node of the cluster, and the indexes that find it.
///
/// A node's place is an index into tables of several systems, the history of telemetry among them. The place of a forgotten node is
/// therefore empty for as long as that history reaches back, and given to another node only afterwards.
#[derive(Clone, Debug)]
pub struct Registry {
    nodes: Vec<Option<Node>>,
    /// Stands in an empty place: a node that is gone and takes nothing. A second one takes what is written there, and is not read.
    nobody: Box<Node>,
    written_off: Box<Node>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    by_conn: BTreeMap<ConnId, NodeIndex>,
    /// Empty places, and the cycle from which each may be taken again; the earliest first.
    resting: VecDeque<(u64, NodeIndex)>,
    /// Empty places that may be taken.
    free: BTreeSet<NodeIndex>,
    kept: census::Kept,
    /// Changes with every node that comes or is forgotten.
    members: u64,
}

/// Places, empty ones included, for each node that may be known. At this many a node that joins waits until an empty place has rested.
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

/// Why a text names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// Nothing fits.
    #[error("no node has the id, id prefix or name {}", Quoted(.0))]
    Unknown(String),
    /// Several fit.
    #[error("{text} fits {many} nodes: use the id", text = Quoted(.0), many = .1)]
    Ambiguous(String, usize),
}

/// Finds the one row that `text` names: by id, else by name, else by a unique prefix of the id (4 characters or more).
/// Used on the registry and on what snapshots show, so that every surface understands the same names.
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
    /// Adds a node, or returns where it already is.
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

    /// Removes a node; its place is not taken again before [`Registry::tidy`] is told of cycle `until`.
    pub fn remove(&mut self, index: NodeIndex, until: u64) -> Option<Node> {
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

    /// A cycle begins: places that have rested may be taken again, and those at the end are given up. Returns the number of places.
    pub fn tidy(&mut self, cycle: u64) -> usize {
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

    /// True when a further node would have a place, where `most` may be known.
    pub fn has_place(&self, most: usize) -> bool {
        !self.free.is_empty() || self.nodes.len() < most.saturating_mul(PLACES)
    }

    /// A node; `None` for an empty place.
    pub fn get(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.get())?.as_ref()
    }

    /// The row of a node that is heard, for what every sign of life changes; like `registry[index]` otherwise. What the [census](Census) counts
    /// must stay as it is.
    pub fn heard(&mut self, index: NodeIndex) -> &mut Node {
        match self.nodes.get_mut(index.get()) {
            Some(Some(node)) => {
                // When it was heard is shown of those that are not online.
                if node.liveness != Liveness::Online {
                    self.kept.lend(index);
                }
                node
            }
            _ => &mut self.written_off,
        }
    }

    /// What is known of all nodes together. Costs what was changed since it was read last.
    pub fn census(&mut self) -> &Census {
        self.kept.settle(&self.nodes, &self.by_conn)
    }

    /// The census as it was read last, for those who change nothing.
    pub fn settled(&self) -> &Census {
        self.kept.settled()
    }

    /// Readers may see a row otherwise than they were shown it, though it was not lent out to be changed.
    pub fn show(&mut self, index: NodeIndex) {
        self.kept.show(index);
    }

    /// Readers are shown this load of a node, in hundredths.
    pub(crate) fn was_shown(&mut self, index: NodeIndex, load_percent: u32) {
        if let Some(Some(node)) = self.nodes.get_mut(index.get()) {
            node.shown_load = load_percent;
        }
    }

    /// A row that readers may see otherwise than they were shown it last; each is told once.
    pub(crate) fn take_to_show(&mut self) -> Option<NodeIndex> {
        self.kept.take_to_show()
    }

    #[cfg(test)]
    pub(crate) fn is_to_show(&self, index: NodeIndex) -> bool {
        self.kept.is_to_show(index)
    }

    /// The census, counted anew.
    #[cfg(test)]
    pub(crate) fn recounted(&self) -> Census {
        census::recounted(self.iter(), &self.by_conn)
    }

    /// The node with that id.
    pub fn find(&self, id: NodeId) -> Option<NodeIndex> {
        self.by_id.get(&id).copied()
    }

    /// The node whose session has that transport.
    pub fn of_conn(&self, conn: ConnId) -> Option<NodeIndex> {
        self.by_conn.get(&conn).copied()
    }

    /// Ties a transport to a node.
    pub fn attach(&mut self, conn: ConnId, index: NodeIndex) {
        let before = self.by_conn.insert(conn, index);
        before.into_iter().chain([index]).for_each(|tied| self.kept.lend(tied));
    }

    /// Unties a transport; nothing it still sends finds the node.
    pub fn detach(&mut self, conn: ConnId) -> Option<NodeIndex> {
        let tied = self.by_conn.remove(&conn)?;
        self.kept.lend(tied);
        Some(tied)
    }

    /// The node that an operator means.
    pub fn resolve(&self, text: &str) -> Result<NodeIndex, NoSuchNode> {
        let rows = self.by_id.iter().map(|(&id, &index)| (id, index));
        resolve(text, rows, |&index, text| self[index].name() == text)
    }

    /// A number that changes with every node that comes or is forgotten.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Places in the order of the ids of their nodes.
    pub fn places_by_id(&self) -> impl Iterator<Item = NodeIndex> {
        self.by_id.values().copied()
    }

    /// Nodes in the order of their ids.
    pub fn by_id(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.by_id.values().map(|&index| (index, &self[index]))
    }

    /// Nodes in the order of their places: that in which they came, but for those that took a forgotten node's.
    pub fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let places = (0u32..).map(NodeIndex).zip(&self.nodes);
        places.filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// Every place, in order; `None` for an empty one.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (NodeIndex, Option<&Node>)> {
        let places = self.nodes.iter().enumerate();
        places.map(|(at, node)| (NodeIndex(at as u32), node.as_ref()))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when there is none.
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

    /// The node; in an empty place nobody, who is gone and takes nothing.
    fn index(&self, index: NodeIndex) -> &Node {
        self.get(index).unwrap_or(&self.nobody)
    }
}

impl std::ops::IndexMut<NodeIndex> for Registry {
    /// The node; what is changed of nobody is lost.
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
