//! By what a node is known, and why its admission is what it is.

use serde::{Deserialize, Serialize};

use crate::{integrity::Digest, time::WallTime};

/// By what a node is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// BLAKE3 of its public key (SubjectPublicKeyInfo, DER).
    pub key: Digest,
    /// Of the machine that it is on; zero when that does not tell.
    pub machine: Digest,
    /// When its newest certificate was asked for; shown to people, and decides nothing.
    pub issued: WallTime,
    /// The step of the CA's replacement that was the newest when that certificate was asked for: the number of its intent in the audit; 0
    /// before the first step, and in records of versions that did not note it.
    #[serde(default)]
    pub ca_step: u64,
}

/// Why a node's admission is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Who ruled so: an operator, a token, or the coordinator itself.
    pub by: String,
    /// Why, for people.
    pub reason: String,
    /// When.
    pub time: WallTime,
}
