//! The keys of a coordinator: the one that seals snapshots, and the CA's.

use std::{io, sync::Arc, time::SystemTime};

use rand::{TryRng as _, rngs::SysRng};
use wyneos::identity::{BadAuthority, Principal, Role};
use wyneos_core::{
    id::{ClusterId, Uuid},
    integrity::PublicKey,
    time::WallTime,
};
use wyneos_shell::{clock::wait_until_past, files};

use super::BootError;
use crate::{
    audit::SIGNING_KEY,
    ca::{Ca, CaError},
    config::Config,
};

/// The secret key that seals snapshots; generated at the first start.
pub(super) fn signing_key(config: &Config) -> Result<[u8; 32], BootError> {
    let path = config.data_dir.join(SIGNING_KEY);
    let failed = |what| {
        let path = path.clone();
        move |source| BootError::File { path, what, source }
    };
    if files::is_missing(&path) {
        let mut secret = [0; 32];
        SysRng
            .try_fill_bytes(&mut secret)
            .map_err(|e| BootError::System("get random bytes", io::Error::other(e)))?;
        files::write_durably(&path, &secret, 0o600).map_err(failed("write"))?;
    }
    let secret = files::read_secret(&path).map_err(failed("read"))?;
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "not 32 bytes");
    secret.as_slice().try_into().map_err(wrong).map_err(failed("use"))
}

/// Opens the CA once the clock is not before it: an expired one is refused immediately.
pub(super) fn open_ca(config: &Config, cluster: ClusterId, public_key: PublicKey) -> Result<Arc<Ca>, BootError> {
    match try_open_ca(config, cluster, public_key) {
        Err(CaError::Authority {
            source: BadAuthority::Outdated(held, _),
            ..
        }) if SystemTime::now() < held.start => {
            let since = held.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let made = WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            wait_until_past(made, "the CA was made", config.clock_wait.0)?;
            Ok(try_open_ca(config, cluster, public_key)?)
        }
        opened => Ok(opened?),
    }
}

/// Opens the cluster's own CA, or the configured one.
fn try_open_ca(config: &Config, cluster: ClusterId, public_key: PublicKey) -> Result<Arc<Ca>, CaError> {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&public_key.0).as_bytes()[..16]);
    let own = Principal::new(cluster, Role::Coordinator, &Uuid(id).to_string())
        .map_err(|_| CaError::Step("the coordinator has no name"))?;
    let external = !config.ca_cert.as_os_str().is_empty();
    let external = external.then_some((config.ca_cert.as_path(), config.ca_key.as_path()));
    let lifetime = config.certificate_ttl.0;
    Ca::open(&config.data_dir, external, own, hosts(config), lifetime).map(Arc::new)
}

/// Names and addresses for the coordinator's certificate.
fn hosts(config: &Config) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let listen = config.listen.ip();
    let more = (!listen.is_unspecified()).then(|| listen.to_string());
    let named = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let named = (!named.is_empty()).then_some(named);
    for host in config.names.0.iter().cloned().chain(more).chain(named) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}
