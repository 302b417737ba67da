//! The Integrity Engine: digests, the chain of seals, and signatures.

mod seal;
#[cfg(test)]
mod tests;

pub use seal::{BadSeal, Digest, DigestSigner, PublicKey, Seal, Sealer, Verifier, ZERO_DIGEST};
