//! The cluster's CA, in files of this host: who signs, who is trusted, and the coordinator's own certificate.
//!
//! `DATA_DIR/ca/` (0700) holds a folder for each CA, `1/`, `2/`, … with `ca.pem` and `ca.key` (0600), and `state.toml`, which says who
//! signs and who is trusted. That one file is replaced as a whole, so that every step of a replacement is taken or not taken.

use std::{
    fs::{self, DirBuilder},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use wyneos::identity::{
    self, Authority, AuthorityPem, BadAuthority, BadRequest, Credentials, Keys, Principal, TlsError, Trust,
};
use wyneos_core::id::ClusterId;
use wyneos_shell::files;

/// How much earlier than now certificates begin to hold, or a tenth of their life if that is less: other hosts' clocks may be slow.
const EARLIER: Duration = Duration::from_secs(300);

/// How often the age of the coordinator's own certificate is looked at, at most.
const LOOK: Duration = Duration::from_secs(60);

/// The cluster's id, beside an operator's own CA.
const CLUSTER_ID: &str = "cluster-id";

/// Admins' credentials hold for a year at most.
const ADMIN: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// A file or folder failed.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// A folder can be read by others.
    #[error("{}: may be read by others than its owner (mode {mode:03o}); chmod 700 it, and think about who has read the key", .path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The state makes no sense.
    #[error("{}: {reason}", .path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A CA is none.
    #[error("{}: {source}", .path.display())]
    Authority {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong with it.
        source: BadAuthority,
    },
    /// The coordinator's own certificate.
    #[error("names: {0}")]
    Names(#[from] BadRequest),
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A step that does not follow.
    #[error("{0}")]
    Step(&'static str),
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { path, what, source }
}

/// Who signs, and who is trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    cluster: ClusterId,
    /// The folder of the one that signs.
    signs: u32,
    /// Folders of those that are trusted.
    trusted: Vec<u32>,
    /// Since when this is so, milliseconds of Unix time.
    since: i64,
}

/// Where the CAs are kept.
#[derive(Clone, Debug)]
enum Place {
    /// The cluster's own, in a folder.
    Own(PathBuf),
    /// An operator's, in two files.
    External(PathBuf, PathBuf),
}

/// A step of the CA's replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Activate,
    Retire,
}

/// What signs now.
struct Signing {
    state: State,
    authority: Authority,
    /// All that are trusted, the one that signs first.
    roots: Vec<CertificateDer<'static>>,
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

/// A CA as people see it.
pub(crate) struct Shown {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) expires: SystemTime,
    pub(crate) signs: bool,
}

/// A certificate for somebody.
pub(crate) struct Issued {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) roots: Vec<Vec<u8>>,
}

fn now_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as i64
}

fn holding(lifetime: Duration) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - EARLIER.min(lifetime / 10)..now + lifetime
}

/// A folder that only its owner may look into; made if it is not there.
fn private(path: &Path) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed(path, "make the folder"))?;
    let mode = fs::metadata(path).map_err(failed(path, "look at it"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CaError::Exposed { path, mode });
    }
    Ok(())
}

fn write_state(folder: &Path, state: &State) -> Result<(), CaError> {
    let path = folder.join("state.toml");
    let text = toml::to_string(state).unwrap_or_default();
    files::write_durably(&path, text.as_bytes(), 0o600).map_err(failed(&path, "write it"))
}

fn read_state(folder: &Path) -> Result<Option<State>, CaError> {
    let path = folder.join("state.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "read it")(error)),
    };
    let wrong = |reason: String| CaError::State {
        path: path.clone(),
        reason,
    };
    let state: State = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match state.trusted.contains(&state.signs) {
        true => Ok(Some(state)),
        false => Err(wrong("the CA that signs is not trusted".to_owned())),
    }
}

/// The certificates in a file.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let wrong = |reason: String| CaError::State {
        path: path.to_owned(),
        reason,
    };
    let bytes = fs::read(path).map_err(failed(path, "read it"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    match read.is_empty() {
        true => Err(wrong("no certificate in it".to_owned())),
        false => Ok(read),
    }
}

/// The CA whose certificate is one of those in a file, and whose key is in another.
fn read_authority(cluster: ClusterId, certificate: &Path, key: &Path) -> Result<Authority, CaError> {
    let secret = files::read_secret(key).map_err(failed(key, "use it"))?;
    let key = String::from_utf8_lossy(&secret).into_owned();
    let path = certificate.to_owned();
    let mut found = Err(BadAuthority::OtherKey);
    for one in read_certificates(certificate)? {
        let pem = AuthorityPem {
            certificate: identity::certificate_pem(&one),
            key: key.clone(),
        };
        found = Authority::from_pem(cluster, &pem, SystemTime::now());
        if !matches!(found, Err(BadAuthority::OtherKey)) {
            break;
        }
    }
    found.map_err(|source| CaError::Authority { path, source })
}

/// What signs, and all that are trusted: an operator's own, from its files.
fn load_external(cluster: ClusterId, certificate: &Path, key: &Path) -> Result<Signing, CaError> {
    let authority = read_authority(cluster, certificate, key)?;
    let mut roots = read_certificates(certificate)?;
    roots.retain(|root| root != authority.root());
    roots.insert(0, authority.root().clone());
    let state = State {
        cluster,
        signs: 0,
        trusted: vec![0],
        since: 0,
    };
    Ok(Signing {
        state,
        authority,
        roots,
    })
}

/// What signs as `state` says, and all that are trusted.
fn load_signing(folder: &Path, state: State) -> Result<Signing, CaError> {
    let authority = load_authority(folder, state.signs, state.cluster)?;
    let mut roots = vec![authority.root().clone()];
    for number in state.trusted.iter().filter(|number| **number != state.signs) {
        roots.append(&mut read_certificates(&folder.join(number.to_string()).join("ca.pem"))?);
    }
    Ok(Signing {
        state,
        authority,
        roots,
    })
}

/// A new CA in the folder `number`.
fn make_authority(folder: &Path, number: u32, cluster: ClusterId) -> Result<Authority, CaError> {
    let place = folder.join(number.to_string());
    private(&place)?;
    let path = place.clone();
    let made = Authority::new(cluster, SystemTime::now());
    let (authority, pem) = made.map_err(|source| CaError::Authority { path, source })?;
    let (key, certificate) = (place.join("ca.key"), place.join("ca.pem"));
    files::write_durably(&key, pem.key.as_bytes(), 0o600).map_err(failed(&key, "write it"))?;
    files::write_durably(&certificate, pem.certificate.as_bytes(), 0o644).map_err(failed(&certificate, "write it"))?;
    Ok(authority)
}

fn load_authority(folder: &Path, number: u32, cluster: ClusterId) -> Result<Authority, CaError> {
    let place = folder.join(number.to_string());
    private(&place)?;
    read_authority(cluster, &place.join("ca.pem"), &place.join("ca.key"))
}

fn load_own(folder: &Path, cluster: Option<ClusterId>) -> Result<Signing, CaError> {
    let state = match (read_state(folder)?, cluster) {
        (Some(state), cluster) if cluster.is_none_or(|cluster| cluster == state.cluster) => state,
        (None, Some(cluster)) => {
            private(folder)?;
            make_authority(folder, 1, cluster)?;
            let state = State {
                cluster,
                signs: 1,
                trusted: vec![1],
                since: now_millis(),
            };
            write_state(folder, &state)?;
            state
        }
        (found, _) => {
            let path = folder.join("state.toml");
            let reason = match found {
                Some(state) => format!("this is the CA of cluster {}", state.cluster),
                None => "there is no CA yet: start the coordinator once, with TLS".to_owned(),
            };
            return Err(CaError::State { path, reason });
        }
    };
    private(folder)?;
    load_signing(folder, state)
}

/// A certificate for a new key; `by_oldest`: of the CA that is trusted longest, so that whoever has not heard of a newer one yet
/// knows it.
fn own_credentials(
    signing: &Signing,
    place: &Place,
    own: &Principal,
    hosts: &[String],
    lifetime: Duration,
    by_oldest: bool,
) -> Result<Credentials, CaError> {
    let told = |error: &dyn std::fmt::Display| CaError::Key(error.to_string());
    let key = identity::new_key().map_err(|error| told(&error))?;
    let request = identity::request_for(&key).map_err(|error| told(&error))?;
    let chain = match (by_oldest, place) {
        (true, Place::Own(folder)) => {
            let oldest = signing.state.trusted.iter().min().unwrap_or(&signing.state.signs);
            let authority = load_authority(folder, *oldest, signing.state.cluster)?;
            authority.issue(&request, own, hosts, holding(lifetime))?
        }
        _ => signing.authority.issue(&request, own, hosts, holding(lifetime))?,
    };
    Ok(Credentials {
        principal: own.clone(),
        chain,
        key,
        roots: signing.roots.clone(),
    })
}

impl Ca {
    /// The CA of the coordinator `own`: an operator's, of these two files, or the cluster's own, made at its first start.
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
                // For whoever makes an admin's credentials: the store is in use.
                let path = data_dir.join(CLUSTER_ID);
                let id = format!("{}\n", own.cluster);
                files::write_durably(&path, id.as_bytes(), 0o600).map_err(failed(&path, "write it"))?;
                (place, signing)
            }
            None => {
                let folder = data_dir.join("ca");
                let signing = load_own(&folder, Some(own.cluster))?;
                (Place::Own(folder), signing)
            }
        };
        let credentials = own_credentials(&signing, &place, &own, &hosts, lifetime, true)?;
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

    /// The coordinator's certificate, as TLS shows it.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The CAs that are trusted.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// True for an operator's own CA, which is not replaced from here.
    pub(crate) fn is_external(&self) -> bool {
        matches!(self.place, Place::External(..))
    }

    /// A new certificate of its own; an operator's CA is read anew from its files before.
    pub(crate) async fn renew_own(&self) -> Result<(), CaError> {
        let mut signing = self.signing.lock().await;
        if let Place::External(certificate, key) = &self.place {
            *signing = load_external(self.own.cluster, certificate, key)?;
        }
        self.show(&signing)
    }

    fn show(&self, signing: &Signing) -> Result<(), CaError> {
        let credentials = own_credentials(signing, &self.place, &self.own, &self.hosts, self.lifetime, true)?;
        self.trust.replace(&credentials.roots)?;
        Ok(self.keys.replace(&credentials)?)
    }

    /// Renews the coordinator's own certificate for ever, at two thirds of its life by the wall clock: a host may sleep, and a clock be
    /// set. Standing connections are left alone.
    pub(crate) async fn keep_renewed(&self) {
        let mut renewed = SystemTime::now();
        loop {
            tokio::time::sleep(LOOK.min(self.lifetime / 10)).await;
            let age = SystemTime::now().duration_since(renewed);
            // A clock that was set back says nothing of the certificate's age.
            if age.is_ok_and(|age| age < self.lifetime * 2 / 3) {
                continue;
            }
            match self.renew_own().await {
                Ok(()) => {
                    renewed = SystemTime::now();
                    tracing::info!("renewed the coordinator's certificate");
                }
                Err(error) => tracing::error!(%error, "cannot renew the coordinator's certificate; trying again"),
            }
        }
    }

    /// A certificate for the key of `request` that names `principal`.
    pub(crate) async fn issue(
        &self,
        request: &[u8],
        principal: &Principal,
        lifetime: Duration,
    ) -> Result<Issued, CaError> {
        let signing = self.signing.lock().await;
        let request = request.into();
        let chain = signing.authority.issue(&request, principal, &[], holding(lifetime))?;
        let der = |certificates: &[CertificateDer<'static>]| certificates.iter().map(|one| one.to_vec()).collect();
        Ok(Issued {
            chain: der(&chain),
            roots: der(&signing.roots),
        })
    }

    /// The fingerprint of the CA by which the coordinator shows itself: the one that is trusted longest.
    pub(crate) async fn fingerprint(&self) -> [u8; 32] {
        let signing = self.signing.lock().await;
        let oldest = match &self.place {
            Place::External(..) => signing.roots.first(),
            // Folders are numbered as they are made, and roots beside the one that signs are in their order.
            Place::Own(_) => {
                let newest_signs = signing.state.trusted.iter().any(|number| *number < signing.state.signs);
                signing.roots.get(usize::from(newest_signs))
            }
        };
        oldest.map_or_else(Default::default, identity::fingerprint)
    }

    /// The CAs that are trusted, the one that signs first, and since when (Unix milliseconds) that is so.
    pub(crate) async fn shown(&self) -> (Vec<Shown>, i64) {
        let signing = self.signing.lock().await;
        let shown = signing.roots.iter().enumerate().map(|(at, root)| Shown {
            fingerprint: identity::fingerprint(root),
            expires: identity::validity(root).map_or(SystemTime::UNIX_EPOCH, |held| held.end),
            signs: at == 0,
        });
        (shown.collect(), signing.state.since)
    }

    /// Takes a step of the CA's replacement.
    pub(crate) async fn rotate(&self, step: Step) -> Result<(), CaError> {
        let Place::Own(folder) = &self.place else {
            return Err(CaError::Step(
                "the CA is an operator's own, from files: replace it there, and trust both in one ca_cert for a time",
            ));
        };
        let mut signing = self.signing.lock().await;
        let mut state = signing.state.clone();
        let newest = state.trusted.iter().copied().max().unwrap_or(state.signs);
        match step {
            Step::Prepare if state.trusted.len() > 1 => {
                return Err(CaError::Step("a replacement is under way: activate or retire it first"));
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
        write_state(folder, &state)?;
        let gone: Vec<u32> = signing
            .state
            .trusted
            .iter()
            .copied()
            .filter(|number| !state.trusted.contains(number))
            .collect();
        *signing = load_signing(folder, state)?;
        // A key that nobody trusts any more is of use to nobody but a thief.
        for number in gone {
            let place = folder.join(number.to_string());
            fs::remove_dir_all(&place).map_err(failed(&place, "remove it"))?;
        }
        self.show(&signing)
    }
}

/// Makes an admin's credentials from the CA's files, on the coordinator's own host: for the first admin, and for when there is none
/// left. Writes `ca.pem`, `cert.pem` and `key.pem` into `into`.
pub(crate) fn make_admin(
    data_dir: &Path,
    external: Option<(&Path, &Path)>,
    name: &str,
    lifetime: Duration,
    into: &Path,
) -> Result<Principal, CaError> {
    if lifetime.is_zero() || lifetime > ADMIN {
        return Err(CaError::Step("--ttl: 1s to 366d"));
    }
    if into.join("key.pem").exists() {
        return Err(CaError::Step("--out: there is a key already; name another folder"));
    }
    let (place, signing) = match external {
        Some((certificate, key)) => {
            let path = data_dir.join(CLUSTER_ID);
            let text =
                fs::read_to_string(&path).map_err(failed(&path, "read it; has the coordinator run with this CA?"))?;
            let cluster = text.trim().parse();
            let cluster = cluster.map_err(|error: wyneos_core::id::BadUuid| CaError::State {
                path,
                reason: error.to_string(),
            })?;
            let place = Place::External(certificate.to_owned(), key.to_owned());
            (place, load_external(cluster, certificate, key)?)
        }
        None => {
            let folder = data_dir.join("ca");
            let signing = load_own(&folder, None)?;
            (Place::Own(folder), signing)
        }
    };
    let principal = Principal::new(signing.state.cluster, identity::Role::Admin, name)
        .map_err(|_| CaError::Step("--name: 1 to 64 letters, digits, '.', '_' and '-'"))?;
    let credentials = own_credentials(&signing, &place, &principal, &[], lifetime, false)?;
    private(into)?;
    files::write_credentials(into, &credentials).map_err(failed(into, "write credentials into it"))?;
    Ok(principal)
}
