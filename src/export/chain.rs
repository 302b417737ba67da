//! Verification of consecutive records.

use prost::Message;
use wyneos_core::{
    id::ClusterId,
    integrity::{BadSeal, PublicKey, Seal, Verifier},
};

use super::{ExportError, Place};
use crate::v1;

/// The identifying fields of a snapshot; others are skipped.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    cycle: u64,
}

/// Verifies the records of ReadSnapshots or of a file, oldest first: each matches its seal and follows the previous
/// one.
pub struct Chain {
    cluster: ClusterId,
    verifier: Verifier,
    count: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Chain {
    /// Creates a verifier of `cluster`'s snapshots, sealed with `key`. Fails if the key is malformed.
    pub fn new(cluster: ClusterId, key: PublicKey) -> Result<Chain, ExportError> {
        let verifier = Verifier::new(cluster, key)
            .map_err(|error| ExportError::bad(Place::Header, "public_key", error.to_string()))?;
        Ok(Chain {
            cluster,
            verifier,
            count: 0,
            first: None,
            last: None,
        })
    }

    /// Number of verified records.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Cycles of the first and the last verified record.
    pub fn cycles(&self) -> Option<(u64, u64)> {
        self.first.zip(self.last)
    }

    /// Place of the next record before it is decoded.
    pub(super) fn next_place(&self) -> Place {
        Place::Record {
            number: self.count + 1,
            cycle: None,
            after: self.last,
        }
    }

    /// Place of `record` as the next one.
    pub(super) fn place_of(&self, record: &v1::ReadSnapshotsResponse) -> Place {
        Place::Record {
            number: self.count + 1,
            cycle: record.seal.as_ref().map(|seal| seal.cycle),
            after: self.last,
        }
    }

    /// Verifies the next record.
    pub fn check(&mut self, record: &v1::ReadSnapshotsResponse) -> Result<(), ExportError> {
        let place = self.place_of(record);
        let seal = record
            .seal
            .as_ref()
            .ok_or_else(|| ExportError::bad(place, "seal", "missing"))?;
        let seal = Seal::try_from(seal).map_err(|error| {
            let field = SEAL_FIELDS.into_iter().find(|field| *field == error.field);
            ExportError::bad(place, field.unwrap_or("seal"), error.reason)
        })?;
        let checked = self.verifier.check(&record.snapshot, &seal);
        // An altered epoch or cycle breaks the chain's digest; the sealed snapshot shows which of them it was.
        if matches!(checked, Ok(()) | Err(BadSeal::Chain)) {
            self.compare(&record.snapshot, &seal, place)?;
        }
        checked.map_err(|error| {
            let (field, reason) = named(&error);
            ExportError::bad(place, field, reason)
        })?;
        self.count += 1;
        self.first.get_or_insert(seal.cycle.0);
        self.last = Some(seal.cycle.0);
        Ok(())
    }

    /// Compares a snapshot's identifying fields with its seal.
    fn compare(&self, snapshot: &[u8], seal: &Seal, place: Place) -> Result<(), ExportError> {
        let bad = |field, reason: String| Err(ExportError::bad(place, field, reason));
        let head = match Head::decode(snapshot) {
            Ok(head) => head,
            Err(error) => return bad("snapshot", format!("cannot be decoded: {error}")),
        };
        if head.cycle != seal.cycle.0 {
            return bad("cycle", format!("the snapshot is of cycle {}", head.cycle));
        }
        if head.epoch != seal.epoch.0 {
            let (is, says) = (head.epoch, seal.epoch);
            return bad("epoch", format!("the snapshot is of epoch {is}, the seal says {says}"));
        }
        if head.cluster_id != self.cluster.to_string() {
            return bad(
                "cluster_id",
                format!("the snapshot is of cluster {:?}", head.cluster_id),
            );
        }
        Ok(())
    }
}

const SEAL_FIELDS: [&str; 5] = ["digest", "previous", "chain", "key_id", "signature"];

/// The field in which a seal is invalid, and the reason.
fn named(error: &BadSeal) -> (&'static str, &'static str) {
    match error {
        BadSeal::PublicKey => ("public_key", "not an Ed25519 key"),
        BadSeal::KeyId => ("key_id", "signed by another key than the one given"),
        BadSeal::Digest => ("digest", "the snapshot's bytes are not those that were sealed"),
        BadSeal::Chain => ("chain", "`previous`, `digest` or `chain` was altered"),
        BadSeal::Signature => ("signature", "not made by this key over this seal"),
        BadSeal::Link => ("previous", "does not follow the record before it"),
        BadSeal::Order => ("order", "epoch and cycle do not follow those before"),
    }
}
