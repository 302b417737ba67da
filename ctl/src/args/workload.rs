//! Command lines about workloads.

use std::path::PathBuf;

use clap::Args;

/// `wynectl plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The declaration, TOML or JSON; docs/workloads.md has the format.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}
