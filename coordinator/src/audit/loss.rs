//! An audit that is not what the store remembers of it: gone, cut back, or another one.
//!
//! The state keeps the number and chain of an entry of each start, and the numbers of intents with what they changed. An audit that ends
//! before the highest of those numbers, or has another entry there, has lost entries: the coordinator says so in its log, by an event, and
//! by an entry of the audit, behind all numbers that are known to have been given out.

use wyneos::{audit::LOST, convert, v1};
use wyneos_core::integrity::Digest;

/// What the store remembers of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The highest number that was given out, as far as it is remembered.
    pub(crate) newest: u64,
    /// An entry of the last start: its number, 0 for none, and its chain.
    pub(crate) entry: (u64, Digest),
}

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// There is no entry at all.
    Gone,
    /// The audit ends before this number: an older copy was put back.
    CutBack(u64),
    /// The entry of this number is another one than before.
    Replaced(u64),
    /// The newest entry is none of this coordinator's.
    Foreign,
    /// It is not by this coordinator's key, and the audit has the entry that the store remembers: the key is another one.
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

    /// The entry that tells of it, and under which name what was there instead is `kept`; its number is to be above `known.newest`.
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

/// The entry that tells of a state that was put back: it has no change above intent `kept`, and the audit says that changes up to intent
/// `newest` were carried out.
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
