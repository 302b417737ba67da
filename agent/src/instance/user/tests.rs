use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// A host's name service, composed of scripts and files.
struct Host(TempDir);

impl Host {
    fn new() -> Host {
        Host(tempfile::tempdir().unwrap())
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str, text: &str) -> &'static str {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        Box::leak(path.display().to_string().into_boxed_str())
    }

    fn lookup(&self, passwd: &'static str, group: &'static str, patience: Duration) -> Lookup {
        let path = self.0.path().display().to_string();
        Lookup::new(Sources { path, passwd, group }, patience)
    }
}

fn entry(name: &str, uid: u32, gid: u32) -> Entry {
    let name = name.to_owned();
    Entry { name, uid, gid }
}

#[test]
fn users_are_those_of_this_host() {
    let lookup = Lookup::new(Sources::default(), PATIENCE);
    assert_eq!(lookup.user("root"), Ok(entry("root", 0, 0)));
    // In any notation, and never as an absent user, which would leave the user unchanged.
    for zero in ["0", "00", "+0"] {
        assert_eq!(lookup.user(zero).map(|user| user.uid), Ok(0), "{zero}");
    }
    for wrong in ["", "-0", "-h", "root:x", "/root", "ro\not", "4294967295", " 0", "++0"] {
        assert!(lookup.user(wrong).is_err(), "{wrong:?}");
    }
    // The C library drops the bits above 32.
    for above in [1_u64, 7, 1 << 16, 1 << 31] {
        for number in [above << 32, (above << 32) + 1_000] {
            for wrong in [format!("{number}"), format!("0{number}"), format!("+{number}")] {
                assert!(lookup.user(&wrong).is_err(), "{wrong:?}");
            }
        }
    }
    let unknown = lookup.user("no-such-user").unwrap_err().to_string();
    assert_eq!(unknown, "there is no user \"no-such-user\" on this host");
    // A number without a user is accepted.
    assert_eq!(lookup.user("1234567"), Ok(entry("1234567", 1_234_567, 1_234_567)));
    assert_eq!(
        lookup.groups(&entry("1234567", 1_234_567, 1_234_567)),
        Ok(vec![1_234_567])
    );
}

#[test]
fn another_source_than_files_is_asked() {
    let host = Host::new();
    host.program(
        "getent",
        "[ $1 = passwd ] && [ $2 = alice ] && echo 'alice:*:70001:70000::/:/bin/sh' || exit 2",
    );
    host.program("id", "[ $2 = alice ] && echo 70000 70005 70003 70005");
    let lookup = host.lookup("/nowhere", "/nowhere", PATIENCE);
    let alice = lookup.user("alice").unwrap();
    assert_eq!(alice, entry("alice", 70_001, 70_000));
    assert_eq!(lookup.groups(&alice), Ok(vec![70_000, 70_003, 70_005]));
    assert_eq!(lookup.user("bob"), Err(LookupError::Unknown("bob".to_owned())));
}

#[test]
fn files_stand_in_for_programs_that_are_not_there() {
    let host = Host::new();
    let passwd = host.file(
        "passwd",
        "root:x:0:0::/root:/bin/sh\nweb:x:800:801::/:/bin/false\nbad:x:4294967295:0::/:\n",
    );
    let group = host.file(
        "group",
        "root:x:0:\nweb:x:801:\nssl:x:900:mail,web\naudio:x:901:webber\nlog:x:902:web\nother:x:7777:\n",
    );
    let lookup = host.lookup(passwd, group, PATIENCE);
    let web = entry("web", 800, 801);
    assert_eq!(lookup.user("web"), Ok(web.clone()));
    assert_eq!(lookup.user("800"), Ok(web.clone()));
    assert_eq!(lookup.groups(&web), Ok(vec![801, 900, 902]));
    assert!(lookup.user("bad").is_err());
    // The group would be another one.
    let error = lookup.user("7777").unwrap_err().to_string();
    assert!(
        error.contains("\"7777\"") && error.contains("but a group does"),
        "{error}"
    );
}

#[test]
fn a_directory_server_that_does_not_answer_is_given_up() {
    let host = Host::new();
    host.program("getent", "exec /bin/sleep 60");
    let began = Instant::now();
    let error = host
        .lookup("/nowhere", "/nowhere", Duration::from_millis(200))
        .user("web");
    assert!(began.elapsed() < Duration::from_secs(30));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("\"web\"") && error.contains("did not answer"), "{error}");
}

#[test]
fn what_is_permitted_is_a_number_and_not_a_spelling() {
    let lookup = Lookup::new(Sources::default(), PATIENCE);
    let policy = |others: &[&str]| Policy {
        default: "65534".to_owned(),
        others: others.iter().map(|name| (*name).to_owned()).collect(),
    };
    let permits = |policy: &Policy, declared: &str| {
        let user = lookup.user(declared).unwrap();
        policy.permits(declared, &user, &lookup.groups(&user).unwrap(), &lookup)
    };
    for root in ["root", "0", "00", "+0"] {
        let error = permits(&policy(&["daemon"]), root).unwrap_err();
        assert!(error.contains("may not run as") && error.contains("daemon"), "{error}");
        for listed in ["root", "0", "000"] {
            assert_eq!(permits(&policy(&[listed]), root), Ok(()));
        }
    }
    assert_eq!(permits(&policy(&[]), "65534"), Ok(()));
    assert!(permits(&policy(&[]), "daemon").is_err());
}

#[test]
fn a_policy_that_cannot_be_read_permits_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let instances = data_dir.path().join("instances");
    let home = Home(instances.join("1"));
    fs::create_dir_all(&home.0).unwrap();
    if !geteuid().is_root() {
        return;
    }
    let held = Held::open(&home.0, None).unwrap();
    let error = Identity::find(&held, "").unwrap_err();
    assert!(error.contains("which users are permitted"), "{error}");
    assert!(error.contains(&file(&instances).display().to_string()), "{error}");
    fs::write(file(&instances), "{").unwrap();
    assert!(Identity::find(&held, "root").is_err());
    let policy = Policy {
        default: "root".to_owned(),
        others: Vec::new(),
    };
    policy.write(&file(&instances)).unwrap();
    assert_eq!(Identity::find(&held, "").unwrap().uid, 0);
    // A check runs as the user that its program was started as, and not as the one that is permitted by now.
    Identity::of_program(&held, "").unwrap();
    // Even if the directory was moved, and another agent's is in its place.
    let moved = data_dir.path().join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(&instances, moved.join("instances")).unwrap();
    fs::rename(file(&instances), file(&moved.join("instances"))).unwrap();
    fs::write(file(&instances), "{").unwrap();
    assert_eq!(Identity::of_program(&held, "").unwrap().uid, 0);
    fs::remove_file(file(&moved.join("instances"))).unwrap();
    assert_eq!(Identity::of_check(&held, "").unwrap().uid, 0);
    assert!(Identity::of_program(&held, "").is_err());
    assert!(Identity::of_check(&held, "").is_err());
}

#[test]
fn another_name_of_a_permitted_number_is_permitted_with_the_same_groups_alone() {
    let host = Host::new();
    // 801 has three names, of which the second has another primary group and the third an additional group.
    let passwd = host.file(
        "passwd",
        "web:x:801:801::/:/bin/sh\nprimary:x:801:0::/:/bin/sh\nmember:x:801:801::/:/bin/sh\nsame:x:801:801::/:/bin/sh\n",
    );
    let group = host.file("group", "web:x:801:\ndocker:x:900:member\nlogs:x:901:web,same\n");
    let lookup = host.lookup(passwd, group, PATIENCE);
    let policy = |listed: &str| Policy {
        default: listed.to_owned(),
        others: Vec::new(),
    };
    let permits = |listed: &str, declared: &str| {
        let user = lookup.user(declared).unwrap();
        policy(listed).permits(declared, &user, &lookup.groups(&user).unwrap(), &lookup)
    };
    for (listed, declared, permitted) in [
        ("web", "web", true),
        ("web", "same", true),
        ("same", "web", true),
        // With the number, the host finds the first name.
        ("web", "801", true),
        ("801", "web", true),
        ("801", "0801", true),
        ("web", "primary", false),
        ("web", "member", false),
        ("801", "primary", false),
        ("801", "member", false),
        ("member", "web", false),
        ("member", "801", false),
        ("primary", "801", false),
        ("primary", "primary", true),
    ] {
        let told = permits(listed, declared);
        assert_eq!(told.is_ok(), permitted, "{declared} where {listed} is listed: {told:?}");
        if let Err(why) = told {
            assert!(
                why.contains(&format!("{listed:?}")) && why.contains("other groups"),
                "{why}"
            );
        }
    }
}

#[test]
fn a_policy_is_written_whatever_is_in_its_place() {
    let policy = Policy {
        default: "nobody".to_owned(),
        others: vec!["web".to_owned()],
    };
    let bytes = serde_json::to_vec(&policy).unwrap();
    type Make = fn(&Path);
    let obstacles: [(&str, Make); 7] = [
        ("nothing", |_| {}),
        ("an empty directory", |path| fs::create_dir(path).unwrap()),
        ("a directory", |path| fs::create_dir_all(path.join("a/b")).unwrap()),
        ("garbage", |path| fs::write(path, "{").unwrap()),
        ("a link to nothing", |path| {
            std::os::unix::fs::symlink("nowhere", path).unwrap()
        }),
        ("a link to a directory", |path| {
            std::os::unix::fs::symlink("/", path).unwrap()
        }),
        ("a closed file", |path| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }),
    ];
    for (what, make) in obstacles {
        for (beside, make_beside) in obstacles {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("instances.users.json");
            make(&path);
            make_beside(&directory.path().join("instances.users.json.new"));
            policy
                .write(&path)
                .unwrap_or_else(|error| panic!("{what}, beside it {beside}: {error}"));
            assert_eq!(fs::read(&path).unwrap(), bytes, "{what}, beside it {beside}");
            let entries = fs::read_dir(&directory).unwrap().flatten();
            let files = entries.filter(|entry| !entry.file_type().unwrap().is_dir());
            assert_eq!(files.count(), 1, "{what}, beside it {beside}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_written_keeps_no_agent_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let policy = Policy {
        default: "nobody".to_owned(),
        others: Vec::new(),
    };
    // Nothing can be written there, not even by root.
    prepare(&directory.path().join("instances"), 0o700, &policy).unwrap();
    let instances = Path::new("/proc/self/task");
    prepare(instances, 0o555, &policy).unwrap();
    assert!(!file(instances).exists());
}

#[test]
fn nobody_passes_through_the_directory_of_instances_unless_one_has_to() {
    let directory = tempfile::tempdir().unwrap();
    let order = |id: &str, contained: bool| {
        let home = Home(directory.path().join(id));
        fs::create_dir_all(&home.0).unwrap();
        let assigned = serde_json::json!({ "id": 1, "slot": 0, "revision": 1, "spec": wyneos_core::workload::Spec::new("web", "/bin/web") });
        let text = serde_json::json!({ "assigned": assigned, "ports": [], "ephemeral": false, "node": "one", "group": null, "contained": contained });
        fs::write(home.order(), text.to_string()).unwrap();
        assert!(matches!(home.kept_order(), Kept::Read(_)), "{:?}", home.kept_order());
    };
    let mode = |contained| mode_of_instances(directory.path(), contained);
    let passed = if geteuid().is_root() { 0o711 } else { 0o700 };
    assert_eq!((mode(true), mode(false)), (0o700, passed));
    order("1", true);
    fs::create_dir(directory.path().join("half-made")).unwrap();
    assert_eq!((mode(true), mode(false)), (0o700, passed));
    // An instance of an earlier version.
    order("2", false);
    assert_eq!((mode(true), mode(false)), (passed, passed));
}

#[test]
fn a_directory_of_instances_is_not_another_agents() {
    let root = tempfile::tempdir().unwrap();
    let [own, other, disk] = ["own", "other", "disk"].map(|name| root.path().join(name));
    for path in [&own, &other.join("instances"), &disk.join("instances")] {
        fs::create_dir_all(path).unwrap();
    }
    for of in [&own, &other] {
        fs::write(of.join("node-id"), "").unwrap();
    }
    let policy = Policy {
        default: "nobody".to_owned(),
        others: Vec::new(),
    };
    let instances = own.join("instances");
    let mode = || fs::metadata(other.join("instances")).unwrap().permissions().mode();
    let before = mode();
    std::os::unix::fs::symlink(other.join("instances"), &instances).unwrap();
    let error = prepare(&instances, 0o700, &policy).unwrap_err().to_string();
    assert!(error.contains("another agent's data_dir"), "{error}");
    assert_eq!(mode(), before);
    // A link to another disk is permitted.
    fs::remove_file(&instances).unwrap();
    std::os::unix::fs::symlink(disk.join("instances"), &instances).unwrap();
    prepare(&instances, 0o700, &policy).unwrap();
    fs::remove_file(&instances).unwrap();
    prepare(&instances, 0o700, &policy).unwrap();
    assert!(instances.is_dir());
}
