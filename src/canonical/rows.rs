//! Encoded rows of one kind, in blocks. An unchanged block is shared with the previous snapshot.

use std::{cmp::Ordering, fmt::Display, sync::Arc};

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Number of rows per block when a list is encoded for the first time.
const ROWS: usize = 64;

/// Maximum number of rows per block; a larger block is split into equal parts.
const MOST: usize = 2 * ROWS;

/// Minimum number of rows in a re-encoded block; a smaller one is merged with the next.
const LEAST: usize = ROWS / 2;

/// A row within its block's bytes: the field's tag and length begin at `start`, the message extends from `body` to
/// `end`.
#[derive(Debug)]
struct Row<K, T> {
    key: K,
    /// The source of the encoding; `None` if the row was read back from bytes.
    source: Option<Arc<T>>,
    start: usize,
    body: usize,
    end: usize,
}

#[derive(Debug)]
struct Block<K, T> {
    rows: Vec<Row<K, T>>,
    bytes: Vec<u8>,
}

impl<K, T> Block<K, T> {
    fn framed(&self, row: &Row<K, T>) -> &[u8] {
        &self.bytes[row.start..row.end]
    }

    fn body(&self, row: &Row<K, T>) -> &[u8] {
        &self.bytes[row.body..row.end]
    }

    /// Returns whether the block has exactly these rows, each in the same allocation.
    fn is_of(&self, rows: &[&Arc<T>]) -> bool {
        let is_same = |(old, new): (&Row<K, T>, &&Arc<T>)| old.source.as_ref().is_some_and(|old| Arc::ptr_eq(old, new));
        self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(is_same)
    }
}

/// Indexes of a block and of a row within it.
type At = (usize, usize);

/// A row and its block.
type Found<'a, K, T> = (&'a Block<K, T>, &'a Row<K, T>);

/// Rows sorted by key.
#[derive(Debug)]
pub(super) struct Rows<K, T> {
    /// Field number of the rows in `wyneos.v1.Snapshot`.
    tag: u32,
    blocks: Vec<Arc<Block<K, T>>>,
}

impl<K, T> Clone for Rows<K, T> {
    fn clone(&self) -> Rows<K, T> {
        Rows {
            tag: self.tag,
            blocks: self.blocks.clone(),
        }
    }
}

/// A row whose block is not complete yet.
struct Pending<'a, K, T> {
    key: K,
    source: Option<Arc<T>>,
    encoded: Encoded<'a>,
}

enum Encoded<'a> {
    /// Tag, length and message, as encoded in another block.
    Framed(&'a [u8], usize),
    Message(Vec<u8>),
}

impl<K: Ord + Clone, T> Rows<K, T> {
    /// Encodes rows sorted by key. Rows that `before` contains in the same allocation are not encoded again.
    pub(super) fn new<'a>(
        tag: u32,
        rows: impl IntoIterator<Item = &'a Arc<T>>,
        before: Option<&Rows<K, T>>,
        key: impl Fn(&T) -> K,
        encode: impl Fn(&T) -> Vec<u8>,
    ) -> Rows<K, T>
    where
        T: 'a,
    {
        let rows: Vec<&Arc<T>> = rows.into_iter().collect();
        let mut made = Rows {
            tag,
            blocks: Vec::new(),
        };
        let mut open = Vec::new();
        let mut at = 0;
        for block in before.map_or(&[][..], |before| before.blocks.as_slice()) {
            let end = at + block.rows.len();
            if open.is_empty() && rows.get(at..end).is_some_and(|rows| block.is_of(rows)) {
                made.blocks.push(Arc::clone(block));
                at = end;
                continue;
            }
            let mut old = block.rows.iter().peekable();
            while let Some(&row) = rows.get(at) {
                let key = key(row);
                if block.rows.last().is_none_or(|last| key > last.key) {
                    break;
                }
                while old.next_if(|old| old.key < key).is_some() {}
                let is_same =
                    |old: &&Row<K, T>| old.key == key && old.source.as_ref().is_some_and(|old| Arc::ptr_eq(old, row));
                let encoded = match old.next_if(is_same) {
                    Some(old) => Encoded::Framed(block.framed(old), old.body - old.start),
                    None => Encoded::Message(encode(row)),
                };
                let source = Some(Arc::clone(row));
                open.push(Pending { key, source, encoded });
                at += 1;
            }
            if open.len() >= LEAST {
                made.close(&mut open);
            }
        }
        for &row in rows.get(at..).unwrap_or_default() {
            let (key, encoded) = (key(row), Encoded::Message(encode(row)));
            let source = Some(Arc::clone(row));
            open.push(Pending { key, source, encoded });
            if open.len() >= ROWS {
                made.close(&mut open);
            }
        }
        made.close(&mut open);
        made
    }

    /// Adopts encoded rows; `key` reads the key of a row.
    pub(super) fn read<E>(tag: u32, rows: Vec<Bytes>, key: impl Fn(&Bytes) -> Result<K, E>) -> Result<Rows<K, T>, E> {
        let mut made = Rows {
            tag,
            blocks: Vec::new(),
        };
        let mut open = Vec::new();
        for row in rows {
            open.push(Pending {
                key: key(&row)?,
                source: None,
                encoded: Encoded::Message(row.into()),
            });
            if open.len() >= ROWS {
                made.close(&mut open);
            }
        }
        made.close(&mut open);
        Ok(made)
    }

    /// Completes blocks with the open rows, in equal parts.
    fn close(&mut self, open: &mut Vec<Pending<'_, K, T>>) {
        let parts = open.len().div_ceil(MOST).max(1);
        let most = open.len().div_ceil(parts).max(1);
        let mut open = std::mem::take(open).into_iter().peekable();
        while open.peek().is_some() {
            let (mut rows, mut bytes) = (Vec::new(), Vec::new());
            for pending in open.by_ref().take(most) {
                let start = bytes.len();
                let body = match pending.encoded {
                    Encoded::Framed(framed, head) => {
                        bytes.extend_from_slice(framed);
                        start + head
                    }
                    Encoded::Message(message) => {
                        encode_key(self.tag, WireType::LengthDelimited, &mut bytes);
                        encode_varint(message.len() as u64, &mut bytes);
                        let body = bytes.len();
                        bytes.extend_from_slice(&message);
                        body
                    }
                };
                rows.push(Row {
                    key: pending.key,
                    source: pending.source,
                    start,
                    body,
                    end: bytes.len(),
                });
            }
            bytes.shrink_to_fit();
            self.blocks.push(Arc::new(Block { rows, bytes }));
        }
    }

    /// Returns all rows as encoded in a snapshot.
    pub(super) fn all(&self) -> Vec<&[u8]> {
        self.blocks.iter().map(|block| block.bytes.as_slice()).collect()
    }

    /// Returns the rows whose messages `keep` accepts, as encoded in a snapshot.
    pub(super) fn some(&self, keep: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
        let rows = self
            .blocks
            .iter()
            .flat_map(|block| block.rows.iter().map(move |row| (block, row)));
        let kept = rows.filter(|(block, row)| keep(block.body(row)));
        kept.map(|(block, row)| block.framed(row)).collect()
    }

    fn get(&self, (block, row): At) -> Option<Found<'_, K, T>> {
        let block = self.blocks.get(block)?;
        Some((block, block.rows.get(row)?))
    }

    fn next(&self, (block, row): At) -> At {
        match self.blocks.get(block) {
            Some(here) if row + 1 < here.rows.len() => (block, row + 1),
            _ => (block + 1, 0),
        }
    }

    /// Returns the rows that `before` lacks or contains with another value, as encoded in a snapshot, and the keys of
    /// removed rows. Both are limited to rows whose messages `keep` accepts.
    pub(super) fn since(&self, before: &Rows<K, T>, keep: impl Fn(&[u8]) -> bool) -> (Vec<&[u8]>, Vec<String>)
    where
        K: Display,
    {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        let (mut new, mut old) = ((0, 0), (0, 0));
        loop {
            if let (0, 0, Some(here), Some(there)) = (new.1, old.1, self.blocks.get(new.0), before.blocks.get(old.0))
                && Arc::ptr_eq(here, there)
            {
                (new.0, old.0) = (new.0 + 1, old.0 + 1);
                continue;
            }
            let (here, there) = (self.get(new), before.get(old));
            let order = match (&here, &there) {
                (None, None) => return (changed, removed),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((_, here)), Some((_, there))) => here.key.cmp(&there.key),
            };
            let here = here.filter(|_| order.is_le());
            let there = there.filter(|_| order.is_ge());
            let wanted = here.filter(|(block, row)| keep(block.body(row)));
            let was_wanted = there.filter(|(block, row)| keep(block.body(row)));
            match (wanted, was_wanted) {
                (Some((block, row)), Some((before, old))) if block.body(row) == before.body(old) => {}
                (Some((block, row)), _) => changed.push(block.framed(row)),
                (None, Some((_, old))) => removed.push(old.key.to_string()),
                (None, None) => {}
            }
            if here.is_some() {
                new = self.next(new);
            }
            if there.is_some() {
                old = before.next(old);
            }
        }
    }
}

#[cfg(test)]
mod tests;
