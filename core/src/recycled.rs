//! Reuse of large lists once their last reader is gone: allocating one costs more than filling it.

use std::sync::Arc;

/// Maximum number of retained lists: those of the newest snapshot, of the one before, and one with a slow reader.
const HELD: usize = 3;

/// The most recently shared lists, which may still have readers.
#[derive(Debug)]
pub struct Recycled<T> {
    shared: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Recycled<T> {
    fn default() -> Recycled<T> {
        Recycled { shared: Vec::new() }
    }
}

impl<T> Recycled<T> {
    /// Returns an empty list, with the allocation of one that has no readers any more.
    pub fn take(&mut self) -> Vec<T> {
        let is_free = |list: &Arc<Vec<T>>| Arc::strong_count(list) == 1;
        let free = self.shared.iter().position(is_free);
        let list = free.and_then(|at| Arc::into_inner(self.shared.remove(at)));
        let mut list = list.unwrap_or_default();
        list.clear();
        list
    }

    /// Shares a list.
    pub fn share(&mut self, mut list: Vec<T>) -> Arc<Vec<T>> {
        if self.shared.len() == HELD {
            self.shared.remove(0);
        }
        // Excess capacity, for example of a formerly larger cluster, is released.
        if list.capacity() > 2 * list.len() {
            list.shrink_to_fit();
        }
        let list = Arc::new(list);
        self.shared.push(Arc::clone(&list));
        list
    }
}

#[cfg(test)]
mod tests;
