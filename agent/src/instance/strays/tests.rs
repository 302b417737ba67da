use std::process::{Child, Command};

use tempfile::TempDir;

use super::{super::held::Place, *};

fn mark(home: &Home) -> Mark {
    Mark::new(Place::at(&home.0).ok(), None)
}

fn found(home: &Home, contained: Option<bool>) -> Vec<i32> {
    of(Some(home), &mark(home), contained)
}

/// A process with the mark of a directory.
fn marked(home: &Home, before: &[&str]) -> Child {
    let words: Vec<&str> = [before, &["sleep", "600"]].concat();
    let place = Place::at(&home.0).unwrap();
    let mut command = Command::new(words[0]);
    let child = command.args(&words[1..]).env(processes::PLACE, place.to_string());
    child.spawn().unwrap()
}

fn end(children: Vec<Child>) {
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Waits until both processes have it: the mark is present once the program runs.
fn wait_for(home: &Home, count: usize) {
    while processes::marked(&mark(home)).len() < count {
        std::thread::yield_now();
    }
}

#[test]
fn where_the_kernel_ends_everything_no_mark_counts() {
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().to_owned());
    let children = vec![marked(&home, &[])];
    wait_for(&home, 1);
    assert_eq!(found(&home, Some(true)), Vec::<i32>::new());
    assert_eq!(found(&home, Some(false)), vec![children[0].id() as i32]);
    assert_eq!(found(&home, None), vec![children[0].id() as i32]);
    end(children);
}

#[test]
fn a_mark_of_a_user_that_the_instance_cannot_have_does_not_count() {
    if !geteuid().is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let home = Home(directory.path().to_owned());
    let as_user = |user: &str| marked(&home, &["setpriv", "--reuid", user, "--clear-groups"]);
    let children = vec![as_user("65533"), as_user("65534")];
    wait_for(&home, 2);
    let pids: Vec<i32> = children.iter().map(|child| child.id() as i32).collect();
    while !has_user(pids[0], 65533) || !has_user(pids[1], 65534) {
        std::thread::yield_now();
    }
    let identity = |uid: u32| format!("{{\"name\":\"any\",\"uid\":{uid},\"gid\":{uid},\"groups\":[]}}");
    for (uid, own) in [(65534, &pids[1..]), (65533, &pids[..1]), (65532, &[]), (0, &pids[..])] {
        fs::write(home.0.join("user.json"), identity(uid)).unwrap();
        let mut left = found(&home, Some(false));
        left.sort_unstable();
        let mut own = own.to_vec();
        own.sort_unstable();
        assert_eq!(left, own, "{uid}");
    }
    end(children);
}
