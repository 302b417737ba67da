//! Disks that are full or read-only.

use std::process::Command;

use super::*;
use crate::harness::skip;

/// A small mounted disk; removed when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Returns `None`, with a message, if this machine does not permit mounts.
    pub fn mount(at: PathBuf) -> Option<Disk> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "wyneos-test"])
            .arg(&at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk(at)),
            _ if rustix::process::geteuid().is_root() => {
                skip(&format!("a tmpfs cannot be mounted: {mounted:?}"));
                None
            }
            _ => {
                eprintln!("skipped: a disk is mounted by root alone");
                None
            }
        }
    }

    /// Fills the disk completely.
    pub fn fill(&self) {
        let full = fs::write(self.0.join("filler"), vec![0; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    pub fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test]
async fn an_agent_whose_disk_is_full_starts_and_finds_its_work() {
    let mut site = Site::start(&[]).await;
    let Some(disk) = Disk::mount(site.cluster.directory.path().join("one")) else {
        return site.ends().await;
    };
    site.agents.push(("one".to_owned(), None));
    site.start_agent("one").await;
    site.apply("name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 1).await;
    disk.fill();
    for starts in 2..4 {
        site.kill_agent("one").await;
        site.start_agent("one").await;
        wait_until("it is there, started once more", async || {
            let row = site.cluster.node_is("one", Liveness::Online).await;
            (row.incarnation == starts).then_some(())
        })
        .await;
        assert_eq!(pids(&site.runs("app", 1).await), pids(&before));
    }
    // Operations that need space report it.
    site.apply("name = \"more\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/true\"\n");
    site.shows("more", "No space left").await;
    // Instances can be stopped all the same.
    assert!(site.ctl(&["delete", "app"]).status.success());
    wait_until("it is gone", async || (!lives(pids(&before)[0])).then_some(())).await;
    disk.empty();
    site.ends().await;
}

#[tokio::test]
async fn a_full_disk_keeps_no_supervisor_from_saying_how_it_is() {
    // The disk is mounted before the agent starts, because the cluster creates its directory.
    let mut site = Site::start(&[]).await;
    let Some(disk) = Disk::mount(site.cluster.directory.path().join("one/instances")) else {
        return site.ends().await;
    };
    site.agents.push(("one".to_owned(), None));
    site.start_agent("one").await;
    site.apply("name = \"job\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    site.apply("name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[restart]\nbackoff = \"100ms\"\n");
    let app = site.runs("app", 1).await;
    let before = site.runs("job", 1).await;
    let file = disk.0.join(id(&before[0])).join("status.json");
    // Files that are being replaced have space reserved.
    let files = [&app, &before].map(|rows| disk.0.join(id(&rows[0])).join("status.json"));
    wait_until("it is written down that both run", async || {
        let written = |file: &PathBuf| fs::read_to_string(file).unwrap_or_default().contains("\"running\"");
        files.iter().all(written).then_some(())
    })
    .await;
    disk.fill();
    // Running work continues.
    kill(status(&app[0]).pid as i32, Signal::KILL);
    wait_until("it is started again", async || {
        let rows = site.runs("app", 1).await;
        (status(&rows[0]).restarts == 1).then_some(())
    })
    .await;
    site.kill_agent("one").await;
    kill(status(&before[0]).pid as i32, Signal::KILL);
    wait_until("its process is gone", async || {
        (!lives(status(&before[0]).pid)).then_some(())
    })
    .await;
    // Queries are answered, although nothing of it is on the disk.
    site.start_agent("one").await;
    let after = wait_until("how it ended is told", async || {
        let rows = site.instances("job").await;
        let first = rows.into_iter().find(|row| id(row) == id(&before[0]))?;
        (phase(&first) == InstancePhase::Ended).then_some(first)
    })
    .await;
    assert_eq!(status(&after).exit.unwrap().how, Some(v1::process_exit::How::Signal(9)));
    assert!(
        fs::read_to_string(&file).unwrap().contains("\"running\""),
        "the disk took it"
    );
    assert_eq!(site.supervisors("one").len(), 2);
    disk.empty();
    wait_until("it is written down, and its supervisor is gone", async || {
        let written = fs::read_to_string(&file).unwrap_or_default().contains("\"ended\"");
        (written && site.supervisors("one").len() == 1).then_some(())
    })
    .await;
    assert_eq!(status(&site.runs("app", 1).await[0]).restarts, 1);
    site.ends().await;
}

/// Starts an agent that sees its data_dir on a read-only disk.
fn on_read_only(site: &Site, name: &str) -> Process {
    let data_dir = site.cluster.directory.path().join(name);
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    command
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", script])
        .arg(data_dir);
    command
        .arg(crate::harness::binary("wyneos-agent"))
        .args(site.cluster.agent_args(name));
    Process::of(command, &site.cluster.agent_log(name))
}

#[tokio::test]
async fn an_agent_whose_disk_takes_no_writes_goes_on_with_its_work_and_can_end_it() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: a disk is mounted by root alone");
    }
    let mut site = Site::start(&["one"]).await;
    for name in ["app", "stays", "gone"] {
        site.apply(&format!(
            "name = \"{name}\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n"
        ));
    }
    site.apply("name = \"only\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let mut before = Vec::new();
    for name in ["app", "stays", "gone", "only"] {
        before.extend(site.runs(name, 1).await);
    }
    let [app, stays, gone, only] = before.as_slice() else {
        unreachable!()
    };
    site.kill_agent("one").await;
    // A supervisor ends while nothing observes it, and can no longer record anything.
    let is_of_gone = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|command| String::from_utf8_lossy(&command).contains(&id(gone)))
    };
    let supervisor = site.supervisors("one").into_iter().find(is_of_gone).unwrap();
    kill(supervisor, Signal::KILL);
    wait_until("it is gone", async || (!lives(status(gone).pid)).then_some(())).await;
    // Not more often: a flapping node gets no work for a while.
    for starts in 2..4 {
        if starts > 2 {
            site.kill_agent("one").await;
        }
        let agent = on_read_only(&site, "one");
        *site.agent("one") = Some(agent);
        wait_until("it is there, started once more", async || {
            (site.incarnation("one").await == starts).then_some(())
        })
        .await;
        for row in [app, stays, only] {
            let name = &row.assignment.as_ref().unwrap().workload;
            assert_eq!(pids(&site.runs(name, 1).await), [status(row).pid]);
        }
        wait_until("what is gone is not shown as running", async || {
            let rows = site.instances("gone").await;
            rows.iter().all(|row| phase(row) == InstancePhase::Ended).then_some(())
        })
        .await;
    }
    // Operations that need the disk report it, and instances can be stopped all the same.
    site.apply("name = \"more\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/true\"\n");
    site.shows("more", "Read-only file system").await;
    for (name, row) in [("app", app), ("gone", gone)] {
        assert!(site.ctl(&["delete", name]).status.success());
        wait_until(&format!("{name} is deleted"), async || {
            let left = !text(&site.ctl(&["workload", name])).contains("NOT_FOUND");
            (!lives(status(row).pid) && (!left || site.instances(name).await.is_empty())).then_some(())
        })
        .await;
    }
    site.kill_agent("one").await;
    // The disk accepts writes again.
    site.begin_agent("one");
    wait_until("it was counted all the while", async || {
        (site.incarnation("one").await == 4).then_some(())
    })
    .await;
    assert_eq!(pids(&site.runs("stays", 1).await), [status(stays).pid]);
    assert_eq!(pids(&site.runs("only", 1).await), [status(only).pid]);
    wait_until("what was left of what ended is removed", async || {
        let left = |row: &v1::AssignmentRow| {
            site.cluster
                .directory
                .path()
                .join("one/instances")
                .join(id(row))
                .exists()
        };
        (!left(app) && !left(gone)).then_some(())
    })
    .await;
    let node = fs::read_to_string(site.cluster.directory.path().join("one/node-id")).unwrap();
    assert!(!Path::new("/run/wyneos-agent").join(node.trim()).exists());
    site.ends().await;
}

#[tokio::test]
async fn an_instance_whose_lock_cannot_be_looked_at_has_ended_once_no_process_has_it() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    site.apply("name = \"stays\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let (app, stays) = (site.runs("app", 1).await, site.runs("stays", 1).await);
    site.kill_agent("one").await;
    let lock = |row: &v1::AssignmentRow| {
        site.cluster
            .directory
            .path()
            .join("one/instances")
            .join(id(row))
            .join("lock")
    };
    let is_of = |pid: &i32, row: &v1::AssignmentRow| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&id(row))
    };
    let find = |row: &v1::AssignmentRow| site.supervisors("one").into_iter().find(|pid| is_of(pid, row)).unwrap();
    let (ends, stopped) = (find(&app[0]), find(&stays[0]));
    kill(ends, Signal::KILL);
    // A stopped supervisor does not recreate its lock, but still exists.
    kill(stopped, Signal::STOP);
    for path in [lock(&app[0]), lock(&stays[0])] {
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    site.start_agent("one").await;
    let ended = wait_until("it has ended, and why is said", async || {
        let rows = site.instances("app").await;
        let row = rows.into_iter().find(|row| phase(row) == InstancePhase::Ended)?;
        Some(status(&row).detail)
    })
    .await;
    assert!(ended.contains("its lock cannot be looked at"), "{ended}");
    assert!(lives(status(&stays[0]).pid) && phase(&site.instances("stays").await[0]) != InstancePhase::Ended);
    kill(stopped, Signal::CONT);
    assert_eq!(pids(&site.runs("stays", 1).await), pids(&stays));
    for name in ["app", "stays"] {
        assert!(site.ctl(&["delete", name]).status.success());
    }
    wait_until("both are gone", async || {
        let gone = !lives(status(&stays[0]).pid) && site.processes("one").is_empty();
        gone.then_some(())
    })
    .await;
    site.ends().await;
}
