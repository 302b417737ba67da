//! TLS configurations whose certificates, keys and CAs can be replaced while connections are open.
//!
//! Only TLS 1.3 is supported. Sessions are not resumed, because a resumed session would keep the certificate of its
//! first handshake.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use wyneos_core::{
    id::{ClusterId, NodeId},
    integrity::Digest,
};

use super::{Credentials, Principal, Role, fingerprint, key_of, validity};

/// Reason why TLS cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key is of an unknown type, or does not belong to its certificate.
    #[error("the key cannot be used with its certificate")]
    Key(#[source] Error),
    /// A CA certificate is unusable.
    #[error("a CA's certificate cannot be used")]
    Root(#[source] Error),
    /// No CA is trusted, or the CAs are unusable.
    #[error("the CAs cannot be used: {0}")]
    Verifier(String),
    /// A certificate does not belong to the cluster.
    #[error("the certificate is none of this cluster's")]
    Foreign(#[source] Error),
    /// The configuration failed.
    #[error("TLS cannot be set up")]
    Config(#[source] Error),
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The presented certificate and its key. Clones share it; a replacement takes effect with the next handshake.
#[derive(Clone, Debug)]
pub struct Keys(Arc<ArcSwap<CertifiedKey>>);

fn certified(credentials: &Credentials) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = (credentials.chain.clone(), credentials.key.clone_key());
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(TlsError::Key)
}

impl Keys {
    /// Presents the certificate of `credentials`.
    ///
    /// # Errors
    /// The key is unusable, or belongs to another certificate.
    pub fn new(credentials: &Credentials) -> Result<Keys, TlsError> {
        Ok(Keys(Arc::new(ArcSwap::new(certified(credentials)?))))
    }

    /// Replaces the presented certificate.
    ///
    /// # Errors
    /// As for [`new`](Keys::new); the previous certificate is then kept.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), TlsError> {
        self.0.store(certified(credentials)?);
        Ok(())
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Keys {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

struct Trusted {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// CAs trusted for certificates of one cluster. Clones share them; during a replacement, both CAs are trusted.
#[derive(Clone)]
pub struct Trust {
    cluster: ClusterId,
    trusted: Arc<ArcSwap<Trusted>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn trusted(roots: &[CertificateDer<'static>]) -> Result<Arc<Trusted>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(TlsError::Root)?;
    }
    let roots = Arc::new(store);
    // Where the server permits it, a client without a certificate is accepted as unauthenticated: enrolment requires
    // that, and every call checks its caller.
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Verifier(error.to_string()))?;
    Ok(Arc::new(Trusted { roots, clients }))
}

impl Trust {
    /// Trusts these CAs for certificates of `cluster`.
    ///
    /// # Errors
    /// There is no CA, or one is unusable.
    pub fn new(cluster: ClusterId, roots: &[CertificateDer<'static>]) -> Result<Trust, TlsError> {
        let trusted = Arc::new(ArcSwap::new(trusted(roots)?));
        Ok(Trust { cluster, trusted })
    }

    /// Replaces the trusted CAs; open connections are not affected.
    ///
    /// # Errors
    /// As for [`new`](Trust::new); the previous CAs are then kept.
    pub fn replace(&self, roots: &[CertificateDer<'static>]) -> Result<(), TlsError> {
        self.trusted.store(trusted(roots)?);
        Ok(())
    }
}

/// Contents of a certificate that was valid at some time.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The principal it names.
    pub principal: Principal,
    /// Digest of its key, see [`key_of`].
    pub key: Digest,
    /// Validity period.
    pub held: Range<SystemTime>,
}

impl Trust {
    /// Verifies that a trusted CA issued a certificate to a principal of the cluster, regardless of its validity
    /// period, and returns its contents.
    ///
    /// # Errors
    /// The certificate was not issued by a trusted CA, was altered, or names no principal of the cluster.
    pub fn once(&self, certificate: &CertificateDer<'_>) -> Result<Expired, TlsError> {
        let genuine = || -> Result<Expired, Error> {
            let held = validity(certificate).map_err(|_| refused())?;
            // Verified at the start of its validity, since expiry is not checked here.
            let then = held
                .start
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_err(|_| refused())?;
            let then = UnixTime::since_unix_epoch(then);
            let parsed = ParsedCertificate::try_from(certificate)?;
            let algorithms = provider().signature_verification_algorithms.all;
            let roots = &self.trusted.load().roots;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, &[], then, algorithms)?;
            let principal = Principal::of(certificate).map_err(|_| refused())?;
            let key = key_of(certificate).map_err(|_| refused())?;
            let ours = principal.cluster == self.cluster;
            ours.then_some(Expired { principal, key, held }).ok_or_else(refused)
        };
        genuine().map_err(TlsError::Foreign)
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }
}

/// The certificate names a principal that this end does not accept.
fn refused() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

/// Verification of signatures, for clients and servers alike.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("only TLS 1.3 is spoken".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(
                message,
                certificate,
                signed,
                &provider().signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Verifies clients by the currently trusted CAs, and by the cluster in their names.
#[derive(Debug)]
struct Clients {
    trust: Trust,
    mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let trusted = self.trust.trusted.load();
        let verified = trusted.clients.verify_client_cert(certificate, intermediates, now)?;
        let principal = Principal::of(certificate).map_err(|_| refused())?;
        (principal.cluster == self.trust.cluster)
            .then_some(verified)
            .ok_or_else(refused)
    }

    signatures!();
}

/// Creates a server configuration with this certificate, for clients of this cluster and, unless a client certificate
/// is `mandatory`, for clients without one. Supports HTTP/2, and HTTP/1.1 for gRPC-Web.
///
/// # Errors
/// TLS cannot be configured.
pub fn server_config(keys: &Keys, trust: &Trust, mandatory: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let trust = trust.clone();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(Arc::new(Clients { trust, mandatory }))
        .with_cert_resolver(Arc::new(keys.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The server that a client expects.
#[derive(Clone, Debug)]
pub enum Expected {
    /// A coordinator of the cluster.
    Coordinator(Trust),
    /// The agent of a node of the cluster.
    Node(Trust, NodeId),
    /// A coordinator of this cluster with a CA of this fingerprint, which is all that a joining host knows.
    Pinned(ClusterId, Digest),
}

/// Verifies a server by the name in its certificate; the host name proves nothing.
#[derive(Debug)]
struct Servers(Expected);

impl Servers {
    fn is_expected(&self, principal: &Principal) -> bool {
        let (cluster, role, node) = match &self.0 {
            Expected::Coordinator(trust) => (trust.cluster, Role::Coordinator, None),
            Expected::Node(trust, node) => (trust.cluster, Role::Agent, Some(*node)),
            Expected::Pinned(cluster, _) => (*cluster, Role::Coordinator, None),
        };
        principal.cluster == cluster && principal.role == role && principal.node() == node
    }

    fn roots(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.0 {
            Expected::Coordinator(trust) | Expected::Node(trust, _) => Ok(Arc::clone(&trust.trusted.load().roots)),
            Expected::Pinned(_, pinned) => {
                let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
                let root = chain
                    .iter()
                    .find(|shown| fingerprint(shown) == *pinned)
                    .ok_or_else(unknown)?;
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned())?;
                Ok(Arc::new(roots))
            }
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let roots = self.roots(intermediates)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        let principal = Principal::of(certificate).map_err(|_| refused())?;
        let expected = self.is_expected(&principal);
        expected.then(ServerCertVerified::assertion).ok_or_else(refused)
    }

    signatures!();
}

/// Creates a client configuration that presents the certificate of `keys`, if any, and accepts only the expected
/// server.
///
/// # Errors
/// TLS cannot be configured.
pub fn client_config(keys: Option<&Keys>, expected: Expected) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers(expected)));
    let mut config = match keys {
        Some(keys) => builder.with_client_cert_resolver(Arc::new(keys.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
