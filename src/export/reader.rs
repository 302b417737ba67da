//! Reading and verification of exported files.

use std::io::Read;

use wyneos_core::{id::ClusterId, integrity::PublicKey};

use super::{Chain, ExportError, MAGIC, MESSAGE_MAX, Place, frame};
use crate::v1;

/// Reads an exported file record by record. Each record is verified before it is returned; that the file is complete is
/// known only after the iteration has ended without an error.
pub struct Reader<R> {
    input: R,
    header: v1::ExportHeader,
    chain: Chain,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header of `input`, which should be buffered: lengths are read byte by byte. With `trusted`, the file
    /// must be signed by that key; without, by the key in its header, which shows that the file is complete but not who
    /// made it.
    pub fn new(mut input: R, trusted: Option<PublicKey>) -> Result<Reader<R>, ExportError> {
        frame::magic(&mut input, MAGIC, "a file of exported snapshots, version 1")?;
        let place = Place::Header;
        let header: v1::ExportHeader = frame::read(&mut input, place, MESSAGE_MAX, |_| place)?
            .ok_or_else(|| ExportError::bad(place, "length", "the file ends before it"))?;
        let not_uuid = || ExportError::bad(place, "cluster_id", "not a UUID in lower case");
        let cluster: ClusterId = header.cluster_id.parse().map_err(|_| not_uuid())?;
        if cluster.to_string() != header.cluster_id {
            return Err(not_uuid());
        }
        let key: [u8; 32] = header
            .public_key
            .as_slice()
            .try_into()
            .map_err(|_| ExportError::bad(place, "public_key", "not 32 bytes"))?;
        let key = PublicKey(key);
        if trusted.is_some_and(|trusted| trusted != key) {
            return Err(ExportError::bad(place, "public_key", "not the key that is trusted"));
        }
        // Nothing would confirm the header of a file without records.
        if header.count == 0 {
            return Err(ExportError::bad(
                place,
                "count",
                "0, and a file holds at least one snapshot",
            ));
        }
        let chain = Chain::new(cluster, key)?;
        Ok(Reader {
            input,
            header,
            chain,
            ended: false,
        })
    }

    /// The header; valid only once the whole file was read.
    pub fn header(&self) -> &v1::ExportHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Option<v1::ReadSnapshotsResponse>, ExportError> {
        let (place, count) = (self.chain.next_place(), self.header.count);
        if self.chain.count() == count {
            return self.end().map(|()| None);
        }
        let known = |record: &_| self.chain.place_of(record);
        let Some(record) = frame::read(&mut self.input, place, MESSAGE_MAX, known)? else {
            let reason = format!("{count} records, but the file ends behind {}", self.chain.count());
            return Err(ExportError::bad(Place::Header, "count", reason));
        };
        self.chain.check(&record)?;
        self.compare()?;
        Ok(Some(record))
    }

    /// Compares the header's cycles with those of the records.
    fn compare(&self) -> Result<(), ExportError> {
        let Some((first, last)) = self.chain.cycles() else {
            return Ok(());
        };
        let v1::ExportHeader {
            from_cycle, to_cycle, ..
        } = self.header;
        if from_cycle != first {
            let reason = format!("{from_cycle}, but the first record is of cycle {first}");
            return Err(ExportError::bad(Place::Header, "from_cycle", reason));
        }
        if self.chain.count() == self.header.count && to_cycle != last {
            let reason = format!("{to_cycle}, but the last record is of cycle {last}");
            return Err(ExportError::bad(Place::Header, "to_cycle", reason));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ExportError> {
        let reason = format!("{} records, but more bytes follow them", self.header.count);
        frame::end(&mut self.input, &reason)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<v1::ReadSnapshotsResponse, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

/// Reads a complete file, one record at a time, and returns its verified header. See [`Reader::new`] for `trusted`.
pub fn verify(input: impl Read, trusted: Option<PublicKey>) -> Result<v1::ExportHeader, ExportError> {
    let mut reader = Reader::new(input, trusted)?;
    for record in reader.by_ref() {
        record?;
    }
    Ok(reader.header)
}
