//! The files on the disk: the data_dir, the store in it, and the key that seals snapshots.

use std::{path::Path, sync::Arc};

use wyneos_shell::{
    clock::{BUILT, wait_until_past},
    files, rights,
};

use super::{BootError, keys::signing_key};
use crate::{
    config::Config,
    restore,
    store::{Embedded, Retention},
};

/// An opened data_dir. It does not imply that this coordinator leads.
pub(super) struct Opened {
    pub(super) config: Arc<Config>,
    pub(super) store: Embedded,
    /// Seals snapshots and signs the audit.
    pub(super) secret: [u8; 32],
}

/// Opens the data_dir, and creates it if necessary.
pub(super) fn open(config: Arc<Config>) -> Result<Opened, BootError> {
    let data_dir = &config.data_dir;
    // Before any certificate is created with the clock: a CA of 1970 would not be valid now.
    wait_until_past(BUILT, "this program was built", config.clock_wait.0)?;
    rights::check(data_dir)?;
    files::make_dir(data_dir, 0o700).map_err(|source| BootError::File {
        path: data_dir.clone(),
        what: "create the data_dir",
        source,
    })?;
    // A user who may write above it may have created it first.
    rights::check(data_dir)?;
    files::mend(data_dir, &mode_of);
    restore::check_finished(data_dir)?;
    let store = Embedded::open(data_dir, retention(&config))?;
    let secret = signing_key(&config)?;
    Ok(Opened { config, store, secret })
}

fn retention(config: &Config) -> Retention {
    Retention {
        events: config.events_max_count,
        event_bytes: config.events_max_mib << 20,
        snapshots: config.history_max_count,
        snapshot_age: config.history_max_age.0,
    }
}

/// Modes of files of earlier versions in the data_dir. Keys are excluded: a key that others could read is refused,
/// rather than corrected silently.
fn mode_of(path: &Path, is_directory: bool) -> Option<u32> {
    if path.starts_with(crate::audit::INBOX) {
        return Some(if is_directory { 0o700 } else { 0o600 });
    }
    let is_ours = path.extension().is_some_and(|end| end == "redb") || path == Path::new(crate::ca::CLUSTER_ID);
    (is_ours && !is_directory).then_some(0o600)
}
