use std::{
    cell::RefCell,
    os::unix::{fs::symlink, net::UnixStream},
};

use tempfile::TempDir;

use super::*;

fn reached(home: &Home) -> bool {
    UnixStream::connect(home.socket()).is_ok()
}

async fn take(home: &Home) -> io::Result<Option<(Premises, UnixListener)>> {
    Premises::take(Held::open(&home.0, None)?).await
}

fn held(home: &Home) -> bool {
    let own = std::process::id() as i32;
    matches!(holder(home), Ok(Holder::Supervisor(Some(held))) if held.pid() == own && held.lives())
}

#[tokio::test]
async fn whatever_is_removed_is_made_again() {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().join("1"));
    fs::create_dir(&home.0).unwrap();
    assert!(matches!(holder(&home), Ok(Holder::Unknown)));
    assert_eq!(fs::read_dir(&home.0).unwrap().count(), 0, "looking leaves nothing");
    let (mut premises, mut listener) = take(&home).await.unwrap().unwrap();
    fs::write(home.order(), "{}").unwrap();
    premises.order = (b"{}".to_vec(), fs::metadata(home.order()).ok());
    let said = RefCell::new(Vec::new());
    let note = |text: &str| said.borrow_mut().push(text.to_owned());
    assert!(premises.keep(note).unwrap().is_none());
    assert!(reached(&home) && held(&home));
    assert!(said.borrow().is_empty());
    for round in 0..16 {
        let names: Vec<&str> = ["socket", "lock", "order.json"]
            .into_iter()
            .enumerate()
            .filter_map(|(at, name)| (round >> at & 1 == 1).then_some(name))
            .collect();
        for name in &names {
            fs::remove_file(home.0.join(name)).unwrap();
            // Another object in its place.
            match round >> 3 {
                0 => {}
                _ if *name == "order.json" => fs::write(home.0.join(name), "{\"a\":").unwrap(),
                _ => fs::create_dir(home.0.join(name)).unwrap(),
            }
        }
        let told = said.borrow().len();
        if let Some(new) = premises.keep(note).unwrap() {
            listener = new;
        }
        assert!(reached(&home) && held(&home), "{names:?}");
        assert_eq!(fs::read(home.order()).unwrap(), b"{}");
        assert_eq!(said.borrow().len(), told + names.len(), "{:?}", said.borrow());
        assert!(premises.has_its_name());
    }
    drop(listener);
    premises.leave();
    assert!(!home.0.join("socket").exists());
}

#[tokio::test]
async fn a_directory_that_is_gone_is_lost_and_its_name_may_be_anothers() {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().join("1"));
    fs::create_dir(&home.0).unwrap();
    let (mut premises, _listener) = take(&home).await.unwrap().unwrap();
    // Moved, and therefore still present.
    let moved = directory.path().join("2");
    fs::rename(&home.0, &moved).unwrap();
    assert!(premises.keep(|_| {}).is_ok() && premises.has_its_name());
    fs::create_dir(&home.0).unwrap();
    assert!(premises.keep(|_| {}).is_ok() && !premises.has_its_name());
    assert_eq!(premises.keep(|_| {}).err(), Some(Lost::Renamed));
    fs::remove_dir_all(&moved).unwrap();
    assert_eq!(premises.keep(|_| {}).err(), Some(Lost::Removed));
    // Writes fail, and do not reach the new directory.
    let failed = premises.within().write_status(&Default::default()).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(&home.0).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_lost_after_some_looks_unless_it_is_put_back() {
    type Replace = fn(&Path);
    let replaced: [(&str, Replace); 6] = [
        ("nothing", |_| {}),
        ("directory", |name| fs::create_dir(name).unwrap()),
        ("file", |name| fs::write(name, "").unwrap()),
        ("link to nothing", |name| symlink("nowhere", name).unwrap()),
        ("link to itself", |name| symlink(name, name).unwrap()),
        ("link to where it is", |name| symlink("../2", name).unwrap()),
    ];
    for (what, replace) in replaced {
        let directory = TempDir::new().unwrap();
        let (above, home) = (
            directory.path().join("instances"),
            Home(directory.path().join("instances/1")),
        );
        fs::create_dir_all(&home.0).unwrap();
        let (mut premises, _listener) = take(&home).await.unwrap().unwrap();
        let moved = directory.path().join("2");
        for put_back in [true, false] {
            fs::rename(&home.0, &moved).unwrap();
            replace(&home.0);
            for _ in 1..ASTRAY {
                assert!(premises.keep(|_| {}).is_ok(), "{what}");
            }
            if put_back {
                drop(fs::remove_file(&home.0));
                drop(fs::remove_dir(&home.0));
                fs::rename(&moved, &home.0).unwrap();
                assert!(premises.keep(|_| {}).is_ok(), "{what}");
            }
        }
        assert_eq!(premises.keep(|_| {}).err(), Some(Lost::Renamed), "{what}");
        // The parent may be moved, together with its name.
        drop(fs::remove_file(&home.0));
        drop(fs::remove_dir(&home.0));
        fs::rename(&moved, &home.0).unwrap();
        fs::rename(&above, directory.path().join("moved")).unwrap();
        for _ in 0..=ASTRAY {
            assert!(premises.keep(|_| {}).is_ok(), "{what}");
        }
    }
}

#[tokio::test]
async fn a_directory_of_all_instances_whose_name_another_has_is_lost_after_some_looks_unless_it_is_put_back() {
    let directory = TempDir::new().unwrap();
    let [above, aside] = ["instances", "aside"].map(|name| directory.path().join(name));
    let home = Home(above.join("1"));
    fs::create_dir_all(&home.0).unwrap();
    let (mut premises, _listener) = take(&home).await.unwrap().unwrap();
    for put_back in [true, false] {
        fs::rename(&above, &aside).unwrap();
        for _ in 0..=ASTRAY {
            assert!(premises.keep(|_| {}).is_ok(), "nobody looks for it elsewhere");
        }
        fs::create_dir(&above).unwrap();
        for _ in 1..ASTRAY {
            assert!(premises.keep(|_| {}).is_ok());
        }
        if put_back {
            fs::remove_dir(&above).unwrap();
            fs::rename(&aside, &above).unwrap();
            assert!(premises.keep(|_| {}).is_ok());
        }
    }
    assert_eq!(premises.keep(|_| {}).err(), Some(Lost::Covered));
    // Moved together with their parent, they count as unchanged.
    fs::remove_dir(&above).unwrap();
    fs::rename(&aside, &above).unwrap();
    let moved = TempDir::new().unwrap();
    fs::rename(directory.path(), moved.path()).unwrap();
    fs::create_dir_all(&above).unwrap();
    for _ in 0..=ASTRAY {
        assert!(premises.keep(|_| {}).is_ok());
    }
}

#[tokio::test]
async fn a_lock_that_another_has_is_left_to_it() {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().join("1"));
    fs::create_dir(&home.0).unwrap();
    let (mut premises, _listener) = take(&home).await.unwrap().unwrap();
    fs::remove_file(home.lock()).unwrap();
    let _other = take_lock(&home).unwrap().unwrap();
    for _ in 1..DISPUTED {
        assert!(premises.keep(|_| {}).is_ok());
    }
    assert_eq!(premises.keep(|_| {}).err(), Some(Lost::Taken));
}

#[test]
fn a_process_is_told_from_a_later_one_of_its_number() {
    let own = Incumbent::of(std::process::id() as i32).unwrap();
    assert!(own.lives());
    let earlier = Incumbent {
        start: own.start - 1,
        ..own
    };
    assert!(!earlier.lives());
    assert_eq!(earlier.kill().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Incumbent::parse(&format!("{} {}\n", own.pid(), own.start)), Some(own));
    for text in ["", "1", "0 1", "-1 1", "1 x", "x 1", "99999999999 1"] {
        assert_eq!(Incumbent::parse(text), None, "{text:?}");
    }
}

#[tokio::test]
async fn a_lock_and_a_socket_that_are_linked_to_are_not_held_here() {
    let directory = TempDir::new().unwrap();
    let [original, copy] = ["1", "2"].map(|name| Home(directory.path().join(name)));
    fs::create_dir(&original.0).unwrap();
    fs::create_dir(&copy.0).unwrap();
    let (_premises, _listener) = take(&original).await.unwrap().unwrap();
    for name in ["lock", "socket"] {
        fs::hard_link(original.0.join(name), copy.0.join(name)).unwrap();
    }
    assert!(held(&original) && reached(&copy));
    assert!(matches!(holder(&copy), Ok(Holder::Nobody)));
    let own = Incumbent::of(std::process::id() as i32).unwrap();
    assert!(is_elsewhere(own, &copy) && !is_elsewhere(own, &original));
}
