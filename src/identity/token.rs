//! Join tokens, by which a host and the cluster authenticate each other.

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;
use wyneos_core::{
    id::{ClusterId, Uuid},
    integrity::Digest,
};

/// Prefix of every token: the kind and its version.
const PREFIX: &str = "wyneos-join-1-";

/// Sizes of a token's parts, in bytes.
const CLUSTER: usize = 16;
const FINGERPRINT: usize = 32;
const ID: usize = 8;
const SECRET: usize = 20;
const CHECK: usize = 4;
const LENGTH: usize = CLUSTER + FINGERPRINT + ID + SECRET + CHECK;

/// Hash of a bearer token, as stored.
pub fn bearer_hash(token: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("wyneos bearer token v1");
    hasher.update(token.as_bytes()).finalize().into()
}

/// Formats a bearer token of random bytes, as used in a header.
pub fn bearer(random: [u8; 32]) -> String {
    let digits = random.iter().map(|byte| format!("{byte:02x}"));
    format!("wyneos-bearer-1-{}", digits.collect::<String>())
}

/// Fingerprint of a CA certificate: BLAKE3 of its DER.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    blake3::hash(certificate).into()
}

/// A join token: the cluster, the fingerprint of its CA, and the secret that authenticates the host. Neither `Debug`
/// nor errors show the secret; only `Display` does.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// Fingerprint of the CA certificate.
    pub fingerprint: Digest,
    /// Public identifier.
    pub id: [u8; ID],
    secret: [u8; SECRET],
}

/// Reason why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// The prefix, the length or the characters are wrong.
    #[error("no join token: it must be {PREFIX} and {} characters 0-9 and a-f, as `wynectl token create` printed it", 2 * LENGTH)]
    Form,
    /// The check digits show that it was altered.
    #[error("a join token that was altered: copy it again, whole")]
    Altered,
}

impl JoinToken {
    /// Creates a token of random parts.
    pub fn new(cluster: ClusterId, fingerprint: Digest, random: [u8; ID + SECRET]) -> JoinToken {
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        id.copy_from_slice(&random[..ID]);
        secret.copy_from_slice(&random[ID..]);
        JoinToken {
            cluster,
            fingerprint,
            id,
            secret,
        }
    }

    /// The id as text: 16 characters 0-9 and a-f.
    pub fn name(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Hash of the token, as stored: sufficient to recognize it, but not to use it.
    pub fn hash(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("wyneos join token v1");
        hasher.update(&self.cluster.0).update(&self.id).update(&self.secret);
        hasher.finalize().into()
    }

    fn body(&self) -> Vec<u8> {
        let parts: [&[u8]; 4] = [&self.cluster.0, &self.fingerprint, &self.id, &self.secret];
        parts.concat()
    }
}

fn check(body: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECK]);
    check
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        f.write_str(PREFIX)?;
        body.iter()
            .chain(&check(&body))
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<JoinToken, BadToken> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(BadToken::Form)?.as_bytes();
        if digits.len() != 2 * LENGTH {
            return Err(BadToken::Form);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(BadToken::Form),
        };
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| Ok(value(pair[0])? << 4 | value(pair[1])?))
            .collect::<Result<_, BadToken>>()?;
        let (body, told) = bytes.split_at(LENGTH - CHECK);
        if check(body) != *told {
            return Err(BadToken::Altered);
        }
        let (cluster, rest) = body.split_at(CLUSTER);
        let (known_by, random) = rest.split_at(FINGERPRINT);
        let part = |_| BadToken::Form;
        Ok(JoinToken::new(
            Uuid(cluster.try_into().map_err(part)?),
            known_by.try_into().map_err(part)?,
            random.try_into().map_err(part)?,
        ))
    }
}
