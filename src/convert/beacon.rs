//! Beacons, which go without gRPC.

use prost::Message as _;
use wyneos_core::id::{ClusterId, NodeId};

use super::{ConvertError, check};
use crate::v1;

/// Bytes of a beacon: with the headers of UDP and IPv6 they are the 1,500 of an Ethernet packet.
pub const BEACON_BYTES: usize = 1_452;

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
}

/// The datagram: [`BEACON_BYTES`].
pub fn beacon_out(beacon: Beacon) -> Vec<u8> {
    let mut message = v1::Beacon {
        cluster_id: beacon.cluster.to_string(),
        sender_id: beacon.sender.to_string(),
        receiver_id: beacon.receiver.to_string(),
        observes: beacon.observes,
        padding: Vec::new(),
    };
    // A tag and a length of two bytes.
    message.padding = vec![0; BEACON_BYTES - message.encoded_len() - 3];
    message.encode_to_vec()
}

/// Reads a datagram.
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
    })
}
