//! Names of principals in certificates.

use std::{
    fmt,
    ops::Range,
    str::FromStr,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use wyneos_core::{
    access::{Role, UnknownRole},
    id::{ClusterId, NodeId, Uuid},
    integrity::Digest,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Maximum length of an operator's name.
const NAME_MAX: usize = 64;

/// Reason why a name is invalid, or a certificate contains none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrincipal {
    /// The name does not have the expected form.
    #[error("no name of the form spiffe://CLUSTER-ID/ROLE/NAME")]
    Form,
    /// The cluster is not a UUID.
    #[error("the cluster in the name is no UUID")]
    Cluster,
    /// The role is unknown.
    #[error(transparent)]
    Role(#[from] UnknownRole),
    /// The name of an agent or coordinator is not an id, or an operator's has characters other than letters, digits,
    /// `.`, `_` and `-`, or more than 64 characters.
    #[error("the last part of the name is no node's id, or not 1 to 64 letters, digits, '.', '_' and '-'")]
    Name,
    /// The certificate is malformed.
    #[error("the certificate cannot be read")]
    Certificate,
    /// The certificate has no name, or several.
    #[error("the certificate bears {0} SPIFFE names where one is wanted")]
    Names(usize),
}

/// An authenticated identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The cluster.
    pub cluster: ClusterId,
    /// Role of the principal.
    pub role: Role,
    /// Name within the role: a node's id, or a person's name.
    pub name: String,
}

impl Principal {
    /// Creates the principal of a node's agent.
    pub fn agent(cluster: ClusterId, node: NodeId) -> Principal {
        Principal {
            cluster,
            role: Role::Agent,
            name: node.to_string(),
        }
    }

    /// Creates a principal.
    ///
    /// # Errors
    /// The name does not fit the role.
    pub fn new(cluster: ClusterId, role: Role, name: &str) -> Result<Principal, BadPrincipal> {
        let is_id = name.parse::<Uuid>().is_ok_and(|id| id.to_string() == name);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits);
        let valid = match role {
            Role::Agent | Role::Coordinator => is_id,
            Role::Viewer | Role::Operator | Role::Deployer | Role::Admin => is_name,
        };
        let name = name.to_owned();
        valid
            .then_some(Principal { cluster, role, name })
            .ok_or(BadPrincipal::Name)
    }

    /// The node that an agent acts for.
    pub fn node(&self) -> Option<NodeId> {
        (self.role == Role::Agent).then(|| self.name.parse().ok()).flatten()
    }

    /// Extracts the principal from a certificate; TLS verifies that it is genuine.
    ///
    /// # Errors
    /// The certificate is malformed, or does not contain exactly one name.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Principal, BadPrincipal> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadPrincipal::Certificate)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| BadPrincipal::Certificate)?;
        let names: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match names.as_slice() {
            [name] => name.parse(),
            names => Err(BadPrincipal::Names(names.len())),
        }
    }
}

/// BLAKE3 of a certificate's public key (SubjectPublicKeyInfo, DER); a renewal of the certificate does not change it.
///
/// # Errors
/// The certificate is malformed.
pub fn key_of(certificate: &CertificateDer<'_>) -> Result<Digest, BadPrincipal> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadPrincipal::Certificate)?;
    Ok(blake3::hash(certificate.public_key().raw).into())
}

/// Validity period of a certificate.
///
/// # Errors
/// The certificate is malformed.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<Range<SystemTime>, BadPrincipal> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadPrincipal::Certificate)?;
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).map_err(|_| BadPrincipal::Certificate)?;
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        time.ok_or(BadPrincipal::Certificate)
    };
    let validity = certificate.validity();
    Ok(time(validity.not_before.timestamp())?..time(validity.not_after.timestamp())?)
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.role.name(), self.name)
    }
}

impl FromStr for Principal {
    type Err = BadPrincipal;

    fn from_str(text: &str) -> Result<Principal, BadPrincipal> {
        let parts: Vec<&str> = text
            .strip_prefix("spiffe://")
            .ok_or(BadPrincipal::Form)?
            .split('/')
            .collect();
        let [cluster, role, name] = parts.as_slice() else {
            return Err(BadPrincipal::Form);
        };
        let id: ClusterId = cluster.parse().map_err(|_| BadPrincipal::Cluster)?;
        if id.to_string() != *cluster {
            return Err(BadPrincipal::Cluster);
        }
        Principal::new(id, role.parse()?, name)
    }
}
