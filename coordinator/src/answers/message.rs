//! Messages that are framed once and shared by all their readers, in pieces.

use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Charge, Ledger, PIECE};

/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Bytes in pieces with separate allocations: a reader that has taken some of them retains only those.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
    /// A number that increases with the time of creation.
    age: u64,
    _charge: Charge,
}

impl Pieces {
    /// Divides `bytes` into pieces, charged to `ledger` until the last reader has dropped them.
    pub(crate) fn new(ledger: &Arc<Ledger>, bytes: impl Into<Bytes>) -> Arc<Pieces> {
        let bytes = bytes.into();
        let (len, charge) = (bytes.len(), ledger.charge(bytes.len()));
        let pieces = match len {
            0 => Vec::new(),
            1..=PIECE => vec![bytes],
            _ => bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect(),
        };
        Arc::new(Pieces {
            pieces,
            len,
            age: ledger.age(),
            _charge: charge,
        })
    }

    /// Bytes of all pieces.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// One gRPC message or several, framed. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Bytes before the pieces: the frame, and the field that contains them.
    head: Bytes,
    pieces: Arc<Pieces>,
    /// Bytes after the pieces: further fields of the message.
    tail: Bytes,
}

impl Message {
    /// Frames one message.
    pub(crate) fn new(ledger: &Arc<Ledger>, message: &impl prost::Message) -> Message {
        Message::batch(ledger, std::slice::from_ref(message))
    }

    /// Frames several messages that are sent in sequence.
    pub(crate) fn batch(ledger: &Arc<Ledger>, messages: &[impl prost::Message]) -> Message {
        let len = messages.iter().map(|message| PREFIX + message.encoded_len()).sum();
        let mut bytes = Vec::with_capacity(len);
        for message in messages {
            prefix(&mut bytes, message.encoded_len());
            // A vector grows, so there is always room.
            let _ = message.encode(&mut bytes);
        }
        Message::framed(ledger, bytes)
    }

    /// A message from bytes that are framed already.
    pub(crate) fn framed(ledger: &Arc<Ledger>, bytes: impl Into<Bytes>) -> Message {
        Message {
            head: Bytes::new(),
            pieces: Pieces::new(ledger, bytes),
            tail: Bytes::new(),
        }
    }

    /// Frames a message whose field `tag` is `pieces`, and whose other fields are those of `rest`.
    pub(crate) fn around(tag: u32, pieces: Arc<Pieces>, rest: &impl prost::Message) -> Message {
        let mut field = Vec::new();
        encode_key(tag, WireType::LengthDelimited, &mut field);
        encode_varint(pieces.len() as u64, &mut field);
        let tail = rest.encode_to_vec();
        let mut head = Vec::with_capacity(PREFIX + field.len());
        prefix(&mut head, field.len() + pieces.len() + tail.len());
        head.extend(field);
        Message {
            head: head.into(),
            pieces,
            tail: tail.into(),
        }
    }

    /// Creation number of its bytes, for comparison with others.
    pub(super) fn age(&self) -> u64 {
        self.pieces.age
    }

    /// Part `at` of the message, from 0 until there is none.
    pub(super) fn part(&self, at: usize) -> Option<Bytes> {
        let pieces = &self.pieces.pieces;
        let at = match at {
            0 if !self.head.is_empty() => return Some(self.head.clone()),
            at => at - usize::from(!self.head.is_empty()),
        };
        match pieces.get(at) {
            Some(piece) => Some(piece.clone()),
            None => (at == pieces.len() && !self.tail.is_empty()).then(|| self.tail.clone()),
        }
    }
}

fn prefix(bytes: &mut Vec<u8>, len: usize) {
    bytes.push(0);
    // Even the state of a million nodes is below 4 GiB; every client detects a message that is longer than its frame
    // states.
    bytes.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}
