//! Command lines about backups.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wyneos_core::integrity::PublicKey;

use super::parse;

/// `wynectl backup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    /// File for the backup; an existing file is replaced once the new one is complete. Only its owner may read it,
    /// because it contains the cluster's keys.
    #[arg(long, required = true)]
    pub(crate) output: Option<PathBuf>,
}

/// Operations on a backup.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Read and verify a complete backup, and show its contents.
    Verify(BackupFile),
}

/// A backup in a file.
#[derive(Debug, Args)]
pub(crate) struct BackupFile {
    /// File of the backup.
    pub(crate) file: PathBuf,
    /// Ed25519 key that must have signed, 64 hexadecimal digits. Without it the key inside the backup is used, which
    /// shows that nothing was altered, but not who created it.
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<PublicKey>,
}

/// `wynectl restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) backup: BackupFile,
    /// The coordinator's data_dir: new, or empty. Run this as the user that the coordinator runs as.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}
