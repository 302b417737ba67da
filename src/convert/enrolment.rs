//! Enrolment requests of joining hosts.

use wyneos_core::{
    access::Enrolment,
    id::{BadUuid, ClusterId},
    integrity::ZERO_DIGEST,
    limits, text,
};

use super::ConvertError;
use crate::{
    identity::{BadToken, JoinToken, key_of_request},
    v1,
};

/// Converts an enrolment into `cluster`, whose CA is at step `ca_step`.
///
/// # Errors
/// A field is invalid, or the token belongs to another cluster.
pub fn enrolment_in(request: &v1::EnrollRequest, cluster: ClusterId, ca_step: u64) -> Result<Enrolment, ConvertError> {
    let token = request.token.parse();
    let token: JoinToken = token.map_err(|error: BadToken| ConvertError::new("token", error.to_string()))?;
    if token.cluster != cluster {
        return Err(ConvertError::new("token", "it is for another cluster than this one"));
    }
    let node = request.node_id.parse();
    let node = node.map_err(|error: BadUuid| ConvertError::new("node_id", error.to_string()))?;
    let name = &request.name;
    if name.trim().is_empty() || name.len() > limits::NAME || name.chars().any(text::is_hidden) {
        let reason = format!("1 to {} bytes, without control characters", limits::NAME);
        return Err(ConvertError::new("name", reason));
    }
    let machine = match request.machine.as_slice() {
        [] => ZERO_DIGEST,
        machine => machine
            .try_into()
            .map_err(|_| ConvertError::new("machine", "either 32 bytes or none"))?,
    };
    let key = key_of_request(&request.certificate_request.as_slice().into())
        .map_err(|error| ConvertError::new("certificate_request", error.to_string()))?;
    Ok(Enrolment {
        token: token.name(),
        hash: token.hash(),
        node,
        name: name.clone(),
        key,
        machine,
        ca_step,
    })
}

#[cfg(test)]
mod tests {
    use wyneos_core::id::Uuid;

    use super::*;
    use crate::identity::{new_key, request_for};

    #[test]
    fn an_enrolment_is_read_once_and_every_error_names_its_field() {
        let cluster = Uuid([7; 16]);
        let token = JoinToken::new(cluster, [1; 32], [2; 28]);
        let good = v1::EnrollRequest {
            token: token.to_string(),
            node_id: Uuid([3; 16]).to_string(),
            name: "node-1".to_owned(),
            machine: Vec::new(),
            certificate_request: request_for(&new_key().unwrap()).unwrap().to_vec(),
        };
        let read = enrolment_in(&good, cluster, 4).unwrap();
        assert_eq!(
            (read.node, read.name.as_str(), read.ca_step),
            (Uuid([3; 16]), "node-1", 4)
        );
        assert_eq!(
            (read.token, read.hash, read.machine),
            (token.name(), token.hash(), ZERO_DIGEST)
        );
        let wrong = |change: fn(&mut v1::EnrollRequest)| {
            let mut request = good.clone();
            change(&mut request);
            enrolment_in(&request, cluster, 4).unwrap_err().field
        };
        assert_eq!(wrong(|request| request.token.truncate(9)), "token");
        assert_eq!(wrong(|request| request.node_id.clear()), "node_id");
        assert_eq!(wrong(|request| request.name = "\u{202e}".to_owned()), "name");
        assert_eq!(wrong(|request| request.machine = vec![1; 31]), "machine");
        assert_eq!(
            wrong(|request| request.certificate_request.clear()),
            "certificate_request"
        );
        let elsewhere = enrolment_in(&good, Uuid([8; 16]), 4).unwrap_err();
        assert!(
            elsewhere.field == "token" && elsewhere.reason.contains("another cluster"),
            "{elsewhere:?}"
        );
    }
}
