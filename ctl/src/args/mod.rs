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

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The protobuf JSON mapping: one object, or one a line for streams.
    Json,
}

/// The operator's tool of WyneOS.
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
    /// The coordinator, as host:port; else the context's, else 127.0.0.1:7400.
    #[arg(long, global = true, env = "WYNEOS_ADDRESS", value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// The context to use; else the one in use.
    #[arg(long, global = true, env = "WYNEOS_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Folder of ca.pem, cert.pem and key.pem: talk TLS by these instead of a context's.
    #[arg(long, global = true, env = "WYNEOS_CREDENTIALS", value_name = "DIR")]
    pub(crate) credentials: Option<PathBuf>,
    /// How answers are written.
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write control characters and what reorders or hides text as they are, also on a terminal, where they are shown escaped otherwise.
    #[arg(long, global = true)]
    pub(crate) raw: bool,
    /// How long one answer may take, as in 500ms or 1m; in a stream that ends, each of its messages.
    #[arg(long, global = true, default_value = "10s", value_parser = parse::timeout, value_name = "SPAN")]
    pub(crate) timeout: Duration,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes.
    Nodes {
        /// Only nodes with this label.
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::selector)]
        label: Option<String>,
    },
    /// Show one node in full.
    Node(NodeName),
    /// Show, watch, list, verify and export the sealed snapshots of the cluster.
    Snapshot(SnapshotArgs),
    /// Show the mesh: who reaches whom, what was found, and the worst links.
    Mesh(MeshArgs),
    /// Show the newest telemetry of all nodes, or the history of one.
    Telemetry {
        /// The node: its id, a unique prefix of it, or its name.
        node: Option<String>,
        /// Only this channel; of one node, every sample of it.
        #[arg(long)]
        channel: Option<String>,
    },
    /// List the forecasts, the soonest threshold first.
    Predictions,
    /// List what happened, oldest first.
    Events(EventsArgs),
    /// Explain why a node, a workload or an instance is as it is.
    Why {
        /// A node (its id, a unique prefix of it, or its name), a workload's name, or an instance: its id, or its workload's name
        /// and slot as in web.3.
        name: String,
    },
    /// Show where the instances of a workload would go, and why nodes would not take one. Nothing is changed.
    Plan(PlanArgs),
    /// Have a workload run as it is declared, from now on.
    Apply(ApplyArgs),
    /// List the workloads.
    Workloads,
    /// Show a workload, its instances and what became of them.
    Workload {
        /// Its name.
        name: String,
    },
    /// List instances, where they are and where they are reached.
    Assignments(AssignmentsArgs),
    /// Show what an instance writes.
    Logs(LogsArgs),
    /// Change the number of a workload's instances.
    Scale(ScaleArgs),
    /// Replace a workload's instances, as many at once as its update policy allows.
    Restart(WorkloadArgs),
    /// Let an update go on beyond its canaries.
    Promote(WorkloadArgs),
    /// End a workload and forget it; also what runs by its name and no workload has.
    Delete(WorkloadArgs),
    /// Write all that the coordinator keeps, with the cluster's keys, into a file; or verify such a file.
    Backup(BackupArgs),
    /// Make the data_dir of a coordinator that is not running from a backup.
    Restore(RestoreArgs),
    /// Have a node emptied of its work, and wait until it is.
    Drain(DrainArgs),
    /// Show what would happen if nodes were lost or emptied: the shipped logic on the present state. Nothing is changed.
    #[command(name = "whatif")]
    WhatIf(WhatIfArgs),
    /// Have work leave the nodes that have most of it for those that have least, as far as the budget goes.
    Rebalance(RebalanceArgs),
    /// List decisions, newest first; approve or reject those that wait.
    Decisions(DecisionsArgs),
    /// Show or set what is done of itself: observe, advise or act.
    Autonomy(AutonomyArgs),
    /// Place no new work on a node; what runs stays.
    Cordon(NodeName),
    /// Take a cordon or a drain back.
    Uncordon(NodeName),
    /// Set and remove labels of a node.
    Label {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// KEY=VALUE sets a label, KEY- removes it.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Have a node measure and report now.
    Refresh(NodeName),
    /// Set a node's heartbeat interval.
    SetHeartbeat {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// 100ms to 60s, or `default` for the cluster's own.
        interval: Interval,
    },
    /// Let a node take part, on the machine that it is on now.
    Admit(NodeName),
    /// Shut a node out: neither the coordinator nor its peers talk to it any more.
    Revoke {
        /// The node: its id, a unique prefix of it, or its name.
        node: String,
        /// Why, for people.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Forget a node that is gone for good: its name is free, and what ran on it is given up.
    ///
    /// Only a node that is offline, left, revoked or was never admitted is forgotten, once no lease of it can run any more. A revoked
    /// node stays shut out; `wynectl admit` with its id takes that back.
    Forget(ForgetArgs),
    /// Make, list and delete join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, list and shut out operators.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Show who did what, and who was refused.
    Audit(AuditArgs),
    /// Show the cluster's CA, and replace it.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Say which coordinators there are, and by which credentials they are talked to.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print the versions of wynectl and of the coordinator.
    Version {
        /// Only that of wynectl, without asking the coordinator.
        #[arg(long)]
        client: bool,
    },
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run a scenario of faults against the engine, in virtual time, without a cluster.
    Simulate(SimulateArgs),
    /// Run a cluster on this machine.
    ///
    /// A coordinator and some agents run as separate processes of the production binaries, on loopback only, and plaintext unless --tls is
    /// given. It prints the process id of each, what to try next, and a line a cycle. When a process ends, for instance because you kill it, the cluster goes on, and the command that starts the process again is
    /// printed. Ctrl-C or SIGTERM drains the cluster and leaves no process, file or control group; a second one does not wait.
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
    /// Show what would be given up and what would be started elsewhere; nothing is changed.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Why, for people.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// `wynectl simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The scenario, in TOML; docs/simulator.md has the format.
    pub(crate) file: PathBuf,
    /// The seed; everything that is drawn is drawn from it.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// How many seeds to run, from that one on.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
}

/// `wynectl events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until interrupted. A lost connection is taken up again where it was.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the event of this number; otherwise with the oldest that is kept.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// Only events about this node: its id, a unique prefix of it, or its name.
    #[arg(long)]
    pub(crate) node: Option<String>,
}

/// `wynectl mesh`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MeshArgs {
    #[command(subcommand)]
    pub(crate) command: Option<MeshCommand>,
    /// How many of the worst links to show.
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub(crate) worst: usize,
}

/// What to ask the mesh; without one of these, all of it is shown.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Estimate the round-trip time between two nodes, whether they probe one another or not.
    Rtt {
        /// The one: its id, a unique prefix of it, or its name.
        from: String,
        /// The other, likewise.
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

/// What to do with snapshots; without one of these, `get`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Show a snapshot.
    Get(GetArgs),
    /// Show every snapshot as it is published, until interrupted.
    Watch(WatchArgs),
    /// List the seals that are kept, newest first.
    List,
    /// Verify seals and their chain, of the coordinator or of an exported file.
    Verify(VerifyArgs),
    /// Write verified snapshots to a file.
    Export(ExportArgs),
}

/// `wynectl snapshot get`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GetArgs {
    /// Cycle of the one wanted; otherwise the newest.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) cycle: Option<u64>,
}

/// `wynectl snapshot watch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchArgs {
    /// Get the full state every cycle, not what changed.
    #[arg(long)]
    pub(crate) full: bool,
    /// Go on behind the message that had this token.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume: Option<String>,
    /// Only these sections.
    #[arg(long, value_enum, num_args = 1..)]
    pub(crate) section: Vec<Section>,
    /// Only nodes with this label.
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

/// The cycles wanted.
#[derive(Clone, Debug, Args)]
pub(crate) struct Range {
    /// The first cycle; otherwise the oldest that is kept.
    #[arg(long, value_name = "CYCLE", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// The last cycle; otherwise the newest.
    #[arg(long, value_name = "CYCLE", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
}

/// `wynectl snapshot verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) range: Range,
    /// Verify an exported file instead; the coordinator is not asked.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) file: Option<PathBuf>,
    /// The Ed25519 key that must have signed, 64 hexadecimal digits. Otherwise the coordinator's or the file's own word
    /// is taken for it, which shows that nothing was altered but not who signed.
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<wyneos_core::integrity::PublicKey>,
}

/// `wynectl snapshot export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file. It appears, or replaces one, only when it is whole.
    #[arg(long)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) range: Range,
}

#[cfg(test)]
mod tests;
