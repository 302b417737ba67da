//! Identities.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Makes types of numbers: on disk, on the wire and in texts each is its number.
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
    /// A decision's id, unique in the cluster's life: epoch × 2³² + a count. 0 is no decision.
    DecisionId;
    /// A directive's id, unique in the cluster's life: epoch × 2³² + a count. 0 is no directive.
    DirectiveId;
    /// An event's number: grows by one with each event in the cluster's life. 0 is no event.
    EventNo;
}

/// What led to a decision or a move, by its number.
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

/// Bytes of a UUID's text.
const TEXT: usize = uuid::fmt::Hyphenated::LENGTH;

/// Why a text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its 36-character form, as in 123e4567-e89b-12d3-a456-426614174000")]
pub struct BadUuid;

/// A UUID (RFC 9562); its order is that of its text. Made outside: the core has no randomness of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Uuid(pub [u8; 16]);

impl PartialOrd for Uuid {
    fn partial_cmp(&self, other: &Uuid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Uuid {
    /// Byte by byte, which as one number is a single comparison.
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
        // Its other forms are other lengths: without hyphens, in braces, as a URN.
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

/// The nonce of an agent's process, drawn at its start: it tells two processes with one identity apart. Zero when unknown.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub [u8; 16]);

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A node's id, made by its agent at its first start.
pub type NodeId = Uuid;

/// A cluster's id, made by its coordinator at its first start.
pub type ClusterId = Uuid;

/// A node's place in the registry; stable while the coordinator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// The place of ended instances whose node was forgotten.
    pub const NOWHERE: NodeIndex = NodeIndex(u32::MAX);

    /// As an index.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests;
