//! `wynectl snapshot`.

mod seals;
pub(super) mod view;
pub(super) mod watch;

use wyneos::{client, v1};

use crate::{
    args::{GetArgs, SnapshotArgs, SnapshotCommand},
    context::Context,
    failure::Failure,
};

/// Without a subcommand, shows the newest snapshot.
pub(crate) async fn run(context: &Context, args: SnapshotArgs) -> Result<(), Failure> {
    match args.command {
        None => get(context, args.get).await,
        Some(SnapshotCommand::Get(args)) => get(context, args).await,
        Some(SnapshotCommand::Watch(args)) => watch::run(context, args).await,
        Some(SnapshotCommand::List) => seals::list(context).await,
        Some(SnapshotCommand::Verify(args)) => seals::verify(context, args).await,
        Some(SnapshotCommand::Export(args)) => seals::export(context, args).await,
    }
}

async fn get(context: &Context, args: GetArgs) -> Result<(), Failure> {
    let mut client = client::coherence(context.connect().await?);
    let what = match args.cycle {
        Some(cycle) => format!("get the snapshot of cycle {cycle}"),
        None => "get the newest snapshot".to_owned(),
    };
    let request = v1::GetSnapshotRequest {
        cycle: args.cycle.unwrap_or_default(),
        ..v1::GetSnapshotRequest::default()
    };
    let answer = context.call(&what, client.get_snapshot(request)).await?;
    context.show(&answer, |answer| {
        let snapshot = answer.snapshot.clone().unwrap_or_default();
        // A snapshot from history has no age.
        let age = answer.age.filter(|_| args.cycle.is_none());
        view::full(&snapshot, answer.seal.as_ref(), age.as_ref())
    })
}
