//! The commands.

mod access;
mod assignments;
mod audit;
mod backup;
mod changes;
mod cluster;
mod contexts;
mod decisions;
mod drain;
mod events;
mod follow;
mod forget;
mod mesh;
mod predictions;
mod settle;
mod simulate;
mod snapshot;
mod telemetry;
mod verbs;
#[cfg(test)]
mod views;
mod why;
#[cfg(test)]
mod widths;
mod workloads;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use tonic::transport::Channel;
use wyneos::{client, v1};

use crate::{
    args::{BackupArgs, BackupVerb, Cli, Command, Global},
    config::{self, Asked, Way},
    context::Context,
    exit::{self, Exit},
    failure::Failure,
    text,
};

/// Rows requested at once.
const PAGE: u32 = 1_000;

/// Executes the command line.
pub(crate) async fn run(cli: Cli) -> ExitCode {
    if cli.global.raw {
        text::keep_raw();
    }
    if let Command::Dev(args) = cli.command {
        return crate::dev::run(args, &cli.global).await;
    }
    let Global {
        address,
        context,
        credentials,
        format,
        timeout,
        ..
    } = cli.global;
    let asked = Asked {
        address,
        context,
        credentials,
    };
    let done = match cli.command {
        // These commands contact no coordinator, and repair what prevents others from running.
        Command::Context(args) => contexts::run(&Context::new(Way::nowhere(), timeout, format), args).await,
        Command::Restore(args) => backup::restore(args).await,
        Command::Backup(BackupArgs {
            verb: Some(BackupVerb::Verify(file)),
            ..
        }) => backup::verify(&Context::new(Way::nowhere(), timeout, format), &file),
        other => match config::way(asked) {
            Ok(way) => command(&Context::new(way, timeout, format), other).await,
            Err(failure) => Err(failure),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

async fn command(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Nodes { label } => cluster::nodes(context, label).await,
        Command::Node(name) => cluster::node(context, name.node).await,
        Command::Snapshot(args) => snapshot::run(context, args).await,
        Command::Mesh(args) => mesh::run(context, args).await,
        Command::Telemetry { node: None, channel } => telemetry::matrix(context, channel).await,
        Command::Telemetry {
            node: Some(node),
            channel,
        } => telemetry::history(context, node, channel).await,
        Command::Predictions => predictions::run(context).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Simulate(args) => simulate::run(context, args).await,
        Command::Why { name } => why::run(context, name).await,
        Command::Plan(args) => workloads::plan(context, args).await,
        Command::Apply(args) => workloads::apply(context, args).await,
        Command::Workloads => workloads::list(context).await,
        Command::Workload { name } => workloads::show(context, name).await,
        Command::Assignments(args) => assignments::assignments(context, args).await,
        Command::Logs(args) => assignments::logs(context, args).await,
        Command::Scale(args) => workloads::scale(context, args).await,
        Command::Restart(args) => workloads::restart(context, args).await,
        Command::Promote(args) => workloads::promote(context, args).await,
        Command::Delete(args) => workloads::delete(context, args).await,
        Command::Drain(args) => drain::drain(context, args).await,
        Command::WhatIf(args) => workloads::what_if(context, args).await,
        Command::Rebalance(args) => workloads::rebalance(context, args).await,
        Command::Decisions(args) => decisions::run(context, args).await,
        Command::Autonomy(args) => decisions::autonomy(context, args).await,
        Command::Cordon(name) => verbs::cordon(context, name.node).await,
        Command::Uncordon(name) => verbs::uncordon(context, name.node).await,
        Command::Label { node, changes } => verbs::label(context, node, changes).await,
        Command::Refresh(name) => verbs::refresh(context, name.node).await,
        Command::SetHeartbeat { node, interval } => verbs::set_heartbeat(context, node, interval).await,
        Command::Admit(name) => access::admit(context, name.node).await,
        Command::Revoke { node, reason } => access::revoke(context, node, reason).await,
        Command::Forget(args) => forget::run(context, args).await,
        Command::Token(args) => access::tokens::token(context, args).await,
        Command::Operator(args) => access::operators::operator(context, args).await,
        Command::Ca(args) => access::authorities::ca(context, args).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Version { client } => cluster::version(context, client).await,
        Command::Completions { shell } => {
            // Into memory first: the generator panics if its output is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wynectl", &mut script);
            io::stdout().write_all(&script).map_err(Failure::output)
        }
        Command::Backup(args) => backup::run(context, args).await,
        // See `run`.
        Command::Dev(_) | Command::Restore(_) | Command::Context(_) => Ok(()),
        Command::Docs => io::stdout().write_all(docs().as_bytes()).map_err(Failure::output),
    }
}

/// The command reference.
fn docs() -> String {
    // Markdown would join the footer's lines.
    let footer = |line: &str| match line.strip_prefix("  ") {
        Some(item) => format!("* {item}\n"),
        None => format!("{line}\n"),
    };
    let command = Cli::command().after_help(exit::HELP.lines().map(footer).collect::<String>());
    let options = clap_markdown::MarkdownOptions::new()
        .title("wynectl".to_owned())
        .show_footer(false);
    clap_markdown::help_markdown_command_custom(&command, &options)
}

/// Refuses a page token that refers to its own page, which would never end.
fn next_page(what: &str, token: &mut String, next: &mut String) -> Result<bool, Failure> {
    if next.is_empty() {
        return Ok(false);
    }
    if next == token {
        return Err(Failure::new(
            Exit::Failed,
            format!("{what}: the server's pages have no end"),
        ));
    }
    *token = std::mem::take(next);
    Ok(true)
}

/// The `sections` of the newest snapshot.
async fn sections(
    context: &Context,
    channel: Channel,
    sections: &[v1::Section],
) -> Result<v1::GetSnapshotResponse, Failure> {
    let request = v1::GetSnapshotRequest {
        sections: sections.iter().map(|section| (*section).into()).collect(),
        ..v1::GetSnapshotRequest::default()
    };
    context
        .call("get the snapshot", client::coherence(channel).get_snapshot(request))
        .await
}

/// Names of nodes by id, clean.
struct Names(BTreeMap<String, String>);

impl Names {
    fn new(nodes: &[v1::NodeRow]) -> Names {
        Names(
            nodes
                .iter()
                .map(|node| (node.id.clone(), text::clean(&node.name)))
                .collect(),
        )
    }

    /// The node's name; the beginning of its id if the node is no longer in the snapshot.
    fn of(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| text::short(id))
    }

    /// The names of some nodes.
    fn list(&self, ids: &[String]) -> String {
        ids.iter().map(|id| self.of(id)).collect::<Vec<_>>().join(", ")
    }
}

/// A remark for a table without rows; standard output stays empty.
fn nothing(what: &str) {
    text::stderr(&format!("no {what}"));
}

/// The reason for which a temporary file failed, without its name: users know the path that they gave.
fn of_temporary(error: &std::io::Error) -> String {
    let told = error.to_string();
    told.split(" at path ").next().unwrap_or_default().to_owned()
}
