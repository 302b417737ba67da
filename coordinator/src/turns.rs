//! Turns for long operations: a limited number at once, in total and per caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answers::{Full, Quota, Taken, Who};

/// Number of identities from which on unused entries are pruned.
const PRUNED_FROM: usize = 64;

/// Maximum number of turns at once, and of waiting ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// In progress for one identity.
    pub(crate) of_one: usize,
    /// In progress in total.
    pub(crate) of_all: usize,
    /// In progress or waiting for one identity; a further one is refused.
    pub(crate) waiting_of_one: usize,
    /// In progress or waiting in total.
    pub(crate) waiting: usize,
}

/// Turns are granted in the order of the requests, with a limit per identity: an identity with many requests waits for
/// itself.
#[derive(Debug)]
pub(crate) struct Turns {
    of_one: usize,
    all: Arc<Semaphore>,
    each: Mutex<HashMap<Who, Weak<Semaphore>>>,
    places: Arc<Quota>,
}

/// A turn, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    _place: Taken,
}

impl Turns {
    pub(crate) fn new(most: Most) -> Arc<Turns> {
        Arc::new(Turns {
            of_one: most.of_one,
            all: Arc::new(Semaphore::new(most.of_all)),
            each: Mutex::default(),
            places: Quota::new(most.waiting_of_one, most.waiting),
        })
    }

    /// Waits for the next turn of `who`. A caller that is gone gives up its place.
    pub(crate) async fn take(&self, who: Who) -> Result<Turn, Full> {
        let place = self.places.take(who.clone())?;
        let own = acquire(self.own(who)).await;
        let all = acquire(Arc::clone(&self.all)).await;
        Ok(Turn {
            _own: own,
            _all: all,
            _place: place,
        })
    }

    /// Returns whether no turn is held or waited for.
    #[cfg(test)]
    pub(crate) fn are_idle(&self) -> bool {
        self.places.is_idle()
    }

    fn own(&self, who: Who) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = each.get(&who).and_then(Weak::upgrade) {
            return own;
        }
        if each.len() >= PRUNED_FROM {
            each.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(self.of_one));
        each.insert(who, Arc::downgrade(&own));
        own
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    loop {
        // The semaphore is never closed.
        if let Ok(permit) = Arc::clone(&semaphore).acquire_owned().await {
            return permit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    fn who(name: &str) -> Who {
        Who::Named(name.into())
    }

    /// The output of a future, if it need not wait.
    async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn who_asks_for_many_waits_for_itself() {
        let turns = Turns::new(Most {
            of_one: 1,
            of_all: 2,
            waiting_of_one: 3,
            waiting: 5,
        });
        let first = turns.take(who("one")).await.unwrap();
        let mut second = Box::pin(turns.take(who("one")));
        let mut third = Box::pin(turns.take(who("one")));
        assert!(now(second.as_mut()).await.is_none() && now(third.as_mut()).await.is_none());
        assert_eq!(turns.take(who("one")).await.unwrap_err(), Full::OfOne(3));
        // Another identity does not wait behind them.
        let other = now(turns.take(who("two"))).await.unwrap().unwrap();
        let mut last = Box::pin(turns.take(who("three")));
        assert!(now(last.as_mut()).await.is_none());
        assert_eq!(turns.take(who("four")).await.unwrap_err(), Full::OfAll(5));
        // An abandoned request leaves its place, and passes its turn to the next one.
        drop(third);
        drop(first);
        let last = now(last.as_mut()).await.unwrap().unwrap();
        assert!(now(second.as_mut()).await.is_none());
        drop(last);
        drop(now(second.as_mut()).await.unwrap().unwrap());
        drop(other);
        assert_eq!(turns.places.take(who("one")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn identities_that_have_nothing_are_forgotten() {
        let turns = Turns::new(Most {
            of_one: 1,
            of_all: 1,
            waiting_of_one: 1,
            waiting: 1,
        });
        for number in 0..1_000 {
            drop(turns.take(who(&number.to_string())).await.unwrap());
        }
        assert!(turns.each.lock().unwrap().len() <= PRUNED_FROM);
    }
}
