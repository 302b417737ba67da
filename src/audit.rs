//! The audit chain: signed, linked entries, so that altering, omitting or inserting one is detected.

use std::collections::BTreeSet;

use prost::Message as _;
use wyneos_core::{
    id::ClusterId,
    integrity::{Digest, DigestSigner, PublicKey},
};

use crate::v1;

const CONTEXT: &[u8] = b"wyneos audit v1";

/// Result of an interrupted call, determined at the next start, as a gRPC code: OK, it was applied.
pub const APPLIED: u32 = 0;
/// Result of an interrupted call: ABORTED, it was not applied.
pub const NOT_APPLIED: u32 = 10;
/// Result of an interrupted call: UNKNOWN; also the code of an intent itself.
pub const UNKNOWN: u32 = 2;

/// Code of an entry that reports lost entries or a restored state, as a gRPC code: DATA_LOSS.
pub const LOST: u32 = 15;

/// Signs entries.
pub struct Signer(DigestSigner);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// BLAKE3 of `"wyneos audit v1" ‖ cluster id (16 bytes) ‖ previous ‖ the record's bytes`.
fn chain(cluster: ClusterId, previous: &Digest, record: &v1::AuditRecord) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTEXT).update(&cluster.0).update(previous);
    hasher.update(&record.encode_to_vec());
    hasher.finalize().into()
}

impl Signer {
    /// Creates a signer with this Ed25519 secret key.
    pub fn new(secret: &[u8; 32]) -> Signer {
        Signer(DigestSigner::new(secret))
    }

    /// The key that verifies the entries.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Creates the entry for `record` after `previous`; returns it with its own `chain`.
    pub fn seal(&self, cluster: ClusterId, previous: Digest, record: v1::AuditRecord) -> (v1::AuditEntry, Digest) {
        let chain = chain(cluster, &previous, &record);
        let entry = v1::AuditEntry {
            record: Some(record),
            previous: previous.to_vec(),
            chain: chain.to_vec(),
            signature: self.0.sign(&chain).to_vec(),
        };
        (entry, chain)
    }
}

/// Reason why an entry is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// A part is missing or has the wrong length.
    #[error("a part is missing")]
    Incomplete,
    /// The record or the chain was altered.
    #[error("the record was altered")]
    Altered,
    /// The signature was not made by the coordinator.
    #[error("not signed by the coordinator")]
    Signature,
    /// The entry does not follow the previous one: entries were omitted or inserted.
    #[error("it does not follow the entry before it")]
    Gap,
}

/// Verifies consecutive entries. Trust begins with the first: the reader must know whether entries precede it.
#[derive(Debug)]
pub struct Verifier {
    cluster: ClusterId,
    key: PublicKey,
    last: Option<(u64, Digest)>,
    lost: Vec<(u64, u64)>,
}

impl Verifier {
    /// Creates a verifier for entries of `cluster` signed by `key`.
    pub fn new(cluster: ClusterId, key: PublicKey) -> Verifier {
        Verifier {
            cluster,
            key,
            last: None,
            lost: Vec::new(),
        }
    }

    /// Ranges (first and last number) of entries that the coordinator reported as lost at a start. The chain continues
    /// after them, and nothing proves their content.
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.lost
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// The entry cannot be trusted, or does not follow the previous one.
    pub fn next(&mut self, entry: &v1::AuditEntry) -> Result<(), BadEntry> {
        let record = entry.record.as_ref().ok_or(BadEntry::Incomplete)?;
        let digest = |bytes: &[u8]| Digest::try_from(bytes).map_err(|_| BadEntry::Incomplete);
        let (previous, claimed) = (digest(&entry.previous)?, digest(&entry.chain)?);
        if chain(self.cluster, &previous, record) != claimed {
            return Err(BadEntry::Altered);
        }
        let signature: [u8; 64] = entry
            .signature
            .as_slice()
            .try_into()
            .map_err(|_| BadEntry::Incomplete)?;
        if !self.key.verifies(&claimed, &signature) {
            return Err(BadEntry::Signature);
        }
        let tells_of_loss = record.kind() == v1::AuditKind::Lost;
        if let Some((sequence, before)) = self.last {
            let is_in_place = match tells_of_loss {
                true => record.sequence > sequence,
                false => record.sequence == sequence + 1,
            };
            if !is_in_place || previous != before {
                return Err(BadEntry::Gap);
            }
        }
        if tells_of_loss {
            self.lost.push((record.lost_from, record.sequence.saturating_sub(1)));
        }
        self.last = Some((record.sequence, claimed));
        Ok(())
    }
}

/// Outcomes of intents, collected by reading entries in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// Intents without an outcome: their calls are in progress, or were interrupted and the coordinator has not been
    /// restarted since.
    pub open: BTreeSet<u64>,
    /// Interrupted intents that were found applied at the next start.
    pub applied: BTreeSet<u64>,
    /// Interrupted intents that were found not applied.
    pub not_applied: BTreeSet<u64>,
    /// Interrupted intents whose result is unknown.
    pub unknown: BTreeSet<u64>,
}

impl Intents {
    /// Processes the next record.
    pub fn take(&mut self, record: &v1::AuditRecord) {
        match record.kind() {
            v1::AuditKind::Intent => {
                self.open.insert(record.sequence);
            }
            v1::AuditKind::Outcome | v1::AuditKind::Unspecified | v1::AuditKind::Lost | v1::AuditKind::SetBack => {
                self.open.remove(&record.intent);
            }
            v1::AuditKind::Reconciled => {
                self.open.remove(&record.intent);
                let found = match record.code {
                    APPLIED => &mut self.applied,
                    NOT_APPLIED => &mut self.not_applied,
                    _ => &mut self.unknown,
                };
                found.insert(record.intent);
            }
        }
    }
}

#[cfg(test)]
mod tests;
