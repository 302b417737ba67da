//! The count of an agent's starts, on its disk: written before anything else, also when the disk is full.
//!
//! The file has two slots of a block each, which are written in turn, in place: the room for both is taken when the file is made. The slot that
//! holds the newest number is never the one that is written, so that a crash leaves that number or the next one. Each has a checksum. A file that
//! holds nothing but a number, as an operator writes it, is read as well.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

use wyneos_shell::files;

#[cfg(test)]
mod tests;

/// Bytes of a slot: a block, so that a write that is cut off leaves the other slot as it was.
const SLOT: usize = 4096;

/// Why the number cannot be counted up.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The file holds no number.
    Damaged,
    /// It cannot be read.
    Read(io::Error),
    /// It cannot be written.
    Write(io::Error),
}

/// Counts one start more; the number is on the disk when this returns.
pub(crate) fn next(path: &Path) -> Result<u64, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path, 1).map_err(Failure::Write)?;
            return Ok(1);
        }
        Err(error) => return Err(Failure::Read(error)),
    };
    if let Some(slots) = slots(&bytes) {
        let newest = slots.iter().flatten().max().ok_or(Failure::Damaged)?;
        let next = newest.saturating_add(1);
        let into = usize::from(slots[0] == Some(*newest));
        overwrite(path, into, next).map_err(Failure::Write)?;
        return Ok(next);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Damaged)?;
    let before: u64 = text.trim().parse().map_err(|_| Failure::Damaged)?;
    let next = before.saturating_add(1);
    make(path, next).map_err(Failure::Write)?;
    Ok(next)
}

/// What a slot holds: a line, then spaces to its end.
fn slot(number: u64) -> Vec<u8> {
    let text = format!("incarnation {number:020}");
    let sum = blake3::hash(text.as_bytes()).to_hex();
    let mut bytes = format!("{text} {}\n", &sum[..16]).into_bytes();
    bytes.resize(SLOT, b' ');
    bytes
}

/// The numbers of both slots; `None` for one that was cut off in the writing. No slots at all in a file of another length.
fn slots(bytes: &[u8]) -> Option<[Option<u64>; 2]> {
    if bytes.len() != 2 * SLOT {
        return None;
    }
    let (first, second) = bytes.split_at(SLOT);
    Some([parse(first), parse(second)])
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes.get(..32)?).ok()?;
    let number = text.strip_prefix("incarnation ")?.parse().ok()?;
    (slot(number) == bytes).then_some(number)
}

fn make(path: &Path, number: u64) -> io::Result<()> {
    files::write_durably(path, &[slot(number), slot(number)].concat(), 0o600)
}

fn overwrite(path: &Path, into: usize, number: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&slot(number), (into * SLOT) as u64)?;
    file.sync_data()
}
