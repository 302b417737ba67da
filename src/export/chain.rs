//! Records, checked one behind the other.

use prost::Message;
use wyneos_core::{
    id::ClusterId,
    integrity::{BadSeal, PublicKey, Seal, Verifier},
};

use super::{ExportError, Place};
use crate::v1;

/// What a snapshot says of itself; the rest is skipped.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    cycle: u64,
}

/// Checks the records of ReadSnapshots or of a file, oldest first: each is what was sealed, and follows the one before.
pub struct Chain {
    cluster: ClusterId,
    verifier: Verifier,
    count: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Chain {
    /// A checker of `cluster`'s snapshots, sealed with `key`. Fails when the key is not one.
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

    /// Records that were checked.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Cycles of the first and the last record that was checked.
    pub fn cycles(&self) -> Option<(u64, u64)> {
        self.first.zip(self.last)
    }

    /// Where the next record is, as long as no more is known.
    pub(super) fn next_place(&self) -> Place {
        Place::Record {
            number: self.count + 1,
            cycle: None,
            after: self.last,
        }
    }

    /// Where `record` is, when it is the next.
    pub(super) fn place_of(&self, record: &v1::ReadSnapshotsResponse) -> Place {
        Place::Record {
            number: self.count + 1,
            cycle: record.seal.as_ref().map(|seal| seal.cycle),
            after: self.last,
        }
    }

    /// Checks the next record.
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
        // An altered epoch or cycle breaks the chain's digest; the sealed snapshot tells which of them it was.
        if matches!(checked, Ok(()) | Err(BadSeal::Chain)) {
            self.compare(&record.snapshot, &seal, place)?;
        }
        checked.map_err(|error| {
            let (field, reason) = named(&error);
            ExportError::bad(place, field, reason)
        })?;
        self.count += 1;
        self.first.get_or_insert(seal.cycle);
        self.last = Some(seal.cycle);
        Ok(())
    }

    /// What the snapshot says of itself is what the seal says of it.
    fn compare(&self, snapshot: &[u8], seal: &Seal, place: Place) -> Result<(), ExportError> {
        let bad = |field, reason: String| Err(ExportError::bad(place, field, reason));
        let head = match Head::decode(snapshot) {
            Ok(head) => head,
            Err(error) => return bad("snapshot", format!("cannot be decoded: {error}")),
        };
        if head.cycle != seal.cycle {
            return bad("cycle", format!("the snapshot is of cycle {}", head.cycle));
        }
        if head.epoch != seal.epoch {
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

/// The field that a broken seal is wrong in, and why.
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
