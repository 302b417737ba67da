use std::{os::unix::fs::symlink, sync::Arc};

use tempfile::TempDir;
use wyneos_core::{
    id::Revision,
    workload::{Assigned, Spec},
};

use super::*;
use crate::instance::{Home, Order, premises::Premises};

fn put(home: &Path, id: u64) -> Home {
    fs::create_dir_all(home).unwrap();
    let order = Order {
        assigned: Assigned {
            id: AssignmentId(id),
            slot: 0,
            revision: Revision(1),
            spec: Arc::new(Spec::new("web", "/bin/true")),
        },
        ports: Vec::new(),
        ephemeral: false,
        node: "one".to_owned(),
        of: None,
        address: "127.0.0.1".to_owned(),
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

/// The location of each instance, by the names of the directories.
fn found(directory: &Path) -> Vec<(u64, String)> {
    let places = places(directory).unwrap();
    let named = |place: &Place| place.located.name().file_name().unwrap().to_str().unwrap().to_owned();
    places.iter().map(|(id, place)| (id.0, named(place))).collect()
}

#[tokio::test]
async fn an_instance_is_where_its_order_says_and_first_where_its_supervisor_lives() {
    let directory = TempDir::new().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    let away = TempDir::new().unwrap();
    put(&root.join(name(1)), 1);
    // A copy of an existing directory, and a renamed one.
    put(&root.join("copy"), 1);
    put(&root.join(format!("{}.old", name(2))), 2);
    // Two directories with exchanged names, and one of which only the name is left.
    put(&root.join(name(3)), 4);
    put(&root.join(name(4)), 3);
    fs::create_dir(root.join(name(5))).unwrap();
    // Links, none of which is followed: to the directory beside it, to another instance's, elsewhere, to nothing, to
    // itself.
    symlink(name(1), root.join(name(12))).unwrap();
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
        (6, "there".to_owned()),
        (11, "renamed".to_owned()),
    ];
    assert_eq!(found(&root), expected);
    drop(held);
    // A program that another test starts at this moment has the descriptor until it runs.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !found(&root).contains(&(11, name(11))) {
        assert!(std::time::Instant::now() < patience, "{:?}", found(&root));
        std::thread::yield_now();
    }
}

#[test]
fn no_process_of_a_test_is_a_supervisor() {
    let directory = TempDir::new().unwrap();
    assert!(supervisors(directory.path()).is_empty());
    assert!(supervisors_of(directory.path(), AssignmentId(1)).is_empty());
}

#[test]
fn a_supervisor_that_holds_none_of_the_directories_is_found_by_its_nodes_id() {
    let root = TempDir::new().unwrap();
    let [node, other] = [1, 2].map(|number| wyneos_core::id::Uuid([number; 16]));
    let [instances, own] = ["instances", "own"].map(|of| root.path().join(of));
    let home = instances.join(name(7));
    fs::create_dir_all(&home).unwrap();
    fs::create_dir(&own).unwrap();
    // Only its command line and its open directory count.
    fs::write(
        root.path().join("supervise"),
        "exec 3<\"$1\" 4<\"$1/..\"\necho ready\nread end\n",
    )
    .unwrap();
    let mut process = std::process::Command::new("/bin/sh")
        .current_dir(root.path())
        .args(["supervise".as_ref(), home.as_os_str()])
        .args(["--place", &Directory::at(&home).unwrap().to_string()])
        .args(["--node", &node.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = process.id() as i32;
    let found = |directory: &Path, node: NodeId| {
        let found = astray(directory, node).remove(&AssignmentId(7)).unwrap_or_default();
        found
            .into_iter()
            .map(|one| (one.process.pid(), one.home))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        supervisors(&instances),
        Supervisors::from([(AssignmentId(7), vec![pid])])
    );
    assert!(found(&instances, node).is_empty());
    assert_eq!(found(&own, node), [(pid, fs::canonicalize(&home).unwrap())]);
    assert!(found(&own, other).is_empty());
    // By its present name.
    fs::rename(&instances, root.path().join("moved")).unwrap();
    let moved = fs::canonicalize(root.path().join("moved").join(name(7))).unwrap();
    assert_eq!(found(&own, node), [(pid, moved)]);
    drop(process.stdin.take());
    process.wait().unwrap();
    assert!(found(&own, node).is_empty());
}
