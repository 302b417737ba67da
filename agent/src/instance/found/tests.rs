use std::{collections::BTreeMap, path::Path, sync::Arc};

use proptest::prelude::*;
use tempfile::TempDir;
use wyneos_core::{
    id::Revision,
    workload::{Assigned, Exit, Spec},
};

use super::*;
use crate::instance::{Unbegun, premises::Premises};

fn order(id: AssignmentId) -> Order {
    Order {
        assigned: Assigned {
            id,
            slot: 0,
            revision: Revision(1),
            spec: Arc::new(Spec::new("job", "/bin/true")),
        },
        ports: Vec::new(),
        ephemeral: false,
        node: "one".to_owned(),
        of: None,
        address: "127.0.0.1".to_owned(),
        group: None,
        contained: false,
    }
}

fn done() -> Status {
    Status {
        phase: Phase::Ended,
        exit: Some(Exit::Code(0)),
        complete: true,
        ..Status::default()
    }
}

fn home(directory: &TempDir) -> Home {
    let home = Home(directory.path().join("0000000100000001"));
    fs::create_dir(&home.0).unwrap();
    home
}

/// All files of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect()
}

/// The present part of a file: none, some bytes of it, or all.
#[derive(Clone, Copy, Debug)]
enum Part {
    Missing,
    Cut(usize),
    Whole,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Missing),
        (0..1_000usize).prop_map(Part::Cut),
        Just(Part::Whole)
    ]
}

fn put(path: &Path, part: Part, whole: &[u8]) {
    match part {
        Part::Missing => {}
        // Never all of it.
        Part::Cut(length) => fs::write(path, &whole[..length % whole.len()]).unwrap(),
        Part::Whole => fs::write(path, whole).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Only an order without any sign that it was ever begun, and not on the list, is begun; everything unreadable is
    /// reported as such, and never as done.
    #[test]
    fn only_what_was_never_begun_is_begun(
        order_is in part(), status_is in part(), work in any::<bool>(), log in any::<bool>(), lock in any::<bool>(),
        listed in any::<bool>(), put_off in any::<bool>(), copied in any::<bool>(), put_back in any::<bool>()
    ) {
        let directory = TempDir::new().unwrap();
        let home = home(&directory);
        let id = AssignmentId(0x1_0000_0001);
        let own = Held::open(&home.0, None).unwrap();
        put(&home.order(), order_is, &serde_json::to_vec(&order(id)).unwrap());
        put(&home.status(), status_is, &serde_json::to_vec(&done()).unwrap());
        for (there, path) in [(log, home.supervisor_log()), (lock, home.lock())] {
            if there {
                fs::write(path, "").unwrap();
            }
        }
        if work {
            fs::create_dir(home.work()).unwrap();
        }
        if put_off {
            Unbegun::write(&own).unwrap();
        }
        // A copy contains the records of its original.
        let copy = directory.path().join("copy");
        if copied {
            let done = std::process::Command::new("cp").arg("-a").args([&home.0, &copy]).status().unwrap();
            prop_assert!(done.success());
            if put_back {
                // On file systems that reuse the number of the directory.
                drop(own);
                fs::remove_dir_all(&home.0).unwrap();
                let done = std::process::Command::new("cp").arg("-a").args([&copy, &home.0]).status().unwrap();
                prop_assert!(done.success());
            }
        }
        let looked = if copied && !put_back { copy } else { home.0.clone() };
        let own = Held::open(&looked, None).unwrap();
        let before = contents(&looked);
        let found = look(&own, listed, WallTime(7));
        let listed = match put_off {
            true => copied,
            false => listed,
        };
        prop_assert_eq!(found.begun, listed);
        prop_assert_eq!(before, contents(&looked), "looking changed something");
        let begun = work || !matches!(status_is, Part::Missing);
        let whole = matches!(order_is, Part::Whole);
        prop_assert_eq!(found.order.is_some(), whole);
        match status_is {
            Part::Whole => {
                prop_assert_eq!(found.left, Left::Ended);
                prop_assert_eq!(found.status, done());
            }
            Part::Cut(_) => {
                prop_assert_eq!(found.left, Left::Attended);
                prop_assert!(found.status.detail.contains("its state cannot be read"), "{}", found.status.detail);
                prop_assert!(!found.status.complete && !found.status.healthy);
            }
            Part::Missing if listed && !work && matches!(order_is, Part::Missing) => prop_assert_eq!(found.left, Left::Lost),
            Part::Missing if begun || listed => {
                prop_assert_eq!(found.left, Left::Attended);
                prop_assert!(!found.status.complete && !found.status.healthy);
            }
            Part::Missing => match order_is {
                Part::Missing => prop_assert_eq!(found.left, Left::HalfMade),
                // The order cannot be read, so it cannot be begun either.
                Part::Cut(_) => prop_assert_eq!(found.left, Left::Attended),
                Part::Whole => prop_assert_eq!(found.left, Left::Unstarted),
            },
        }
    }
}

#[tokio::test]
async fn a_supervisor_that_lives_is_attended_whatever_can_be_read() {
    let directory = TempDir::new().unwrap();
    let home = home(&directory);
    let own = Held::open(&home.0, None).unwrap();
    let (_premises, _listener) = Premises::take(Held::open(&home.0, None).unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(look(&own, false, WallTime(7)).left, Left::Attended);
    let status = Status {
        phase: Phase::Running,
        healthy: true,
        ..Status::default()
    };
    home.write_status(&status).unwrap();
    assert_eq!(look(&own, false, WallTime(7)).status, status);
    fs::write(home.status(), "{").unwrap();
    let found = look(&own, false, WallTime(7));
    assert_eq!((found.left, found.status.phase), (Left::Attended, Phase::Assigned));
    assert!(
        found.status.detail.contains("cannot be read"),
        "{}",
        found.status.detail
    );
}

#[test]
fn an_instance_is_known_by_its_directorys_name_alone() {
    let id = |name: &str| id_of(OsStr::new(name));
    assert_eq!(id("0000000100000001"), Some(AssignmentId(0x1_0000_0001)));
    for name in [
        "",
        "1",
        "lost+found",
        "000000010000000g",
        "+000000100000001",
        "0000000100000001.old",
        "000000010000000A",
    ] {
        assert_eq!(id(name), None, "{name:?}");
    }
}
