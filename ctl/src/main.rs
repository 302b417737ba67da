//! `wynectl`: the operator's command line tool.
//!
//! Answers go to standard output, errors and remarks to standard error. Exit codes: [`exit`].

mod args;
mod commands;
mod config;
mod context;
mod declaration;
mod dev;
mod exit;
mod failure;
mod text;

use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;
use wyneos_shell::files;

fn main() -> ExitCode {
    files::set_umask(0o077);
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => {
            text::stderr(&format!("wynectl: cannot start: {error}"));
            exit::Exit::Failed.into()
        }
    }
}
