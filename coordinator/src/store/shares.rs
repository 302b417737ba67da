//! Fair retention of events: the subject with the most events loses its oldest first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The events that are kept, by what they are about. Beyond the retention the subject with the most of them loses its oldest, so that
/// however loud one is, the others keep theirs: of `n` subjects each has room for an `n`th of the retention at least.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The number of events, and the oldest of them.
    of: BTreeMap<String, (u64, u64)>,
    ranked: BTreeSet<(u64, Reverse<u64>, String)>,
}

impl Shares {
    /// Adds an event, which is newer than all others of its subject.
    pub(super) fn add(&mut self, subject: &str, sequence: u64) {
        let (count, oldest) = self.of.get(subject).copied().unwrap_or((0, sequence));
        self.put(subject, count + 1, oldest);
    }

    /// The subject with the most events, and the oldest of those; of two with as many, the one whose oldest is older.
    pub(super) fn loudest(&self) -> Option<(&str, u64)> {
        let (_, Reverse(oldest), subject) = self.ranked.last()?;
        Some((subject, *oldest))
    }

    /// A subject's oldest event is kept no longer; `next` is its oldest now.
    pub(super) fn remove_oldest(&mut self, subject: &str, next: Option<u64>) {
        let Some((count, _)) = self.of.get(subject).copied() else {
            return;
        };
        match next {
            Some(next) if count > 1 => self.put(subject, count - 1, next),
            _ => self.forget(subject),
        }
    }

    fn put(&mut self, subject: &str, count: u64, oldest: u64) {
        self.forget(subject);
        self.of.insert(subject.to_owned(), (count, oldest));
        self.ranked.insert((count, Reverse(oldest), subject.to_owned()));
    }

    fn forget(&mut self, subject: &str) {
        if let Some((count, oldest)) = self.of.remove(subject) {
            self.ranked.remove(&(count, Reverse(oldest), subject.to_owned()));
        }
    }
}
