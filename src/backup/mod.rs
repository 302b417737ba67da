//! Backups: the complete durable state of a coordinator in one file that is verified on every read.
//!
//! The format is the bytes `"WYNEOSB\x01"` followed by [`BackupResponse`](v1::BackupResponse)s, each prefixed by its
//! length as a varint: a header, the records by kind, and an end with the BLAKE3 digest of everything before it and the
//! coordinator's signature of the digest.

mod reader;

use prost::Message as _;
pub use reader::{Reader, verify};
use wyneos_core::{
    access::Access,
    autonomy::Policy,
    event::Event,
    integrity::DigestSigner,
    node::NodeRecord,
    workload::{Assignment, Workload},
};

use crate::v1::{self, BackupKind, backup_response::Part};

/// Beginning of the file: a name and the format version.
pub const MAGIC: &[u8; 8] = b"WYNEOSB\x01";

/// Maximum size of a record's value, in bytes; longer values continue in the next record.
pub const PIECE: usize = 256 * 1024;

/// Maximum size of a part, in bytes.
const PART_MAX: u64 = PIECE as u64 + 4_096;

/// A durable record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A file of the `data_dir` with a key or certificate: its name there and its contents.
    File(String, Vec<u8>),
    /// Join tokens and operators.
    Access(Box<Access>),
    /// Policy of Autonomy.
    Policy(Policy),
    /// A node.
    Node(Box<NodeRecord>),
    /// A workload.
    Workload(Box<Workload>),
    /// An instance.
    Assignment(Box<Assignment>),
    /// An event.
    Event(Box<Event>),
    /// An entry of the audit.
    Audit(Box<v1::AuditEntry>),
    /// The newest sealed snapshot, after which the chain continues.
    Snapshot(v1::SealedEntry, Vec<u8>),
}

/// Contents of a backup; valid once it was read completely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The header.
    pub header: v1::BackupHeader,
    /// Number of records of each kind.
    pub counts: Vec<(BackupKind, u64)>,
    /// Names of the workloads.
    pub workloads: Vec<String>,
    /// Names of the files.
    pub files: Vec<String>,
}

impl Contents {
    /// Number of records of a kind.
    pub fn count(&self, kind: BackupKind) -> u64 {
        let found = self.counts.iter().find(|(of, _)| *of == kind);
        found.map_or(0, |(_, count)| *count)
    }
}

/// Creates the parts of a backup and the digest of them.
pub struct Maker {
    hasher: blake3::Hasher,
    signer: DigestSigner,
}

impl Maker {
    /// Creates a backup signed by `signer`.
    pub fn new(signer: DigestSigner) -> Maker {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC);
        Maker { hasher, signer }
    }

    fn part(&mut self, part: Part) -> v1::BackupResponse {
        let part = v1::BackupResponse { part: Some(part) };
        self.hasher.update(&part.encode_length_delimited_to_vec());
        part
    }

    /// Creates the first part.
    pub fn header(&mut self, header: v1::BackupHeader) -> v1::BackupResponse {
        let public_key = self.signer.public_key().0.to_vec();
        self.part(Part::Header(v1::BackupHeader { public_key, ..header }))
    }

    /// Creates the parts of one record, each of bounded size.
    pub fn record<'a>(
        &'a mut self,
        kind: BackupKind,
        name: &'a str,
        value: &'a [u8],
    ) -> impl Iterator<Item = v1::BackupResponse> + 'a {
        let last = value.len().div_ceil(PIECE).max(1) - 1;
        (0..=last).map(move |at| {
            let piece = &value[at * PIECE..value.len().min((at + 1) * PIECE)];
            self.part(Part::Record(v1::BackupRecord {
                kind: kind.into(),
                name: name.to_owned(),
                value: piece.to_vec(),
                more: at < last,
            }))
        })
    }

    /// Creates the last part.
    pub fn end(self) -> v1::BackupResponse {
        let digest = self.hasher.finalize().into();
        let end = v1::BackupEnd {
            digest: Vec::from(digest),
            signature: self.signer.sign(&digest).to_vec(),
        };
        let part = Some(Part::End(end));
        v1::BackupResponse { part }
    }
}

/// Whether a name is that of a file included in backups; a restoration writes no other file.
fn is_file_name(name: &str) -> bool {
    if matches!(name, "signing.key" | "ca/state.toml") {
        return true;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let number = |text: &str| text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    matches!(parts[..], ["ca", folder, "ca.pem" | "ca.key"] if number(folder))
}

#[cfg(test)]
mod tests;
