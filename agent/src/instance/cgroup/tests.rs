//! The written files. `tests/cluster/work/limits.rs` tests whether a kernel applies them.

use tempfile::TempDir;

use super::*;

fn spec() -> Spec {
    let mut spec = Spec::new("web", "/bin/true");
    (spec.resources.cpu_millis, spec.resources.memory_bytes) = (500, 64 << 20);
    (spec.limits.cpu_millis, spec.limits.pids) = (1_500, 32);
    spec
}

fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap()
}

/// A directory that stands for a mount of cgroup v2.
fn unified() -> (TempDir, Group) {
    let mount = tempfile::tempdir().unwrap();
    write(mount.path(), "cgroup.controllers", "cpuset cpu io memory pids\n").unwrap();
    let line = format!(
        "30 23 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
        mount.path().display()
    );
    let root = Group::root(&line).unwrap();
    (mount, root)
}

#[test]
fn v2_gets_its_controllers_and_limits() {
    let (mount, root) = unified();
    let groups = Groups {
        parent: root.below("work/wyneos"),
        prefix: Prefix("node.".to_owned()),
    };
    groups.prepare(&root, "work/wyneos", 4).unwrap();
    for level in ["", "work", "work/wyneos"] {
        assert_eq!(
            read(&mount.path().join(level), "cgroup.subtree_control"),
            "+memory +cpu +pids"
        );
    }
    assert_eq!(read(&mount.path().join("work/wyneos"), "cpu.weight"), "400");
    let group = groups.of(AssignmentId(7));
    let directory = mount.path().join("work/wyneos/node.0000000000000007");
    group.create().unwrap();
    write(&directory, "memory.swap.max", "max").unwrap();
    group.make(&spec()).unwrap();
    assert_eq!(read(&directory, "memory.max"), "67108864");
    assert_eq!(read(&directory, "memory.swap.max"), "0");
    assert_eq!(read(&directory, "cpu.weight"), "50");
    assert_eq!(read(&directory, "cpu.max"), "150000 100000");
    assert_eq!(read(&directory, "pids.max"), "32");
    write(
        &directory,
        "memory.events",
        "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
    )
    .unwrap();
    assert_eq!(group.out_of_memory(), 2);
    group.join().unwrap();
    assert_eq!(read(&directory, "cgroup.procs"), "0");
    assert!(group.kill().is_empty());
    assert_eq!(
        (read(&directory, "cgroup.kill"), read(&directory, "pids.max")),
        ("1".to_owned(), "0".to_owned())
    );
}

#[test]
fn v1_has_a_directory_for_each_controller() {
    let mounts = "25 23 0:22 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  26 23 0:23 / /c/memory rw - cgroup cgroup rw,memory\n\
                  27 23 0:24 / /c/pids rw - cgroup cgroup rw,pids\n\
                  28 23 0:25 / /c/unified rw - cgroup2 cgroup2 rw\n";
    let root = Group::root(mounts).unwrap();
    assert_eq!(root.version, Version::V1);
    let expected = ["/c/memory/a", "/c/cpu,cpuacct/a", "/c/pids/a"].map(PathBuf::from);
    assert_eq!(root.below("a").each(), expected);
    let without = mounts
        .lines()
        .filter(|line| !line.contains("pids"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(Group::root(&without).unwrap_err().contains("\"pids\""));
    assert!(Group::root("").is_err());
}

#[test]
fn what_is_tiny_or_huge_is_within_what_the_kernel_takes() {
    let (mount, root) = unified();
    for (millis, weight) in [(1, "1"), (10, "1"), (1_000, "100"), (1_000_000, "10000")] {
        root.weigh(millis).unwrap();
        assert_eq!(read(mount.path(), "cpu.weight"), weight);
    }
    let v1 = Group {
        version: Version::V1,
        ..root
    };
    for (millis, shares) in [(1, "2"), (1_000, "1024"), (1_000_000, "262144")] {
        v1.weigh(millis).unwrap();
        assert_eq!(read(mount.path(), "cpu.shares"), shares);
    }
}
