//! Beacons, which go without gRPC.

use prost::Message as _;
use wyneos_core::id::{ClusterId, NodeId};

use super::{ConvertError, check};
use crate::v1;

/// Bytes of a beacon: with the headers of UDP and IPv6 they are the 1,500 of an Ethernet packet.
pub const BEACON_BYTES: usize = 1_452;

/// Bytes of what proves who sent a beacon.
const MAC: usize = 16;

/// A datagram from a peer, or to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The cluster of both.
    pub cluster: ClusterId,
    /// Who sends it.
    pub sender: NodeId,
    /// Who is meant.
    pub receiver: NodeId,
    /// The sender probes the receiver, and wants beacons of it.
    pub observes: bool,
    /// Grows with every beacon of a sender.
    pub sequence: u64,
}

fn mac(key: &[u8; 32], said: &[u8]) -> [u8; MAC] {
    let mut mac = [0; MAC];
    mac.copy_from_slice(&blake3::keyed_hash(key, said).as_bytes()[..MAC]);
    mac
}

/// The datagram: [`BEACON_BYTES`]; with a key, it proves who sent it.
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

/// True when somebody sent this datagram who has the key.
pub fn beacon_is_proven(bytes: &[u8], key: &[u8; 32]) -> bool {
    // In one time, wherever they differ.
    bytes.split_last_chunk::<MAC>().is_some_and(|(said, proof)| {
        let differs = mac(key, said)
            .iter()
            .zip(proof)
            .fold(0, |differs, (a, b)| differs | (a ^ b));
        differs == 0
    })
}

/// Reads a datagram. Who sent it is not proven by that.
///
/// # Errors
/// It is no beacon, or an id in it is none.
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
