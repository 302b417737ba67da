//! Names: who somebody is, as a certificate says it.

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

/// The longest name of an operator.
const NAME_MAX: usize = 64;

/// Why something is no name, or a certificate bears none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrincipal {
    /// Not of the form.
    #[error("no name of the form spiffe://CLUSTER-ID/ROLE/NAME")]
    Form,
    /// The cluster is no UUID.
    #[error("the cluster in the name is no UUID")]
    Cluster,
    /// There is no such role.
    #[error(transparent)]
    Role(#[from] UnknownRole),
    /// An agent's or coordinator's name is no id, or an operator's has other characters than letters, digits, `.`, `_` and `-`, or
    /// more than 64 of them.
    #[error("the last part of the name is no node's id, or not 1 to 64 letters, digits, '.', '_' and '-'")]
    Name,
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    Certificate,
    /// The certificate has no name, or several.
    #[error("the certificate bears {0} SPIFFE names where one is wanted")]
    Names(usize),
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The cluster.
    pub cluster: ClusterId,
    /// What it may do.
    pub role: Role,
    /// Who among those: a node's id, or a person's name.
    pub name: String,
}

impl Principal {
    /// The agent of a node.
    pub fn agent(cluster: ClusterId, node: NodeId) -> Principal {
        Principal {
            cluster,
            role: Role::Agent,
            name: node.to_string(),
        }
    }

    /// Somebody of this role and name.
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

    /// The node that an agent speaks for.
    pub fn node(&self) -> Option<NodeId> {
        (self.role == Role::Agent).then(|| self.name.parse().ok()).flatten()
    }

    /// Whom a certificate names. That it is genuine is for TLS to verify.
    ///
    /// # Errors
    /// It cannot be read, or does not bear exactly one name.
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

/// BLAKE3 of a certificate's public key (SubjectPublicKeyInfo, DER): stays the same as the certificate is renewed.
///
/// # Errors
/// The certificate cannot be read.
pub fn key_of(certificate: &CertificateDer<'_>) -> Result<Digest, BadPrincipal> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadPrincipal::Certificate)?;
    Ok(blake3::hash(certificate.public_key().raw).into())
}

/// When a certificate holds.
///
/// # Errors
/// The certificate cannot be read.
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
