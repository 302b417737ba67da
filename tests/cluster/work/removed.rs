//! Removal of what a program may leave on the disk.

use std::{os::fd::OwnedFd, process::Command};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::*;

/// More levels than the agent may have open files, and than a path may name.
const DEEP: usize = 1_500;

fn dig(place: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, place, flags, Mode::empty()).unwrap();
    for _ in 0..DEEP {
        mkdirat(&at, c"d", Mode::RWXU).unwrap();
        at = openat(&at, c"d", flags, Mode::empty()).unwrap();
    }
}

/// Starts an agent with this maximum number of open files.
fn limited(site: &Site, files: u32) -> Process {
    let mut command = Command::new("/bin/sh");
    let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    command
        .arg("-c")
        .arg(script)
        .arg(crate::harness::binary("wyneos-agent"))
        .args(site.cluster.agent_args("one"));
    Process::of(command, &site.cluster.agent_log("one"))
}

/// Waits until a snapshot contains this incarnation of the agent.
async fn has_started(site: &Site, incarnation: u64) {
    wait_until(&format!("start {incarnation} is known"), async || {
        (site.incarnation("one").await == incarnation).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_deeper_than_any_limit_goes_and_no_agent_ends_of_it() {
    let mut site = Site::start(&["one"]).await;
    site.kill_agent("one").await;
    *site.agent("one") = Some(limited(&site, 1_024));
    has_started(&site, 2).await;
    site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let rows = site.runs("app", 1).await;
    let instances = site.cluster.directory.path().join("one/instances");
    let work = instances.join(id(&rows[0])).join("work");
    dig(&work);
    let closed = work.join("closed");
    fs::create_dir_all(closed.join("within")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(site.ctl(&["delete", "app"]).status.success());
    let empty = async || fs::read_dir(&instances).unwrap().next().is_none().then_some(());
    wait_until("nothing of it is left", empty).await;
    assert_eq!(site.incarnation("one").await, 2, "the agent goes on");
    // What one agent did not remove is removed by the next one.
    site.kill_agent("one").await;
    let left = instances.join(format!(".removed-{}", id(&rows[0])));
    fs::create_dir(&left).unwrap();
    dig(&left);
    site.start_agent("one").await;
    wait_until("nothing is left", empty).await;
    has_started(&site, 3).await;
    site.ends().await;
}

/// Special files in the place of a regular file.
#[derive(Clone, Copy, Debug)]
enum Special {
    Pipe,
    Huge,
    Endless,
}

impl Special {
    const ALL: [Special; 3] = [Special::Pipe, Special::Huge, Special::Endless];

    fn put(self, path: &Path) {
        drop(fs::remove_file(path));
        match self {
            Special::Pipe => {
                rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            }
            Special::Huge => fs::File::create(path).unwrap().set_len(3 << 30).unwrap(),
            Special::Endless => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        }
    }
}

const OF_AN_INSTANCE: &[&str] = &["order.json", "status.json", "lock", "first.json", "supervisor.log"];
const OF_THE_AGENT: &[&str] = &["begun", "instances.users.json"];

#[tokio::test]
async fn special_and_huge_files_hold_up_no_agent_and_take_no_memory() {
    for (special, files) in [
        (Special::Pipe, OF_AN_INSTANCE),
        (Special::Huge, OF_AN_INSTANCE),
        (Special::Endless, OF_AN_INSTANCE),
        (Special::Pipe, OF_THE_AGENT),
        (Special::Huge, OF_THE_AGENT),
    ] {
        // A node whose agent was started often counts as flapping, and gets no work.
        let mut site = Site::start(&["one"]).await;
        let what = format!("{special:?} as {files:?}");
        site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
        let rows = site.runs("app", 1).await;
        site.kill_agent("one").await;
        for supervisor in site.supervisors("one") {
            kill(supervisor, Signal::KILL);
        }
        let place = site.cluster.directory.path().join("one");
        let home = place.join("instances").join(id(&rows[0]));
        let below = if files == OF_THE_AGENT { &place } else { &home };
        files.iter().for_each(|name| special.put(&below.join(name)));
        let before = site.session("one").await;
        site.begin_agent("one");
        wait_until(&format!("it has joined, {what}"), async || {
            (site.session("one").await > before).then_some(())
        })
        .await;
        let ended = |row: &v1::AssignmentRow| id(row) == id(&rows[0]) && phase(row) != InstancePhase::Ended;
        wait_until(&format!("it has ended, {what}"), async || {
            (!lives(status(&rows[0]).pid) && !site.instances("app").await.iter().any(ended)).then_some(())
        })
        .await;
        let used = site.agent("one").as_ref().unwrap().rss();
        assert!(used < 100 << 20, "{used} bytes, {what}");
        assert!(site.ctl(&["delete", "app"]).status.success());
        wait_until(&format!("nothing is left, {what}"), async || {
            fs::read_dir(place.join("instances"))
                .unwrap()
                .next()
                .is_none()
                .then_some(())
        })
        .await;
        site.ends().await;
    }
}

#[tokio::test]
async fn an_agent_says_which_file_of_its_own_is_none() {
    let mut site = Site::start(&["one"]).await;
    site.kill_agent("one").await;
    let place = site.cluster.directory.path().join("one");
    let log = site.cluster.agent_log("one");
    for special in Special::ALL {
        for name in ["node-id", "incarnation", "config.toml"] {
            let (path, kept) = (place.join(name), fs::read(place.join(name)).ok());
            special.put(&path);
            fs::write(&log, "").unwrap();
            let config = path.display().to_string();
            let flags: &[&str] = if name == "config.toml" {
                &["--config", &config]
            } else {
                &[]
            };
            let mut agent = site.cluster.agent_with("one", flags);
            assert!(!agent.ended().await.success(), "{special:?} as {name}");
            let told = agent.log_text();
            assert!(
                told.contains(name) && (told.contains("no regular file") || told.contains("larger than")),
                "{told}"
            );
            fs::remove_file(&path).unwrap();
            if let Some(kept) = kept {
                fs::write(&path, kept).unwrap();
            }
        }
    }
    let instances = place.join("instances");
    fs::remove_dir(&instances).unwrap();
    for link in [false, true] {
        match link {
            true => std::os::unix::fs::symlink("nowhere", &instances).unwrap(),
            false => fs::write(&instances, "").unwrap(),
        }
        let mut agent = site.cluster.agent("one");
        assert!(!agent.ended().await.success());
        assert!(agent.log_text().contains("is no directory"), "{}", agent.log_text());
        fs::remove_file(&instances).unwrap();
    }
    site.start_agent("one").await;
    site.ends().await;
}
