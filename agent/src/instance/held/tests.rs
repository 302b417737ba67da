use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn instance() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let name = directory.path().canonicalize().unwrap().join("data/instances/1");
    fs::create_dir_all(&name).unwrap();
    (directory, name)
}

#[test]
fn a_directory_is_found_under_the_name_that_it_has_now_and_never_confused_with_a_copy() {
    let (directory, name) = instance();
    let held = Held::open(&name, None).unwrap();
    let above = held.above().unwrap();
    assert_eq!(above.name_of(held.place()).unwrap(), name);
    assert_eq!(Held::open(&name, Some(held.place())).unwrap().place(), held.place());
    let [old, new] = ["data", "data2"].map(|name| directory.path().canonicalize().unwrap().join(name));
    fs::rename(&old, &new).unwrap();
    let moved = new.join("instances/1");
    assert_eq!(above.name_of(held.place()).unwrap(), moved);
    assert!(Held::open(&name, Some(held.place())).is_err());
    // Whatever is in the old place.
    fs::create_dir_all(&name).unwrap();
    assert_eq!(above.name_of(held.place()).unwrap(), moved);
    let error = Held::open(&name, Some(held.place())).unwrap_err().to_string();
    assert!(
        error.contains("data/instances/1 is not the instance's directory"),
        "{error}"
    );
    fs::write(held.home().0.join("here"), "").unwrap();
    assert!(moved.join("here").exists() && !name.join("here").exists());
    // Moved separately from the others, replaced, or removed: it is not searched for elsewhere.
    fs::rename(&moved, new.join("instances/2")).unwrap();
    assert!(above.name_of(held.place()).is_err() && held.above().is_err());
    fs::create_dir(&moved).unwrap();
    assert!(above.name_of(held.place()).is_err() && held.above().is_err());
    fs::remove_dir_all(&new).unwrap();
    assert!(above.name_of(held.place()).is_err());
}

#[test]
fn only_a_directory_can_be_held() {
    let (directory, _) = instance();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Held::open(&file, None).is_err());
    assert!(Held::open(&directory.path().join("nothing"), None).is_err());
    // A link to a directory does not count.
    let link = directory.path().join("link");
    for to in ["data", "nowhere", "link"] {
        std::os::unix::fs::symlink(to, &link).unwrap();
        let error = Held::open(&link, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{to}: {error}");
        fs::remove_file(&link).unwrap();
    }
}

proptest! {
    #[test]
    fn a_place_is_read_as_it_is_written(device: u64, number: u64, garbage in "[0-9:x ]{0,12}") {
        let place = Place(device, number);
        prop_assert_eq!(place.to_string().parse(), Ok(place));
        if let Ok(place) = garbage.parse::<Place>() {
            // A number may begin with zeros.
            prop_assert_eq!(place.to_string().parse(), Ok(place));
        }
    }
}
