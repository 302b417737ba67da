//! Reading and verification of backups.

use std::io::{self, Read};

use wyneos_core::{
    id::{ClusterId, EventNo},
    integrity::{Digest, DigestSigner, PublicKey},
};

use super::{Contents, MAGIC, PART_MAX, Record, is_file_name};
use crate::{
    audit,
    export::{Chain, ExportError, MESSAGE_MAX, Place, frame},
    v1::{self, BackupKind, backup_response::Part},
};

/// Computes a digest of everything read.
struct Digesting<R> {
    input: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Reads a backup record by record. Each record is checked before it is returned; that the backup is complete and who
/// made it is known only after the iteration has ended without an error.
pub struct Reader<R> {
    input: Digesting<R>,
    key: PublicKey,
    number: u64,
    chain: Chain,
    audit: audit::Verifier,
    seal: Option<v1::SealedEntry>,
    last_event: EventNo,
    contents: Contents,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header of `input`, which should be buffered: lengths are read byte by byte. With `trusted`, the backup
    /// must be signed by that key; without, by the key it contains, which shows that it is complete but not who made
    /// it.
    ///
    /// # Errors
    /// The input is not a backup or has another format version, or its header is invalid.
    pub fn new(input: R, trusted: Option<PublicKey>) -> Result<Reader<R>, ExportError> {
        let hasher = blake3::Hasher::new();
        let mut input = Digesting { input, hasher };
        frame::magic(&mut input, MAGIC, "a backup of format 1")?;
        let place = Place::Header;
        let first: v1::BackupResponse = frame::read(&mut input, place, PART_MAX, |_| place)?
            .ok_or_else(|| ExportError::bad(place, "length", "the file ends before it"))?;
        let Some(Part::Header(header)) = first.part else {
            return Err(ExportError::bad(place, "part", "it does not begin with a header"));
        };
        let cluster: Result<ClusterId, _> = header.cluster_id.parse();
        let cluster = cluster.map_err(|_| ExportError::bad(place, "cluster_id", "not a UUID"))?;
        let key = <[u8; 32]>::try_from(header.public_key.as_slice());
        let key = PublicKey(key.map_err(|_| ExportError::bad(place, "public_key", "not 32 bytes"))?);
        if trusted.is_some_and(|trusted| trusted != key) {
            return Err(ExportError::bad(place, "public_key", "not the key that is trusted"));
        }
        if header.time.is_none() {
            return Err(ExportError::bad(place, "time", "missing"));
        }
        Ok(Reader {
            input,
            key,
            number: 0,
            chain: Chain::new(cluster, key)?,
            audit: audit::Verifier::new(cluster, key),
            seal: None,
            last_event: EventNo(0),
            contents: Contents {
                header,
                ..Contents::default()
            },
            ended: false,
        })
    }

    /// Contents read so far; valid only once everything was read.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    fn place(&self) -> Place {
        let (cycle, after) = (None, None);
        let number = self.number;
        Place::Record { number, cycle, after }
    }

    fn bad(&self, field: &'static str, reason: impl Into<String>) -> ExportError {
        ExportError::bad(self.place(), field, reason)
    }

    /// Reads the next part; returns it with the digest of everything before it.
    fn part(&mut self) -> Result<(Part, Digest), ExportError> {
        let before = self.input.hasher.finalize().into();
        self.number += 1;
        let place = self.place();
        let part: Option<v1::BackupResponse> = frame::read(&mut self.input, place, PART_MAX, |_| place)?;
        let Some(part) = part else {
            return Err(self.bad(
                "length",
                "the file ends here, and a backup has an end of its own: it was cut short",
            ));
        };
        let part = part.part.ok_or_else(|| self.bad("part", "missing"))?;
        Ok((part, before))
    }

    fn read(&mut self) -> Result<Option<Record>, ExportError> {
        loop {
            let (mut record, mut value) = match self.part()? {
                (Part::End(end), digest) => return self.finish(&end, digest).map(|()| None),
                (Part::Record(record), _) => (record, Vec::new()),
                (Part::Header(_), _) => return Err(self.bad("part", "a second header")),
            };
            let (kind, name) = (record.kind(), record.name.clone());
            loop {
                value.append(&mut record.value);
                if value.len() as u64 > MESSAGE_MAX {
                    return Err(self.bad("value", format!("more than {MESSAGE_MAX} bytes, the limit")));
                }
                if !record.more {
                    break;
                }
                match self.part()? {
                    (Part::Record(next), _) if next.kind() == kind && next.name == name => record = next,
                    _ => return Err(self.bad("more", "the record does not go on")),
                }
            }
            self.count(kind)?;
            if let Some(record) = self.record(kind, name, value)? {
                return Ok(Some(record));
            }
        }
    }

    fn count(&mut self, kind: BackupKind) -> Result<(), ExportError> {
        match self.contents.counts.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            Some((last, _)) if *last > kind => return Err(self.bad("kind", "records are not in their order")),
            _ => self.contents.counts.push((kind, 1)),
        }
        let once = matches!(
            kind,
            BackupKind::Access | BackupKind::Policy | BackupKind::Seal | BackupKind::Snapshot
        );
        match once && self.contents.count(kind) > 1 {
            true => Err(self.bad("kind", "twice")),
            false => Ok(()),
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, value: &[u8]) -> Result<Box<T>, ExportError> {
        serde_json::from_slice(value).map_err(|error| self.bad("value", error.to_string()))
    }

    fn message<M: prost::Message + Default>(&self, value: &[u8]) -> Result<M, ExportError> {
        M::decode(value).map_err(|error| self.bad("value", error.to_string()))
    }

    fn record(&mut self, kind: BackupKind, name: String, value: Vec<u8>) -> Result<Option<Record>, ExportError> {
        if kind != BackupKind::File && !name.is_empty() {
            return Err(self.bad("name", "only files have one"));
        }
        let record = match kind {
            BackupKind::Unspecified => return Err(self.bad("kind", "not a value of this enum")),
            BackupKind::File => {
                self.file(&name, &value)?;
                Record::File(name, value)
            }
            BackupKind::Access => Record::Access(self.json(&value)?),
            BackupKind::Policy => Record::Policy(*self.json(&value)?),
            BackupKind::Node => Record::Node(self.json(&value)?),
            BackupKind::Workload => {
                let workload: Box<wyneos_core::workload::Workload> = self.json(&value)?;
                let Some(spec) = workload.spec() else {
                    return Err(self.bad("value", "a workload without its declaration"));
                };
                self.contents.workloads.push(spec.name.clone());
                Record::Workload(workload)
            }
            BackupKind::Assignment => Record::Assignment(self.json(&value)?),
            BackupKind::Event => {
                let event: Box<wyneos_core::event::Event> = self.json(&value)?;
                if event.sequence <= self.last_event {
                    return Err(self.bad("value", format!("event {} is not the next", event.sequence)));
                }
                self.last_event = event.sequence;
                Record::Event(event)
            }
            BackupKind::Audit => {
                let entry: v1::AuditEntry = self.message(&value)?;
                self.audit
                    .next(&entry)
                    .map_err(|error| self.bad("value", format!("entry of the audit: {error}")))?;
                Record::Audit(Box::new(entry))
            }
            BackupKind::Seal => {
                self.seal = Some(self.message(&value)?);
                return Ok(None);
            }
            BackupKind::Snapshot => {
                let Some(entry) = self.seal.take() else {
                    return Err(self.bad("kind", "a snapshot without its seal"));
                };
                let seal = entry.seal.clone();
                let sealed = v1::ReadSnapshotsResponse {
                    snapshot: value.into(),
                    seal,
                };
                self.chain
                    .check(&sealed)
                    .map_err(|error| self.bad("snapshot", error.to_string()))?;
                Record::Snapshot(entry, sealed.snapshot.into())
            }
        };
        Ok(Some(record))
    }

    fn file(&mut self, name: &str, value: &[u8]) -> Result<(), ExportError> {
        if !is_file_name(name) || self.contents.files.iter().any(|known| known == name) {
            return Err(self.bad("name", format!("{name:?} is no file of a backup, or there twice")));
        }
        if name == "signing.key" {
            let secret = <[u8; 32]>::try_from(value).map_err(|_| self.bad("value", "signing.key: not 32 bytes"))?;
            if DigestSigner::new(&secret).public_key() != self.key {
                return Err(self.bad("value", "signing.key: not the one of the header's public_key"));
            }
        }
        self.contents.files.push(name.to_owned());
        Ok(())
    }

    /// Verifies that the backup is complete and matches the signature.
    fn finish(&mut self, end: &v1::BackupEnd, digest: Digest) -> Result<(), ExportError> {
        let at_end = |field, reason: &str| ExportError::bad(Place::End, field, reason);
        if end.digest != digest {
            return Err(at_end(
                "digest",
                "the backup was altered: its bytes are not those that were digested",
            ));
        }
        let signature = <[u8; 64]>::try_from(end.signature.as_slice());
        if !signature.is_ok_and(|signature| self.key.verifies(&digest, &signature)) {
            return Err(at_end("signature", "not made by the key of the header"));
        }
        let Contents { header, files, .. } = &self.contents;
        if !files.iter().any(|name| name == "signing.key") {
            return Err(at_end("files", "signing.key is missing"));
        }
        if self.last_event.0 != header.event_sequence {
            return Err(at_end(
                "event_sequence",
                "the newest event is another one than the header says",
            ));
        }
        let cycle = self.chain.cycles().map_or(0, |(_, last)| last);
        if self.seal.is_some() || cycle != header.cycle {
            return Err(at_end(
                "cycle",
                "the newest snapshot is another one than the header says",
            ));
        }
        frame::end(&mut self.input, "more bytes follow it")
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

/// Reads a complete backup, one record at a time, and returns its contents. See [`Reader::new`] for `trusted`.
///
/// # Errors
/// The backup cannot be read, is incomplete, or does not match its signature; the error states the place and the
/// reason.
pub fn verify(input: impl Read, trusted: Option<PublicKey>) -> Result<Contents, ExportError> {
    let mut reader = Reader::new(input, trusted)?;
    for record in reader.by_ref() {
        record?;
    }
    Ok(reader.contents)
}
