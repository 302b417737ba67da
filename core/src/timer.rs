//! Timers: every deadline of a state machine, in one queue.

use std::{cmp::Ordering, collections::BinaryHeap};

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
    queue: BinaryHeap<Entry<T>>,
    set: u64,
    /// A bit a kind: was one of it ever taken?
    fired: u32,
}

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    /// Of timers with one deadline, which was set first.
    number: u64,
    timer: T,
}

impl<T> Entry<T> {
    fn key(&self) -> u128 {
        u128::from(self.at.0) << 64 | u128::from(self.number)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Entry<T>) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Entry<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// The earliest is the greatest, for a heap that gives the greatest first.
    fn cmp(&self, other: &Entry<T>) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers {
            queue: BinaryHeap::new(),
            set: 0,
            fired: 0,
        }
    }
}

impl<T: Kinds> Timers<T> {
    /// Sets a timer for `at`.
    pub fn set(&mut self, at: Time, timer: T) {
        self.set += 1;
        let number = self.set;
        self.queue.push(Entry { at, number, timer });
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.queue.peek().map(|entry| entry.at)
    }

    /// Drops timers from the front for as long as they are `stale`: nobody needs to wake up for them.
    pub fn prune(&mut self, stale: impl Fn(&T) -> bool) {
        while self.queue.peek().is_some_and(|entry| stale(&entry.timer)) {
            self.queue.pop();
        }
    }

    /// Takes the earliest timer if it is due, and tells when it was.
    pub fn take_due(&mut self, now: Time) -> Option<(Time, T)> {
        if self.next()? > now {
            return None;
        }
        let Entry { at, timer, .. } = self.queue.pop()?;
        self.fired |= 1 << timer.kind();
        Some((at, timer))
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
