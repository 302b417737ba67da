use std::os::unix::fs::symlink;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use wyneos_core::workload::AssignmentId;

use super::*;
use crate::instance::Home;

const ID: AssignmentId = AssignmentId(0xa1);

fn located(home: &Home) -> Located {
    Located::of(ID, &Held::open(&home.0, None).unwrap())
}

/// Any object that has the name of an instance's directory at the time of its removal.
#[test]
fn nothing_but_the_instances_own_directory_is_put_aside() {
    let replaced: [fn(&Path, &Path); 6] = [
        |home, other| fs::rename(other, home).unwrap(),
        |home, other| symlink(other, home).unwrap(),
        |home, _| symlink("nowhere", home).unwrap(),
        |home, _| fs::write(home, "").unwrap(),
        |home, _| fs::create_dir(home).unwrap(),
        |home, other| {
            fs::rename(other, home).unwrap();
            symlink(home, other).unwrap();
        },
    ];
    for (at, replace) in replaced.into_iter().enumerate() {
        for removed in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let (home, other) = (Home::of(place.path(), ID), place.path().join("00000000000000a2"));
            fs::create_dir_all(home.work()).unwrap();
            fs::create_dir_all(other.join("work")).unwrap();
            let located = located(&home);
            match removed {
                true => fs::remove_dir_all(&home.0).unwrap(),
                false => fs::rename(&home.0, place.path().join("aside")).unwrap(),
            }
            replace(&home.0, &other);
            let before = names(place.path());
            assert!(located.is_gone() && put_aside(&located).unwrap().is_none(), "{at}");
            assert_eq!(names(place.path()), before, "{at}");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_put_aside_has_no_name_of_an_instance_and_goes_at_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let home = Home::of(place.path(), ID);
    for _ in 0..3 {
        fs::create_dir_all(home.work().join("deep/er")).unwrap();
        let located = located(&home);
        put_aside(&located).unwrap().unwrap();
        assert!(put_aside(&located).unwrap().is_none());
    }
    let other = place.path().join("00000000000000a2");
    fs::create_dir_all(&other).unwrap();
    assert!(
        names(place.path())
            .iter()
            .take(3)
            .all(|name| is_removed(OsStr::new(name)))
    );
    let left = leftovers(place.path());
    assert_eq!(left.len(), 3);
    Remover::new(Disk::new()).remove_left(left).await;
    assert_eq!(names(place.path()), ["00000000000000a2"]);
}

#[tokio::test]
async fn what_cannot_be_removed_is_tried_twice_and_keeps_nothing_else_there() {
    let place = tempfile::tempdir().unwrap();
    let home = Home::of(place.path(), ID);
    let busy = home.work().join("busy");
    fs::create_dir_all(&busy).unwrap();
    fs::write(home.work().join("file"), "x").unwrap();
    if mount("none", &busy, "tmpfs", MountFlags::empty(), None).is_err() {
        // Only root can create what it cannot remove.
        return;
    }
    let remover = Remover::new(Disk::new());
    remover.remove(put_aside(&located(&home)).unwrap().unwrap()).await;
    assert_eq!(names(place.path()), [".removed-00000000000000a1"]);
    remover.remove_left(leftovers(place.path())).await;
    let left = names(place.path());
    assert_eq!(left, [".unremovable-00000000000000a1"]);
    assert!(leftovers(place.path()).is_empty());
    let aside = Home(place.path().join(&left[0]));
    assert_eq!(names(&aside.work()), ["busy"], "the rest is gone");
    unmount(aside.work().join("busy"), UnmountFlags::empty()).unwrap();
}
