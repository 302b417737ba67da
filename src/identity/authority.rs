//! The cluster's CA, which decides every name in a certificate. A request contributes only a key and proof of its
//! possession.

use std::{fmt, ops::Range, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use wyneos_core::{id::ClusterId, integrity::Digest};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::Principal;

/// Validity of a CA certificate, in years.
const CA_YEARS: i64 = 10;

/// Time by which the validity of a CA certificate begins early, since other hosts' clocks may be slow.
const EARLIER: time::Duration = time::Duration::hours(1);

/// Maximum size of a request, in bytes.
pub const REQUEST_MAX: usize = 8 * 1024;

/// Reason why a CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthority {
    /// The certificate or the key is malformed.
    #[error("the CA's {0} cannot be read")]
    Unreadable(&'static str),
    /// The certificate is not a CA certificate.
    #[error("the certificate is not one of a CA: it may not sign others")]
    NoAuthority,
    /// The key belongs to another certificate.
    #[error("the CA's key does not belong to its certificate")]
    OtherKey,
    /// The certificate is outside its validity period; the period, and this host's time.
    #[error(
        "the CA's certificate holds {}, and this host's clock says {}: the clock is wrong, or the CA is to be replaced",
        crate::client::holds(.0),
        crate::client::shown(*.1)
    )]
    Outdated(Range<SystemTime>, SystemTime),
    /// The system has no random numbers, or the key cannot sign.
    #[error("the CA cannot sign")]
    Signing(#[source] rcgen::Error),
}

/// Reason why a request is rejected.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// The request is malformed or too long, or its type of key is not supported.
    #[error("the certificate request cannot be read")]
    Unreadable,
    /// The request was altered, or its sender does not have the key.
    #[error("the certificate request is not signed by its own key")]
    Signature,
    /// The request asks for names or usages, which its sender must not choose.
    #[error("the certificate request asks for names or uses; a request brings a key alone")]
    Names,
    /// A host is neither a name nor an address.
    #[error("{0:?} is neither a host's name nor an address")]
    Host(String),
    /// The CA failed.
    #[error("the CA cannot sign")]
    Signing(#[source] rcgen::Error),
}

/// PEM texts of a CA. `Debug` does not show the key.
pub struct AuthorityPem {
    /// Certificate of the CA.
    pub certificate: String,
    /// Private key of the CA, which controls the cluster.
    pub key: String,
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityPem").finish_non_exhaustive()
    }
}

/// A cluster's CA.
pub struct Authority {
    cluster: ClusterId,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Creates a new CA and its PEM texts.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(cluster: ClusterId, now: SystemTime) -> Result<(Authority, AuthorityPem), BadAuthority> {
        let now = OffsetDateTime::from(now);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("WyneOS cluster {cluster}"));
        // It signs end-entity certificates and no further CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = now - EARLIER;
        params.not_after = now + time::Duration::days(365 * CA_YEARS);
        let key = KeyPair::generate().map_err(BadAuthority::Signing)?;
        let certificate = params.self_signed(&key).map_err(BadAuthority::Signing)?;
        let pem = AuthorityPem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        let (root, issuer) = (certificate.der().clone(), Issuer::new(params, key));
        let authority = Authority { cluster, root, issuer };
        Ok((authority, pem))
    }

    /// Loads a CA from PEM texts: the cluster's own, or an operator's.
    ///
    /// # Errors
    /// The texts are not a CA, or it is not valid at `now`.
    pub fn from_pem(cluster: ClusterId, pem: &AuthorityPem, now: SystemTime) -> Result<Authority, BadAuthority> {
        use rustls_pki_types::pem::PemObject as _;
        let root = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|_| BadAuthority::Unreadable("certificate"))?;
        let key = KeyPair::from_pem(&pem.key).map_err(|_| BadAuthority::Unreadable("key"))?;
        let (_, parsed) = X509Certificate::from_der(&root).map_err(|_| BadAuthority::Unreadable("certificate"))?;
        if !parsed.is_ca() {
            return Err(BadAuthority::NoAuthority);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(BadAuthority::OtherKey);
        }
        let validity = parsed.validity();
        let holds: Range<SystemTime> =
            validity.not_before.to_datetime().into()..validity.not_after.to_datetime().into();
        if !holds.contains(&now) {
            return Err(BadAuthority::Outdated(holds, now));
        }
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(|_| BadAuthority::Unreadable("certificate"))?;
        Ok(Authority { cluster, root, issuer })
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The CA's certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Issues a certificate for the key of `request` that names `principal`, and `hosts` (names and addresses) for
    /// clients that check those; followed by the CA's certificate, by which a joining host recognizes the cluster.
    ///
    /// # Errors
    /// The request is rejected, or a host is invalid.
    pub fn issue(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        principal: &Principal,
        hosts: &[String],
        holds: Range<SystemTime>,
    ) -> Result<Vec<CertificateDer<'static>>, BadRequest> {
        let key = read(request)?;
        let name = |name: &str| name.try_into().map_err(BadRequest::Signing);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(name(&principal.to_string())?)];
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if is_host(host) => SanType::DnsName(name(host)?),
                Err(_) => return Err(BadRequest::Host(host.clone())),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (holds.start.into(), holds.end.into());
        let certificate = params
            .signed_by(&key.public_key, &self.issuer)
            .map_err(BadRequest::Signing)?;
        Ok(vec![certificate.der().clone(), self.root.clone()])
    }
}

/// Parses a request that contains only a key.
fn read(request: &CertificateSigningRequestDer<'_>) -> Result<CertificateSigningRequestParams, BadRequest> {
    if request.len() > REQUEST_MAX {
        return Err(BadRequest::Unreadable);
    }
    let read = CertificateSigningRequestParams::from_der(request).map_err(|error| match error {
        rcgen::Error::InvalidCertificationRequestSignature => BadRequest::Signature,
        rcgen::Error::UnsupportedExtension => BadRequest::Names,
        _ => BadRequest::Unreadable,
    })?;
    let asked = &read.params;
    let alone = asked.subject_alt_names.is_empty()
        && asked.distinguished_name.iter().next().is_none()
        && asked.key_usages.is_empty()
        && asked.extended_key_usages.is_empty()
        && asked.is_ca == IsCa::NoCa;
    alone.then_some(read).ok_or(BadRequest::Names)
}

/// Whether a text is a valid DNS host name.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Generates a key.
///
/// # Errors
/// The system has no random numbers.
pub fn new_key() -> Result<PrivateKeyDer<'static>, rcgen::Error> {
    Ok(PrivatePkcs8KeyDer::from(KeyPair::generate()?.serialize_der()).into())
}

/// Creates a certificate request for a key, without names or usages.
///
/// # Errors
/// The type of key cannot sign.
pub fn request_for(key: &PrivateKeyDer<'_>) -> Result<CertificateSigningRequestDer<'static>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&KeyPair::try_from(key)?)?.der().clone())
}

/// BLAKE3 of the key in a request, equal to [`key_of`](super::key_of) of its certificate.
///
/// # Errors
/// The request is rejected.
pub fn key_of_request(request: &CertificateSigningRequestDer<'_>) -> Result<Digest, BadRequest> {
    Ok(blake3::hash(&read(request)?.public_key.subject_public_key_info()).into())
}
