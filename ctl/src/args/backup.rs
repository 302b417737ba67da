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
    /// The file; replaced when it is there, once the new one is whole. Only its owner may read it: the cluster's keys are in it.
    #[arg(long, required = true)]
    pub(crate) output: Option<PathBuf>,
}

/// What to do with a backup.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Read a backup wholly, verify it, and show what it holds.
    Verify(BackupFile),
}

/// A backup in a file.
#[derive(Debug, Args)]
pub(crate) struct BackupFile {
    /// The backup.
    pub(crate) file: PathBuf,
    /// The Ed25519 key that must have signed, 64 hexadecimal digits. Without it the key inside the backup is used, which shows that
    /// nothing was altered, but not who made it.
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
