//! The agent's identity towards others: its certificate, the CAs that it trusts, and their renewal.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::sleep};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tonic::{Status, transport::Channel};
use wyneos::{
    client,
    identity::{
        self, CredentialError, Credentials, Expected, Keys, TlsError, Trust, client_config, server_config, validity,
    },
    v1::{self, enrollment_service_client::EnrollmentServiceClient},
};
use wyneos_core::{id::NodeId, limits, text::Span};
use wyneos_shell::{
    clock::{Clock, shown},
    exit, files,
    start::Fatal,
};

use crate::metrics::Metrics;

/// Maximum interval between two checks for a renewal: a clock may jump, and a machine be suspended.
const LOOK: Duration = Duration::from_secs(600);

/// Maximum time between two attempts while the certificate is not valid; they begin with [`AGAIN`] and double.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Delay between two attempts to write a certificate that the disk did not accept.
const WRITE_AGAIN: Duration = Duration::from_secs(10);

/// Minimum time between two renewals.
const AGAIN: Duration = Duration::from_secs(1);

/// Time limit for an attempt at a renewal.
const PATIENCE: Duration = Duration::from_secs(10);

/// The reason for which there are no credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFailure {
    /// The agent has not joined.
    #[error("{}: no certificate there: join first, with `wyneos-agent join`; or go without TLS on loopback, with --tls false", .0.display())]
    NotJoined(PathBuf),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The credentials are another node's.
    #[error("{}: the certificate belongs to {named}, and this is node {node}", .path.display())]
    Another {
        /// Their directory.
        path: PathBuf,
        /// The name in them.
        named: String,
        /// This node.
        node: NodeId,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The credentials cannot be written.
    #[error("{}: cannot write the certificate", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The coordinator's answer is not a certificate for this node.
    #[error("the coordinator sent a certificate that cannot be used: {0}")]
    Issued(String),
}

impl Fatal for TlsFailure {
    fn exit_code(&self) -> u8 {
        match self {
            TlsFailure::Credentials(CredentialError::File { source, .. }) | TlsFailure::Write { source, .. } => {
                exit::of(source)
            }
            TlsFailure::NotJoined(_)
            | TlsFailure::Credentials(_)
            | TlsFailure::Another { .. }
            | TlsFailure::Tls(_)
            | TlsFailure::Issued(_) => exit::BAD_CONFIG,
        }
    }
}

/// The directory of the certificate of the agent of `data_dir`.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("identity")
}

/// Credentials from the coordinator's answer for `key`.
pub(crate) fn issued(
    certificate: v1::IssuedCertificate,
    key: &rustls_pki_types::PrivateKeyDer<'static>,
) -> Result<Credentials, TlsFailure> {
    let der = |all: Vec<Vec<u8>>| all.into_iter().map(Into::into).collect::<Vec<_>>();
    let (chain, roots) = (der(certificate.chain), der(certificate.roots));
    let first = chain
        .first()
        .ok_or_else(|| TlsFailure::Issued("it is empty".to_owned()))?;
    let principal = identity::Principal::of(first).map_err(|error| TlsFailure::Issued(error.to_string()))?;
    let key = key.clone_key();
    Ok(Credentials {
        principal,
        chain,
        key,
        roots,
    })
}

/// Writes credentials for the agent of `data_dir`.
pub(crate) fn keep(data_dir: &Path, credentials: &Credentials) -> Result<(), TlsFailure> {
    let path = folder(data_dir);
    let write = || {
        files::make_dir(&path, 0o700)?;
        files::write_credentials(&path, credentials)
    };
    write().map_err(|source| TlsFailure::Write {
        path: path.clone(),
        source,
    })
}

/// The agent's credentials and trusted CAs; clones share them.
#[derive(Clone)]
pub(crate) struct Tls {
    data_dir: PathBuf,
    keys: Keys,
    trust: Trust,
    /// Held for moments, and never during a write to the disk.
    credentials: Arc<Mutex<Arc<Credentials>>>,
    /// Notifies renewal that the coordinator refuses the certificate because of its dates.
    refused: Arc<Notify>,
    kept: Arc<Kept>,
}

/// Progress of the disk relative to the memory.
#[derive(Default)]
struct Kept {
    /// Number of certificates since the start, and the number of the one on the disk.
    taken: AtomicU64,
    written: AtomicU64,
    /// Whether one is being written.
    writing: AtomicBool,
}

impl Kept {
    fn is_behind(&self) -> bool {
        self.written.load(Ordering::Relaxed) != self.taken.load(Ordering::Relaxed)
    }
}

impl Tls {
    /// The certificate of `node`, from its files.
    pub(crate) fn load(data_dir: &Path, node: NodeId) -> Result<Tls, TlsFailure> {
        let path = folder(data_dir);
        if files::is_missing(&path.join("cert.pem")) {
            return Err(TlsFailure::NotJoined(path));
        }
        for name in ["key.pem", "cert.pem", "ca.pem"] {
            let path = path.join(name);
            files::check_own(&path).map_err(|source| CredentialError::File { path, source })?;
        }
        let credentials = Credentials::load_from(&path)?;
        if credentials.principal.node() != Some(node) {
            let named = credentials.principal.to_string();
            return Err(TlsFailure::Another { path, named, node });
        }
        Ok(Tls {
            // Renewed certificates are written relative to this process's working directory, whatever its name.
            data_dir: PathBuf::new(),
            keys: Keys::new(&credentials)?,
            trust: Trust::new(credentials.principal.cluster, &credentials.roots)?,
            credentials: Arc::new(Mutex::new(Arc::new(credentials))),
            refused: Arc::default(),
            kept: Arc::default(),
        })
    }

    /// For connections to a coordinator.
    pub(crate) fn to_coordinator(&self) -> Result<Arc<ClientConfig>, TlsError> {
        client_config(Some(&self.keys), Expected::Coordinator(self.trust.clone()))
    }

    /// For connections to a peer.
    pub(crate) fn to_node(&self, node: NodeId) -> Result<Arc<ClientConfig>, TlsError> {
        client_config(Some(&self.keys), Expected::Node(self.trust.clone(), node))
    }

    /// For peers that connect.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        // No other callers are expected here.
        server_config(&self.keys, &self.trust, true)
    }

    /// Called when the coordinator refuses this node's certificate because of its dates: it is renewed. Returns the
    /// meaning, for people.
    pub(crate) fn refused(&self) -> String {
        self.refused.notify_one();
        let held = self.present().map(|(held, ..)| client::holds(&held));
        format!(
            "the coordinator refuses this node's certificate as expired or not valid yet by the coordinator's clock: it is valid {}, and this \
             host's clock shows {}; requesting another one",
            held.unwrap_or_default(),
            shown(Clock::default().wall())
        )
    }

    /// The validity of the certificate, its DER, and the request for the next one, for the same key.
    fn present(&self) -> Option<(std::ops::Range<SystemTime>, Vec<u8>, Vec<u8>)> {
        let credentials = Arc::clone(&self.credentials.lock().unwrap_or_else(PoisonError::into_inner));
        let certificate = credentials.chain.first()?;
        let held = validity(certificate).ok()?;
        let request = identity::request_for(&credentials.key).ok()?;
        Some((held, certificate.to_vec(), request.to_vec()))
    }

    fn take(&self, certificate: v1::IssuedCertificate) -> Result<SystemTime, TlsFailure> {
        let mut current = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let new = issued(certificate, &current.key)?;
        if new.principal != current.principal {
            return Err(TlsFailure::Issued(format!("it names {}", new.principal)));
        }
        let ends = new.chain.first().and_then(|first| validity(first).ok());
        let ends = ends
            .ok_or_else(|| TlsFailure::Issued("it cannot be read".to_owned()))?
            .end;
        self.trust.replace(&new.roots)?;
        self.keys.replace(&new)?;
        *current = Arc::new(new);
        self.kept.taken.fetch_add(1, Ordering::Relaxed);
        Ok(ends)
    }

    /// Starts writing the certificate to the disk, unless it is there or a write is in progress. Nothing waits for
    /// that: a full or stalled disk does not prevent a node from being a member, and the certificate is used meanwhile.
    fn write_down(&self, again: bool) {
        if !self.kept.is_behind() || self.kept.writing.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let (number, current) = {
                let current = this.credentials.lock().unwrap_or_else(PoisonError::into_inner);
                (this.kept.taken.load(Ordering::Relaxed), Arc::clone(&current))
            };
            match keep(&this.data_dir, &current) {
                Ok(()) => {
                    this.kept.written.store(number, Ordering::Relaxed);
                    if again {
                        tracing::info!("the renewed certificate has been written");
                    }
                }
                // Tried again at the next check.
                Err(_) if again => {}
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, source, "cannot write the renewed certificate: it is used from memory, and lost if this agent ends before it can be written");
                }
            }
            this.kept.writing.store(false, Ordering::Relaxed);
        });
    }

    /// Renews the certificate without end, at two thirds of its life; immediately if it is not valid at present, as
    /// after the machine was off or a clock was set, or if the coordinator refuses it because of its dates.
    pub(crate) async fn keep_renewed(self, coordinators: Vec<String>, metrics: Arc<Metrics>) {
        let mut failures = 0u32;
        let mut refused = false;
        loop {
            let Some((held, certificate, request)) = self.present() else {
                tracing::error!("the certificate cannot be renewed: it or its key cannot be read");
                return;
            };
            let life = held.end.duration_since(held.start).unwrap_or_default();
            let now = SystemTime::now();
            let ends = held.end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            metrics.certificate_ends.set(ends.as_secs() as i64);
            let holds = held.contains(&now);
            let due = (held.start + life * 2 / 3).duration_since(now).unwrap_or_default();
            if !due.is_zero() && holds && !refused {
                // Rounded up: a sleep of zero would spin.
                let look = if self.kept.is_behind() { WRITE_AGAIN } else { LOOK };
                let wait = sleep(due.min(look).max(Duration::from_millis(50)));
                tokio::select! {
                    () = wait => {}
                    () = self.refused.notified() => refused = true,
                }
                self.write_down(true);
                continue;
            }
            let shows = holds && !refused;
            let coordinator = &coordinators[failures as usize % coordinators.len().max(1)];
            match self.renew(coordinator, shows, certificate, request).await {
                Ok(ends) => {
                    self.write_down(false);
                    (failures, refused) = (0, false);
                    let holds = ends.duration_since(SystemTime::now()).unwrap_or_default();
                    tracing::info!(?holds, "renewed the certificate");
                    // However the clocks differ, it does not retry immediately.
                    sleep(AGAIN).await;
                }
                Err(failed) => {
                    failures = failures.saturating_add(1);
                    // The next attempt is made without the certificate; if that fails, with it again.
                    refused = failed.undated && shows;
                    let wait = match (refused, holds) {
                        (true, _) => AGAIN,
                        (_, true) => (life / 60).clamp(AGAIN, LOOK),
                        // Without one there is no session; a wrong clock may be corrected at any time.
                        (_, false) => (AGAIN * (1 << failures.min(10))).min(LOOK_AGAIN),
                    };
                    let holds = client::holds(&held);
                    tracing::warn!(coordinator, holds, retry_in = %Span(wait), "cannot renew the certificate: {}", failed.reason);
                    sleep(wait).await;
                }
            }
        }
    }

    async fn renew(
        &self,
        address: &str,
        shows: bool,
        certificate: Vec<u8>,
        certificate_request: Vec<u8>,
    ) -> Result<SystemTime, Failed> {
        let undated = client::Undated::default();
        let attempt = async {
            let told = |error: &dyn std::error::Error| client::describe(error);
            // A client whose certificate is not valid presents none: it would be refused before it could request
            // another.
            let keys = shows.then_some(&self.keys);
            let tls = client_config(keys, Expected::Coordinator(self.trust.clone())).map_err(|error| told(&error))?;
            let channel = client::connect_noting(address, Some(&tls), &undated).await;
            let client = EnrollmentServiceClient::new(channel.map_err(|error| told(&error))?)
                .max_decoding_message_size(limits::JOINING);
            let issued = if shows {
                renew(client, certificate_request).await
            } else {
                recover(client, certificate, certificate_request).await
            };
            let issued = issued.map_err(|status| client::told(&status))?;
            let issued = issued.ok_or_else(|| "the answer has no certificate".to_owned())?;
            self.take(issued).map_err(|error| told(&error))
        };
        let late = |_| Err(format!("no answer within {PATIENCE:?}"));
        let done = tokio::time::timeout(PATIENCE, attempt).await.unwrap_or_else(late);
        done.map_err(|reason| Failed {
            reason,
            undated: undated.take(),
        })
    }
}

/// The reason for which there is no new certificate.
struct Failed {
    reason: String,
    /// The coordinator refused the presented certificate because of its dates.
    undated: bool,
}

async fn renew(
    mut client: EnrollmentServiceClient<Channel>,
    certificate_request: Vec<u8>,
) -> Result<Option<v1::IssuedCertificate>, Status> {
    let request = v1::RenewRequest { certificate_request };
    Ok(client.renew(request).await?.into_inner().certificate)
}

async fn recover(
    mut client: EnrollmentServiceClient<Channel>,
    certificate: Vec<u8>,
    certificate_request: Vec<u8>,
) -> Result<Option<v1::IssuedCertificate>, Status> {
    let request = v1::RecoverRequest {
        certificate,
        certificate_request,
    };
    Ok(client.recover(request).await?.into_inner().certificate)
}
