//! The command line.

mod access;
mod backup;
mod parse;
mod workload;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use access::{
    AuditArgs, CaCommand, ContextCommand, OperatorArgs, OperatorCommand, Role, TokenArgs, TokenCommand,
};
pub(crate) use backup::{BackupArgs, BackupFile, BackupVerb, RestoreArgs};
pub(crate) use parse::{Interval, LabelChange};
pub(crate) use workload::{
    ApplyArgs, AssignmentsArgs, AutonomyArgs, ChangeArgs, DecisionVerb, DecisionsArgs, DrainArgs, LogsArgs, Mode,
    PlanArgs, RebalanceArgs, ScaleArgs, WaitArgs, WhatIfArgs, WorkloadArgs,
};

use crate::exit;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    Table,
    /// The protobuf JSON mapping: one object, or one per line for streams.
    Json,
}

/// The operator's command line tool of WyneOS.
#[derive(Debug, Parser)]
#[command(name = "wynectl", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the coordinator, as host:port; otherwise the context's, or else 127.0.0.1:7400.
    #[arg(long, global = true, env = "WYNEOS_ADDRESS", value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Context to use; otherwise the one in use.
    #[arg(long, global = true, env = "WYNEOS_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Directory of ca.pem, cert.pem and key.pem: use TLS with these credentials instead of a context's.
    #[arg(long, global = true, env = "WYNEOS_CREDENTIALS", value_name = "DIR")]
    pub(crate) credentials: Option<PathBuf>,
    /// Output format.
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write control characters and characters that reorder or hide text unchanged on a terminal, where they are
    /// escaped by default.
    #[arg(long, global = true)]
    pub(crate) raw: bool,
    /// Time limit for one answer, as in 500ms or 1m; in a stream that ends, for each of its messages.
    #[arg(long, global = true, default_value = "10s", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) timeout: Duration,
}

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes.
    Nodes {
        /// Restrict the list to nodes with this label.
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::selector)]
        label: Option<String>,
    },
    /// Show one node in full.
    Node(NodeName),
    /// Show, watch, list, verify and export the sealed snapshots of the cluster.
    Snapshot(SnapshotArgs),
    /// Show the mesh: reachability, findings, and the worst links.
    Mesh(MeshArgs),
    /// Show the newest telemetry of all nodes, or the history of one.
    Telemetry {
        /// The node: its id, a unique prefix of it, or its name.
        node: Option<String>,
        /// Restrict the output to this channel; for one node, show every sample of it.
        #[arg(long)]
        channel: Option<String>,
    },
    /// List the forecasts, the soonest threshold crossing first.
    Predictions,
    /// List events, oldest first.
    Events(EventsArgs),
    /// Explain the state of a node, a workload or an instance.
    Why {
        /// A node (its id, a unique prefix of it, or its name), a workload's name, or an instance: its id, or its workload's name
        /// and slot as in web.3.
        name: String,
    },
    /// Show where the instances of a workload would be placed, and why nodes would not accept one. Nothing is changed.
    Plan(PlanArgs),
    /// Declare a workload, which runs as declared from now on.
    Apply(ApplyArgs),
    /// List the workloads.
    Workloads,
    /// Show a workload, its instances and the results of earlier ones.
    Workload {
        /// Name of the workload.
        name: String,
    },
    /// List instances, with their nodes and addresses.
    Assignments(AssignmentsArgs),
    /// Show the output of an instance.
    Logs(LogsArgs),
    /// Change the number of instances of a workload.
    Scale(ScaleArgs),
    /// Replace the instances of a workload, as many at once as its update policy allows.
    Restart(WorkloadArgs),
    /// Continue an update beyond its canaries.
    Promote(WorkloadArgs),
    /// Stop and forget a workload; also stops orphaned instances of its name.
    Delete(WorkloadArgs),
    /// Write the coordinator's complete state, with the cluster's keys, into a file; or verify such a file.
    Backup(BackupArgs),
    /// Create the data_dir of a coordinator that is not running from a backup.
    Restore(RestoreArgs),
    /// Drain a node, and wait until it is empty.
    Drain(DrainArgs),
    /// Simulate the loss or draining of nodes, with the production logic on the present state. Nothing is changed.
    #[command(name = "whatif")]
    WhatIf(WhatIfArgs),
    /// Move work from the nodes with the highest load to those with the lowest, within the budget.
    Rebalance(RebalanceArgs),
    /// List decisions, newest first; approve or reject pending ones.
    Decisions(DecisionsArgs),
    /// Show or set the modes of automatic actions: observe, advise or act.
    Autonomy(AutonomyArgs),
    /// Cordon a node: no new work is placed on it, and running work stays.
    Cordon(NodeName),
    /// Revert a cordon or a drain.
    Uncordon(NodeName),
    /// Set and remove labels of a node.
    Label {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// KEY=VALUE sets a label, KEY- removes it.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Make a node measure and report immediately.
    Refresh(NodeName),
    /// Set a node's heartbeat interval.
    SetHeartbeat {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// 100ms to 60s, or `default` for the cluster's own.
        interval: Interval,
    },
    /// Admit a node, on the machine that it is on now.
    Admit(NodeName),
    /// Revoke a node: neither the coordinator nor its peers communicate with it any more.
    Revoke {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// The reason, for people.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Forget a node that is gone for good: its name becomes free, and its instances are given up.
    ///
    /// Only a node that is offline, left, revoked or was never admitted is forgotten, once none of its leases can still
    /// run. A revoked node stays excluded; `wynectl admit` with its id reverts that.
    Forget(ForgetArgs),
    /// Create, list and delete join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Create, list and revoke operators.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Show who changed what, and which calls were refused.
    Audit(AuditArgs),
    /// Show and replace the cluster's CA.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Manage contexts: coordinators, and the credentials used for them.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print the versions of wynectl and of the coordinator.
    Version {
        /// Print only the version of wynectl, without contacting the coordinator.
        #[arg(long)]
        client: bool,
    },
    /// Print a completion script.
    Completions {
        /// Shell to generate the script for.
        shell: clap_complete::Shell,
    },
    /// Run a scenario of faults against the engine, in virtual time, without a cluster.
    Simulate(SimulateArgs),
    /// Run a cluster on this machine.
    ///
    /// A coordinator and some agents run as separate processes of the production binaries, on loopback only, and in
    /// plaintext unless --tls is given. The command prints the process id of each, suggestions for what to try next,
    /// and one line per cycle. When a process ends, for instance because you kill it, the cluster continues, and the
    /// command that starts the process again is printed. Ctrl-C or SIGTERM drains the cluster and leaves no process,
    /// file or control group; a second one does not wait.
    ///
    /// From another terminal, `wynectl dev kill`, `stop`, `cont` and `start` act on one of its processes.
    Dev(crate::dev::DevCommand),
    /// Print this reference as Markdown.
    #[command(hide = true)]
    Docs,
}

/// A node.
#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// The node: its id, a unique prefix of it, or its name.
    pub(crate) node: String,
}

/// `wynectl forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The node: its id, a unique prefix of it, or its name.
    pub(crate) node: String,
    /// Show which instances would be given up and which would be started elsewhere; nothing is changed.
    #[arg(long)]
    pub(crate) plan: bool,
    /// The reason, for people.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// `wynectl simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// File of the scenario, in TOML; docs/simulator.md has the format.
    pub(crate) file: PathBuf,
    /// Seed of all random draws.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Number of seeds to run, beginning with that one.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
}

/// `wynectl events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Continue with new events until interrupted. A lost connection is resumed without gaps.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the event of this number; otherwise with the oldest that is retained.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// Restrict the list to events about this node: its id, a unique prefix of it, or its name.
    #[arg(long)]
    pub(crate) node: Option<String>,
}

/// `wynectl mesh`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MeshArgs {
    #[command(subcommand)]
    pub(crate) command: Option<MeshCommand>,
    /// Number of the worst links to show.
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub(crate) worst: usize,
}

/// Queries of the mesh; without one of these, all of it is shown.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Estimate the round-trip time between two nodes, whether or not they probe one another.
    Rtt {
        /// The first node: its id, a unique prefix of it, or its name.
        from: String,
        /// The second node, likewise.
        to: String,
    },
}

/// `wynectl snapshot`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SnapshotCommand>,
    #[command(flatten)]
    pub(crate) get: GetArgs,
}

/// Operations on snapshots; without one of these, `get`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Show a snapshot.
    Get(GetArgs),
    /// Show every snapshot as it is published, until interrupted.
    Watch(WatchArgs),
    /// List the retained seals, newest first.
    List,
    /// Verify seals and their chain, of the coordinator or of an exported file.
    Verify(VerifyArgs),
    /// Write verified snapshots to a file.
    Export(ExportArgs),
}

/// `wynectl snapshot get`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GetArgs {
    /// Cycle of the snapshot; otherwise the newest.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) cycle: Option<u64>,
}

/// `wynectl snapshot watch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchArgs {
    /// Receive the full state every cycle, rather than the changes.
    #[arg(long)]
    pub(crate) full: bool,
    /// Continue after the message that had this token.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume: Option<String>,
    /// Restrict the output to these sections.
    #[arg(long, value_enum, num_args = 1..)]
    pub(crate) section: Vec<Section>,
    /// Restrict the output to nodes with this label.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::selector)]
    pub(crate) label: Option<String>,
}

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum Section {
    Nodes = 1,
    Telemetry = 2,
    Predictive = 3,
    Mesh = 4,
    Autonomy = 5,
    Behaviour = 6,
    Integrity = 7,
    Coherence = 8,
}

/// A range of cycles.
#[derive(Clone, Debug, Args)]
pub(crate) struct Range {
    /// First cycle; otherwise the oldest that is retained.
    #[arg(long, value_name = "CYCLE", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// Last cycle; otherwise the newest.
    #[arg(long, value_name = "CYCLE", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
}

/// `wynectl snapshot verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) range: Range,
    /// Verify an exported file instead, without contacting the coordinator.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) file: Option<PathBuf>,
    /// Ed25519 key that must have signed, 64 hexadecimal digits. Otherwise the key that the coordinator or the file
    /// reports is trusted, which shows that nothing was altered, but not who signed.
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<wyneos_core::integrity::PublicKey>,
}

/// `wynectl snapshot export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// File for the snapshots. It appears, or replaces an existing file, only once it is complete.
    #[arg(long)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) range: Range,
}

#[cfg(test)]
mod tests;
