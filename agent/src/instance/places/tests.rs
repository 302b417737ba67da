use std::{os::unix::fs::symlink, sync::Arc};

use tempfile::TempDir;
use wyneos_core::workload::{Assigned, Spec};

use super::*;
use crate::instance::{Order, held::Held, premises::Premises};

fn put(home: &Path, id: u64) -> Home {
    fs::create_dir_all(home).unwrap();
    let order = Order {
        assigned: Assigned {
            id: AssignmentId(id),
            slot: 0,
            revision: 1,
            spec: Arc::new(Spec::new("web", "/bin/true")),
        },
        ports: Vec::new(),
        ephemeral: false,
        node: "one".to_owned(),
        of: None,
        group: None,
        contained: false,
    };
    let home = Home(home.to_owned());
    fs::write(home.order(), serde_json::to_vec(&order).unwrap()).unwrap();
    home
}

fn name(id: u64) -> String {
    AssignmentId(id).to_string()
}

/// Where each instance is, by the names of the directories.
fn found(directory: &Path) -> Vec<(u64, String)> {
    let places = places(directory, &Supervisors::new()).unwrap();
    let named = |place: &Place| place.home.0.file_name().unwrap().to_str().unwrap().to_owned();
    places.iter().map(|(id, place)| (id.0, named(place))).collect()
}

#[tokio::test]
async fn an_instance_is_where_its_order_says_and_first_where_its_supervisor_lives() {
    let directory = TempDir::new().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    let away = TempDir::new().unwrap();
    put(&root.join(name(1)), 1);
    // A copy of one that is there, and one that was renamed.
    put(&root.join("copy"), 1);
    put(&root.join(format!("{}.old", name(2))), 2);
    // Two that changed places, and one of which only the name is left.
    put(&root.join(name(3)), 4);
    put(&root.join(name(4)), 3);
    fs::create_dir(root.join(name(5))).unwrap();
    // Links: to one beside it, to somewhere else, to nothing, to itself.
    put(&root.join("there"), 6);
    symlink("there", root.join(name(6))).unwrap();
    put(&away.path().join("x"), 7);
    symlink(away.path().join("x"), root.join(name(7))).unwrap();
    symlink("nowhere", root.join(name(8))).unwrap();
    symlink(name(9), root.join(name(9))).unwrap();
    fs::write(root.join(name(10)), "").unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    // Renamed, with a copy in its place.
    let renamed = put(&root.join("renamed"), 11);
    put(&root.join(name(11)), 11);
    let held = Premises::take(Held::open(&renamed.0, None).unwrap())
        .await
        .unwrap()
        .unwrap();
    let expected = [
        (1, name(1)),
        (2, format!("{}.old", name(2))),
        (3, name(4)),
        (4, name(3)),
        (5, name(5)),
        (6, name(6)),
        (11, "renamed".to_owned()),
    ];
    assert_eq!(found(&root), expected);
    drop(held);
    assert!(found(&root).contains(&(11, name(11))));
}

#[test]
fn no_process_of_a_test_is_a_supervisor() {
    let directory = TempDir::new().unwrap();
    assert!(supervisors(directory.path()).is_empty());
    assert!(supervisors_of(&Home(directory.path().join(name(1)))).is_empty());
}
