//! A small sorted table of nodes for lookups on every probe and beacon; the ids are contiguous.

use crate::id::NodeId;

#[derive(Debug)]
pub(super) struct Table<V> {
    ids: Vec<NodeId>,
    /// In the order of the ids.
    values: Vec<V>,
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        Table {
            ids: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<V> Table<V> {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.ids.iter().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &V)> {
        self.ids.iter().copied().zip(&self.values)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut V)> {
        self.ids.iter().copied().zip(&mut self.values)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&V> {
        let at = self.ids.binary_search(&id).ok()?;
        self.values.get(at)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut V> {
        let at = self.ids.binary_search(&id).ok()?;
        self.values.get_mut(at)
    }

    /// Inserts a value and returns the previous one.
    pub(super) fn insert(&mut self, id: NodeId, value: V) -> Option<V> {
        match self.ids.binary_search(&id) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.ids.insert(at, id);
                self.values.insert(at, value);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<V> {
        let at = self.ids.binary_search(&id).ok()?;
        self.ids.remove(at);
        Some(self.values.remove(at))
    }

    /// Retains the entries for which `keep` returns true, in the order of ids.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(NodeId, &mut V) -> bool) {
        let mut at = 0;
        while at < self.ids.len() {
            if keep(self.ids[at], &mut self.values[at]) {
                at += 1;
            } else {
                self.ids.remove(at);
                self.values.remove(at);
            }
        }
    }
}
