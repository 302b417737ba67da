//! The Integrity Engine: digests, chain, signature.

mod seal;
#[cfg(test)]
mod tests;

pub use seal::{BadSeal, Digest, DigestSigner, PublicKey, Seal, Sealer, Verifier, ZERO_DIGEST};
