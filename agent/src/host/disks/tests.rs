//! Layers of block devices.

use super::*;

#[test]
fn only_whole_disks_of_the_lowest_layer_count() {
    let sys = tempfile::tempdir().unwrap();
    for device in [
        "sda",
        "nvme0n1",
        "dm-0",
        "dm-1",
        "md0",
        "loop0",
        "ram0",
        "zram0",
        "cciss!c0d0",
    ] {
        fs::create_dir_all(sys.path().join(device).join("slaves")).unwrap();
    }
    fs::create_dir(sys.path().join("dm-0/slaves/sda2")).unwrap();
    fs::create_dir(sys.path().join("md0/slaves/dm-0")).unwrap();
    let disks = whole(sys.path()).unwrap();
    let expected = ["sda", "nvme0n1", "dm-1", "cciss/c0d0"].map(str::to_owned);
    assert_eq!(disks, BTreeSet::from(expected));
    assert_eq!(whole(&sys.path().join("none")), None);

    let text = "   8 0 sda 1 0 10 5 1 0 20 5 0 9 9\n   8 1 sda1 1 0 10 5 1 0 20 5 0 9 9\n\
        253 0 dm-0 1 0 10 5 1 0 20 5 0 9 9\n 104 0 cciss/c0d0 1 0 2 5 1 0 3 5 0 9 9 1 1 1 1 1 1\n 8 2\n\n";
    let expected = [("sda", [5120, 10240]), ("cciss/c0d0", [1024, 1536])];
    assert_eq!(
        traffic(text, &disks),
        Counters::from(expected.map(|(name, bytes)| (name.to_owned(), bytes)))
    );
}
