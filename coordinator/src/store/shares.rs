//! Fair retention of events: the subject with the most events, or with the most bytes of them, loses its oldest first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Events and bytes of their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// The events of one subject.
#[derive(Clone, Copy, Debug)]
struct Share {
    size: Size,
    oldest: u64,
}

type Ranked = BTreeSet<(u64, Reverse<u64>, String)>;

/// The retained events, by subject. Beyond the retention the subject that has most loses its oldest, so that however
/// noisy one is, the others keep theirs: each of `n` subjects has room for at least an `n`th of the events, and of the
/// bytes.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: BTreeMap<String, Share>,
    by_events: Ranked,
    by_bytes: Ranked,
    all: Size,
}

impl Shares {
    /// Adds an event of `bytes`, which is newer than all others of its subject.
    pub(super) fn add(&mut self, subject: &str, sequence: u64, bytes: u64) {
        let share = self.forget(subject);
        let (size, oldest) = share.map_or((Size::default(), sequence), |share| (share.size, share.oldest));
        let size = Size {
            events: size.events + 1,
            bytes: size.bytes + bytes,
        };
        self.put(subject, Share { size, oldest });
    }

    /// The subject that must lose its oldest event, and the number of that event, if there is more than `most`: the
    /// subject with the most bytes if there are too many bytes, and otherwise the one with the most events; of two
    /// equal ones, the one with the older oldest event.
    pub(super) fn beyond(&self, most: Size) -> Option<(String, u64)> {
        let ranked = match (self.all.bytes > most.bytes, self.all.events > most.events) {
            (true, _) => &self.by_bytes,
            (false, true) => &self.by_events,
            (false, false) => return None,
        };
        let (_, Reverse(oldest), subject) = ranked.last()?;
        Some((subject.clone(), *oldest))
    }

    /// Removes a subject's oldest event, of `bytes`; `next` is its new oldest.
    pub(super) fn remove_oldest(&mut self, subject: &str, bytes: u64, next: Option<u64>) {
        let Some(Share { size, .. }) = self.forget(subject) else {
            return;
        };
        if let (Some(oldest), 2..) = (next, size.events) {
            let size = Size {
                events: size.events - 1,
                bytes: size.bytes.saturating_sub(bytes),
            };
            self.put(subject, Share { size, oldest });
        }
    }

    fn put(&mut self, subject: &str, share: Share) {
        let Share { size, oldest } = share;
        self.of.insert(subject.to_owned(), share);
        self.by_events
            .insert((size.events, Reverse(oldest), subject.to_owned()));
        self.by_bytes.insert((size.bytes, Reverse(oldest), subject.to_owned()));
        self.all.events += size.events;
        self.all.bytes += size.bytes;
    }

    fn forget(&mut self, subject: &str) -> Option<Share> {
        let share = self.of.remove(subject)?;
        let Share { size, oldest } = share;
        self.by_events
            .remove(&(size.events, Reverse(oldest), subject.to_owned()));
        self.by_bytes.remove(&(size.bytes, Reverse(oldest), subject.to_owned()));
        self.all.events -= size.events;
        self.all.bytes -= size.bytes;
        Some(share)
    }
}
