//! Rate limits per source or caller.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Maximum number of sources that are remembered; beyond it, sources with a full bucket are forgotten.
const SOURCES: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

/// A bucket per source, which fills at a rate per minute.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    a_minute: f64,
    most: f64,
    sources: Mutex<HashMap<K, (f64, Instant)>>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// A limiter with this rate per minute, which is also its burst.
    pub(crate) fn new(a_minute: u32) -> Limiter<K> {
        Limiter::with_burst(a_minute, a_minute)
    }

    /// A limiter with this rate per minute and a burst of `most`.
    pub(crate) fn with_burst(a_minute: u32, most: u32) -> Limiter<K> {
        Limiter {
            a_minute: f64::from(a_minute),
            most: f64::from(most),
            sources: Mutex::new(HashMap::new()),
        }
    }

    /// Takes a token of `source`; returns the time to wait if there is none.
    pub(crate) fn take(&self, source: K, now: Instant) -> Result<(), Duration> {
        let refill = |(left, at): (f64, Instant)| {
            let since = now.saturating_duration_since(at).as_secs_f64() / MINUTE.as_secs_f64();
            (left + since * self.a_minute).min(self.most)
        };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, bucket| refill(*bucket) < self.most);
            if sources.len() >= SOURCES {
                return Err(MINUTE);
            }
        }
        let bucket = sources.entry(source).or_insert((self.most, now));
        let left = refill(*bucket);
        if left < 1.0 {
            return Err(MINUTE.mul_f64((1.0 - left) / self.a_minute));
        }
        *bucket = (left - 1.0, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_source_that_tries_too_often_waits_and_others_do_not() {
        let limiter = Limiter::new(60);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        for _ in 0..60 {
            limiter.take(one, start).unwrap();
        }
        let wait = limiter.take(one, start).unwrap_err();
        assert!(
            wait > Duration::from_millis(900) && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        limiter.take(other, start).unwrap();
        limiter.take(one, start + Duration::from_millis(1_001)).unwrap();
        limiter.take(one, start + Duration::from_millis(1_002)).unwrap_err();
    }

    #[test]
    fn it_remembers_no_more_sources_than_it_says() {
        let limiter = Limiter::new(60);
        let start = Instant::now();
        for number in 0..u32::try_from(SOURCES).unwrap() {
            limiter.take(IpAddr::from(number.to_be_bytes()), start).unwrap();
        }
        limiter.take(IpAddr::from([250, 0, 0, 1]), start).unwrap_err();
        limiter.take(IpAddr::from([250, 0, 0, 1]), start + MINUTE).unwrap();
    }
}
