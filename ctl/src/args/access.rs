//! Command lines of access control.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::parse;

/// `wynectl token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a join token, and print the line with which a host joins.
    Create(TokenArgs),
    /// List the join tokens that have not expired.
    List,
    /// Delete a join token; no further host can join with it.
    Delete {
        /// Id of the token, as `wynectl token list` shows it.
        id: String,
    },
}

/// `wynectl token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Lifetime of the token, as in 1h or 30m.
    #[arg(long, default_value = "1h", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) ttl: Duration,
    /// Number of hosts that can join with it; 1 to 10000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// A label of nodes that join with it; may be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::selector)]
    pub(crate) label: Vec<String>,
    /// Name that the node must have.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// Leave nodes that join with it pending until an operator admits them.
    #[arg(long)]
    pub(crate) pending: bool,
    /// The coordinator's address as the host reaches it; otherwise the one that wynectl uses.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) coordinator: Option<String>,
}

/// The role of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads.
    Viewer,
    /// Reads, and operates the cluster: nodes, decisions, and restarts and scaling of declared workloads.
    Operator,
    /// Reads, and declares workloads; reads logs and the values of `env`.
    Deployer,
    /// Everything.
    Admin,
}

/// `wynectl operator`.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Create an operator, with a key generated here and a certificate for it, or with a bearer token.
    Create(OperatorArgs),
    /// List the operators.
    List,
    /// Revoke every credential of an operator's name, from the next call on. A name that is not on record is revoked as
    /// well.
    Revoke {
        /// Name of the operator.
        name: String,
        /// Revoke even the operator whose credentials this command uses.
        #[arg(long)]
        force: bool,
    },
}

/// `wynectl operator create`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// Name of the operator: 1 to 64 letters, digits, '.', '_' and '-'.
    pub(crate) name: String,
    /// Role of the operator.
    #[arg(long, value_enum)]
    pub(crate) role: Role,
    /// Lifetime of the credential, as in 30d or 8h.
    #[arg(long, default_value = "30d", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) ttl: Duration,
    /// Directory for ca.pem, cert.pem and key.pem; otherwise one with the operator's name.
    #[arg(long, value_name = "DIR", conflicts_with = "bearer")]
    pub(crate) out: Option<PathBuf>,
    /// Print a bearer token, for grpcurl and SDKs, instead of generating a key.
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
        /// Name of the context.
        name: String,
    },
    /// Add or replace a context; the first one is used from then on.
    Add {
        /// Name of the context.
        name: String,
        /// Address of the coordinator, as host:port.
        #[arg(long, value_name = "HOST:PORT", default_value = crate::config::ADDRESS)]
        coordinator: String,
        /// Directory of ca.pem, cert.pem and key.pem, which are copied; omit it for a coordinator without TLS.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Renew the context's certificate, from the CA that signs now; required before an old CA is retired.
    Renew {
        /// Name of the context; otherwise the one in use.
        name: Option<String>,
    },
    /// Remove a context and its credentials.
    Remove {
        /// Name of the context.
        name: String,
    },
}

/// `wynectl audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Continue with new entries until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Verify that no entry was altered, removed or inserted, and list the intents without an outcome by their numbers.
    /// Exit code 4 if an entry was altered, removed or inserted; 0 if all entries are intact, whether or not some
    /// intents have no outcome.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Begin with the entry of this number; otherwise with the oldest that is retained.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// Ed25519 key that must have signed, 64 hexadecimal digits. Otherwise the key that the coordinator reports is
    /// trusted.
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<wyneos_core::integrity::PublicKey>,
}

/// `wynectl ca`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Show the trusted CAs.
    Show,
    /// Create a new CA, and trust it beside the old one. Nodes receive it when they renew their certificates.
    Prepare,
    /// Make the new CA sign from now on; the old one remains trusted.
    Activate {
        /// Proceed even if some nodes will have to join again.
        #[arg(long)]
        force: bool,
    },
    /// Remove the old CA from the trusted ones.
    Retire {
        /// Proceed even if some nodes will have to join again.
        #[arg(long)]
        force: bool,
    },
}
