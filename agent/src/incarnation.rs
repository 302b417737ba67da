//! The number of an agent's starts, on its disk: written before anything else, also when the disk is full.
//!
//! A disk that accepts no more writes (a file system that was remounted read-only after an error) must not end an
//! agent's work: such a start has a number as well, kept in memory until the host is restarted. No number is ever used
//! twice: the first start of an agent after the host booted skips [`RESERVE`] numbers, which starts on such a disk may
//! have used.
//!
//! The file has two slots of a block each, which are written alternately, in place: the room for both is allocated when
//! the file is created. The slot with the newest number is never the one that is written, so that a crash leaves that
//! number or the next one. Each has a checksum. A file that contains only a number, as an operator writes it, is
//! accepted as well.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use wyneos_shell::files;

#[cfg(test)]
mod tests;

/// Size of a slot, bytes: a block, so that an interrupted write leaves the other slot unchanged.
const SLOT: usize = 4096;

/// Maximum size of the file, bytes.
const MOST: u64 = 4 * SLOT as u64;

/// Numbers reserved for starts that the disk does not accept, between two boots of the host. Higher: an agent can be
/// restarted more often meanwhile.
pub(crate) const RESERVE: u64 = 64;

/// A start of the agent.
#[derive(Debug)]
pub(crate) struct Start {
    /// Number of the start.
    pub(crate) number: u64,
    /// The reason for which the disk does not contain the number; `None` if it does.
    pub(crate) unwritten: Option<io::Error>,
}

/// A number, and the boot of the host in which it was assigned; `None` if that is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    number: u64,
    life: Option<String>,
}

/// The reason for which the number cannot be increased.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The file contains no number.
    Damaged,
    /// The file cannot be read.
    Read(io::Error),
    /// The file cannot be written.
    Write(io::Error),
}

/// Counts a start. When this returns, the number is on the disk, or, if the disk does not accept it, in `memory`, a
/// file that is cleared when the host boots.
pub(crate) fn next(path: &Path, memory: &Path) -> Result<Start, Failure> {
    next_in(path, memory, life(), overwrite)
}

fn next_in(
    path: &Path,
    memory: &Path,
    life: Option<String>,
    overwrite: impl FnOnce(&Path, usize, &Given) -> io::Result<()>,
) -> Result<Start, Failure> {
    let given = |number| Given {
        number,
        life: life.clone(),
    };
    let bytes = match files::read(path, MOST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path, &given(1)).map_err(Failure::Write)?;
            return Ok(written(1));
        }
        Err(error) => return Err(Failure::Read(error)),
    };
    let Some(slots) = slots(&bytes) else {
        // As an operator writes it: the next number is exactly the intended one.
        let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Damaged)?;
        let before: u64 = text.trim().parse().map_err(|_| Failure::Damaged)?;
        let number = before.saturating_add(1);
        make(path, &given(number)).map_err(Failure::Write)?;
        return Ok(written(number));
    };
    let newest = slots.iter().flatten().max().ok_or(Failure::Damaged)?;
    // The numbers that were assigned since the disk accepted the newest one: known within the same boot of the host,
    // from the memory, if that can be read.
    let remembered = match files::read(memory, MOST) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(None),
        Err(_) => None,
        Ok(bytes) => parse(&bytes).map(Some),
    };
    let remembered = remembered.filter(|_| life.is_some() && newest.life == life);
    let all_known = remembered.is_some();
    let kept = remembered.flatten().filter(|kept| kept.life == life);
    let highest = kept.map_or(newest.number, |kept| kept.number.max(newest.number));
    let step = if all_known || newest.life.is_none() { 1 } else { RESERVE };
    let number = highest.saturating_add(step);
    let into = usize::from(slots[0].as_ref() == Some(newest));
    let Err(error) = overwrite(path, into, &given(number)) else {
        // From here on the disk is newer than the memory.
        drop(fs::remove_file(memory));
        return Ok(written(number));
    };
    // A disk that accepts writes skips as many numbers as may have been assigned without it.
    if !all_known || number >= newest.number.saturating_add(RESERVE) {
        return Err(Failure::Write(error));
    }
    let remember = || {
        memory.parent().map_or(Ok(()), |above| files::make_dir(above, 0o700))?;
        files::write_durably(memory, &slot(&given(number)), 0o600)
    };
    match remember() {
        Ok(()) => Ok(Start {
            number,
            unwritten: Some(error),
        }),
        Err(_) => Err(Failure::Write(error)),
    }
}

fn written(number: u64) -> Start {
    Start {
        number,
        unwritten: None,
    }
}

/// Identity of the host's boot, or of the container's start: the memory is cleared with it.
fn life() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let first = fs::read_to_string("/proc/1/stat").ok()?;
    // proc_pid_stat(5), field 22: the start time. The name may contain spaces and parentheses; the fields after the
    // last of those do not.
    let started: u64 = first.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(format!("{}/{started}", boot.trim()))
}

/// The contents of a slot: a line, then spaces to its end.
fn slot(given: &Given) -> Vec<u8> {
    let mut text = format!("incarnation {:020}", given.number);
    if let Some(life) = &given.life {
        text = format!("{text} {life}");
    }
    let sum = blake3::hash(text.as_bytes()).to_hex();
    let mut bytes = format!("{text} {}\n", &sum[..16]).into_bytes();
    bytes.resize(SLOT, b' ');
    bytes
}

/// The numbers of both slots; `None` for one whose write was interrupted. No slots at all in a file of another length.
fn slots(bytes: &[u8]) -> Option<[Option<Given>; 2]> {
    if bytes.len() != 2 * SLOT {
        return None;
    }
    let (first, second) = bytes.split_at(SLOT);
    Some([parse(first), parse(second)])
}

fn parse(bytes: &[u8]) -> Option<Given> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?.strip_prefix("incarnation ")?;
    let parts: Vec<&str> = text.split(' ').collect();
    let (number, life) = match parts.as_slice() {
        [number, _sum] => (number, None),
        [number, life, _sum] => (number, Some((*life).to_owned())),
        _ => return None,
    };
    let given = Given {
        number: number.parse().ok()?,
        life,
    };
    (slot(&given) == bytes).then_some(given)
}

fn make(path: &Path, given: &Given) -> io::Result<()> {
    files::write_durably(path, &[slot(given), slot(given)].concat(), 0o600)
}

fn overwrite(path: &Path, into: usize, given: &Given) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    if file.metadata()?.nlink() > 1 {
        // A file that is linked to another directory's: that one's count must not change.
        return make(path, given);
    }
    file.write_all_at(&slot(given), (into * SLOT) as u64)?;
    file.sync_data()
}
