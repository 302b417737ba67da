//! Identities.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

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
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
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
        let text = text.as_bytes();
        if text.len() != 36 || [8, 13, 18, 23].iter().any(|&dash| text[dash] != b'-') {
            return Err(BadUuid);
        }
        let digit = |at: usize| match text[at] {
            byte @ b'0'..=b'9' => Ok(byte - b'0'),
            byte @ b'a'..=b'f' => Ok(byte - b'a' + 10),
            byte @ b'A'..=b'F' => Ok(byte - b'A' + 10),
            _ => Err(BadUuid),
        };
        let mut bytes = [0; 16];
        let mut at = 0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            *byte = digit(at)? << 4 | digit(at + 1)?;
            at += 2;
        }
        Ok(Uuid(bytes))
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
