use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Command, time::Duration};

use rustix::process::Signal;

use super::{LOOK, Launch, Process, directory, until};

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str, log: &Path) -> Launch {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Launch::new(command, log)
}

fn port(line: &str) -> Option<u16> {
    line.strip_prefix("listening on ")?.parse().ok()
}

fn is_there(process: &Process) -> bool {
    Path::new(&format!("/proc/{}", process.id())).exists()
}

#[test]
fn a_process_is_heard_by_its_own_words_alone_and_ended_by_its_id() {
    let place = directory().unwrap();
    let log = place.path().join("log");
    let mut first = shell("echo listening on 1; exec sleep 1000", &log).start().unwrap();
    assert_eq!(first.says(LONG, port), Some(1));
    assert_eq!(first.kill().unwrap().signal(), Some(9));
    assert!(!is_there(&first));
    // Restarted with the same log: the output of the previous process is not counted.
    let mut second = shell("echo oh; echo listening on 2 >&2; exec sleep 1000", &log)
        .start()
        .unwrap();
    assert_eq!(second.says(LONG, port), Some(2));
    assert_eq!(second.said(), "oh\nlistening on 2\n");
    assert!(second.log_text().starts_with("listening on 1\n"));
    assert!(second.rss().unwrap() > 0 && second.threads().unwrap() == 1 && second.cpu().unwrap() < 10.0);
    second.signal(Signal::TERM).unwrap();
    assert_eq!(second.ended(LONG).unwrap().signal(), Some(15));
    assert!(second.signal(Signal::TERM).is_err());
}

#[test]
fn one_that_ends_is_not_waited_for_to_say_more() {
    let place = directory().unwrap();
    let mut ends = shell("echo oh", &place.path().join("log")).start().unwrap();
    assert_eq!(ends.says(LONG, port), None);
    assert!(ends.ended(LONG).unwrap().success());
}

#[test]
fn a_tied_process_ends_by_itself_and_any_other_is_killed() {
    let place = directory().unwrap();
    let (log, out) = (place.path().join("log"), place.path().join("out"));
    let tied = shell("echo begin; cat; echo end >&2", &log)
        .output(&out)
        .tied()
        .start()
        .unwrap();
    until(LONG, LOOK, || std::fs::read(&out).ok().filter(|out| out == b"begin\n")).unwrap();
    drop(tied);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "end\n");
    let other = shell("exec sleep 1000", &log).start().unwrap();
    let path = format!("/proc/{}", other.id());
    drop(other);
    assert!(!Path::new(&path).exists());
}

#[test]
fn a_log_that_tells_of_a_panic_fails_the_test() {
    let place = directory().unwrap();
    let log = place.path().join("log");
    let fails = std::thread::spawn(move || {
        let mut process = shell("echo thread main panicked", &log).start().unwrap();
        process.ended(LONG).unwrap();
    });
    assert!(fails.join().is_err());
}
