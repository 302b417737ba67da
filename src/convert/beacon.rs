//! Beacons, which are sent without gRPC.

use prost::Message as _;
use wyneos_core::id::{ClusterId, NodeId};

use super::{ConvertError, check};
use crate::v1;

/// Size of a beacon in bytes: with the headers of UDP and IPv6, the 1,500 of an Ethernet packet.
pub const BEACON_BYTES: usize = 1_452;

/// Size of the message authentication code, in bytes.
const MAC: usize = 16;

/// A datagram between peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The cluster of both.
    pub cluster: ClusterId,
    /// The sender.
    pub sender: NodeId,
    /// The intended receiver.
    pub receiver: NodeId,
    /// Whether the sender probes the receiver and expects its beacons.
    pub observes: bool,
    /// Sequence number; increases with every beacon of a sender.
    pub sequence: u64,
}

fn mac(key: &[u8; 32], said: &[u8]) -> [u8; MAC] {
    let mut mac = [0; MAC];
    mac.copy_from_slice(&blake3::keyed_hash(key, said).as_bytes()[..MAC]);
    mac
}

/// Encodes a beacon in [`BEACON_BYTES`] bytes; with a key, it is authenticated.
pub fn beacon_out(beacon: Beacon, key: Option<&[u8; 32]>) -> Vec<u8> {
    let mut message = v1::Beacon {
        cluster_id: beacon.cluster.to_string(),
        sender_id: beacon.sender.to_string(),
        receiver_id: beacon.receiver.to_string(),
        observes: beacon.observes,
        padding: Vec::new(),
        sequence: beacon.sequence,
        mac: key.map_or_else(Vec::new, |_| vec![0; MAC]),
    };
    // A tag and a length of two bytes.
    message.padding = vec![0; BEACON_BYTES - message.encoded_len() - 3];
    let mut bytes = message.encode_to_vec();
    if let Some(key) = key {
        let at = bytes.len() - MAC;
        let proof = mac(key, &bytes[..at]);
        bytes[at..].copy_from_slice(&proof);
    }
    bytes
}

/// Whether the datagram was authenticated with this key.
pub fn beacon_is_proven(bytes: &[u8], key: &[u8; 32]) -> bool {
    // Compares in constant time.
    bytes.split_last_chunk::<MAC>().is_some_and(|(said, proof)| {
        let differs = mac(key, said)
            .iter()
            .zip(proof)
            .fold(0, |differs, (a, b)| differs | (a ^ b));
        differs == 0
    })
}

/// Decodes a beacon without authenticating it.
///
/// # Errors
/// The bytes are not a beacon, or an id is invalid.
pub fn beacon_in(bytes: &[u8]) -> Result<Beacon, ConvertError> {
    let message = v1::Beacon::decode(bytes).map_err(|error| ConvertError::new("beacon", error.to_string()))?;
    Ok(Beacon {
        cluster: check::uuid("cluster_id", &message.cluster_id)?,
        sender: check::uuid("sender_id", &message.sender_id)?,
        receiver: check::uuid("receiver_id", &message.receiver_id)?,
        observes: message.observes,
        sequence: message.sequence,
    })
}
