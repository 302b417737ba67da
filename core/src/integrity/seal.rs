//! Seals of snapshots: a digest, a link to the previous snapshot, and a signature.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Cycle, Epoch};

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// Predecessor of the cluster's first seal.
pub const ZERO_DIGEST: Digest = [0; 32];

const CONTEXT: &[u8] = b"wyneos seal v1";

/// Proof that a snapshot is unaltered and follows the previous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Epoch of the snapshot.
    pub epoch: Epoch,
    /// Cycle of the snapshot.
    pub cycle: Cycle,
    /// BLAKE3 of the snapshot's canonical bytes.
    pub digest: Digest,
    /// `chain` of the previous seal; [`ZERO_DIGEST`] for the cluster's first.
    pub previous: Digest,
    /// BLAKE3 of `"wyneos seal v1" ‖ cluster id (16 bytes) ‖ epoch ‖ cycle (u64, little endian) ‖ previous ‖ digest`.
    pub chain: Digest,
    /// First 8 bytes of BLAKE3 of the public key.
    pub key_id: [u8; 8],
    /// Ed25519 signature of `chain`.
    pub signature: [u8; 64],
}

fn chain(cluster: ClusterId, epoch: Epoch, cycle: Cycle, previous: &Digest, digest: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTEXT);
    hasher.update(&cluster.0);
    hasher.update(&epoch.0.to_le_bytes());
    hasher.update(&cycle.0.to_le_bytes());
    hasher.update(previous);
    hasher.update(digest);
    hasher.finalize().into()
}

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// First 8 bytes of BLAKE3 of the key.
    pub fn id(&self) -> [u8; 8] {
        let digest = blake3::hash(&self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        id
    }

    /// Whether `signature` is this key's signature of `digest`.
    pub fn verifies(&self, digest: &Digest, signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(digest, &Signature::from_bytes(signature)).is_ok())
    }
}

/// Signs digests other than those of snapshots.
pub struct DigestSigner(SigningKey);

impl std::fmt::Debug for DigestSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DigestSigner").finish_non_exhaustive()
    }
}

impl DigestSigner {
    /// Creates a signer with the Ed25519 secret key `secret`.
    pub fn new(secret: &[u8; 32]) -> DigestSigner {
        DigestSigner(SigningKey::from_bytes(secret))
    }

    /// The key that verifies the signatures.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The Ed25519 signature of `digest`.
    pub fn sign(&self, digest: &Digest) -> [u8; 64] {
        self.0.sign(digest).to_bytes()
    }
}

/// Seals snapshots, each linked to the previous one.
pub struct Sealer {
    cluster: ClusterId,
    key: SigningKey,
    key_id: [u8; 8],
    previous: Digest,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Creates a sealer for `cluster` that signs with the Ed25519 secret key `secret` and continues after `previous`,
    /// the `chain` of the newest retained seal.
    pub fn new(cluster: ClusterId, secret: &[u8; 32], previous: Digest) -> Sealer {
        let key = SigningKey::from_bytes(secret);
        let key_id = PublicKey(key.verifying_key().to_bytes()).id();
        Sealer {
            cluster,
            key,
            key_id,
            previous,
        }
    }

    /// The key that verifies the seals.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// Seals the canonical bytes of the snapshot (`epoch`, `cycle`).
    pub fn seal(&mut self, epoch: Epoch, cycle: Cycle, canonical: &[u8]) -> Seal {
        let digest = blake3::hash(canonical).into();
        let previous = self.previous;
        let chain = chain(self.cluster, epoch, cycle, &previous, &digest);
        self.previous = chain;
        let signature = self.key.sign(&chain).to_bytes();
        Seal {
            epoch,
            cycle,
            digest,
            previous,
            chain,
            key_id: self.key_id,
            signature,
        }
    }
}

/// Reason why a seal is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSeal {
    /// The public key is malformed.
    #[error("the public key is not an Ed25519 key")]
    PublicKey,
    /// The seal was made by another key.
    #[error("key_id: signed by another key than the one given")]
    KeyId,
    /// The snapshot was altered.
    #[error("digest: the snapshot's bytes are not those that were sealed")]
    Digest,
    /// Epoch, cycle, cluster, `previous` or `digest` was altered.
    #[error("chain: epoch, cycle, cluster id, previous or digest were altered")]
    Chain,
    /// The signature is invalid.
    #[error("signature: not made by this key over this seal")]
    Signature,
    /// A snapshot was removed or inserted between the two.
    #[error("previous: does not follow the snapshot before it")]
    Link,
    /// (epoch, cycle) did not increase.
    #[error("order: epoch and cycle do not follow those before")]
    Order,
}

/// Verifies a sequence of sealed snapshots, oldest first.
pub struct Verifier {
    cluster: ClusterId,
    key: VerifyingKey,
    key_id: [u8; 8],
    last: Option<(Epoch, Cycle, Digest)>,
}

impl Verifier {
    /// Creates a verifier of `cluster`'s seals made with `key`.
    ///
    /// # Errors
    /// The key is malformed.
    pub fn new(cluster: ClusterId, key: PublicKey) -> Result<Verifier, BadSeal> {
        let parsed = VerifyingKey::from_bytes(&key.0).map_err(|_| BadSeal::PublicKey)?;
        Ok(Verifier {
            cluster,
            key: parsed,
            key_id: key.id(),
            last: None,
        })
    }

    /// Verifies that `seal` seals `canonical` and follows the previously verified seal. The first seal's `previous` is
    /// signed, but the snapshot it refers to is not checked.
    pub fn check(&mut self, canonical: &[u8], seal: &Seal) -> Result<(), BadSeal> {
        if seal.key_id != self.key_id {
            return Err(BadSeal::KeyId);
        }
        if blake3::hash(canonical) != seal.digest {
            return Err(BadSeal::Digest);
        }
        if chain(self.cluster, seal.epoch, seal.cycle, &seal.previous, &seal.digest) != seal.chain {
            return Err(BadSeal::Chain);
        }
        let signature = Signature::from_bytes(&seal.signature);
        self.key
            .verify_strict(&seal.chain, &signature)
            .map_err(|_| BadSeal::Signature)?;
        if let Some((epoch, cycle, chain)) = self.last {
            if seal.previous != chain {
                return Err(BadSeal::Link);
            }
            if seal.epoch < epoch || seal.cycle <= cycle {
                return Err(BadSeal::Order);
            }
        }
        self.last = Some((seal.epoch, seal.cycle, seal.chain));
        Ok(())
    }
}
