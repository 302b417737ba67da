//! Backups: creation, verification and restore.

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use tokio::process::Command;
use wyneos::{
    backup::{self, Contents, MAGIC},
    client, v1,
};
use wyneos_core::integrity::PublicKey;

use super::of_temporary;
use crate::{
    args::{BackupArgs, BackupFile, RestoreArgs},
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Fields, clean},
};

const BACKUP: &str = "create a backup";

/// `wynectl backup`. The file is verified before it gets its name.
pub(crate) async fn run(context: &Context, args: BackupArgs) -> Result<(), Failure> {
    let output = args.output.unwrap_or_default();
    let io = |error: std::io::Error| {
        let cause = of_temporary(&error);
        Failure::new(Exit::Failed, format!("{BACKUP} in {}: {cause}", output.display()))
    };
    // In the same directory as the file, so that the rename is atomic; temporary files are readable by their owner
    // only.
    let directory = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut whole = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    let mut client = client::cluster(context.connect().await?);
    let mut parts = context.call(BACKUP, client.backup(v1::BackupRequest {})).await?;
    let mut writer = BufWriter::new(whole.as_file());
    writer.write_all(MAGIC).map_err(io)?;
    loop {
        let part = match tokio::time::timeout(context.timeout, parts.message()).await {
            Ok(Ok(Some(part))) => part,
            Ok(Ok(None)) => break,
            Ok(Err(status)) => return Err(context.failed(BACKUP, &status)),
            Err(_) => return Err(Failure::timeout(BACKUP, context.timeout, &context.address)),
        };
        writer.write_all(&part.encode_length_delimited_to_vec()).map_err(io)?;
    }
    writer.flush().map_err(io)?;
    drop(writer);
    whole.as_file_mut().rewind().map_err(io)?;
    let contents =
        backup::verify(BufReader::new(whole.as_file()), None).map_err(|error| Failure::export(BACKUP, &error))?;
    whole.as_file().sync_all().map_err(io)?;
    whole.persist(&output).map_err(|error| io(error.error))?;
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(io)?;
    text::stderr(&format!(
        "{} contains the cluster's keys: its holder can impersonate the cluster",
        output.display()
    ));
    context.show(&contents.header, |_| told(&contents))
}

/// `wynectl backup verify`.
pub(crate) fn verify(context: &Context, args: &BackupFile) -> Result<(), Failure> {
    let contents = read(&args.file, args.public_key)?;
    if args.public_key.is_none() {
        text::stderr("signed by the key inside the backup; verify against your own copy with --public-key");
    }
    context.show(&contents.header, |_| told(&contents))
}

fn read(file: &Path, trusted: Option<PublicKey>) -> Result<Contents, Failure> {
    let what = format!("verify {}", file.display());
    let opened = File::open(file).map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("{what}: {error}"))
    })?;
    backup::verify(BufReader::new(opened), trusted).map_err(|error| Failure::export(&what, &error))
}

/// The contents of a backup.
fn told(contents: &Contents) -> String {
    let header = &contents.header;
    let mut fields = Fields::default();
    fields.add("cluster", clean(&header.cluster_id));
    fields.add("as of", text::timestamp(header.time.as_ref()));
    fields.add("epoch, cycle", format!("{}, {}", header.epoch, header.cycle));
    fields.add("newest event", header.event_sequence.to_string());
    fields.add(
        "created by",
        format!("coordinator {}", clean(&header.coordinator_version)),
    );
    fields.add("signed by", text::hex(&header.public_key));
    let count = |kind| contents.count(kind).to_string();
    fields.add("nodes", count(v1::BackupKind::Node));
    fields.add("instances", count(v1::BackupKind::Assignment));
    fields.add("events", count(v1::BackupKind::Event));
    fields.add("audit entries", count(v1::BackupKind::Audit));
    let list = |names: &[String]| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
    fields.add("workloads", list(&contents.workloads));
    fields.add("keys", list(&contents.files));
    fields.text()
}

/// `wynectl restore`: the coordinator's own program writes its data_dir.
pub(crate) async fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let RestoreArgs {
        backup: BackupFile { file, public_key },
        data_dir,
    } = args;
    read(&file, public_key)?;
    let program = coordinator();
    let mut command = Command::new(&program);
    command.arg("restore").arg(&file).arg("--data-dir").arg(&data_dir);
    if let Some(key) = public_key {
        command.arg("--public-key").arg(text::hex(&key.0));
    }
    let output = command.output().await.map_err(|error| {
        let message = format!("cannot run {}: {error}", program.display());
        Failure::new(Exit::Failed, message).hint("run this on the host where the coordinator is installed")
    })?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(Failure::new(Exit::Failed, said(&output.stderr)));
    }
    let told = format!("{}\n", clean(&said(&output.stdout)));
    std::io::stdout().write_all(told.as_bytes()).map_err(Failure::output)
}

/// The coordinator's program: beside this one, or in PATH.
fn coordinator() -> PathBuf {
    let name = "wyneos-coordinator";
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(name)));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
