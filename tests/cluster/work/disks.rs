//! Disks that are full.

use std::process::Command;

use super::*;
use crate::harness::skip;

/// A small disk of its own; gone when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// `None`, with a word, where this machine lets us mount none.
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

    /// Fills it to the last byte, or takes that back.
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
    // What needs room says so.
    site.apply("name = \"more\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/true\"\n");
    site.shows("more", "No space left").await;
    // Work can be given up all the same.
    assert!(site.ctl(&["delete", "app"]).status.success());
    wait_until("it is gone", async || (!lives(pids(&before)[0])).then_some(())).await;
    disk.empty();
    site.ends().await;
}

#[tokio::test]
async fn a_full_disk_keeps_no_supervisor_from_saying_how_it_is() {
    // The cluster's directory is made by the cluster: the disk is mounted before the agent starts.
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
    // A file that is being replaced has room of its own.
    let files = [&app, &before].map(|rows| disk.0.join(id(&rows[0])).join("status.json"));
    wait_until("it is written down that both run", async || {
        let written = |file: &PathBuf| fs::read_to_string(file).unwrap_or_default().contains("\"running\"");
        files.iter().all(written).then_some(())
    })
    .await;
    disk.fill();
    // What goes on goes on.
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
    // Whoever asks is answered, though nothing of it is on the disk.
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
