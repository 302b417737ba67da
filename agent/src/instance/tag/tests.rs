use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::*;
use crate::instance::processes::{all, kill};

/// Processes started by a check are no longer descendants of this process, which is not a supervisor.
fn every() -> Vec<i32> {
    all().into_iter().map(|(pid, _)| pid).collect()
}

/// Starts a program that leaves a child behind, and waits for it.
fn leave(run: &str, script: &str) -> Tag {
    let start = || {
        Command::new("/bin/sh")
            .args(["-c", script])
            .env(CHECK, run)
            .stdout(Stdio::null())
            .status()
    };
    let (tag, status) = Tag::start(run, start).unwrap();
    assert!(status.success());
    tag
}

#[test]
fn what_a_check_started_is_found_whatever_it_left_behind() {
    let run = format!("{}.1", std::process::id());
    let own = fs::read_link(OWN).unwrap();
    let without_environment = leave(&run, "env -i setsid -f sh -c 'setsid -f sleep 600; sleep 600'");
    assert_eq!(fs::read_link(OWN).unwrap(), own, "this thread has its namespace again");
    let marked = leave(&format!("{run}1"), "setsid -f sleep 600");
    let found = marked.carriers(every());
    assert_eq!(found.len(), 1, "by a mark alone, and none of another run");
    kill(&found);
    if geteuid().is_root() {
        // The process that it starts appears a moment later.
        while without_environment.carriers(every()).len() < 2 {
            std::thread::yield_now();
        }
        kill(&without_environment.carriers(every()));
    }
    while !without_environment.carriers(every()).is_empty() || !marked.carriers(every()).is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn where_no_namespace_can_be_made_a_mark_has_to_do() {
    let run = format!("{}.2", std::process::id());
    let tag = Tag {
        namespace: None,
        ..leave(&run, "setsid -f sleep 600")
    };
    let found = tag.carriers(every());
    assert_eq!(found.len(), 1);
    kill(&found);
    while !tag.carriers(every()).is_empty() {
        std::thread::yield_now();
    }
}
