//! Writing of exported files.

use std::io::{self, Read, Seek, Write};

use prost::Message;
use wyneos_core::{id::ClusterId, integrity::PublicKey};

use super::{Chain, ExportError, MAGIC, MESSAGE_MAX, Place};
use crate::v1;

/// Writes an exported file. The header describes the records, which come from a stream, so they are stored in a spool
/// (a temporary file or a cursor) until all are present. Each record is verified, so that every exported file can be
/// verified.
pub struct Writer<S> {
    spool: S,
    chain: Chain,
    cluster: ClusterId,
    key: PublicKey,
}

impl<S: Read + Write + Seek> Writer<S> {
    /// Creates a writer of `cluster`'s snapshots, sealed with `key`; `spool` is empty at first.
    pub fn new(spool: S, cluster: ClusterId, key: PublicKey) -> Result<Writer<S>, ExportError> {
        let chain = Chain::new(cluster, key)?;
        Ok(Writer {
            spool,
            chain,
            cluster,
            key,
        })
    }

    /// Adds the next snapshot.
    pub fn write(&mut self, record: &v1::ReadSnapshotsResponse) -> Result<(), ExportError> {
        let place = self.chain.next_place();
        let length = record.encoded_len();
        if length as u64 > MESSAGE_MAX {
            let reason = format!("{length} bytes are more than {MESSAGE_MAX}, the limit");
            return Err(ExportError::bad(place, "length", reason));
        }
        self.chain.check(record)?;
        self.spool
            .write_all(&record.encode_length_delimited_to_vec())
            .map_err(ExportError::io(place))
    }

    /// Writes the file to `output` and returns its header. Fails if no snapshot was added.
    pub fn finish(mut self, mut output: impl Write) -> Result<v1::ExportHeader, ExportError> {
        let Some((from_cycle, to_cycle)) = self.chain.cycles() else {
            return Err(ExportError::bad(
                Place::Header,
                "count",
                "there is no snapshot to export",
            ));
        };
        let header = v1::ExportHeader {
            cluster_id: self.cluster.to_string(),
            public_key: self.key.0.to_vec(),
            from_cycle,
            to_cycle,
            count: self.chain.count(),
        };
        let mut copy = || {
            output.write_all(MAGIC)?;
            output.write_all(&header.encode_length_delimited_to_vec())?;
            self.spool.rewind()?;
            io::copy(&mut self.spool, &mut output)?;
            output.flush()
        };
        copy().map_err(ExportError::io(Place::End))?;
        Ok(header)
    }
}
