//! Timers: every deadline of a state machine, in one queue.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::time::Time;

/// The kinds of timers that a state machine has.
pub trait Kinds {
    /// Their names; at most 32.
    const NAMES: &'static [&'static str];

    /// Which of them this one is.
    fn kind(&self) -> usize;
}

/// A queue of deadlines. Equal deadlines fire in the order in which they were set.
///
/// Nothing is ever cancelled: a timer carries a token, and its owner passes over one whose token is not the newest.
#[derive(Debug)]
pub struct Timers<T> {
    queue: BinaryHeap<Reverse<(Time, u64, T)>>,
    set: u64,
    /// A bit a kind: was one of it ever taken?
    fired: u32,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers {
            queue: BinaryHeap::new(),
            set: 0,
            fired: 0,
        }
    }
}

impl<T: Ord + Kinds> Timers<T> {
    /// Sets a timer for `at`.
    pub fn set(&mut self, at: Time, timer: T) {
        self.set += 1;
        self.queue.push(Reverse((at, self.set, timer)));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Drops timers from the front for as long as they are `stale`: nobody needs to wake up for them.
    pub fn prune(&mut self, stale: impl Fn(&T) -> bool) {
        while self.queue.peek().is_some_and(|Reverse((_, _, timer))| stale(timer)) {
            self.queue.pop();
        }
    }

    /// Takes the earliest timer if it is due.
    pub fn take_due(&mut self, now: Time) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, _, timer)) = self.queue.pop()?;
        self.fired |= 1 << timer.kind();
        Some(timer)
    }

    /// Names of the kinds of which one was ever taken; a simulation that never saw one has not shown what it does.
    pub fn fired(&self) -> impl Iterator<Item = &'static str> {
        let fired = self.fired;
        let names = T::NAMES.iter().enumerate();
        names.filter_map(move |(kind, name)| (fired & (1 << kind) != 0).then_some(*name))
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
