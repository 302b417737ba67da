//! Names of operators that stay shut out though their records were dropped.
//!
//! A certificate that was made on the coordinator's host has no record, and is let in by its name. A name that was on record, or was revoked,
//! therefore stays shut out for as long as a certificate of that name from before can hold.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Access, OPERATORS, OperatorRecord};
use crate::time::WallTime;

/// Longest validity of an operator's credential, also of one made on the coordinator's host.
pub const CREDENTIAL_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Maximum number of names that are shut out without a record. A name has at most 64 bytes, so that all together take about 1 MiB in the
/// store. At the limit a further name is not revoked, unless it is on record or shut out already.
pub const NAMES: usize = 8_192;

/// Maximum number of names up to which new operators take the place of old ones; the rest is reserved for revocations.
pub const NAMES_OF_CREATED: usize = 6_144;

/// A name that is shut out without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutOut {
    /// When the name was revoked, or else when the operator was created; shown to people, and decides nothing.
    pub time: WallTime,
    /// The cluster's running time at that moment, across restarts of the coordinator.
    pub lived: Duration,
    /// True if the name was revoked; false if its credential expired.
    pub revoked: bool,
}

impl ShutOut {
    /// The running time for which the name is shut out still, when coordinators of this cluster have run for `lived`.
    pub fn left(&self, lived: Duration) -> Duration {
        CREDENTIAL_LIFE.saturating_sub(lived.saturating_sub(self.lived))
    }

    /// True once no certificate from before can be let in: its longest validity was lived through, or the CA that signed it is trusted no
    /// more, as none is from before `trusted_from`.
    fn is_free(&self, trusted_from: Option<Duration>, lived: Duration) -> bool {
        self.left(lived).is_zero() || trusted_from.is_some_and(|from| self.lived < from)
    }
}

/// Why there is no room for an operator or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// All operators on record hold.
    Operators,
    /// As many names are shut out as may be; the first is free after this much of running time.
    Names(Duration),
}

impl OperatorRecord {
    /// The entry that keeps the name shut out once the record is dropped. Where an earlier version did not note the running time, the time
    /// counts from now.
    pub fn shut_out(&self, lived: Duration) -> ShutOut {
        let (time, noted) = match &self.revoked {
            Some((time, _)) => (*time, self.revoked_lived),
            None => (self.created, Some(self.lived).filter(|lived| !lived.is_zero())),
        };
        ShutOut {
            time,
            lived: noted.unwrap_or(lived),
            revoked: self.revoked.is_some(),
        }
    }
}

impl Access {
    /// Puts an operator on record. What was known of the name is replaced.
    ///
    /// # Errors
    /// There is no room; then nothing has changed.
    pub fn admit(&mut self, operator: OperatorRecord, lived: Duration) -> Result<(), NoRoom> {
        let name = operator.name.clone();
        let shut = self.reopen(&name);
        if !self.operators.contains_key(&name) && !self.make_room(operator.created, lived, NAMES_OF_CREATED) {
            if let Some(shut) = shut {
                Arc::make_mut(&mut self.shut_out).insert(name, shut);
            }
            return Err(match self.shut_out.len() < NAMES_OF_CREATED {
                true => NoRoom::Operators,
                false => NoRoom::Names(self.first_free(lived)),
            });
        }
        self.operators.insert(name, operator);
        Ok(())
    }

    /// Shuts a name out, by its record or without one. A name that is on record or shut out already always has room.
    ///
    /// # Errors
    /// There is no room; then nobody is let in who was not before.
    pub fn revoke(&mut self, name: &str, now: WallTime, lived: Duration, by: &str) -> Result<OperatorRecord, NoRoom> {
        if let Some(operator) = self.operators.get_mut(name) {
            operator.revoke(now, lived, by);
            return Ok(operator.clone());
        }
        let mut operator = OperatorRecord::shut_out_by_name(name, now, lived);
        operator.revoke(now, lived, by);
        self.reopen(name);
        if self.make_room(now, lived, NAMES) {
            self.operators.insert(name.to_owned(), operator.clone());
        } else if self.shut_out.len() < NAMES {
            let shut = operator.shut_out(lived);
            Arc::make_mut(&mut self.shut_out).insert(name.to_owned(), shut);
        } else {
            return Err(NoRoom::Names(self.first_free(lived)));
        }
        Ok(operator)
    }

    /// Takes a name out of those that are shut out without a record.
    fn reopen(&mut self, name: &str) -> Option<ShutOut> {
        match self.shut_out.contains_key(name) {
            true => Arc::make_mut(&mut self.shut_out).remove(name),
            false => None,
        }
    }

    /// Makes room for another operator's record, if there is none: records that let nobody in are replaced by their names, those that
    /// expired before those that were revoked. Keeps at most `most` names. Returns whether there is room.
    fn make_room(&mut self, now: WallTime, lived: Duration, most: usize) -> bool {
        if self.operators.len() < OPERATORS {
            return true;
        }
        self.drop_free_names(lived);
        for also_revoked in [false, true] {
            let idle = |one: &&OperatorRecord| one.is_over(now, lived) || also_revoked && one.revoked.is_some();
            let idle: Vec<_> = (self.operators.values().filter(idle))
                .map(|one| (one.name.clone(), one.shut_out(lived)))
                .collect();
            for (name, shut) in idle {
                let is_free = shut.is_free(self.trusted_from, lived);
                if !is_free && self.shut_out.len() >= most {
                    break;
                }
                self.operators.remove(&name);
                if !is_free {
                    Arc::make_mut(&mut self.shut_out).insert(name, shut);
                }
            }
            if self.operators.len() < OPERATORS {
                return true;
            }
        }
        false
    }

    /// Drops names of which no certificate can be let in any more.
    pub fn drop_free_names(&mut self, lived: Duration) {
        let from = self.trusted_from;
        let is_free = |shut: &ShutOut| shut.is_free(from, lived);
        if self.shut_out.values().any(is_free) {
            Arc::make_mut(&mut self.shut_out).retain(|_, shut| !is_free(shut));
        }
    }

    /// The running time after which the first of the names is free; zero without names.
    fn first_free(&self, lived: Duration) -> Duration {
        let left = self.shut_out.values().map(|shut| shut.left(lived));
        left.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
