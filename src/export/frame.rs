//! Length-prefixed messages.

use std::io::{ErrorKind, Read};

use prost::Message;

use super::{ExportError, Place};

/// Fails unless the file ends here.
pub(crate) fn end(input: &mut impl Read, reason: &str) -> Result<(), ExportError> {
    match byte(input, Place::End)? {
        None => Ok(()),
        Some(_) => Err(ExportError::bad(Place::End, "count", reason)),
    }
}

/// Maximum size of a varint, in bytes.
const VARINT_MAX: usize = 10;

/// Reads the beginning of a file.
pub(crate) fn magic(input: &mut impl Read, expected: &[u8; 8], what: &str) -> Result<(), ExportError> {
    let not_ours = || ExportError::bad(Place::Magic, "magic", format!("not {what}"));
    let mut magic = [0; 8];
    match input.read_exact(&mut magic) {
        Ok(()) if magic == *expected => Ok(()),
        Ok(()) => Err(not_ours()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(not_ours()),
        Err(error) => Err(ExportError::io(Place::Magic)(error)),
    }
}

/// Reads one byte; `None` at the end of the file.
fn byte(input: &mut impl Read, place: Place) -> Result<Option<u8>, ExportError> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ExportError::io(place)(error)),
        }
    }
}

/// Reads a message's length; `None` if the file ends before it.
fn length(input: &mut impl Read, place: Place, most: u64) -> Result<Option<u64>, ExportError> {
    let bad = |reason: String| ExportError::bad(place, "length", reason);
    let mut read = Vec::with_capacity(VARINT_MAX);
    loop {
        match byte(input, place)? {
            Some(byte) => read.push(byte),
            None if read.is_empty() => return Ok(None),
            None => return Err(bad("the file ends in it".to_owned())),
        }
        if read.last().is_some_and(|byte| byte & 0x80 == 0) {
            break;
        }
        if read.len() == VARINT_MAX {
            return Err(bad("not a varint".to_owned()));
        }
    }
    let length = prost::encoding::decode_varint(&mut &read[..]).map_err(|error| bad(error.to_string()))?;
    // A longer encoding of the same number would be an undetected alteration.
    if prost::encoding::encoded_len_varint(length) != read.len() {
        return Err(bad("not in its shortest form".to_owned()));
    }
    if length > most {
        return Err(bad(format!("{length} bytes are more than {most}, the limit")));
    }
    Ok(Some(length))
}

/// Reads the next message, of at most `most` bytes; `None` if the file ends before it. Memory grows with the data
/// present, not with the claimed length. Only the writer's encoding is accepted, since unknown fields could otherwise
/// be added unnoticed. `known` returns the place of a decoded message.
pub(crate) fn read<M: Message + Default>(
    input: &mut impl Read,
    place: Place,
    most: u64,
    known: impl FnOnce(&M) -> Place,
) -> Result<Option<M>, ExportError> {
    let Some(length) = length(input, place, most)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    input
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(ExportError::io(place))?;
    if (bytes.len() as u64) < length {
        let reason = format!("the file ends {} bytes into a message of {length}", bytes.len());
        return Err(ExportError::bad(place, "length", reason));
    }
    let bytes = bytes::Bytes::from(bytes);
    let message = M::decode(bytes.clone())
        .map_err(|error| ExportError::bad(place, "message", format!("cannot be decoded: {error}")))?;
    if message.encode_to_vec() != bytes {
        let reason = "not in the form that is written: fields are unknown, repeated, empty or out of order";
        return Err(ExportError::bad(known(&message), "message", reason));
    }
    Ok(Some(message))
}
