//! Output of instances: files of a bounded size, of which the newest are retained.
//!
//! The name of a file consists of its stream, the number of processes before the one that wrote it, and the number of
//! files that this process had filled: `stdout.3.0.log`. Two files are retained of the newest process, and two of the
//! previous one.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use wyneos_core::workload::{
    LastLine,
    log::{CHUNK, Chunk, From, Position, Request, Stream},
};
use wyneos_shell::files;

/// Maximum size of one file, bytes.
pub(super) const FILE: u64 = 4 * 1024 * 1024;

/// Bytes before the end of a file that are searched for its last line.
const END: u64 = 4 * 1024;

/// Number of files per process, and of processes, that are retained.
const PARTS: u64 = 2;
const LIVES: u64 = 2;

fn path(directory: &Path, stream: Stream, life: u64, part: u64) -> PathBuf {
    directory.join(format!("{}.{life}.{part}.log", stream.name()))
}

/// The files of a stream, oldest first.
fn files(directory: &Path, stream: Stream) -> Vec<(u64, u64)> {
    let parse = |name: &str| {
        let rest = name
            .strip_prefix(stream.name())?
            .strip_prefix('.')?
            .strip_suffix(".log")?;
        let (life, part) = rest.split_once('.')?;
        Some((life.parse().ok()?, part.parse().ok()?))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<(u64, u64)> = entries.filter_map(|entry| parse(entry.file_name().to_str()?)).collect();
    files.sort_unstable();
    files
}

/// Number of the next process, from the files of earlier ones.
pub(super) fn next_life(directory: &Path) -> u64 {
    let newest = |stream| files(directory, stream).last().map_or(0, |(life, _)| life + 1);
    newest(Stream::Stdout).max(newest(Stream::Stderr))
}

/// The destination of one stream of one process.
pub(super) struct Writer {
    directory: PathBuf,
    stream: Stream,
    life: u64,
    part: u64,
    file: Option<File>,
    written: u64,
    /// Bytes that the disk did not accept.
    pub(super) lost: u64,
}

impl Writer {
    pub(super) fn new(directory: &Path, stream: Stream, life: u64) -> Writer {
        let mut writer = Writer {
            directory: directory.to_owned(),
            stream,
            life,
            part: 0,
            file: None,
            written: 0,
            lost: 0,
        };
        writer.open();
        writer
    }

    fn open(&mut self) {
        self.written = 0;
        self.file = files::create(&path(&self.directory, self.stream, self.life, self.part), 0o600).ok();
        for (life, part) in files(&self.directory, self.stream) {
            let old = life + LIVES <= self.life || life == self.life && part + PARTS <= self.part;
            if old {
                // A file that cannot be removed is tried again with the next.
                drop(fs::remove_file(path(&self.directory, self.stream, life, part)));
            }
        }
    }

    /// Writes output. Bytes that the disk does not accept are lost, and counted: the program does not wait for them.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.written >= FILE || self.file.is_none() {
            self.part += u64::from(self.file.is_some());
            self.open();
        }
        let taken = self.file.as_mut().is_some_and(|file| file.write_all(bytes).is_ok());
        if taken {
            self.written += bytes.len() as u64;
        } else {
            self.lost += bytes.len() as u64;
        }
    }
}

/// The last line that an instance's newest process wrote to its standard error, as far as it is on the disk.
pub(super) fn last_stderr(directory: &Path) -> String {
    let mut last = LastLine::default();
    let end = |(life, part): (u64, u64)| {
        let mut open = File::options();
        // A pipe in its place does not block.
        open.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let mut file = open.open(path(directory, Stream::Stderr, life, part))?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
        let mut bytes = Vec::new();
        file.take(END).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    if let Some(newest) = files(directory, Stream::Stderr).last() {
        last.take(&end(*newest).unwrap_or_default());
    }
    last.text()
}

/// Reads an instance's output.
pub(super) fn read(directory: &Path, request: &Request) -> Chunk {
    let number = request.number;
    match try_read(directory, request) {
        Ok(chunk) => Chunk { number, ..chunk },
        Err(error) => Chunk {
            number,
            error: error.to_string(),
            ..Chunk::default()
        },
    }
}

fn try_read(directory: &Path, request: &Request) -> io::Result<Chunk> {
    let files = files(directory, request.stream);
    let newest = files.last().map_or(0, |(life, _)| *life);
    let mut at = match request.from {
        From::Position(position) => position,
        From::Tail { bytes, previous } => {
            let life = match previous {
                false => newest,
                true if newest == 0 => {
                    return Ok(Chunk {
                        error: "there was no process before this one".to_owned(),
                        none_before: true,
                        ..Chunk::default()
                    });
                }
                true => newest - 1,
            };
            tail(directory, request.stream, &files, life, bytes)?
        }
    };
    let mut chunk = Chunk::default();
    loop {
        // A pipe in its place does not block.
        let mut open = File::options();
        open.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let open = open.open(path(directory, request.stream, at.life, at.part));
        if let Ok(mut file) = open {
            file.seek(SeekFrom::Start(at.offset))?;
            let read = file.take(CHUNK as u64).read_to_end(&mut chunk.data)? as u64;
            at.offset += read;
            if read > 0 {
                chunk.next = at;
                return Ok(chunk);
            }
        }
        let next = files.iter().find(|file| **file > (at.life, at.part)).copied();
        let Some((life, part)) = next.filter(|(life, _)| !request.within || *life == at.life) else {
            (chunk.next, chunk.at_end) = (at, true);
            return Ok(chunk);
        };
        at = Position { life, part, offset: 0 };
    }
}

/// The position at this number of bytes before the end of a process's output.
fn tail(directory: &Path, stream: Stream, files: &[(u64, u64)], life: u64, bytes: u64) -> io::Result<Position> {
    let mut left = bytes;
    let mut at = Position {
        life,
        part: 0,
        offset: 0,
    };
    for (_, part) in files.iter().rev().filter(|(of, _)| *of == life) {
        let size = fs::metadata(path(directory, stream, life, *part))?.len();
        (at.part, at.offset) = (*part, size.saturating_sub(left));
        left = left.saturating_sub(size);
        if left == 0 {
            break;
        }
    }
    Ok(at)
}
