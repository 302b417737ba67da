//! An audit that differs from the store's record of it: missing, truncated, or replaced.
//!
//! The state contains the number and chain of an entry of each start, and the numbers of intents with their changes. An
//! audit that ends before the highest of those numbers, or has another entry there, has lost entries: the coordinator
//! reports it in its log, by an event, and by an entry of the audit, with a number above all that are known to have
//! been assigned.

use wyneos::{audit::LOST, convert, v1};
use wyneos_core::integrity::Digest;

/// The store's record of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The highest assigned number, as far as it is recorded.
    pub(crate) newest: u64,
    /// An entry of the last start: its number, 0 for none, and its chain.
    pub(crate) entry: (u64, Digest),
}

/// A loss of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// There are no entries.
    Gone,
    /// The audit ends before this number: an older copy was put back.
    CutBack(u64),
    /// The entry with this number differs from the recorded one.
    Replaced(u64),
    /// The newest entry was not written by this coordinator.
    Foreign,
    /// The newest entry was signed with another key, and the audit contains the entry that the store remembers: the key
    /// is the wrong one.
    WrongKey,
}

impl Loss {
    fn describe(self) -> &'static str {
        match self {
            Loss::Gone => "the audit was lost or emptied",
            Loss::CutBack(_) => "the audit was cut back, as by putting back an older copy",
            Loss::Replaced(_) => "the audit was replaced by another one of this coordinator",
            Loss::Foreign | Loss::WrongKey => "the audit was replaced by one that this coordinator did not write",
        }
    }

    /// The entry that reports the loss; `kept` is the new name of a replaced audit. The number must be above
    /// `known.newest`.
    pub(super) fn record(self, known: &Known, kept: Option<&str>) -> v1::AuditRecord {
        let kept = kept.map_or(String::new(), |name| format!(", which is kept as {name}"));
        let from = match self {
            Loss::Gone | Loss::Foreign | Loss::WrongKey => 1,
            Loss::CutBack(from) | Loss::Replaced(from) => from,
        };
        v1::AuditRecord {
            time: Some(convert::timestamp(super::wall())),
            principal: "coordinator".to_owned(),
            action: "audit".to_owned(),
            target: format!("entries {from} to {}", known.newest),
            code: LOST,
            reason: format!(
                "{}{kept}: entries {from} to {} are missing, and those that came after them, if any",
                self.describe(),
                known.newest
            ),
            kind: v1::AuditKind::Lost.into(),
            lost_from: from,
            ..v1::AuditRecord::default()
        }
    }
}

/// The entry that reports a state that was put back: the state has no change above intent `kept`, and the audit reports
/// changes up to intent `newest` as carried out.
pub(super) fn set_back(kept: u64, newest: u64) -> v1::AuditRecord {
    let from = kept + 1;
    v1::AuditRecord {
        time: Some(convert::timestamp(super::wall())),
        principal: "coordinator".to_owned(),
        action: "state".to_owned(),
        target: format!("intents {from} to {newest}"),
        code: LOST,
        reason: format!(
            "the state was put back, as by putting back an older state.redb: what intents {from} to {newest} changed is lost, whatever their \
             outcomes say"
        ),
        kind: v1::AuditKind::SetBack.into(),
        ..v1::AuditRecord::default()
    }
}

#[cfg(test)]
mod tests;
