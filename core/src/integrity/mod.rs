//! The Integrity Engine: digests, chain, signature.

mod seal;

pub use seal::{BadSeal, Digest, PublicKey, Seal, Sealer, Verifier, ZERO_DIGEST};
