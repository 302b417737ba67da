//! Seals.

use bytes::Bytes;
use wyneos_core::{
    id::{Cycle, Epoch},
    integrity::Seal,
};

use super::ConvertError;
use crate::v1;

impl From<&Seal> for v1::Seal {
    fn from(seal: &Seal) -> v1::Seal {
        v1::Seal {
            epoch: seal.epoch.0,
            cycle: seal.cycle.0,
            digest: Bytes::copy_from_slice(&seal.digest),
            previous: Bytes::copy_from_slice(&seal.previous),
            chain: Bytes::copy_from_slice(&seal.chain),
            key_id: Bytes::copy_from_slice(&seal.key_id),
            signature: Bytes::copy_from_slice(&seal.signature),
        }
    }
}

fn fixed<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], ConvertError> {
    bytes
        .try_into()
        .map_err(|_| ConvertError::new(field, format!("{} bytes instead of {N}", bytes.len())))
}

impl TryFrom<&v1::Seal> for Seal {
    type Error = ConvertError;

    fn try_from(seal: &v1::Seal) -> Result<Seal, ConvertError> {
        Ok(Seal {
            epoch: Epoch(seal.epoch),
            cycle: Cycle(seal.cycle),
            digest: fixed("digest", &seal.digest)?,
            previous: fixed("previous", &seal.previous)?,
            chain: fixed("chain", &seal.chain)?,
            key_id: fixed("key_id", &seal.key_id)?,
            signature: fixed("signature", &seal.signature)?,
        })
    }
}
