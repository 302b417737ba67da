//! Timers: all deadlines of a state machine in one queue.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::time::Time;

/// Kinds of timers of a state machine.
pub trait Kinds {
    /// Names of the kinds; at most 32.
    const NAMES: &'static [&'static str];

    /// Index of this timer's kind.
    fn kind(&self) -> usize;
}

/// A queue of deadlines. Equal deadlines fire in the order in which they were set.
///
/// Timers are never cancelled: each carries a token, and its owner ignores a timer whose token is not the newest.
#[derive(Debug)]
pub struct Timers<T> {
    queue: BinaryHeap<Entry<T>>,
    set: u64,
    /// Bit set of the kinds that have fired.
    fired: u32,
}

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    /// Order of setting among equal deadlines.
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
    /// Reversed order, since the heap returns the greatest entry first.
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

    /// Removes `stale` timers from the front to avoid needless wake-ups.
    pub fn prune(&mut self, stale: impl Fn(&T) -> bool) {
        while self.queue.peek().is_some_and(|entry| stale(&entry.timer)) {
            self.queue.pop();
        }
    }

    /// Takes the earliest timer with its deadline if it is due.
    pub fn take_due(&mut self, now: Time) -> Option<(Time, T)> {
        if self.next()? > now {
            return None;
        }
        let Entry { at, timer, .. } = self.queue.pop()?;
        self.fired |= 1 << timer.kind();
        Some((at, timer))
    }

    /// Names of the kinds that have fired; a simulation in which a kind never fired has not tested it.
    pub fn fired(&self) -> impl Iterator<Item = &'static str> {
        let fired = self.fired;
        let names = T::NAMES.iter().enumerate();
        names.filter_map(move |(kind, name)| (fired & (1 << kind) != 0).then_some(*name))
    }

    /// Number of pending timers.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no timer is pending.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
