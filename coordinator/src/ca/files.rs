//! The CAs' files.
//!
//! `DATA_DIR/ca/` (0700) contains a directory per CA, `1/`, `2/`, … with `ca.pem` and `ca.key` (0600), and
//! `state.toml`, which names the one that signs and the trusted ones. That single file is replaced as a whole, so that
//! a step of a replacement is executed completely or not at all.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use wyneos::identity::{self, Authority, AuthorityPem, BadAuthority};
use wyneos_core::id::ClusterId;
use wyneos_shell::{
    clock::{BUILT, wait_until_past},
    files,
};

use super::error::{CaError, failed};

/// The CA that signs, and the trusted ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) cluster: ClusterId,
    /// Directory of the one that signs.
    pub(super) signs: u32,
    /// Directories of the trusted ones.
    pub(super) trusted: Vec<u32>,
    /// Time of the last change, milliseconds of Unix time; for people only.
    pub(super) since: i64,
    /// The audit's intent of the step that led to this state; 0 for none. It numbers the steps: it increases whatever
    /// the clock shows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) intent: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The CA that signs now.
pub(crate) struct Signing {
    pub(super) state: State,
    pub(super) authority: Authority,
    /// All trusted CAs, the one that signs first.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

pub(super) fn now_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as i64
}

/// Creates a directory that only its owner may read, if it does not exist.
pub(super) fn private(path: &Path) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed(path, "create the directory"))?;
    let mode = fs::metadata(path).map_err(failed(path, "examine it"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CaError::Exposed { path, mode });
    }
    Ok(())
}

pub(super) fn write_state(folder: &Path, state: &State) -> Result<(), CaError> {
    let path = folder.join("state.toml");
    let text = toml::to_string(state).map_err(io::Error::other);
    let written = text.and_then(|text| files::write_durably(&path, text.as_bytes(), 0o600));
    written.map_err(failed(&path, "write it"))
}

fn read_state(folder: &Path) -> Result<Option<State>, CaError> {
    let path = folder.join("state.toml");
    let text = match files::read_text(&path, files::TEXT) {
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
    // An operator's own file may belong to another user.
    let bytes = files::read_regular(path, files::TEXT).map_err(failed(path, "read it"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    match read.is_empty() {
        true => Err(wrong("no certificate in it".to_owned())),
        false => Ok(read),
    }
}

/// The CA with this key whose certificate is one of those in a file.
fn read_authority(cluster: ClusterId, certificate: &Path, secret: &[u8]) -> Result<Authority, CaError> {
    let key = String::from_utf8_lossy(secret).into_owned();
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

/// Loads the CA that signs, and all trusted ones, from an operator's own files.
pub(super) fn load_external(cluster: ClusterId, certificate: &Path, key: &Path) -> Result<Signing, CaError> {
    let secret = files::read_named_secret(key).map_err(failed(key, "use it"))?;
    let authority = read_authority(cluster, certificate, &secret)?;
    let mut roots = read_certificates(certificate)?;
    roots.retain(|root| root != authority.root());
    roots.insert(0, authority.root().clone());
    let state = State {
        cluster,
        signs: 0,
        trusted: vec![0],
        since: 0,
        intent: 0,
    };
    Ok(Signing {
        state,
        authority,
        roots,
    })
}

/// Loads the CA that signs according to `state`, and all trusted ones.
pub(super) fn load_signing(folder: &Path, state: State) -> Result<Signing, CaError> {
    let authority = load_authority(folder, state.signs, state.cluster)?;
    let roots = load_roots(folder, &state, &authority)?;
    Ok(Signing {
        state,
        authority,
        roots,
    })
}

/// The certificates of all trusted CAs, where `authority` signs.
pub(super) fn load_roots(
    folder: &Path,
    state: &State,
    authority: &Authority,
) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut roots = vec![authority.root().clone()];
    for number in state.trusted.iter().filter(|number| **number != state.signs) {
        roots.append(&mut read_certificates(&folder.join(number.to_string()).join("ca.pem"))?);
    }
    Ok(roots)
}

/// Creates a new CA in the directory `number`.
pub(super) fn make_authority(folder: &Path, number: u32, cluster: ClusterId) -> Result<Authority, CaError> {
    wait_until_past(BUILT, "this program was built", Duration::ZERO)?;
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

pub(super) fn load_authority(folder: &Path, number: u32, cluster: ClusterId) -> Result<Authority, CaError> {
    let place = folder.join(number.to_string());
    private(&place)?;
    let key = place.join("ca.key");
    let secret = files::read_secret(&key).map_err(failed(&key, "use it"))?;
    let certificate = place.join("ca.pem");
    files::check_own(&certificate).map_err(failed(&certificate, "use it"))?;
    read_authority(cluster, &certificate, &secret)
}

pub(super) fn load_own(folder: &Path, cluster: Option<ClusterId>) -> Result<Signing, CaError> {
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
                intent: 0,
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
