use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use proptest::prelude::*;
use rustix::fs::mkdirat;

use super::*;

/// Stack size of the removing thread: too small for a recursion of a few hundred levels.
const STACK: usize = 256 * 1024;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = Place(std::env::temp_dir().join(format!("wyneos-removal-{name}-{}", std::process::id())));
        if place.0.exists() {
            remove_dir(&place.0).unwrap();
        }
        fs::create_dir(&place.0).unwrap();
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(remove_dir(&self.0));
    }
}

fn dig(place: &Path, depth: usize, mut fill: impl FnMut(usize, BorrowedFd<'_>)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, place, flags, Mode::empty()).unwrap();
    for level in 0..depth {
        mkdirat(&at, c"d", Mode::RWXU).unwrap();
        let below = openat(&at, c"d", flags, Mode::empty()).unwrap();
        fill(level, at.as_fd());
        at = below;
    }
}

fn removed(path: PathBuf) -> io::Result<()> {
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || remove_dir(&path)).unwrap().join().unwrap()
}

#[test]
fn a_directory_of_thousands_of_levels_is_removed_on_a_small_stack() {
    let place = Place::new("deep");
    let top = place.0.join("top");
    fs::create_dir(&top).unwrap();
    // A directory left by an earlier removal, and a file with such a name.
    fs::create_dir_all(top.join(".deeper-0/full")).unwrap();
    fs::write(top.join(".deeper-1"), "x").unwrap();
    dig(&top, 4_000, |_, _| {});
    removed(top.clone()).unwrap();
    assert!(!top.exists());
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0, "nothing is left beside it");
}

#[test]
fn what_a_link_leads_to_stays() {
    let place = Place::new("links");
    let [top, outside] = ["top", "outside"].map(|name| place.0.join(name));
    fs::create_dir(&top).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    symlink(&outside, top.join("link")).unwrap();
    dig(&top, 40, |level, at| {
        if level % 7 == 0 {
            rustix::fs::symlinkat(&outside, at, c"away").unwrap();
        }
    });
    let link = place.0.join("top-link");
    symlink(&outside, &link).unwrap();
    remove_dir(&link).unwrap_err();
    removed(top.clone()).unwrap();
    assert!(!top.exists() && outside.join("file").exists());
    assert_eq!(remove_dir(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_depth_width_and_mode_goes(depth in 0_usize..80, width in 0_usize..60, mode in 0_u32..0o7777) {
        let place = Place::new("modes");
        let top = place.0.join("top");
        fs::create_dir(&top).unwrap();
        dig(&top, depth, |level, at| {
            for entry in 0..width * usize::from(level % 17 == 0) {
                let name = format!("e{entry}");
                match entry % 3 {
                    0 => mkdirat(at, &name, Mode::from_raw_mode(mode)).unwrap(),
                    1 => drop(openat(at, &name, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(mode & 0o777)).unwrap()),
                    _ => rustix::fs::symlinkat("nowhere", at, &name).unwrap(),
                }
            }
            rustix::fs::chmodat(at, c"d", Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
        });
        fs::set_permissions(&top, fs::Permissions::from_mode(mode)).unwrap();
        removed(top.clone()).unwrap();
        prop_assert!(!top.exists());
    }
}
