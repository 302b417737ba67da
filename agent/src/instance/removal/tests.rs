use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

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
    let home = Home(place.path().join("00000000000000a1"));
    for _ in 0..3 {
        fs::create_dir_all(home.work().join("deep/er")).unwrap();
        put_aside(&home).unwrap().unwrap();
        assert!(put_aside(&home).unwrap().is_none());
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
    Remover::new().remove_left(left).await;
    assert_eq!(names(place.path()), ["00000000000000a2"]);
}

#[tokio::test]
async fn what_cannot_be_removed_is_tried_twice_and_keeps_nothing_else_there() {
    let place = tempfile::tempdir().unwrap();
    let home = Home(place.path().join("00000000000000a1"));
    let busy = home.work().join("busy");
    fs::create_dir_all(&busy).unwrap();
    fs::write(home.work().join("file"), "x").unwrap();
    if mount("none", &busy, "tmpfs", MountFlags::empty(), None).is_err() {
        // Only root makes what it cannot remove.
        return;
    }
    let remover = Remover::new();
    remover.remove(put_aside(&home).unwrap().unwrap()).await;
    assert_eq!(names(place.path()), [".removed-00000000000000a1"]);
    remover.remove_left(leftovers(place.path())).await;
    let left = names(place.path());
    assert_eq!(left, [".unremovable-00000000000000a1"]);
    assert!(leftovers(place.path()).is_empty());
    let aside = Home(place.path().join(&left[0]));
    assert_eq!(names(&aside.work()), ["busy"], "the rest is gone");
    unmount(aside.work().join("busy"), UnmountFlags::empty()).unwrap();
}
