//! Command lines about who may do what.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::parse;

/// `wynectl token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token, and print the line that a host joins with.
    Create(TokenArgs),
    /// List the join tokens that have not expired.
    List,
    /// Drop a join token: nobody can join by it any more.
    Delete {
        /// Its id, as `wynectl token list` shows it.
        id: String,
    },
}

/// `wynectl token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// How long it can be used, as in 1h or 30m.
    #[arg(long, default_value = "1h", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) ttl: Duration,
    /// How many hosts can join by it; 1 to 10000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// A label of its nodes; may be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::selector)]
    pub(crate) label: Vec<String>,
    /// The name that its node must have.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// Its nodes wait until an operator admits them.
    #[arg(long)]
    pub(crate) pending: bool,
    /// The coordinator's address as the host reaches it; else the one that wynectl uses.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) coordinator: Option<String>,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads.
    Viewer,
    /// Reads, and runs the cluster: nodes, decisions, and restarts and scales what is declared.
    Operator,
    /// Reads, and declares what runs; sees logs and the values of `env`.
    Deployer,
    /// Everything.
    Admin,
}

/// `wynectl operator`.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make an operator: a key here, and a certificate for it; or a bearer token.
    Create(OperatorArgs),
    /// List the operators.
    List,
    /// Revoke every credential of an operator's name, from the next call on. A name that is not on record is shut out as well.
    Revoke {
        /// The name.
        name: String,
        /// Revoke even the operator whose credentials this command uses.
        #[arg(long)]
        force: bool,
    },
}

/// `wynectl operator create`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// The name: 1 to 64 letters, digits, '.', '_' and '-'.
    pub(crate) name: String,
    /// What it may do.
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// How long it holds, as in 30d or 8h.
    #[arg(long, default_value = "30d", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) ttl: Duration,
    /// Folder for ca.pem, cert.pem and key.pem; else one of the operator's name.
    #[arg(long, value_name = "DIR", conflicts_with = "bearer")]
    pub(crate) out: Option<PathBuf>,
    /// Print a bearer token instead of making a key: for grpcurl and SDKs.
    #[arg(long)]
    pub(crate) bearer: bool,
    /// Replace even the credential that this command uses.
    #[arg(long)]
    pub(crate) force: bool,
}

/// `wynectl context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts.
    List,
    /// Use a context from now on.
    Use {
        /// The context.
        name: String,
    },
    /// Add a context, or replace one; the first is used from then on.
    Add {
        /// Its name.
        name: String,
        /// The coordinator: host:port.
        #[arg(long, value_name = "HOST:PORT", default_value = crate::config::ADDRESS)]
        coordinator: String,
        /// Folder of ca.pem, cert.pem and key.pem, which are copied; none for a coordinator without TLS.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Get the context's certificate anew, of the CA that signs now; before an old CA is retired.
    Renew {
        /// The context; else the one in use.
        name: Option<String>,
    },
    /// Remove a context, and its credentials.
    Remove {
        /// The context.
        name: String,
    },
}

/// `wynectl audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Go on with what happens from now on, until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Verify that no entry was altered, left out or put in, and list the intents without an outcome by their numbers. Exit code 4 when an
    /// entry was altered, left out or put in; 0 when all are whole, whether or not some intents have no outcome.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Begin with the entry of this number; otherwise with the oldest that is kept.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// The Ed25519 key that must have signed, 64 hexadecimal digits. Otherwise the coordinator's own word is taken for it.
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<wyneos_core::integrity::PublicKey>,
}

/// `wynectl ca`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show the CAs that are trusted.
    Show,
    /// Make a new CA, and trust it beside the old one. Nodes learn of it as they renew their certificates.
    Prepare,
    /// Have the new CA sign from now on; the old one stays trusted.
    Activate {
        /// Go on though some nodes will have to join again.
        #[arg(long)]
        force: bool,
    },
    /// Trust the old CA no more.
    Retire {
        /// Go on though some nodes will have to join again.
        #[arg(long)]
        force: bool,
    },
}
