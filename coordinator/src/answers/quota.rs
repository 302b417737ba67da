//! Limits on the simultaneous use of a resource by one identity: calls, subscriptions, bytes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The owner of a share: the name in a certificate or bearer token, otherwise an address, or a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Named(Arc<str>),
    Source(Option<IpAddr>),
    Connection(Option<SocketAddr>),
}

/// Units that are counted per identity and in total.
#[derive(Debug)]
pub(crate) struct Quota {
    of_one: usize,
    of_all: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<Who, usize>,
}

impl Held {
    fn add(&mut self, quota: &Quota, who: &Who, count: usize) -> Result<(), Full> {
        let of = self.of.get(who).copied().unwrap_or(0);
        if of.saturating_add(count) > quota.of_one {
            return Err(Full::OfOne(quota.of_one));
        }
        if self.all.saturating_add(count) > quota.of_all {
            return Err(Full::OfAll(quota.of_all));
        }
        self.all += count;
        *self.of.entry(who.clone()).or_default() += count;
        Ok(())
    }
}

/// Units that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    quota: Arc<Quota>,
    who: Who,
    count: usize,
}

impl Taken {
    /// Takes `more` for the same identity. At a limit nothing is added.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Full> {
        self.quota.held().add(&self.quota, &self.who, more)?;
        self.count += more;
        Ok(())
    }

    /// Number of units.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// The limit that is reached, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    OfOne(usize),
    OfAll(usize),
}

impl Quota {
    pub(crate) fn new(of_one: usize, of_all: usize) -> Arc<Quota> {
        let held = Mutex::default();
        Arc::new(Quota { of_one, of_all, held })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether no units are in use.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.held().all == 0
    }

    /// Takes one unit for `who`.
    pub(crate) fn take(self: &Arc<Self>, who: Who) -> Result<Taken, Full> {
        self.take_many(who, 1)
    }

    /// Takes all `count` units for `who`, or none.
    pub(crate) fn take_many(self: &Arc<Self>, who: Who, count: usize) -> Result<Taken, Full> {
        self.held().add(self, &who, count)?;
        Ok(Taken {
            quota: Arc::clone(self),
            who,
            count,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = self.quota.held();
        held.all -= self.count;
        if let Some(of) = held.of.get_mut(&self.who) {
            *of -= self.count;
            if *of == 0 {
                held.of.remove(&self.who);
            }
        }
    }
}
