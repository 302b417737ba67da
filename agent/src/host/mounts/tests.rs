//! Mount tables, usual and contrived.

use super::*;

fn points(mountinfo: &str) -> Vec<String> {
    storage(mountinfo)
        .iter()
        .map(|point| point.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn storage_is_block_devices_once_each() {
    let text = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 0:25 / /tmp rw - tmpfs tmpfs rw
29 27 254:0 /srv /mnt/bind rw - ext4 /dev/vda rw
30 27 8:17 / /mnt/with\040space ro,relatime - xfs /dev/sdb1 rw,noquota
31 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
32 27 11:0 / /media/cd ro - iso9660 /dev/sr0 ro
33 27 0:40 /@home /home rw - btrfs /dev/sdc rw
34 27 0:41 / /tank rw - zfs tank rw
35 27 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
36 27 0:51 / /mnt/nfs rw - nfs4 server:/export rw
37 27 0:52 / /mnt/sshfs rw - fuse.sshfs me@host: rw
38 27 8:33 / /mnt/ntfs rw - fuseblk /dev/sdd1 rw
damaged line
39 27
";
    assert_eq!(points(text), ["/", "/mnt/with space", "/home", "/tank"]);
    assert!(points("").is_empty());
}

#[test]
fn the_root_of_a_container_is_storage() {
    let text = "600 500 0:50 / / rw - overlay overlay rw,lowerdir=/a\n601 600 254:0 /c/hosts /etc/hosts rw - ext4 /dev/vda rw\n";
    assert_eq!(points(text), ["/", "/etc/hosts"]);
}

#[test]
fn a_path_that_something_else_is_mounted_over_is_not_asked() {
    let over = "1 0 0:2 / / rw - rootfs rootfs rw\n27 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 27 8:17 / /mnt rw - ext4 /dev/sdb1 rw\n31 30 0:51 / /mnt rw - nfs4 server:/export rw\n\
        40 27 8:33 / /srv/data rw - ext4 /dev/sdc1 rw\n41 27 0:51 / /srv rw - nfs4 server:/srv rw\n\
        42 27 8:49 / /srv2/data rw - ext4 /dev/sdd1 rw\n";
    assert_eq!(points(over), ["/", "/srv2/data"]);
    let through = "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 27 0:51 / /nfs rw - nfs server:/ rw\n\
        31 30 8:17 / /nfs/local rw - ext4 /dev/sdb1 rw\n32 27 0:30 / /auto rw - autofs systemd-1 rw\n\
        33 32 8:33 / /auto rw - ext4 /dev/sdc1 rw\n";
    assert_eq!(points(through), ["/"]);
    let elsewhere = "30 27 8:17 / /mnt/old rw - ext4 /dev/sdb1 rw\n31 27 0:51 / /mnt rw - nfs server:/ rw\n\
        27 1 8:1 / / rw - ext4 /dev/sda1 rw\n32 27 8:17 /sub /data rw - ext4 /dev/sdb1 rw\n";
    assert_eq!(
        points(elsewhere),
        ["/", "/data"],
        "the same device at a path that can be reached"
    );
    let damaged = "30 31 8:17 / /a rw - ext4 /dev/sdb1 rw\n31 30 8:1 / /b rw - ext4 /dev/sda1 rw\n";
    assert!(points(damaged).is_empty(), "a circle of parents");
}

#[test]
fn a_file_system_that_does_not_answer_is_passed_over() {
    let usage = fullest(&[PathBuf::from("/nowhere/at/all"), PathBuf::from("/")]).unwrap();
    assert!((0.0..=1.0).contains(&usage.used) && usage.bytes > 0, "{usage:?}");
    assert_eq!(fullest(&[PathBuf::from("/nowhere/at/all")]), None);
}
