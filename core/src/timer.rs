//! Timers: every deadline of a state machine, in one queue.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::time::Time;

/// A queue of deadlines. Equal deadlines fire in the order in which they were set.
///
/// Nothing is ever cancelled: a timer carries a token, and its owner passes over one whose token is not the newest.
#[derive(Debug)]
pub struct Timers<T> {
    queue: BinaryHeap<Reverse<(Time, u64, T)>>,
    set: u64,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers {
            queue: BinaryHeap::new(),
            set: 0,
        }
    }
}

impl<T: Ord> Timers<T> {
    /// Sets a timer for `at`.
    pub fn set(&mut self, at: Time, timer: T) {
        self.set += 1;
        self.queue.push(Reverse((at, self.set, timer)));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the earliest timer if it is due.
    pub fn take_due(&mut self, now: Time) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((_, _, timer))| timer)
    }

    /// Number of timers that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
