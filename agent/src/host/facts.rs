//! Facts that the agent reports about its machine when a session opens, and the resource use of this process.

use super::mounts;
use super::parse::{self, Memory};
use super::usage::within;
use procfs::FromRead;
use std::{fs, io, time::Duration};

/// Time limit for the host's file systems to report their sizes.
const PATIENCE: Duration = Duration::from_secs(2);

/// A fact about the host that could not be read. Without it the agent cannot describe the machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A file could be read, but does not contain the fact.
    #[error("{path} does not state {what}")]
    Missing {
        /// The file.
        path: &'static str,
        /// The missing fact.
        what: &'static str,
    },
}

/// Facts about this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Operating system: `linux`.
    pub(crate) os: String,
    /// Kernel release, for example `6.1.0-18-amd64`.
    pub(crate) kernel: String,
    /// CPU architecture as the kernel names it, for example `x86_64`.
    pub(crate) architecture: String,
    /// Logical CPUs online; at least 1.
    pub(crate) cpus: u32,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Bytes of the fullest file system that counts as storage; 0 if there is none, and if one does not answer within 2
    /// s.
    pub(crate) disk_bytes: u64,
    /// Boot time of the host: milliseconds since 1970, UTC, to the second.
    pub(crate) boot_unix_millis: i64,
    /// The host name.
    pub(crate) hostname: String,
    /// `/etc/machine-id`: 32 lowercase hexadecimal digits. `None` if there is none, as in many containers.
    pub(crate) machine_id: Option<String>,
}

/// Reads the facts about this machine.
///
/// `/proc/stat` or `/proc/meminfo` cannot be read, or lacks a required value.
pub(crate) fn facts() -> Result<Facts, HostError> {
    let stat = read("/proc/stat")?;
    let missing = |path, what| HostError::Missing { path, what };
    let boot = parse::boot_seconds(&stat).ok_or_else(|| missing("/proc/stat", "the boot time (btime)"))?;
    let memory = Memory::parse(&read("/proc/meminfo")?);
    let name = rustix::system::uname();
    let plain = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Ok(Facts {
        os: std::env::consts::OS.to_owned(),
        kernel: plain(name.release()),
        architecture: plain(name.machine()),
        cpus: parse::cpus(&stat).ok_or_else(|| missing("/proc/stat", "any CPU"))?,
        memory_bytes: memory.total.ok_or_else(|| missing("/proc/meminfo", "MemTotal"))?,
        disk_bytes: disk_bytes(),
        boot_unix_millis: boot.saturating_mul(1000),
        hostname: plain(name.nodename()),
        machine_id: read("/etc/machine-id").ok().and_then(|text| machine_id(&text)),
    })
}

/// Stalled disks, of which this node may have several, do not prevent a start.
fn disk_bytes() -> u64 {
    let look = || {
        let points = read("/proc/self/mountinfo")
            .map(|text| mounts::storage(&text))
            .unwrap_or_default();
        mounts::fullest(&points).map_or(0, |usage| usage.bytes)
    };
    within(PATIENCE, look).unwrap_or(0)
}

/// Images contain the file empty or with `uninitialized` until the first boot; neither identifies a machine.
pub(super) fn machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (id.len() == 32 && id.bytes().all(is_digit)).then(|| id.to_owned())
}

/// Resource use of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Own {
    /// Resident memory in bytes.
    pub(crate) rss_bytes: u64,
    /// CPU time since its start in seconds, user and system, all threads; to a clock tick, usually 10 ms.
    pub(crate) cpu_seconds: f64,
}

/// Reads the resource use of this process.
///
/// `/proc/self/stat` cannot be read, or differs from the kernel's documentation.
pub(crate) fn own() -> Result<Own, HostError> {
    let path = "/proc/self/stat";
    let stat = procfs::process::Stat::from_read(read(path)?.as_bytes()).map_err(|_| HostError::Missing {
        path,
        what: "the process's CPU time and memory",
    })?;
    let ticks = stat.utime.saturating_add(stat.stime);
    Ok(Own {
        rss_bytes: stat.rss.saturating_mul(procfs::page_size()),
        cpu_seconds: ticks as f64 / procfs::ticks_per_second() as f64,
    })
}

fn read(path: &'static str) -> Result<String, HostError> {
    let bytes = fs::read(path).map_err(|source| HostError::Read { path, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The machine's identity: BLAKE3 of its machine id, or of the firmware's if there is none. `None` if neither can be
/// read, for example in a container.
pub(crate) fn machine() -> Option<[u8; 32]> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let ids = ["/etc/machine-id", "/sys/class/dmi/id/product_uuid"];
    let id = ids
        .iter()
        .filter_map(|path| read(path))
        .find(|id| !id.trim().is_empty())?;
    let mut hasher = blake3::Hasher::new_derive_key("wyneos machine v1");
    Some(hasher.update(id.trim().as_bytes()).finalize().into())
}
