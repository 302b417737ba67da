//! Remembered refusals: repeated requests get the same answer, without a request to the engine or a write.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::Status;

/// Time for which a refusal is remembered. Longer: fewer entries in the audit from persistent callers; an operator's
/// correction takes effect later.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Maximum number of remembered refusals; beyond it all are forgotten.
const MOST: usize = 10_000;

/// Refusals of the last minute, by subject.
#[derive(Debug, Default)]
pub(crate) struct Refusals<K>(Mutex<HashMap<K, (Instant, Status)>>);

impl<K: Eq + Hash> Refusals<K> {
    /// The refusal of `whom` within the last minute.
    pub(crate) fn of(&self, whom: &K, now: Instant) -> Result<(), Status> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(whom) {
            Some((at, status)) if now.saturating_duration_since(*at) < REMEMBERED => Err(status.clone()),
            _ => Ok(()),
        }
    }

    /// Remembers a refusal.
    pub(crate) fn remember(&self, whom: K, status: &Status, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(whom, (now, status.clone()));
    }

    /// Forgets all, since a caller may be accepted now.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_a_minute_or_until_it_is_forgotten() {
        let refusals = Refusals::default();
        let start = Instant::now();
        refusals.of(&1, start).unwrap();
        refusals.remember(1, &Status::permission_denied("revoked"), start);
        let again = refusals.of(&1, start + REMEMBERED / 2).unwrap_err();
        assert_eq!(again.message(), "revoked");
        refusals.of(&2, start).unwrap();
        refusals.of(&1, start + REMEMBERED).unwrap();
        refusals.forget();
        refusals.of(&1, start).unwrap();
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let refusals = Refusals::default();
        let start = Instant::now();
        for number in 0..=MOST {
            refusals.remember(number, &Status::permission_denied(""), start);
        }
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }
}
