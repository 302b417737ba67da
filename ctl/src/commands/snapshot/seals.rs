//! Seals: listing, verification, export.

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind},
    path::Path,
};

use tonic::{Streaming, transport::Channel};
use wyneos::{
    client,
    export::{self, Chain, ExportError, Writer},
    v1,
};
use wyneos_core::{id::ClusterId, integrity::PublicKey};

use super::super::{PAGE, next_page, nothing, of_temporary};
use crate::{
    args::{ExportArgs, Range, VerifyArgs},
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table},
};

/// `wynectl snapshot list`.
pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let what = "list the snapshots";
    let mut client = client::coherence(context.connect().await?);
    let mut merged = v1::ListSnapshotsResponse::default();
    let mut token = String::new();
    loop {
        let request = v1::ListSnapshotsRequest {
            page_size: PAGE,
            page_token: token.clone(),
        };
        let mut page = context.call(what, client.list_snapshots(request)).await?;
        merged.entries.append(&mut page.entries);
        (merged.public_key, merged.cluster_id) = (page.public_key, page.cluster_id);
        if !next_page(what, &mut token, &mut page.next_page_token)? {
            break;
        }
    }
    if merged.entries.is_empty() && !context.is_json() {
        nothing("snapshots");
        return Ok(());
    }
    context.show(&merged, |merged| {
        let mut table = Table::new(["CYCLE", "EPOCH", "TIME", "AGE", "SIZE", "DIGEST", "KEY"]);
        for entry in &merged.entries {
            let seal = entry.seal.clone().unwrap_or_default();
            table.row([
                seal.cycle.to_string(),
                seal.epoch.to_string(),
                text::timestamp(entry.time.as_ref()),
                text::age(entry.time.as_ref()),
                text::bytes(entry.size_bytes as f64),
                text::short(&text::hex(&seal.digest)),
                text::hex(&seal.key_id),
            ]);
        }
        table.text(0)
    })
}

/// The signer of the seals, as reported by the coordinator.
struct Signer {
    cluster: ClusterId,
    key: PublicKey,
}

impl Signer {
    async fn ask(context: &Context, channel: Channel) -> Result<Signer, Failure> {
        let what = "ask for the public key";
        let request = v1::ListSnapshotsRequest {
            page_size: 1,
            ..v1::ListSnapshotsRequest::default()
        };
        let mut client = client::coherence(channel);
        let answer = context.call(what, client.list_snapshots(request)).await?;
        let bad = |field| {
            Failure::new(
                Exit::Failed,
                format!("{what}: the coordinator's {field} cannot be read"),
            )
        };
        Ok(Signer {
            cluster: answer.cluster_id.parse().map_err(|_| bad("cluster id"))?,
            key: PublicKey(answer.public_key.try_into().map_err(|_| bad("public key"))?),
        })
    }
}

/// Sealed snapshots, as the coordinator sends them.
struct Records<'a> {
    context: &'a Context,
    stream: Streaming<v1::ReadSnapshotsResponse>,
}

const READ: &str = "read the snapshots";

impl Records<'_> {
    async fn open<'a>(context: &'a Context, channel: Channel, range: &Range) -> Result<Records<'a>, Failure> {
        let request = v1::ReadSnapshotsRequest {
            from_cycle: range.from.unwrap_or_default(),
            to_cycle: range.to.unwrap_or_default(),
        };
        let mut client = client::coherence(channel);
        let stream = context.call(READ, client.read_snapshots(request)).await?;
        Ok(Records { context, stream })
    }

    async fn next(&mut self) -> Result<Option<v1::ReadSnapshotsResponse>, Failure> {
        let Context { address, timeout, .. } = self.context;
        match tokio::time::timeout(*timeout, self.stream.message()).await {
            Ok(Ok(record)) => Ok(record),
            Ok(Err(status)) => Err(self.context.failed(READ, &status)),
            Err(_) => Err(Failure::timeout(READ, *timeout, address)),
        }
    }
}

/// Remarks about snapshots missing at either end, which a chain cannot show.
fn remark_ends(range: &Range, header: &v1::ExportHeader) {
    if let Some(from) = range.from.filter(|from| *from < header.from_cycle) {
        let last = header.from_cycle - 1;
        text::stderr(&format!("cycles {from} to {last} are not retained"));
    }
    if let Some(to) = range.to.filter(|to| *to > header.to_cycle) {
        let first = header.to_cycle + 1;
        text::stderr(&format!("cycles {first} to {to} do not exist"));
    }
}

fn none_kept() -> Failure {
    Failure::new(Exit::NotFound, format!("{READ}: none of these cycles is retained"))
        .hint("`wynectl snapshot list` lists the retained ones")
}

/// `wynectl snapshot verify`.
pub(super) async fn verify(context: &Context, args: VerifyArgs) -> Result<(), Failure> {
    let header = match &args.file {
        Some(file) => verify_file(file, args.public_key)?,
        None => verify_kept(context, &args).await?,
    };
    if args.public_key.is_none() {
        let whose = if args.file.is_some() { "file" } else { "coordinator" };
        text::stderr(&format!(
            "the key is reported by the {whose} itself; use --public-key for one that you trust"
        ));
    }
    context.show(&header, |header| told("verified", header))
}

fn told(done: &str, header: &v1::ExportHeader) -> String {
    let snapshots = text::count(header.count, "snapshot");
    let (from, to) = (header.from_cycle, header.to_cycle);
    let (cluster, key) = (text::clean(&header.cluster_id), text::hex(&header.public_key));
    let told = format!("{done} {snapshots}, cycles {from} to {to}, of cluster {cluster}, signed by {key}");
    text::hanging("", &told, 4, text::columns())
}

fn verify_file(file: &Path, trusted: Option<PublicKey>) -> Result<v1::ExportHeader, Failure> {
    let what = format!("verify {}", file.display());
    let opened = File::open(file).map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("{what}: {error}"))
    })?;
    export::verify(BufReader::new(opened), trusted).map_err(|error| Failure::export(&what, &error))
}

async fn verify_kept(context: &Context, args: &VerifyArgs) -> Result<v1::ExportHeader, Failure> {
    let failed = |error: ExportError| Failure::export("verify the snapshots", &error);
    let channel = context.connect().await?;
    let signer = Signer::ask(context, channel.clone()).await?;
    let key = args.public_key.unwrap_or(signer.key);
    let mut chain = Chain::new(signer.cluster, key).map_err(failed)?;
    let mut records = Records::open(context, channel, &args.range).await?;
    while let Some(record) = records.next().await? {
        chain.check(&record).map_err(failed)?;
    }
    let (from_cycle, to_cycle) = chain.cycles().ok_or_else(none_kept)?;
    let header = v1::ExportHeader {
        cluster_id: signer.cluster.to_string(),
        public_key: key.0.to_vec(),
        from_cycle,
        to_cycle,
        count: chain.count(),
    };
    remark_ends(&args.range, &header);
    Ok(header)
}

/// `wynectl snapshot export`.
pub(super) async fn export(context: &Context, args: ExportArgs) -> Result<(), Failure> {
    let what = format!("export to {}", args.output.display());
    let io = |error: std::io::Error| Failure::new(Exit::Failed, format!("{what}: {}", of_temporary(&error)));
    let failed = |error: ExportError| Failure::export(&what, &error);
    // In the same directory as the file, so that the rename is atomic.
    let directory = match args.output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let spool = tempfile::tempfile_in(directory).map_err(io)?;
    let channel = context.connect().await?;
    let signer = Signer::ask(context, channel.clone()).await?;
    let mut writer = Writer::new(spool, signer.cluster, signer.key).map_err(failed)?;
    let mut records = Records::open(context, channel, &args.range).await?;
    let mut any = false;
    while let Some(record) = records.next().await? {
        writer.write(&record).map_err(failed)?;
        any = true;
    }
    if !any {
        return Err(none_kept());
    }
    let whole = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    let header = writer.finish(BufWriter::new(whole.as_file())).map_err(failed)?;
    whole.as_file().sync_all().map_err(io)?;
    whole.persist(&args.output).map_err(|error| io(error.error))?;
    remark_ends(&args.range, &header);
    context.show(&header, |header| told("exported", header))
}
