//! How much one identity may have of something at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Whose it is: a certificate's or a bearer token's name, or an address where nobody is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Named(Arc<str>),
    Source(Option<IpAddr>),
}

/// Places that are counted for each identity, and for all.
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

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    quota: Arc<Quota>,
    who: Who,
}

/// Which limit is reached, and what it is.
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

    /// A place of `who`.
    pub(crate) fn take(self: &Arc<Self>, who: Who) -> Result<Taken, Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.of.get(&who).is_some_and(|of| *of >= self.of_one) {
            return Err(Full::OfOne(self.of_one));
        }
        if held.all >= self.of_all {
            return Err(Full::OfAll(self.of_all));
        }
        held.all += 1;
        *held.of.entry(who.clone()).or_default() += 1;
        Ok(Taken {
            quota: Arc::clone(self),
            who,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = self.quota.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        if let Some(of) = held.of.get_mut(&self.who) {
            *of -= 1;
            if *of == 0 {
                held.of.remove(&self.who);
            }
        }
    }
}
