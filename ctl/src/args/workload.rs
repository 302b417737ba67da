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

/// What every change of a workload takes.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Refuse unless the workload is at this revision, as a plan told it; 0: it must not be there.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
}

/// Whether to wait until a change is through.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until it is through, and say how it goes; end with 1 and the reason if it fails.
    #[arg(long, conflicts_with_all = ["no_wait", "plan"])]
    pub(crate) wait: bool,
    /// Do not wait. Only `apply` waits without being asked to, and only on a terminal.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait no longer than this, and then end with 1.
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
    /// Also where instances would stop that nothing takes the place of
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// A workload, to be changed.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    /// The workload's name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `wynectl scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// The workload's name.
    pub(crate) name: String,
    /// How many instances there should be.
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `wynectl assignments`.
#[derive(Debug, Args)]
pub(crate) struct AssignmentsArgs {
    /// Of this workload alone.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) workload: String,
    /// On this node alone.
    #[arg(long, value_name = "NODE", default_value = "", hide_default_value = true)]
    pub(crate) node: String,
    /// Those that ended, too.
    #[arg(long)]
    pub(crate) ended: bool,
    /// Go on with every change, a line each.
    #[arg(short = 'w', long, conflicts_with_all = ["node", "ended"])]
    pub(crate) watch: bool,
}

/// `wynectl logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The instance: its id, or its workload's name and slot as in web.3; a workload's name for its slot 0.
    pub(crate) instance: String,
    /// What it writes to its standard error.
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Go on with what it writes from now on, and with the next instance of its slot; without a slot, until the instance named by its id has ended.
    #[arg(short = 'f', long, conflicts_with = "previous")]
    pub(crate) follow: bool,
    /// What the process before the present one wrote; if the instance had none, the instance before it in its slot.
    #[arg(short = 'p', long)]
    pub(crate) previous: bool,
    /// So many bytes before the end.
    #[arg(long, value_name = "BYTES")]
    pub(crate) tail: Option<u64>,
}

/// `wynectl whatif`.
#[derive(Debug, Args)]
pub(crate) struct WhatIfArgs {
    /// What would be so: `zone=a down`, `node-3 down`, `zone=a drained`.
    #[arg(value_name = "NODES STATE", num_args = 1..=2, required = true)]
    pub(crate) what: Vec<String>,
}

/// `wynectl rebalance`.
#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) plan: bool,
}

/// `wynectl decisions`.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<DecisionVerb>,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) limit: u32,
    /// Only those that wait for an answer.
    #[arg(long)]
    pub(crate) pending: bool,
}

/// What to say to a decision.
#[derive(Debug, Subcommand)]
pub(crate) enum DecisionVerb {
    /// Have it carried out.
    Approve {
        /// Its id.
        id: u64,
    },
    /// Have it not carried out.
    Reject {
        /// Its id.
        id: u64,
    },
}

/// Whether something is done of itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// It is said, and not done.
    Observe,
    /// It waits for `wynectl decisions approve`.
    Advise,
    /// It is done.
    Act,
}

/// `wynectl autonomy`.
#[derive(Debug, Args)]
pub(crate) struct AutonomyArgs {
    /// Work of nodes that were given up is placed elsewhere.
    #[arg(long)]
    pub(crate) heal: Option<Mode>,
    /// Work leaves nodes that have too much of it.
    #[arg(long)]
    pub(crate) rebalance: Option<Mode>,
    /// Work of a lower priority is stopped to make room.
    #[arg(long)]
    pub(crate) preempt: Option<Mode>,
}

/// `wynectl drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The node: its id, a unique prefix of it, or its name.
    pub(crate) node: String,
    /// What is left after this time is stopped all the same.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub(crate) deadline: Option<Duration>,
    /// Daemons stay.
    #[arg(long)]
    pub(crate) keep_daemons: bool,
    /// Only say what would be done, and whether the other nodes can take it.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Do not wait until the node is empty.
    #[arg(long)]
    pub(crate) no_wait: bool,
}
