//! What a program may leave on the disk, and how that goes.

use std::{os::fd::OwnedFd, process::Command};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::*;

/// More levels than the agent may have files open, and than any path names.
const DEEP: usize = 1_500;

fn dig(place: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, place, flags, Mode::empty()).unwrap();
    for _ in 0..DEEP {
        mkdirat(&at, c"d", Mode::RWXU).unwrap();
        at = openat(&at, c"d", flags, Mode::empty()).unwrap();
    }
}

/// An agent that may have this many files open.
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

#[tokio::test]
async fn a_directory_that_is_deeper_than_any_limit_goes_and_no_agent_ends_of_it() {
    let mut site = Site::start(&["one"]).await;
    site.kill_agent("one").await;
    *site.agent("one") = Some(limited(&site, 1_024));
    site.cluster.node_is("one", Liveness::Online).await;
    site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let rows = site.runs("app", 1).await;
    let incarnation = site.incarnation("one").await;
    let instances = site.cluster.directory.path().join("one/instances");
    let work = instances.join(id(&rows[0])).join("work");
    dig(&work);
    let closed = work.join("closed");
    fs::create_dir_all(closed.join("within")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0)).unwrap();
    assert!(site.ctl(&["delete", "app"]).status.success());
    let empty = async || fs::read_dir(&instances).unwrap().next().is_none().then_some(());
    wait_until("nothing of it is left", empty).await;
    assert_eq!(site.incarnation("one").await, incarnation, "the agent goes on");
    // What an agent has not come to remove is removed by the next one.
    site.kill_agent("one").await;
    let left = instances.join(format!(".removed-{}", id(&rows[0])));
    fs::create_dir(&left).unwrap();
    dig(&left);
    site.start_agent("one").await;
    wait_until("nothing is left", empty).await;
    assert_eq!(site.incarnation("one").await, incarnation + 1, "it has started once");
    site.ends().await;
}
