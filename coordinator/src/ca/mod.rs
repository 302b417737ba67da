//! The cluster's CA, in files of this host: who signs, who is trusted, and the coordinator's own certificate.

mod error;
mod files;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use wyneos::identity::{self, BadAuthority, Credentials, Keys, Principal, Trust};
use wyneos_core::id::ClusterId;
use wyneos_shell::{
    clock::{BUILT, wait_until_past},
    files as durable,
};

use crate::gate::Recorded;
pub(crate) use error::CaError;
use error::failed;
use files::{
    Signing, load_authority, load_external, load_own, load_roots, make_authority, now_millis, private, write_state,
};

/// Time before the issue from which certificates are valid, or a tenth of their life if that is less: clocks of other
/// hosts may be slow.
const EARLIER: Duration = Duration::from_secs(3_600);

/// Maximum interval at which the age of the coordinator's own certificate is checked.
const LOOK: Duration = Duration::from_secs(5);

/// Minimum interval between log lines about a failed renewal.
const TOLD: Duration = Duration::from_secs(60);

/// File of the cluster's id, used with an operator's own CA.
pub(crate) const CLUSTER_ID: &str = "cluster-id";

/// Maximum lifetime of admins' credentials: a year.
const ADMIN: Duration = Duration::from_secs(366 * 24 * 3600);

/// Location of the CAs.
#[derive(Clone, Debug)]
enum Place {
    /// The cluster's own CAs, in a directory.
    Own(PathBuf),
    /// An operator's own CA, in two files.
    External(PathBuf, PathBuf),
}

/// A step of the CA's replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Activate,
    Retire,
}

impl Step {
    /// Name of the step, as in `wynectl ca`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Step::Prepare => "prepare",
            Step::Activate => "activate",
            Step::Retire => "retire",
        }
    }
}

/// The CAs, and the coordinator's own certificate.
pub(crate) struct Ca {
    place: Place,
    /// Names and addresses in the coordinator's own certificate.
    hosts: Vec<String>,
    own: Principal,
    lifetime: Duration,
    keys: Keys,
    trust: Trust,
    signing: Mutex<Signing>,
}

/// A CA as shown to people.
pub(crate) struct Shown {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) expires: SystemTime,
    pub(crate) signs: bool,
}

/// An issued certificate.
pub(crate) struct Issued {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) roots: Vec<Vec<u8>>,
}

/// The validity of a certificate that is issued now. With an implausible clock none is issued.
fn holding(lifetime: Duration) -> Result<Range<SystemTime>, CaError> {
    wait_until_past(BUILT, "this program was built", Duration::ZERO)?;
    let now = SystemTime::now();
    Ok(now - EARLIER.min(lifetime / 10)..now + lifetime)
}

/// Returns whether the error is a CA certificate that is not valid by this host's clock.
fn is_outdated(error: &CaError) -> bool {
    matches!(
        error,
        CaError::Authority {
            source: BadAuthority::Outdated(..),
            ..
        }
    )
}

/// Issues a certificate for a new key, from the CA in `oldest_of` that has been trusted for longest, so that nodes that
/// do not know a newer one accept it; otherwise from the one that signs.
fn own_credentials(
    signing: &Signing,
    oldest_of: Option<&Place>,
    own: &Principal,
    hosts: &[String],
    lifetime: Duration,
) -> Result<Credentials, CaError> {
    let told = |error: &dyn std::fmt::Display| CaError::Key(error.to_string());
    let key = identity::new_key().map_err(|error| told(&error))?;
    let request = identity::request_for(&key).map_err(|error| told(&error))?;
    let chain = match oldest_of {
        Some(Place::Own(folder)) => {
            let oldest = signing.state.trusted.iter().min().unwrap_or(&signing.state.signs);
            let holding = holding(lifetime)?;
            match load_authority(folder, *oldest, signing.state.cluster) {
                // That CA was created by a clock that was ahead, and no other host accepts a certificate from it
                // either.
                Err(error) if is_outdated(&error) => signing.authority.issue(&request, own, hosts, holding)?,
                authority => authority?.issue(&request, own, hosts, holding)?,
            }
        }
        _ => signing.authority.issue(&request, own, hosts, holding(lifetime)?)?,
    };
    Ok(Credentials {
        principal: own.clone(),
        chain,
        key,
        roots: signing.roots.clone(),
    })
}

impl Ca {
    /// Opens the CA of the coordinator `own`: an operator's, from these two files, or the cluster's own, created at its
    /// first start, but not with an implausible clock.
    pub(crate) fn open(
        data_dir: &Path,
        external: Option<(&Path, &Path)>,
        own: Principal,
        hosts: Vec<String>,
        lifetime: Duration,
    ) -> Result<Ca, CaError> {
        let (place, signing) = match external {
            Some((certificate, key)) => {
                let place = Place::External(certificate.to_owned(), key.to_owned());
                let signing = load_external(own.cluster, certificate, key)?;
                // For commands that create an admin's credentials while the store is in use.
                let path = data_dir.join(CLUSTER_ID);
                let id = format!("{}\n", own.cluster);
                durable::write_durably(&path, id.as_bytes(), 0o600).map_err(failed(&path, "write it"))?;
                (place, signing)
            }
            None => {
                let folder = data_dir.join("ca");
                let signing = load_own(&folder, Some(own.cluster))?;
                (Place::Own(folder), signing)
            }
        };
        let credentials = own_credentials(&signing, Some(&place), &own, &hosts, lifetime)?;
        let keys = Keys::new(&credentials)?;
        let trust = Trust::new(own.cluster, &credentials.roots)?;
        Ok(Ca {
            place,
            hosts,
            own,
            lifetime,
            keys,
            trust,
            signing: Mutex::new(signing),
        })
    }

    /// The coordinator's certificate for TLS.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The trusted CAs.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The audit's intent of the newest step of the CA's replacement; 0 if there was none.
    pub(crate) fn newest_step(&self) -> u64 {
        // Called at the start, when there are no other users.
        self.signing.try_lock().map_or(0, |signing| signing.state.intent)
    }

    /// Number of the newest step, which is recorded with certificates requested from now on.
    pub(crate) async fn step(&self) -> u64 {
        self.signing.lock().await.state.intent
    }

    /// Returns whether this is an operator's own CA, which the coordinator cannot replace.
    pub(crate) fn is_external(&self) -> bool {
        matches!(self.place, Place::External(..))
    }

    /// Renews its own certificate; an operator's CA is first read again from its files.
    pub(crate) async fn renew_own(&self) -> Result<(), CaError> {
        let mut signing = self.signing.lock().await;
        if let Place::External(certificate, key) = &self.place {
            *signing = load_external(self.own.cluster, certificate, key)?;
        }
        self.show(&signing)
    }

    fn show(&self, signing: &Signing) -> Result<(), CaError> {
        let credentials = own_credentials(signing, Some(&self.place), &self.own, &self.hosts, self.lifetime)?;
        self.trust.replace(&credentials.roots)?;
        Ok(self.keys.replace(&credentials)?)
    }

    /// Renews the coordinator's own certificate without end, at two thirds of its life by the wall clock: a host may be
    /// suspended, and a clock be set. A certificate from a clock that was set back since is replaced immediately.
    /// Established connections are unaffected.
    pub(crate) async fn keep_renewed(&self) {
        let (mut renewed, mut told) = (SystemTime::now(), None);
        loop {
            tokio::time::sleep(LOOK.min(self.lifetime / 10)).await;
            let age = SystemTime::now().duration_since(renewed);
            // A clock that was set back gives no information on the certificate's age.
            if age.is_ok_and(|age| age < self.lifetime * 2 / 3) {
                continue;
            }
            match self.renew_own().await {
                Ok(()) => {
                    (renewed, told) = (SystemTime::now(), None);
                    tracing::info!("renewed the coordinator's certificate");
                }
                Err(error) => {
                    let now = Instant::now();
                    if told.is_none_or(|told| now.duration_since(told) >= TOLD) {
                        told = Some(now);
                        tracing::error!(%error, "cannot renew the coordinator's certificate; retrying");
                    }
                }
            }
        }
    }

    /// Issues a certificate for the key of `request` that names `principal`. The issue is on record.
    pub(crate) async fn issue(
        &self,
        _: Recorded,
        request: &[u8],
        principal: &Principal,
        lifetime: Duration,
    ) -> Result<Issued, CaError> {
        let signing = self.signing.lock().await;
        let request = request.into();
        let chain = signing.authority.issue(&request, principal, &[], holding(lifetime)?)?;
        let der = |certificates: &[CertificateDer<'static>]| certificates.iter().map(|one| one.to_vec()).collect();
        Ok(Issued {
            chain: der(&chain),
            roots: der(&signing.roots),
        })
    }

    /// Fingerprint of the CA of the coordinator's certificate: the one that has been trusted for longest.
    pub(crate) async fn fingerprint(&self) -> [u8; 32] {
        let signing = self.signing.lock().await;
        let oldest = match &self.place {
            Place::External(..) => signing.roots.first(),
            // Directories are numbered in the order of their creation, and roots beside the one that signs are in that
            // order.
            Place::Own(_) => {
                let newest_signs = signing.state.trusted.iter().any(|number| *number < signing.state.signs);
                signing.roots.get(usize::from(newest_signs))
            }
        };
        oldest.map_or_else(Default::default, identity::fingerprint)
    }

    /// The trusted CAs, the one that signs first, and the number of the newest step.
    pub(crate) async fn shown(&self) -> (Vec<Shown>, u64) {
        let signing = self.signing.lock().await;
        let shown = signing.roots.iter().enumerate().map(|(at, root)| Shown {
            fingerprint: identity::fingerprint(root),
            expires: identity::validity(root).map_or(SystemTime::UNIX_EPOCH, |held| held.end),
            signs: at == 0,
        });
        (shown.collect(), signing.state.intent)
    }

    /// Executes a step of the CA's replacement, which is on record.
    pub(crate) async fn rotate(&self, recorded: Recorded, step: Step) -> Result<(), CaError> {
        let Place::Own(folder) = &self.place else {
            return Err(CaError::Step(
                "the CA is provided by the operator, from files: replace it there, and trust both in one ca_cert temporarily",
            ));
        };
        let mut signing = self.signing.lock().await;
        let mut state = signing.state.clone();
        let newest = state.trusted.iter().copied().max().unwrap_or(state.signs);
        let holds = match load_authority(folder, newest, state.cluster) {
            Err(error) if is_outdated(&error) => false,
            loaded => loaded.map(|_| true)?,
        };
        match step {
            // A CA that was created by a clock that was ahead is useless until then, and is replaced.
            Step::Prepare if !holds => {
                make_authority(folder, newest + 1, state.cluster)?;
                state
                    .trusted
                    .retain(|number| *number != newest || newest == state.signs);
                state.trusted.push(newest + 1);
            }
            Step::Activate | Step::Retire if !holds => {
                return Err(CaError::Step(
                    "the certificate of the newest CA is not valid yet by this host's clock, because it was created by a clock that was ahead: \
                     `wynectl ca prepare` creates another one",
                ));
            }
            Step::Prepare if state.trusted.len() > 1 => {
                return Err(CaError::Step(
                    "a replacement is in progress: activate or retire it first",
                ));
            }
            Step::Prepare => {
                make_authority(folder, newest + 1, state.cluster)?;
                state.trusted.push(newest + 1);
            }
            Step::Activate if newest == state.signs => {
                return Err(CaError::Step("there is no new CA: prepare one first"));
            }
            Step::Activate => state.signs = newest,
            Step::Retire if state.trusted.len() < 2 || newest != state.signs => {
                return Err(CaError::Step(
                    "there is no old CA: prepare and activate a new one first",
                ));
            }
            Step::Retire => state.trusted.retain(|number| *number == state.signs),
        }
        state.since = now_millis();
        state.intent = recorded.intent();
        // Everything that may fail precedes the write of the state: a step is executed completely or not at all.
        let authority = match state.signs == signing.state.signs {
            true => None,
            false => Some(load_authority(folder, state.signs, state.cluster)?),
        };
        let roots = load_roots(folder, &state, authority.as_ref().unwrap_or(&signing.authority))?;
        write_state(folder, &state)?;
        let gone: Vec<u32> = signing
            .state
            .trusted
            .iter()
            .copied()
            .filter(|number| !state.trusted.contains(number))
            .collect();
        if let Some(authority) = authority {
            signing.authority = authority;
        }
        (signing.state, signing.roots) = (state, roots);
        // A key that is no longer trusted is useful only to a thief.
        for number in gone {
            let place = folder.join(number.to_string());
            fs::remove_dir_all(&place).map_err(failed(&place, "remove it"))?;
        }
        self.show(&signing)
    }
}

/// The CA of a coordinator's own host in the `data_dir`.
pub(crate) enum Kept {
    /// The cluster's own CA.
    Own(Signing),
    /// The cluster's id, with an operator's own CA.
    External(ClusterId),
}

/// Reads the CA's files in a `data_dir`, or the cluster's id if the CA is an operator's own.
pub(crate) fn signing(data_dir: &Path, is_own: bool) -> Result<Kept, CaError> {
    if is_own {
        return load_own(&data_dir.join("ca"), None).map(Kept::Own);
    }
    let path = data_dir.join(CLUSTER_ID);
    let text = durable::read_text(&path, durable::TEXT)
        .map_err(failed(&path, "read it; has the coordinator run with this CA?"))?;
    let cluster = text.trim().parse();
    let cluster = cluster.map_err(|error: wyneos_core::id::BadUuid| CaError::State {
        path,
        reason: error.to_string(),
    })?;
    Ok(Kept::External(cluster))
}

/// Creates an admin's credentials from the CA, on the coordinator's own host: for the first admin, and if there is none
/// left. Writes `ca.pem`, `cert.pem` and `key.pem` into `into`.
pub(crate) fn make_admin(
    kept: Kept,
    external: Option<(&Path, &Path)>,
    name: &str,
    lifetime: Duration,
    into: &Path,
) -> Result<Principal, CaError> {
    if lifetime.is_zero() || lifetime > ADMIN {
        return Err(CaError::Step("--ttl: 1s to 366d"));
    }
    if !wyneos_shell::files::is_missing(&into.join("key.pem")) {
        return Err(CaError::Step("--out: there is a key already; use another directory"));
    }
    let signing = match (kept, external) {
        (Kept::Own(signing), _) => signing,
        (Kept::External(cluster), Some((certificate, key))) => load_external(cluster, certificate, key)?,
        (Kept::External(_), None) => {
            return Err(CaError::Step(
                "--ca-cert and --ca-key: required for an operator's own CA",
            ));
        }
    };
    let principal = Principal::new(signing.state.cluster, identity::Role::Admin, name)
        .map_err(|_| CaError::Step("--name: 1 to 64 letters, digits, '.', '_' and '-'"))?;
    let credentials = own_credentials(&signing, None, &principal, &[], lifetime)?;
    private(into)?;
    durable::write_credentials(into, &credentials).map_err(failed(into, "write credentials into it"))?;
    Ok(principal)
}
