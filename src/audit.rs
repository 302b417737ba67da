//! The audit's chain: entries that follow one another, signed, so that none can be altered, left out or put in unnoticed.

use std::collections::BTreeSet;

use prost::Message as _;
use wyneos_core::{
    id::ClusterId,
    integrity::{Digest, DigestSigner, PublicKey},
};

use crate::v1;

const CONTEXT: &[u8] = b"wyneos audit v1";

/// The codes of what was found at a start, as gRPC has them: OK, ABORTED, UNKNOWN.
pub const APPLIED: u32 = 0;
/// It was not carried out.
pub const NOT_APPLIED: u32 = 10;
/// It cannot be told whether it was; an intent's own code, too.
pub const UNKNOWN: u32 = 2;

/// The code of an entry that tells of lost ones, or of a state that was put back, as gRPC has it: DATA_LOSS.
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
    /// Signs with this Ed25519 secret key.
    pub fn new(secret: &[u8; 32]) -> Signer {
        Signer(DigestSigner::new(secret))
    }

    /// The key by which its entries are verified.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The entry for `record` behind `previous`, and its own `chain`.
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

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// A part is missing, or not of its length.
    #[error("a part is missing")]
    Incomplete,
    /// The record was altered, or the chain.
    #[error("the record was altered")]
    Altered,
    /// The signature is not the coordinator's.
    #[error("not signed by the coordinator")]
    Signature,
    /// It does not follow the one before: entries were left out, or put in.
    #[error("it does not follow the entry before it")]
    Gap,
}

/// Verifies entries one behind the other. The first is where trust begins: that none came before it is for the reader to know.
#[derive(Debug)]
pub struct Verifier {
    cluster: ClusterId,
    key: PublicKey,
    last: Option<(u64, Digest)>,
    lost: Vec<(u64, u64)>,
}

impl Verifier {
    /// A verifier for entries of `cluster` signed by `key`.
    pub fn new(cluster: ClusterId, key: PublicKey) -> Verifier {
        Verifier {
            cluster,
            key,
            last: None,
            lost: Vec::new(),
        }
    }

    /// The first and last numbers of entries that are missing by the coordinator's own word: it found them lost at a start. The chain goes
    /// on behind them, and nothing proves what they said.
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.lost
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// It cannot be trusted, or does not follow.
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

/// Which intents have which outcome, as entries are read in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// Numbers of intents that have no outcome: their calls are under way, or were cut off and the coordinator has not started since.
    pub open: BTreeSet<u64>,
    /// Numbers of intents whose calls were cut off, and that were found carried out at the next start.
    pub applied: BTreeSet<u64>,
    /// Numbers of intents that were found not carried out.
    pub not_applied: BTreeSet<u64>,
    /// Numbers of intents whose result is unknown.
    pub unknown: BTreeSet<u64>,
}

impl Intents {
    /// Takes the next record.
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
