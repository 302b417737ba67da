//! The Orchestrator Registry: register, find, list.

use std::collections::BTreeMap;

use crate::{
    id::NodeId,
    node::{ConnId, Node, NodeIndex},
};

/// Every node of the cluster, and the indexes that find it.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: Vec<Node>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    by_conn: BTreeMap<ConnId, NodeIndex>,
}

/// Why a text names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNode {
    /// Nothing fits.
    #[error("no node has the id, id prefix or name {0:?}")]
    Unknown(String),
    /// Several fit.
    #[error("{0:?} fits {1} nodes: use the id")]
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
        let next = NodeIndex(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let index = *self.by_id.entry(id).or_insert(next);
        if index == next {
            self.nodes.push(node());
        }
        index
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
        self.by_conn.insert(conn, index);
    }

    /// Unties a transport; nothing it still sends finds the node.
    pub fn detach(&mut self, conn: ConnId) -> Option<NodeIndex> {
        self.by_conn.remove(&conn)
    }

    /// The node that an operator means.
    pub fn resolve(&self, text: &str) -> Result<NodeIndex, NoSuchNode> {
        let rows = self.by_id.iter().map(|(&id, &index)| (id, index));
        resolve(text, rows, |&index, text| self[index].name() == text)
    }

    /// Nodes in the order of their ids.
    pub fn by_id(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.by_id.values().map(|&index| (index, &self[index]))
    }

    /// Nodes in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        (0u32..).map(NodeIndex).zip(&self.nodes)
    }

    /// Every place that is taken.
    pub fn indexes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeIndex)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of transports.
    pub fn conns(&self) -> usize {
        self.by_conn.len()
    }
}

impl std::ops::Index<NodeIndex> for Registry {
    type Output = Node;

    fn index(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.get()]
    }
}

impl std::ops::IndexMut<NodeIndex> for Registry {
    fn index_mut(&mut self, index: NodeIndex) -> &mut Node {
        &mut self.nodes[index.get()]
    }
}
