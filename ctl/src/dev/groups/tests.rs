use super::*;

#[test]
fn hierarchies_are_those_of_both_versions() {
    let mounts = "\
        29 23 0:25 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n\
        30 29 0:26 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n\
        31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 29 0:28 / /cgroup rw - ext4 /dev/cgroup rw\n\
        nonsense\n";
    let found = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"].map(PathBuf::from);
    assert_eq!(hierarchies(mounts), found);
}

#[test]
fn groups_below_go_first_and_what_is_gone_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let group = directory.path().join(own());
    fs::create_dir_all(group.join("node.instance/inner")).unwrap();
    removed(&group, DEPTH).unwrap();
    assert!(!group.exists());
    removed(&group, DEPTH).unwrap();
}
