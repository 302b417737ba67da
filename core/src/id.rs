//! Identities.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Defines number types. On disk, on the wire and in texts, each appears as its plain number.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    )+};
}

numbers! {
    /// The number of a coordinator start in the cluster's lifetime, from 1.
    Epoch;
    /// The number of a cycle, which increases by one with each cycle in the cluster's lifetime. 0 is no cycle.
    Cycle;
    /// The number of a session, unique in the cluster's lifetime: epoch × 2³² + a counter. 0 is no session.
    SessionNo;
    /// The revision of a workload, which increases by one with each change of its declaration. 0 is no revision.
    Revision;
    /// The id of a decision, unique in the cluster's lifetime: epoch × 2³² + a counter. 0 is no decision.
    DecisionId;
    /// The id of a directive, unique in the cluster's lifetime: epoch × 2³² + a counter. 0 is no directive.
    DirectiveId;
    /// The number of an event, which increases by one with each event in the cluster's lifetime. 0 is no event.
    EventNo;
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }

    /// The id with counter `count` in this epoch: epoch × 2³² + the counter.
    pub const fn number(self, count: u64) -> u64 {
        self.0 << 32 | count
    }
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl Cycle {
    /// The cycle after this one.
    #[must_use]
    pub const fn next(self) -> Cycle {
        self.after(1)
    }

    /// The cycle that is `cycles` later.
    #[must_use]
    pub const fn after(self, cycles: u64) -> Cycle {
        Cycle(self.0.saturating_add(cycles))
    }
}

/// Cause of a decision or a move, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// A decision.
    Decision(DecisionId),
    /// An event.
    Event(EventNo),
    /// A finding of the mesh.
    Finding(u64),
}

/// Length of a UUID's text, in bytes.
const TEXT: usize = uuid::fmt::Hyphenated::LENGTH;

/// Error for text that is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its 36-character form, as in 123e4567-e89b-12d3-a456-426614174000")]
pub struct BadUuid;

/// A UUID (RFC 9562), ordered like its text. UUIDs are created outside: the core has no source of randomness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Uuid(pub [u8; 16]);

impl PartialOrd for Uuid {
    fn partial_cmp(&self, other: &Uuid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Uuid {
    /// Equal to the order of the bytes, with a single comparison of numbers.
    fn cmp(&self, other: &Uuid) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = uuid::Uuid::from_bytes(self.0).hyphenated();
        f.pad(text.encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Uuid, BadUuid> {
        // The other forms of a UUID have different lengths: without hyphens, in braces, as a URN.
        match uuid::Uuid::try_parse(text) {
            Ok(id) if text.len() == TEXT => Ok(Uuid(id.into_bytes())),
            _ => Err(BadUuid),
        }
    }
}

impl From<Uuid> for String {
    fn from(id: Uuid) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for Uuid {
    type Error = BadUuid;

    fn try_from(text: String) -> Result<Uuid, BadUuid> {
        text.parse()
    }
}

/// The nonce of an agent's process, drawn when it starts, which distinguishes two processes with the same identity.
/// Zero if unknown.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub [u8; 16]);

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The id of a node, created by its agent at the first start.
pub type NodeId = Uuid;

/// The id of a cluster, created by its coordinator at the first start.
pub type ClusterId = Uuid;

/// A node's index in the registry; stable while the coordinator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// The index of ended instances whose node was forgotten.
    pub const NOWHERE: NodeIndex = NodeIndex(u32::MAX);

    /// Converts to a slice index.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests;
