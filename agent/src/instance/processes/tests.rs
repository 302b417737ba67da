use tempfile::TempDir;

use super::*;

#[test]
fn a_mark_is_that_of_a_directory_and_not_of_a_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let id = AssignmentId(1);
    let (home, copy) = (path.join(id.to_string()), path.join("2"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&copy).unwrap();
    let place = Place::at(&home).unwrap();
    let environment = |name: &Path, place: Option<Place>| {
        let place = place.map_or_else(String::new, |place| format!("{PLACE}={place}\0"));
        format!("A=b\0{DIRECTORY}={}\0{place}C=d\0", name.display()).into_bytes()
    };
    let own = environment(&home, Some(place));
    let mark = |of: &Path| Mark::of(&path, id, Place::at(of).ok());
    assert!(mark(&home).is_in(&own) && !mark(&copy).is_in(&own));
    // Moved, with a copy in its place.
    let moved = path.join("3");
    fs::rename(&home, &moved).unwrap();
    fs::rename(&copy, &home).unwrap();
    assert!(mark(&moved).is_in(&own) && !mark(&home).is_in(&own));
    // Processes of an earlier version are identified by the name with which they were begun, and so are those of a
    // removed directory.
    let earlier = environment(&home, None);
    let other = Mark::of(&path, AssignmentId(2), None);
    assert!(mark(&home).is_in(&earlier) && !other.is_in(&earlier));
    fs::remove_dir(&home).unwrap();
    assert!(mark(&home).is_in(&own) && !mark(&home).is_in(&environment(&path, None)));
    assert!(!other.is_in(&own) && !mark(&home).is_in(b""));
}
