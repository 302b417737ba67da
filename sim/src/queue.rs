//! Future events in the order of time, then of scheduling.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    mem,
};

use wyneos_core::time::Time;

use crate::event::What;

/// Moving entries takes most of a simulation's run time.
const _: () = assert!(size_of::<What>() <= 32);

/// Duration of a slot: 2¹⁶ ns, 66 µs.
const SLOT_BITS: u32 = 16;

/// Slots per span: 64, 4.2 ms.
const SPAN_BITS: u32 = 6;
const SPAN: u64 = 1 << SPAN_BITS;

/// Number of spans in the wheel, 4.3 s: most events are scheduled less than that ahead.
const WHEEL: u64 = 1_024;

/// A scheduled event.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Time, and number of events scheduled before it.
    key: u128,
    pub(crate) what: What,
}

impl Entry {
    pub(crate) fn at(&self) -> Time {
        Time((self.key >> 64) as u64)
    }

    fn slot(&self) -> u64 {
        self.at().0 >> SLOT_BITS
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key == other.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Reversed order, since the heap returns the greatest entry first.
    fn cmp(&self, other: &Entry) -> Ordering {
        other.key.cmp(&self.key)
    }
}

/// Future events. Only events of the current slot are kept sorted: later ones are far more numerous, and sorting them
/// would dominate the run time.
pub(crate) struct Queue {
    /// The current slot. Later events are stored by slot, by span, or by span beyond the wheel.
    slot: u64,
    /// Events of the current slot known at its beginning, earliest last.
    sorted: Vec<Entry>,
    /// Events scheduled since for the current slot.
    near: BinaryHeap<Entry>,
    /// Later slots of the current span, and a bit set of the non-empty ones.
    slots: [Vec<Entry>; SPAN as usize],
    filled: u64,
    /// The following spans, and the number of events in them.
    wheel: Vec<Vec<Entry>>,
    turning: usize,
    far: BTreeMap<u64, Vec<Entry>>,
    /// Events that were scheduled in the order of their times.
    ordered: VecDeque<Entry>,
    number: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            slot: 0,
            sorted: Vec::new(),
            near: BinaryHeap::new(),
            slots: [const { Vec::new() }; SPAN as usize],
            filled: 0,
            wheel: (0..WHEEL).map(|_| Vec::new()).collect(),
            turning: 0,
            far: BTreeMap::new(),
            ordered: VecDeque::new(),
            number: 0,
        }
    }
}

impl Queue {
    fn entry(&mut self, at: Time, what: What) -> Entry {
        self.number += 1;
        let key = u128::from(at.0) << 64 | u128::from(self.number);
        Entry { key, what }
    }

    pub(crate) fn push(&mut self, at: Time, what: What) {
        let entry = self.entry(at, what);
        self.put(entry);
    }

    /// Schedules an event whose delay is constant, so that no sorting is needed.
    pub(crate) fn push_ordered(&mut self, at: Time, what: What) {
        let entry = self.entry(at, what);
        if self.ordered.back().is_none_or(|last| last.key < entry.key) {
            self.ordered.push_back(entry);
        } else {
            self.put(entry);
        }
    }

    fn put(&mut self, entry: Entry) {
        let slot = entry.slot();
        let span = slot >> SPAN_BITS;
        let ahead = span.saturating_sub(self.slot >> SPAN_BITS);
        if slot <= self.slot {
            self.near.push(entry);
        } else if ahead == 0 {
            self.put_into_slot(entry);
        } else if ahead < WHEEL {
            self.wheel[(span % WHEEL) as usize].push(entry);
            self.turning += 1;
        } else {
            self.far.entry(span).or_default().push(entry);
        }
    }

    fn put_into_slot(&mut self, entry: Entry) {
        let slot = entry.slot() % SPAN;
        self.slots[slot as usize].push(entry);
        self.filled |= 1 << slot;
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.sorted.is_empty() && self.near.is_empty() {
            self.next_slot();
        }
        let key = |entry: Option<&Entry>| entry.map_or(u128::MAX, |entry| entry.key);
        let (sorted, near) = (key(self.sorted.last()), key(self.near.peek()));
        let ordered = key(self.ordered.front());
        if ordered < sorted.min(near) {
            self.ordered.pop_front()
        } else if near < sorted {
            self.near.pop()
        } else {
            self.sorted.pop()
        }
    }

    /// Advances to the next non-empty slot.
    fn next_slot(&mut self) {
        if self.filled == 0 {
            self.next_span();
        }
        if self.filled == 0 {
            return;
        }
        let next = u64::from(self.filled.trailing_zeros());
        self.filled &= self.filled - 1;
        self.slot = self.slot / SPAN * SPAN + next;
        mem::swap(&mut self.sorted, &mut self.slots[next as usize]);
        self.sorted.sort_unstable_by_key(|entry| Reverse(entry.key));
    }

    /// Advances to the next non-empty span.
    fn next_span(&mut self) {
        let present = self.slot >> SPAN_BITS;
        let beyond = self.far.first_key_value().map(|(&span, _)| span);
        let fills = |span: &u64| !self.wheel[(span % WHEEL) as usize].is_empty();
        let turned = (self.turning > 0).then(|| (present + 1..present + WHEEL).find(fills));
        let Some(next) = turned.flatten().into_iter().chain(beyond).min() else {
            return;
        };
        self.slot = next << SPAN_BITS;
        let mut entries = mem::take(&mut self.wheel[(next % WHEEL) as usize]);
        self.turning -= entries.len();
        for entry in entries.drain(..) {
            self.put_into_slot(entry);
        }
        self.wheel[(next % WHEEL) as usize] = entries;
        if beyond == Some(next) {
            for entry in self.far.remove(&next).into_iter().flatten() {
                self.put_into_slot(entry);
            }
        }
    }
}
