//! Backups: all that a coordinator keeps, in one file that is verified whenever it is read.
//!
//! The bytes `"WYNEOSB\x01"`, then [`BackupResponse`](v1::BackupResponse)s, each behind its length as a varint: a header, the records by
//! their kinds, and an end with the BLAKE3 digest of everything before it and the coordinator's signature over that.

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

/// What the file begins with: a name, and the format's version.
pub const MAGIC: &[u8; 8] = b"WYNEOSB\x01";

/// Bytes of one record's value at most; longer ones go on in the next record.
pub const PIECE: usize = 256 * 1024;

/// Bytes of one part at most.
const PART_MAX: u64 = PIECE as u64 + 4_096;

/// Something that is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A file of the `data_dir` with a key or a certificate: its name there, and its contents.
    File(String, Vec<u8>),
    /// Tokens and operators.
    Access(Box<Access>),
    /// What Autonomy may do.
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
    /// The newest sealed snapshot, from which the chain goes on.
    Snapshot(v1::SealedEntry, Vec<u8>),
}

/// What a backup holds; known once it was read wholly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The header.
    pub header: v1::BackupHeader,
    /// Records of each kind.
    pub counts: Vec<(BackupKind, u64)>,
    /// Names of the workloads.
    pub workloads: Vec<String>,
    /// Names of the files.
    pub files: Vec<String>,
}

impl Contents {
    /// Records of a kind.
    pub fn count(&self, kind: BackupKind) -> u64 {
        let found = self.counts.iter().find(|(of, _)| *of == kind);
        found.map_or(0, |(_, count)| *count)
    }
}

/// Makes the parts of a backup, and the digest over them.
pub struct Maker {
    hasher: blake3::Hasher,
    signer: DigestSigner,
}

impl Maker {
    /// A backup that `signer` signs.
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

    /// The first part.
    pub fn header(&mut self, header: v1::BackupHeader) -> v1::BackupResponse {
        let public_key = self.signer.public_key().0.to_vec();
        self.part(Part::Header(v1::BackupHeader { public_key, ..header }))
    }

    /// The parts of one record, each of a bounded size.
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

    /// The last part.
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

/// Whether a name is that of a file that backups have: nothing else is written when one is restored.
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
