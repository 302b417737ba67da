//! Standings: what a node is told about itself, by its session or via a peer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use wyneos_core::{id::Epoch, standing::Standing};

use super::{
    ConvertError, check,
    time::{duration, duration_in},
};
use crate::{encoded::Encoded, v1};

/// Maximum accepted lease: a day.
const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Converts a lease from the wire.
pub(super) fn lease_in(field: &str, lease: Option<prost_types::Duration>) -> Result<Duration, ConvertError> {
    let lease = duration_in(field, &check::require(field, lease)?)?;
    check::range(field, lease.as_secs(), 0, LEASE_MAX.as_secs())?;
    Ok(lease)
}

/// Converts a standing forwarded by an agent.
pub fn standing_out(standing: Standing) -> v1::Standing {
    v1::Standing {
        epoch: standing.epoch.0,
        admission: v1::Admission::from(standing.admission).into(),
        liveness: v1::Liveness::from(standing.liveness).into(),
        lease: Some(duration(standing.lease)),
    }
}

/// Converts a standing from the wire.
///
/// # Errors
/// A field is missing or out of range.
pub fn standing_in(standing: v1::Standing) -> Result<Standing, ConvertError> {
    let no_value = |field: &str, value: i32| ConvertError::new(field, format!("{value} is not a value of this enum"));
    Ok(Standing {
        epoch: Epoch(standing.epoch),
        admission: standing
            .admission()
            .try_into()
            .map_err(|_| no_value("admission", standing.admission))?,
        liveness: standing
            .liveness()
            .try_into()
            .map_err(|_| no_value("liveness", standing.liveness))?,
        lease: lease_in("lease", standing.lease)?,
    })
}

/// The encoding of a seal message for one session: `seal`, which is the same for all sessions, with the session's
/// newest heartbeat `heard` appended; concatenated fields form one message.
pub fn confirming(seal: &Encoded, heard: u64) -> Encoded {
    let rest = v1::SessionResponse {
        message: None,
        heard_sequence: heard,
    };
    let mut bytes = BytesMut::with_capacity(seal.0.len() + rest.encoded_len());
    bytes.extend_from_slice(&seal.0);
    bytes.extend_from_slice(&rest.encode_to_vec());
    Encoded(Bytes::from(bytes))
}
