use proptest::prelude::*;
use tempfile::TempDir;
use wyneos_core::{
    time::WallTime,
    workload::{Exit, Phase},
};

use super::*;

fn status() -> impl Strategy<Value = Status> {
    let exit = prop_oneof![
        Just(None),
        any::<i32>().prop_map(|code| Some(Exit::Code(code))),
        (1..65i32).prop_map(|signal| Some(Exit::Signal(signal))),
    ];
    let phase = prop_oneof![Just(Phase::Running), Just(Phase::Backoff), Just(Phase::Ended)];
    let parts = (
        phase,
        exit,
        any::<(bool, bool, bool, i64, u32, u32)>(),
        ".{0,64}",
        any::<Vec<u16>>(),
    );
    parts.prop_map(
        |(phase, exit, (healthy, complete, unknown, since, pid, restarts), detail, ports)| Status {
            phase,
            healthy,
            since: WallTime(since),
            pid,
            restarts,
            exit,
            complete,
            unknown,
            interrupted: healthy,
            started_alone: pid,
            oom_kills: restarts,
            last_stderr: detail.clone(),
            detail,
            ports,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_status_that_was_cut_off_is_unreadable_and_never_missing(status in status()) {
        let directory = TempDir::new().unwrap();
        let home = Home(directory.path().to_owned());
        prop_assert!(matches!(home.kept_status(), Kept::Missing));
        home.write_status(&status).unwrap();
        match home.kept_status() {
            Kept::Read(read) => prop_assert_eq!(&read, &status),
            other => prop_assert!(false, "{:?}", other),
        }
        let whole = fs::read(home.status()).unwrap();
        for length in 0..whole.len() {
            // A new file: some file systems write a truncated one to the disk immediately.
            fs::remove_file(home.status()).unwrap();
            fs::write(home.status(), &whole[..length]).unwrap();
            let cut = home.kept_status();
            prop_assert!(matches!(cut, Kept::Unreadable(_, false)), "{} bytes: {:?}", length, cut);
        }
    }
}

#[test]
fn what_cannot_be_opened_is_unreadable_and_may_pass() {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().to_owned());
    fs::create_dir(home.status()).unwrap();
    assert!(matches!(home.kept_status(), Kept::Unreadable(_, true)));
}

#[test]
fn a_new_instance_uses_nothing_that_is_there_by_its_name() {
    let directory = TempDir::new().unwrap();
    let (home, other) = (
        Home::of(directory.path(), AssignmentId(1)),
        Home::of(directory.path(), AssignmentId(2)),
    );
    drop(other.make().unwrap());
    let obstacles: [fn(&Path, &Path); 5] = [
        |home, other| std::os::unix::fs::symlink(other, home).unwrap(),
        |home, _| std::os::unix::fs::symlink("nowhere", home).unwrap(),
        |home, _| fs::write(home, "").unwrap(),
        |home, _| {
            fs::create_dir(home).unwrap();
            std::os::unix::fs::symlink("nowhere", home.join("supervisor.log")).unwrap();
        },
        |home, other| fs::rename(other, home).unwrap(),
    ];
    for (at, obstacle) in obstacles.into_iter().enumerate() {
        obstacle(&home.0, &other.0);
        let error = home.make().unwrap_err().to_string();
        assert!(error.contains("move it away"), "{at}: {error}");
        if at < 4 {
            assert_eq!(fs::read_dir(&other.0).unwrap().count(), 1, "{at}");
            drop(fs::remove_file(&home.0));
            drop(fs::remove_dir_all(&home.0));
        }
    }
    fs::remove_dir_all(&home.0).unwrap();
    fs::create_dir(&home.0).unwrap();
    drop(home.make().unwrap());
    // Nothing is written through a link either.
    fs::write(directory.path().join("victim"), "other").unwrap();
    std::os::unix::fs::symlink("../victim", home.first()).unwrap();
    home.write_first(None).unwrap();
    assert_eq!(fs::read(directory.path().join("victim")).unwrap(), b"other");
}
