use tempfile::TempDir;

use super::*;

#[test]
fn a_mark_is_that_of_a_directory_and_not_of_a_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let (home, copy) = (Home(path.join("1")), Home(path.join("2")));
    fs::create_dir(&home.0).unwrap();
    fs::create_dir(&copy.0).unwrap();
    let place = Place::at(&home.0).unwrap();
    let environment = |name: &Path, place: Option<Place>| {
        let place = place.map_or_else(String::new, |place| format!("{PLACE}={place}\0"));
        format!("A=b\0{DIRECTORY}={}\0{place}C=d\0", name.display()).into_bytes()
    };
    let own = environment(&home.0, Some(place));
    assert!(Mark::of(&home).is_in(&own) && !Mark::of(&copy).is_in(&own));
    // Moved, and a copy is where it was.
    let moved = Home(path.join("3"));
    fs::rename(&home.0, &moved.0).unwrap();
    fs::rename(&copy.0, &home.0).unwrap();
    assert!(Mark::of(&moved).is_in(&own) && !Mark::of(&home).is_in(&own));
    // What an earlier version started is known by the name, and so is what is left of a directory that was removed.
    let earlier = environment(&home.0, None);
    assert!(Mark::of(&home).is_in(&earlier) && !Mark::of(&moved).is_in(&earlier));
    fs::remove_dir(&home.0).unwrap();
    assert!(Mark::of(&home).is_in(&own) && !Mark::of(&moved).is_in(&environment(&path, None)));
    assert!(!Mark::of(&moved).is_in(b""));
}
