//! Mounted file systems: which of them are storage, and how full they are.
//!
//! A query of a network file system whose server is gone blocks forever, in a state that no signal ends, and so does a
//! query of one that a hanging process serves (FUSE). Neither is ever queried, nor is a path that leads through one.

use super::parse::ratio;
use procfs::process::MountInfo;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Usage of one file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// Used ÷ (used + available to an unprivileged process), 0 to 1; as `df` shows it.
    pub(super) used: f64,
    /// Size of the file system in bytes.
    pub(super) bytes: u64,
}

/// The fullest of the file systems mounted at `points`; those that do not answer are skipped.
pub(super) fn fullest(points: &[PathBuf]) -> Option<Usage> {
    points
        .iter()
        .filter_map(|point| usage(point))
        .max_by(|a, b| a.used.total_cmp(&b.used))
}

fn usage(point: &Path) -> Option<Usage> {
    let stat = rustix::fs::statvfs(point).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let used = ratio(used, used.saturating_add(stat.f_bavail))?;
    Some(Usage {
        used,
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// One mount point for each device that is storage, from /proc/self/mountinfo.
pub(super) fn storage(mountinfo: &str) -> Vec<PathBuf> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut seen = BTreeSet::new();
    let mut points = Vec::new();
    for mount in &mounts {
        if mount.is_storage() && !seen.contains(&mount.device) && mount.is_reachable(&mounts) {
            seen.insert(&mount.device);
            points.push(mount.point.clone());
        }
    }
    points
}

#[derive(Debug)]
struct Mount {
    id: i32,
    parent: i32,
    device: String,
    point: PathBuf,
    fs_type: String,
    read_only: bool,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let info = MountInfo::from_line(line).ok()?;
        Some(Mount {
            id: info.mnt_id,
            parent: info.pid,
            device: info.majmin,
            point: unescape(info.mount_point),
            fs_type: info.fs_type,
            // The file system's own option: one mount of it may be read-only, as in a hardened unit, and another not.
            read_only: info.super_options.contains_key("ro"),
        })
    }

    /// Returns whether it is backed by a block device, or manages devices itself and shows a made-up one; the overlay
    /// is a container's root. A read-only file system cannot fill, and squashfs and ISO images are always full.
    fn is_storage(&self) -> bool {
        let own_devices = matches!(self.fs_type.as_str(), "btrfs" | "zfs" | "bcachefs");
        let container_root = self.fs_type == "overlay" && self.point == Path::new("/");
        !self.read_only && !self.may_hang() && (!self.device.starts_with("0:") || own_devices || container_root)
    }

    /// Returns whether a query may block. An automount point is included: a query would mount it, and keep it mounted.
    fn may_hang(&self) -> bool {
        const REMOTE: [&str; 17] = [
            "9p",
            "afs",
            "autofs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "gfs2",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "ocfs2",
            "orangefs",
            "smb3",
            "smbfs",
            "virtiofs",
        ];
        let name = self.fs_type.as_str();
        name.starts_with("nfs") || name.starts_with("fuse") || REMOTE.contains(&name)
    }

    /// Returns whether its mount point leads to it through nothing that may hang: it does not if something else is
    /// mounted over it or over a directory on the path.
    fn is_reachable(&self, mounts: &[Mount]) -> bool {
        let mut child = None;
        let mut mount = self;
        // A chain of parents is never longer than the list, unless the list is damaged.
        for _ in 0..mounts.len() {
            if mount.may_hang()
                || mounts
                    .iter()
                    .any(|other| Some(other.id) != child && other.covers(mount))
            {
                return false;
            }
            match mounts
                .iter()
                .find(|other| other.id == mount.parent && other.id != mount.id)
            {
                Some(parent) => {
                    child = Some(mount.id);
                    mount = parent;
                }
                // The rest of the chain lies outside this process's root.
                None => return true,
            }
        }
        false
    }

    /// Returns whether it is mounted on the other's root, or beside it on a directory in the other's path.
    fn covers(&self, other: &Mount) -> bool {
        if self.id == other.id {
            return false;
        }
        let on_it = self.parent == other.id && self.point == other.point;
        let above = self.parent == other.parent && self.point != other.point && other.point.starts_with(&self.point);
        on_it || above
    }
}

/// Decodes a path: the kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(point: PathBuf) -> PathBuf {
    let bytes = point.into_os_string().into_vec();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain).into()
}
