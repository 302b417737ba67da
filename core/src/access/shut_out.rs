//! Names of operators that remain barred after their records were removed.
//!
//! A certificate created on the coordinator's host has no record and is accepted by its name. A name that was on record
//! or was revoked therefore stays barred for as long as an earlier certificate of that name can be valid.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Access, OPERATORS, OperatorRecord};
use crate::time::WallTime;

/// Maximum validity of an operator's credential, including one created on the coordinator's host.
pub const CREDENTIAL_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Maximum number of barred names without a record. A name has at most 64 bytes, so all of them take about 1 MiB in the
/// store. At the limit, a further name cannot be revoked unless it is on record or barred already.
pub const NAMES: usize = 8_192;

/// Number of names up to which new operators may displace old records; the rest is reserved for revocations.
pub const NAMES_OF_CREATED: usize = 6_144;

/// A barred name without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutOut {
    /// Time of the revocation, or else of the operator's creation; for display only.
    pub time: WallTime,
    /// Accumulated running time of the cluster's coordinators at that moment.
    pub lived: Duration,
    /// Whether the name was revoked; otherwise its credential expired.
    pub revoked: bool,
}

impl ShutOut {
    /// Remaining running time for which the name is barred, at accumulated running time `lived`.
    pub fn left(&self, lived: Duration) -> Duration {
        CREDENTIAL_LIFE.saturating_sub(lived.saturating_sub(self.lived))
    }

    /// Whether no earlier certificate can be accepted any more: the maximum validity has passed, or the issuing CA is
    /// no longer trusted, as no certificate from before `trusted_from` is.
    fn is_free(&self, trusted_from: Option<Duration>, lived: Duration) -> bool {
        self.left(lived).is_zero() || trusted_from.is_some_and(|from| self.lived < from)
    }
}

/// Reason why there is no room for an operator or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// All operators on record are valid.
    Operators,
    /// The maximum number of names is barred; the first is released after this running time.
    Names(Duration),
}

impl OperatorRecord {
    /// Entry that keeps the name barred after the record is removed. If an earlier version did not record the running
    /// time, the time counts from now.
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
    /// Adds an operator's record and replaces earlier state of the name.
    ///
    /// # Errors
    /// There is no room; nothing has changed.
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

    /// Revokes a name, with or without a record. There is always room for a name that is on record or barred already.
    ///
    /// # Errors
    /// There is no room; no credential became valid.
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

    /// Removes a name from the barred names without a record.
    fn reopen(&mut self, name: &str) -> Option<ShutOut> {
        match self.shut_out.contains_key(name) {
            true => Arc::make_mut(&mut self.shut_out).remove(name),
            false => None,
        }
    }

    /// Makes room for another operator's record if necessary: invalid records are replaced by barred names, expired
    /// ones before revoked ones, up to `most` names. Returns whether there is room.
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

    /// Removes names of which no certificate can be accepted any more.
    pub fn drop_free_names(&mut self, lived: Duration) {
        let from = self.trusted_from;
        let is_free = |shut: &ShutOut| shut.is_free(from, lived);
        if self.shut_out.values().any(is_free) {
            Arc::make_mut(&mut self.shut_out).retain(|_, shut| !is_free(shut));
        }
    }

    /// Running time after which the first barred name is released; zero if there are none.
    fn first_free(&self, lived: Duration) -> Duration {
        let left = self.shut_out.values().map(|shut| shut.left(lived));
        left.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
