//! Liveness of a node, and the permission to change it.

use super::{Cause, Liveness};
use crate::time::{Time, WallTime};

/// Liveness of a node as the Guardian concluded it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) liveness: Liveness,
    pub(super) cause: Cause,
    pub(super) changed_at: WallTime,
    pub(super) since: Time,
}

/// Permission to change the liveness of nodes. The Guardian holds the only one, so that no other system declares a
/// node offline.
#[derive(Debug)]
pub struct LifeKey(());

impl LifeKey {
    /// Creates the key; called once, where the Guardian is made.
    pub(crate) fn cut() -> LifeKey {
        LifeKey(())
    }
}
