//! Records of this host's own commands beside a coordinator: `admin` creates credentials from the CA's files, `restore`
//! creates a `data_dir`.
//!
//! These commands cannot write the audit, whose file a running coordinator holds. Each leaves a file in
//! `DATA_DIR/audit-inbox/`, durable before it acts, and replaced by its outcome; the coordinator moves it into the
//! audit.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use prost::Message as _;
use rand::{TryRng as _, rngs::SysRng};
use rustix::fs::{Mode, OFlags, open};
use wyneos::v1::{self, AuditKind};
use wyneos_shell::{files, rights};

use super::{
    intent_of,
    log::{Log, reconciled},
};

/// The directory in the `data_dir`.
pub(crate) const FOLDER: &str = "audit-inbox";

/// Maximum number of files that are processed at once, and maximum size of one, bytes; others remain.
const TAKEN_AT_ONCE: usize = 64;
const BYTES: u64 = 8 * 1024;

/// Number of newest entries that are searched for a file that a crash left behind its own entries.
const NEWEST: usize = 1_000;

/// Time after which the result of a command counts as unknown.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on this host that is about to act.
pub(crate) struct Local {
    path: PathBuf,
    record: v1::AuditRecord,
}

impl Local {
    /// Durably records the intent of `command` for the coordinator of `data_dir`. The caller acts as its owner
    /// ([`Owner::act`](wyneos_shell::rights::Owner::act)): the coordinator processes the file, and controls its
    /// directory. `caller` is the user who runs the command.
    pub(crate) fn begin(data_dir: &Path, command: &str, target: &str, caller: u32) -> io::Result<Local> {
        let folder = data_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::File::open(data_dir)?.sync_all()?;
        let mut id = [0; 8];
        SysRng.try_fill_bytes(&mut id).map_err(io::Error::other)?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let user = format!("local/uid {caller}");
        let mut record = super::record(&user, &format!("local:{id}"), command);
        record.target = super::short(target, super::TARGET);
        let local = Local {
            path: folder.join(&id),
            record: intent_of(record),
        };
        local.write(&local.record)?;
        Ok(local)
    }

    /// Records success, or the failure.
    pub(crate) fn end(&self, failed: Option<&dyn std::fmt::Display>) -> io::Result<()> {
        let reason = failed.map(|error| super::short(&error.to_string(), super::REASON));
        self.write(&v1::AuditRecord {
            kind: AuditKind::Outcome.into(),
            code: if failed.is_some() {
                tonic::Code::Internal
            } else {
                tonic::Code::Ok
            } as u32,
            reason: reason.unwrap_or_default(),
            ..self.record.clone()
        })
    }

    fn write(&self, record: &v1::AuditRecord) -> io::Result<()> {
        files::write_durably(&self.path, &record.encode_to_vec(), 0o600)
    }
}

/// The coordinator's side of the inbox.
pub(super) struct Inbox {
    folder: PathBuf,
    /// The start of commands that have not reported their result.
    seen: HashMap<PathBuf, Instant>,
}

/// Records taken from the inbox, and their files, which are removed once the records are durable.
pub(super) struct Taken {
    pub(super) records: Vec<v1::AuditRecord>,
    pub(super) files: Vec<PathBuf>,
}

impl Inbox {
    pub(super) fn new(data_dir: &Path) -> Inbox {
        Inbox {
            folder: data_dir.join(FOLDER),
            seen: HashMap::new(),
        }
    }

    /// Records left by commands, as entries to append to `log`; `None` if there are none.
    pub(super) fn take(&mut self, log: &Log) -> Option<Taken> {
        let listed = fs::read_dir(&self.folder).ok()?;
        let paths = listed.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_none()).collect();
        paths.sort();
        paths.truncate(TAKEN_AT_ONCE);
        if paths.is_empty() {
            self.seen.clear();
            return None;
        }
        let known = log.newest_sources(NEWEST)?;
        let mut taken = Taken {
            records: Vec::new(),
            files: Vec::new(),
        };
        for path in paths {
            match read(&path) {
                Ok(record) => self.pair(log.next(), record, path, &known, &mut taken),
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "cannot read a record that a command on this host left for the audit; it is renamed to .bad");
                    drop(fs::rename(&path, path.with_extension("bad")));
                }
            }
        }
        self.seen.retain(|path, _| path.exists());
        Some(taken).filter(|taken| !taken.files.is_empty())
    }

    /// Intent and outcome of one command.
    fn pair(&mut self, next: u64, record: v1::AuditRecord, path: PathBuf, known: &HashSet<String>, taken: &mut Taken) {
        if known.contains(&record.source) {
            taken.files.push(path);
            return;
        }
        let ended = record.kind() == AuditKind::Outcome;
        let since = *self.seen.entry(path.clone()).or_insert_with(Instant::now);
        if !ended && since.elapsed() < PATIENCE {
            return;
        }
        let mut intent = intent_of(record.clone());
        let number = next + taken.records.len() as u64;
        intent.sequence = number;
        let outcome = match ended {
            true => v1::AuditRecord {
                intent: number,
                ..record
            },
            false => reconciled(&intent, None),
        };
        taken.records.extend([intent, outcome]);
        taken.files.push(path);
    }

    /// Marks the taken records as durable in the audit.
    pub(super) fn done(&mut self, files: Vec<PathBuf>) {
        for path in files {
            self.seen.remove(&path);
            // A file that remains is recognised by its entries.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot remove a record that is in the audit already");
            }
        }
    }
}

fn read(path: &Path) -> Result<v1::AuditRecord, super::Failure> {
    // Untrusted files: opening a pipe does not block, links are not followed, and the size is bounded.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err("no file".into());
    }
    if let Some(fault) = rights::fault(&found) {
        return Err(fault.into());
    }
    let mut bytes = Vec::new();
    file.take(BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES {
        return Err("longer than any record".into());
    }
    let record = v1::AuditRecord::decode(bytes.as_slice())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match record.source == format!("local:{name}") {
        true => Ok(record),
        false => Err("its source is not its name".into()),
    }
}

#[cfg(test)]
mod tests;
