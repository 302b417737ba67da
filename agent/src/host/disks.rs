//! Block devices: the relevant ones, and their traffic.

use super::counters::Counters;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Unit of /proc/diskstats, whatever the device's own sector size.
const SECTOR_BYTES: u64 = 512;

/// The devices of `/sys/block` whose traffic counts; `None` if it cannot be read.
///
/// Whole devices only (partitions are not listed there), and only the lowest layer: traffic of a device with slaves
/// (device mapper, md, bcache) is the traffic of those, and that of loop, ram and zram devices never is a disk's own.
pub(super) fn whole(sys_block: &Path) -> Option<BTreeSet<String>> {
    let names = fs::read_dir(sys_block)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let counts = |name: &String| !is_virtual(name) && !has_slaves(&sys_block.join(name));
    // A device whose name contains a slash is spelt with an exclamation mark in sysfs.
    Some(names.filter(counts).map(|name| name.replace('!', "/")).collect())
}

fn is_virtual(name: &str) -> bool {
    ["loop", "ram", "zram"].iter().any(|prefix| name.starts_with(prefix))
}

fn has_slaves(device: &Path) -> bool {
    fs::read_dir(device.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some())
}

/// Bytes read and written by the devices in `whole`, from /proc/diskstats.
pub(super) fn traffic(diskstats: &str, whole: &BTreeSet<String>) -> Counters {
    let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_BYTES);
    diskstats
        .lines()
        .filter_map(|line| procfs::DiskStat::from_line(line).ok())
        .filter(|disk| whole.contains(&disk.name))
        .map(|disk| (disk.name, [bytes(disk.sectors_read), bytes(disk.sectors_written)]))
        .collect()
}
