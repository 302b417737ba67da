use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn home() -> (TempDir, Home) {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().to_owned());
    make_room(&home).unwrap();
    (directory, home)
}

/// Waits until a child has ended, without reaping it.
fn ended_child(script: &str) -> std::process::Child {
    let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    let pid = child.id() as i32;
    while zombie(pid).is_none() {
        std::thread::yield_now();
    }
    child
}

#[test]
fn only_what_was_watched_and_has_no_end_was_cut_off() {
    let (_directory, home) = home();
    assert_eq!(read(&home), Trace::NotStarted);
    starts(&home).unwrap();
    assert_eq!(read(&home), Trace::Unknown);
    write(&home, Record::Watched, WATCHED).unwrap();
    assert_eq!(read(&home), Trace::CutOff);
    ended(&home, Exit::Code(0)).unwrap();
    // Written late by another observer: the end remains known.
    write(&home, Record::Watched, WATCHED).unwrap();
    assert_eq!(read(&home), Trace::Ended(Exit::Code(0)));
    // The next program of the same instance.
    starts(&home).unwrap();
    assert_eq!(read(&home), Trace::Unknown);
    fs::remove_file(home.trace()).unwrap();
    assert_eq!(read(&home), Trace::Unknown);
}

proptest! {
    #[test]
    fn a_trace_that_is_damaged_is_never_that_of_a_program_which_was_cut_off(from in 0..3 * RECORD, length in 1..3 * RECORD, byte: u8) {
        let (_directory, home) = home();
        starts(&home).unwrap();
        write(&home, Record::Watched, WATCHED).unwrap();
        ended(&home, Exit::Code(7)).unwrap();
        let mut bytes = fs::read(home.trace()).unwrap();
        let to = bytes.len().min(from + length);
        // Most of the contents are blanks, so a blank may be no damage.
        prop_assume!(byte != b' ');
        bytes[from..to].fill(byte);
        fs::write(home.trace(), bytes).unwrap();
        prop_assert!(!matches!(read(&home), Trace::CutOff | Trace::NotStarted));
    }
}

#[test]
fn the_exit_of_a_process_is_seen_before_its_parent_sees_it() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 255", Exit::Code(255)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
    ] {
        let mut child = ended_child(script);
        let own = std::process::id() as i32;
        assert_eq!(zombie(child.id() as i32), Some((exit, own)), "{script}");
        child.wait().unwrap();
        assert_eq!(zombie(child.id() as i32), None);
    }
    assert_eq!(zombie(std::process::id() as i32), None, "it runs");
}

#[tokio::test]
async fn whoever_watches_writes_down_the_end() {
    let (_directory, home) = home();
    starts(&home).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line; exit 3"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let watching = tokio::spawn(watch(Home(home.0.clone()), child.id() as i32));
    while read(&home) != Trace::CutOff {
        tokio::task::yield_now().await;
    }
    drop(child.stdin.take());
    watching.await.unwrap().unwrap();
    assert_eq!(read(&home), Trace::Ended(Exit::Code(3)));
    child.wait().unwrap();
}
