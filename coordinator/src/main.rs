//! The WyneOS coordinator: hosts the node registry and the orchestration engine.

mod answers;
mod audit;
mod board;
mod bootstrap;
mod ca;
mod config;
mod engine;
mod gate;
mod limiter;
mod metrics;
mod publisher;
mod reads;
mod refusals;
mod restore;
mod services;
mod serving;
mod session;
mod status;
mod store;
mod turns;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, Parser, Subcommand};
use wyneos_core::integrity::PublicKey;
use wyneos_shell::{
    clock::Clock,
    config::{Layered as _, Span},
    files,
    rights::{self, Owner, Told},
    start::{finish, start},
};

use crate::{
    audit::Local,
    bootstrap::BootError,
    config::{Config, Overrides},
    restore::Backup,
};

/// The WyneOS coordinator.
///
/// Exit codes: 0 ended as requested; 1 failed while running; 2 invalid arguments; 64 the configuration cannot be used.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the coordinator until SIGTERM or SIGINT.
    Run(Box<Run>),
    /// Creates an admin's credentials from the CA's files on this host: for the first admin, and if there is none left.
    Admin(Admin),
    /// Creates the data_dir of a coordinator that is not running from a backup, as `wynectl restore` does.
    Restore(Restore),
}

#[derive(Args)]
struct Restore {
    /// Path of the backup, from `wynectl backup`.
    file: PathBuf,
    /// The coordinator's data_dir: new, or empty.
    #[arg(
        long,
        env = "WYNEOS_COORDINATOR_DATA_DIR",
        default_value = "/var/lib/wyneos-coordinator"
    )]
    data_dir: PathBuf,
    /// The public key that the backup must be signed with (64 hexadecimal digits); without it the key inside the backup is used.
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    public_key: Option<PublicKey>,
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let wrong = || "not 64 hexadecimal digits".to_owned();
    let bytes: Option<Vec<u8>> = (0..text.len().div_ceil(2))
        .map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    let bytes = bytes.ok_or_else(wrong)?.try_into().map_err(|_| wrong())?;
    Ok(PublicKey(bytes))
}

fn restore(args: &Restore) -> Result<(), Told> {
    let now = Clock::default().wall();
    // Opened as the calling user; files are written as the owner of an existing directory.
    let backup = Backup::open(&args.file).map_err(|error| Told::of(&error))?;
    let caller = rustix::process::geteuid().as_raw();
    let make = |at: &Path| restore::restore(&backup, at, args.public_key, now, caller);
    let restored = if files::is_missing(&args.data_dir) {
        rights::check(&args.data_dir).map_err(|error| Told::of(&error))?;
        make(&args.data_dir).map_err(|error| Told::of(&error))
    } else {
        let owner = Owner::of(&args.data_dir).map_err(|error| Told::of(&error))?;
        let made = owner.act(make).map_err(|error| Told::of(&error))?;
        made.map_err(|error| owner.told(&error))
    };
    let (contents, restored) = restored?;
    println!("{}", restore::told(&contents, &restored, &args.data_dir));
    Ok(())
}

#[derive(Args)]
struct Admin {
    /// The coordinator's configuration file (TOML), for options that are not given here: `data_dir`, `ca_cert` and
    /// `ca_key`.
    #[arg(long, env = "WYNEOS_COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// The coordinator's data_dir; it must have been started once [default: /var/lib/wyneos-coordinator].
    #[arg(long, env = "WYNEOS_COORDINATOR_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// An operator's own CA (PEM), if the coordinator uses one.
    #[arg(long, env = "WYNEOS_COORDINATOR_CA_CERT", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Key of that CA (PEM).
    #[arg(long, env = "WYNEOS_COORDINATOR_CA_KEY", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Name of the admin: 1 to 64 letters, digits, '.', '_' and '-'. `wynectl operator revoke` revokes it by this name.
    #[arg(long, default_value = "admin")]
    name: String,
    /// Lifetime of the credentials.
    #[arg(long, default_value = "365d")]
    ttl: Span,
    /// Directory for ca.pem, cert.pem and key.pem; created if it does not exist.
    #[arg(long)]
    out: PathBuf,
}

/// Root acts in the data_dir as the coordinator's user, and as itself outside: a link there cannot redirect it, and
/// files that the coordinator's user cannot read are not read.
fn admin(admin: &Admin) -> Result<(), Told> {
    let file = admin.config.as_deref().map(Config::read).transpose();
    let file = file
        .map_err(|error| Told::of(&BootError::Config(error)))?
        .unwrap_or_default();
    let data_dir = &admin
        .data_dir
        .clone()
        .or(file.data_dir)
        .unwrap_or(Config::default().data_dir);
    if !data_dir.exists() {
        return Err(Told::of(&BootError::NoDataDir(data_dir.clone())));
    }
    let owner = Owner::of(data_dir).map_err(|error| Told::of(&error))?;
    let given = admin.ca_cert.clone().zip(admin.ca_key.clone());
    let external = given.or(file
        .ca_cert
        .zip(file.ca_key)
        .filter(|(cert, _)| !cert.as_os_str().is_empty()));
    let external = external.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
    let out = admin.out.display();
    let target = format!("admin {}, for {}, into {out}", admin.name, admin.ttl);
    let failed = |source| BootError::File {
        path: data_dir.clone(),
        what: "record the intent for the audit there; nothing was done. Is it the coordinator's `--data-dir`?",
        source,
    };
    let caller = rustix::process::geteuid().as_raw();
    let begin = |at: &Path| -> Result<_, BootError> {
        let noted = Local::begin(at, "wyneos-coordinator admin", &target, caller).map_err(failed)?;
        Ok((noted, ca::signing(at, external.is_none())))
    };
    let begun = owner.act(begin).map_err(|error| Told::of(&error))?;
    let (noted, signing) = begun.map_err(|error| owner.told(&error))?;
    let make = |signing| {
        owner.check_outside(&admin.out)?;
        ca::make_admin(signing, external, &admin.name, admin.ttl.0, &admin.out)
    };
    let made = signing
        .and_then(make)
        .map_err(|error| owner.told(&BootError::Ca(error)));
    let ended = owner.act(|_| noted.end(made.as_ref().err().map(|error| error as _)));
    if let Err(error) = ended
        .map_err(|error| Told::of(&error).to_string())
        .and_then(|ended| ended.map_err(|error| error.to_string()))
    {
        // The coordinator then records the result as unknown.
        eprintln!("wyneos-coordinator: cannot record the result for the audit: {error}");
    }
    let principal = made?;
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + admin.ttl.0);
    println!("{principal}: credentials in {out}, valid until {until}");
    println!("On each host that uses them, with this host's address for HOST:");
    println!(
        "wynectl context add {} --coordinator HOST:7400 --from {out}",
        admin.name
    );
    Ok(())
}

#[derive(Args)]
struct Run {
    /// Configuration file (TOML). The environment takes precedence over it, and flags over both.
    #[arg(long, env = "WYNEOS_COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Validate the configuration, print the effective one, and exit.
    #[arg(long)]
    check: bool,
    /// Exit at the end of standard input, too.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> ExitCode {
    files::set_umask(0o077);
    let run = match Cli::parse().command {
        Command::Run(run) => run,
        Command::Restore(args) => return finish("wyneos-coordinator", restore(&args)),
        Command::Admin(args) => return finish("wyneos-coordinator", admin(&args)),
    };
    let Run {
        config,
        check,
        exit_with_stdin,
        overrides,
    } = *run;
    start(
        "wyneos-coordinator",
        config.as_deref(),
        overrides,
        check,
        |_| (),
        |config| bootstrap::run(config, exit_with_stdin),
    )
}
