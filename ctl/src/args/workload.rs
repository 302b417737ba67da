//! Command lines about workloads.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::parse::timeout;

/// A declaration in a file.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The declaration, TOML or JSON; docs/workloads.md has the format.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Options of every change of a workload.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Show the resulting actions, without changing anything.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Refuse unless the workload is at this revision, as a plan reported it; 0: it must not exist.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
}

/// Whether to wait until a change is complete.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until the change is complete, and report progress; exit with 1 and the reason if it fails.
    #[arg(long, conflicts_with_all = ["no_wait", "plan"])]
    pub(crate) wait: bool,
    /// Do not wait. Only `apply` waits by default, and only on a terminal.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Time limit for waiting, after which the command exits with 1.
    #[arg(long, value_name = "DURATION", value_parser = timeout, conflicts_with_all = ["no_wait", "plan"])]
    pub(crate) wait_timeout: Option<Duration>,
}

/// `wynectl apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) declaration: PlanArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Apply even if instances would stop without a replacement.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// A workload that is to be changed.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    /// Name of the workload.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `wynectl scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Name of the workload.
    pub(crate) name: String,
    /// Desired number of instances.
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `wynectl assignments`.
#[derive(Debug, Args)]
pub(crate) struct AssignmentsArgs {
    /// Restrict the list to this workload.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) workload: String,
    /// Restrict the list to this node.
    #[arg(long, value_name = "NODE", default_value = "", hide_default_value = true)]
    pub(crate) node: String,
    /// Include ended instances.
    #[arg(long)]
    pub(crate) ended: bool,
    /// Continue with every change, one line each.
    #[arg(short = 'w', long, conflicts_with_all = ["node", "ended"])]
    pub(crate) watch: bool,
}

/// `wynectl logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The instance: its id, or its workload's name and slot as in web.3; a workload's name means its slot 0.
    pub(crate) instance: String,
    /// Show standard error instead of standard output.
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Continue with new output, and with the next instance of its slot; for an instance named by its id, until that
    /// has ended.
    #[arg(short = 'f', long, conflicts_with = "previous")]
    pub(crate) follow: bool,
    /// Show the output of the previous process; if the instance had none, of the previous instance in its slot.
    #[arg(short = 'p', long)]
    pub(crate) previous: bool,
    /// Number of bytes before the end.
    #[arg(long, value_name = "BYTES")]
    pub(crate) tail: Option<u64>,
}

/// `wynectl whatif`.
#[derive(Debug, Args)]
pub(crate) struct WhatIfArgs {
    /// Nodes and their state: `zone=a down`, `node-3 down`, `zone=a drained`.
    #[arg(value_name = "NODES STATE", num_args = 1..=2, required = true)]
    pub(crate) what: Vec<String>,
}

/// `wynectl rebalance`.
#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    /// Show the resulting actions, without changing anything.
    #[arg(long)]
    pub(crate) plan: bool,
}

/// `wynectl decisions`.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<DecisionVerb>,
    /// Maximum number of decisions, the newest.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) limit: u32,
    /// Restrict the list to pending decisions.
    #[arg(long)]
    pub(crate) pending: bool,
}

/// An answer to a decision.
#[derive(Debug, Subcommand)]
pub(crate) enum DecisionVerb {
    /// Approve a pending decision, which is then carried out.
    Approve {
        /// Id of the decision.
        id: u64,
    },
    /// Reject a pending decision.
    Reject {
        /// Id of the decision.
        id: u64,
    },
}

/// Mode of automatic actions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Only report the action.
    Observe,
    /// Wait for `wynectl decisions approve`.
    Advise,
    /// Carry out the action.
    Act,
}

/// `wynectl autonomy`.
#[derive(Debug, Args)]
pub(crate) struct AutonomyArgs {
    /// Placing the work of nodes that were given up elsewhere.
    #[arg(long)]
    pub(crate) heal: Option<Mode>,
    /// Moving work away from nodes that have too much of it.
    #[arg(long)]
    pub(crate) rebalance: Option<Mode>,
    /// Stopping work of a lower priority to make room.
    #[arg(long)]
    pub(crate) preempt: Option<Mode>,
}

/// `wynectl drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The node: its id, a unique prefix of it, or its name.
    pub(crate) node: String,
    /// Deadline, after which the remaining instances are stopped.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub(crate) deadline: Option<Duration>,
    /// Keep daemons on the node.
    #[arg(long)]
    pub(crate) keep_daemons: bool,
    /// Show the resulting actions, and whether the other nodes have room.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Do not wait until the node is empty.
    #[arg(long)]
    pub(crate) no_wait: bool,
}
