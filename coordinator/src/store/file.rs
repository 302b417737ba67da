//! A file of the embedded store, and its faults.

use std::{
    cell::Cell,
    io::ErrorKind,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Once},
};

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableError, TableHandle as _};

use wyneos_shell::files;

use super::StoreError;

/// Memory that redb may use for each file's pages.
const CACHE: usize = 4 << 20;

/// One redb file and its errors' context.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    database: Arc<Database>,
}

/// The contents of a file of the store. Each kind has its own tables; a file with those of another kind was put in its
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `state.redb`.
    State,
    /// `history.redb`.
    History,
    /// `audit.redb`.
    Audit,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::State, Kind::History, Kind::Audit];

    fn name(self) -> &'static str {
        match self {
            Kind::State => "state",
            Kind::History => "history",
            Kind::Audit => "audit",
        }
    }

    /// Tables that no other kind has.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Kind::State => &[
                "nodes",
                "workloads",
                "assignments",
                "events",
                "events_of",
                "events_by",
                "events_of_work",
                "intents",
            ],
            Kind::History => &["seals", "snapshots"],
            Kind::Audit => &["entries"],
        }
    }

    /// The kind of a file that has a table of this name.
    fn of(table: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.tables().contains(&table))
    }
}

/// An error inside a transaction.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    /// Whether a panic of this thread is an expected result, which is not logged.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Excludes expected panics from the panic hook's report.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CONTAINED.get() {
                tracing::debug!(%info, "contained");
            } else {
                report(info);
            }
        }));
    });
}

/// Runs `run`, which uses redb: on some damaged pages redb panics instead of returning an error.
fn contained<T>(path: &Path, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let damaged = |_| {
        let (path, reason) = (path.to_owned(), "its pages contradict one another".to_owned());
        Err(StoreError::Corrupt { path, reason })
    };
    quieten();
    let before = CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    CONTAINED.set(before);
    result.unwrap_or_else(damaged)
}

impl File {
    /// Opens the file, and creates it if it does not exist.
    pub(crate) fn open(path: PathBuf, kind: Kind) -> Result<File, StoreError> {
        files::check_own(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::PermissionDenied => StoreError::Foreign {
                path: path.clone(),
                reason: error.to_string(),
            },
            _ => StoreError::Io {
                path: path.clone(),
                what: "look at it",
                source: error.into(),
            },
        })?;
        let open = || Ok(Database::builder().set_cache_size(CACHE).create(&path));
        let database = contained(&path, open)?.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path.clone()),
            DatabaseError::UpgradeRequired(version) => StoreError::Foreign {
                path: path.clone(),
                reason: format!("of redb's file format {version}"),
            },
            DatabaseError::Storage(StorageError::Corrupted(reason)) => StoreError::Corrupt {
                path: path.clone(),
                reason,
            },
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                StoreError::Foreign {
                    path: path.clone(),
                    reason: "not a store of this coordinator".to_owned(),
                }
            }
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                StoreError::Corrupt {
                    path: path.clone(),
                    reason: "it was cut short".to_owned(),
                }
            }
            error => StoreError::Io {
                path: path.clone(),
                what: "open the store",
                source: error.into(),
            },
        })?;
        let file = File {
            path,
            database: Arc::new(database),
        };
        file.check_kind(kind)?;
        files::mend_mode(&file.path, 0o600).map_err(file.io("set the mode"))?;
        Ok(file)
    }

    /// Refuses a file that has tables of another kind.
    fn check_kind(&self, kind: Kind) -> Result<(), StoreError> {
        let other = self.read(|transaction| {
            let mut kinds = transaction.list_tables()?.filter_map(|table| Kind::of(table.name()));
            Ok(kinds.find(|found| *found != kind))
        })?;
        match other {
            None => Ok(()),
            Some(other) => Err(self.foreign(format!(
                "it is a coordinator's {}, in the place of its {}",
                other.name(),
                kind.name()
            ))),
        }
    }

    fn foreign(&self, reason: String) -> StoreError {
        StoreError::Foreign {
            path: self.path.clone(),
            reason,
        }
    }

    /// The error of a failed transaction.
    fn failed(&self, what: &'static str, error: Failure) -> StoreError {
        let error = match error.downcast::<StoreError>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        match error.downcast_ref::<TableError>() {
            Some(
                error @ (TableError::TableTypeMismatch { .. }
                | TableError::TypeDefinitionChanged { .. }
                | TableError::TableIsMultimap(_)
                | TableError::TableIsNotMultimap(_)),
            ) => self.foreign(format!("it is another store, or one of another version: {error}")),
            _ => self.io(what)(error),
        }
    }

    /// A file on a backend other than a disk.
    #[cfg(test)]
    pub(crate) fn over(backend: impl redb::StorageBackend) -> Result<File, StoreError> {
        let path = PathBuf::from("test.redb");
        let open = || Ok(Database::builder().create_with_backend(backend));
        let database = contained(&path, open)?.map_err(|error| StoreError::Io {
            path: path.clone(),
            what: "open it",
            source: error.into(),
        })?;
        Ok(File {
            path,
            database: Arc::new(database),
        })
    }

    /// Closes the file, unless it is still referenced.
    pub(crate) fn close(self) {
        let path = self.path.clone();
        // After a failed write redb may report only that it failed.
        drop(contained(&path, || {
            drop(self);
            Ok(())
        }));
    }

    pub(crate) fn io<E: Into<Failure>>(&self, what: &'static str) -> impl Fn(E) -> StoreError {
        let path = self.path.clone();
        move |error| StoreError::Io {
            path: path.clone(),
            what,
            source: error.into(),
        }
    }

    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// Like the function of that name. The state of redb after a panic is never used again, nor closed: closing it
    /// would panic again, and the process is about to end.
    pub(crate) fn contained<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let held = Arc::clone(&self.database);
        let mut panicked = true;
        let result = contained(&self.path, || {
            let result = run();
            panicked = false;
            result
        });
        if panicked {
            std::mem::forget(held);
        }
        result
    }

    /// Runs `write` in one durable transaction.
    pub(crate) fn write(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), Failure> {
            let mut transaction = self.database.begin_write()?;
            // Reopening after a crash must not take longer for larger files.
            transaction.set_quick_repair(true);
            write(&transaction)?;
            Ok(transaction.commit()?)
        };
        self.contained(|| run().map_err(|error| self.failed("write", error)))
    }

    pub(crate) fn read<T: Default>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let run = || read(&self.database.begin_read()?);
        let told = |error: Failure| match error.downcast_ref::<TableError>() {
            // Nothing has been written yet.
            Some(TableError::TableDoesNotExist(_)) => Ok(T::default()),
            _ => Err(self.failed("read", error)),
        };
        self.contained(|| run().or_else(told))
    }

    pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(&self, what: &str, json: &'a [u8]) -> Result<T, StoreError> {
        serde_json::from_slice(json).map_err(|error| self.corrupt(format!("{what}: {error}")))
    }
}
