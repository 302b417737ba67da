//! Proven identity of a node, and the reason for its admission state.

use serde::{Deserialize, Serialize};

use crate::{integrity::Digest, time::WallTime};

/// Identity of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// BLAKE3 of the public key (SubjectPublicKeyInfo, DER).
    pub key: Digest,
    /// Identity of the machine; zero if not reported.
    pub machine: Digest,
    /// Time at which its newest certificate was requested; for display only.
    pub issued: WallTime,
    /// The newest step of a CA replacement when that certificate was requested: the number of its intent in the audit;
    /// 0 before the first step, and in records of versions that did not record it.
    #[serde(default)]
    pub ca_step: u64,
}

/// Reason for a node's admission state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Author: an operator, a token, or the coordinator itself.
    pub by: String,
    /// The reason, human-readable.
    pub reason: String,
    /// Time of the change.
    pub time: WallTime,
}
