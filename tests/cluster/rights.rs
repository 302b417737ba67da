//! Control over the files that servers trust: directories of other users, links created by them, and files of other
//! types.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::geteuid;

use crate::{
    harness::{Process, binary, directory},
    secure::{Secure, run, text},
};

/// An unprivileged user.
const OTHER: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Transfers everything in a directory to a user, without following links.
fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// Asserts that a user owns everything in a directory.
fn is_all_of(path: &Path, user: u32) {
    let found = fs::symlink_metadata(path).unwrap();
    assert_eq!((found.uid(), found.gid()), (user, user), "{}", path.display());
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            is_all_of(&entry.unwrap().path(), user);
        }
    }
}

/// Copies a data_dir with its modes.
fn copied(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Runs a server to its end; returns its exit status and log.
async fn ends(program: &str, data_dir: &Path, log: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(binary(program));
    command.args(["run", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data_dir);
    drop(fs::remove_file(log));
    let mut server = Process::of(command, log);
    let code = server.ended().await.code();
    (code, server.log_text())
}

#[tokio::test]
async fn root_makes_an_admin_as_the_owner_of_the_data_dir_and_follows_no_link_of_its() {
    if !geteuid().is_root() {
        return;
    }
    let mut cluster = Secure::start(&[]).await;
    cluster.kill().await;
    let at = |name: &str| cluster.path(name);
    let original = at("coordinator");
    drop(fs::remove_dir_all(original.join("audit-inbox")));
    // A secret of root, which could be the coordinator's.
    copied(&original.join("ca"), &at("secret"));
    let admin = |data_dir: &Path, out: &Path| {
        let args = [
            "admin",
            "--name",
            "mallory",
            "--data-dir",
            data_dir.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        run("wyneos-coordinator", &args)
    };
    let fresh = |name: &str| {
        let data_dir = at(name);
        copied(&original, &data_dir);
        give(&data_dir, OTHER);
        data_dir
    };
    // The server may write wherever the owner may.
    let well = fresh("well");
    let made = admin(&well, &at("well-out"));
    assert!(made.status.success(), "{}", text(&made));
    is_all_of(&well, OTHER);
    is_all_of(&at("well-out"), 0);
    assert_eq!(fs::read_dir(well.join("audit-inbox")).unwrap().count(), 1);
    // The temporary file of a starting command is replaced by the owner, with any target.
    let victim = at("victim");
    fs::create_dir(&victim).unwrap();
    mode(&victim, 0o700);
    let planted = fresh("planted");
    symlink(&victim, planted.join("audit-inbox")).unwrap();
    let refused = admin(&planted, &at("planted-out"));
    assert!(
        !refused.status.success() && text(&refused).contains("nothing was done"),
        "{}",
        text(&refused)
    );
    assert!(text(&refused).contains(planted.to_str().unwrap()), "{}", text(&refused));
    assert!(!at("planted-out").exists());
    is_all_of(&victim, 0);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    // Nothing is read on behalf of the owner that it could not read itself.
    for (name, file) in [("ca", ""), ("key", "ca/1/ca.key"), ("state", "ca/state.toml")] {
        let data_dir = fresh(&format!("reads-{name}"));
        let place = data_dir.join(if file.is_empty() { "ca" } else { file });
        match place.is_dir() {
            true => fs::remove_dir_all(&place).unwrap(),
            false => fs::remove_file(&place).unwrap(),
        }
        symlink(at("secret").join(file.trim_start_matches("ca/")), &place).unwrap();
        let out = at(&format!("reads-{name}-out"));
        let refused = admin(&data_dir, &out);
        assert!(
            text(&refused).contains("ermission denied"),
            "{name}: {}",
            text(&refused)
        );
        assert!(
            !out.exists() && !text(&refused).contains("/proc/"),
            "{}",
            text(&refused)
        );
    }
    // Credentials are not written where the owner controls the path.
    symlink(&victim, well.join("out")).unwrap();
    for out in [well.join("out"), well.join("new/out")] {
        let refused = admin(&well, &out);
        let told = text(&refused);
        assert!(
            refused.status.code() == Some(64) && told.contains("belongs to uid 65534"),
            "{told}"
        );
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    // systemd keeps directories of dynamic users where these cannot traverse, and gives them a link.
    fs::create_dir(at("private")).unwrap();
    mode(&at("private"), 0o700);
    fresh("private/coordinator");
    symlink("private/coordinator", at("dynamic")).unwrap();
    let made = admin(&at("dynamic"), &at("dynamic-out"));
    assert!(made.status.success(), "{}", text(&made));
    is_all_of(&at("private/coordinator"), OTHER);
    fs::remove_dir_all(at("private/coordinator/ca")).unwrap();
    let refused = admin(&at("dynamic"), &at("none-out"));
    let told = text(&refused);
    assert!(
        told.contains(&format!("{}/ca/state.toml", at("dynamic").display())),
        "{told}"
    );
    // A directory that leads there and belongs to another user.
    fs::create_dir(at("theirs")).unwrap();
    copied(&original, &at("theirs/coordinator"));
    chown(at("theirs"), Some(OTHER), None).unwrap();
    let refused = admin(&at("theirs/coordinator"), &at("theirs-out"));
    assert_eq!(refused.status.code(), Some(64), "{}", text(&refused));
}

#[tokio::test]
async fn root_restores_and_joins_as_the_owner_of_the_data_dir() {
    if !geteuid().is_root() {
        return;
    }
    let cluster = Secure::start(&[]).await;
    let at = |name: &str| cluster.path(name);
    let victim = at("victim");
    fs::create_dir(&victim).unwrap();
    mode(&victim, 0o700);
    // Joining.
    for name in ["one", "linked"] {
        fs::create_dir(at(name)).unwrap();
        mode(&at(name), 0o700);
        give(&at(name), OTHER);
    }
    let joined = cluster.join("one", &cluster.token(1).await);
    assert!(joined.status.success(), "{}", text(&joined));
    is_all_of(&at("one"), OTHER);
    let checked = run(
        "wyneos-agent",
        &["run", "--check", "--data-dir", at("one").to_str().unwrap()],
    );
    assert!(
        checked.status.success() && text(&checked).contains(&cluster.address),
        "{}",
        text(&checked)
    );
    symlink(&victim, at("linked/identity")).unwrap();
    let refused = cluster.join("linked", &cluster.token(1).await);
    assert!(!refused.status.success(), "{}", text(&refused));
    is_all_of(&victim, 0);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    // `run --check` shows only those file contents that the owner may read.
    let secret = at("root-secret");
    fs::write(&secret, "hunter2 = nonsense").unwrap();
    mode(&secret, 0o600);
    fs::remove_file(at("one/joined.toml")).unwrap();
    symlink(&secret, at("one/joined.toml")).unwrap();
    let checked = run(
        "wyneos-agent",
        &["run", "--check", "--data-dir", at("one").to_str().unwrap()],
    );
    assert!(
        checked.status.code() == Some(64) && !text(&checked).contains("hunter2"),
        "{}",
        text(&checked)
    );
    // Restoring into a directory of another user, and into one that does not exist.
    let backup = at("backup");
    cluster.done(&["backup", "--output", backup.to_str().unwrap()]);
    fs::create_dir(at("private")).unwrap();
    mode(&at("private"), 0o700);
    for name in ["private/theirs", "theirs"] {
        fs::create_dir(at(name)).unwrap();
        give(&at(name), OTHER);
    }
    for (name, owner) in [("private/theirs", OTHER), ("theirs", OTHER), ("new", 0)] {
        let restored = run(
            "wyneos-coordinator",
            &[
                "restore",
                backup.to_str().unwrap(),
                "--data-dir",
                at(name).to_str().unwrap(),
            ],
        );
        assert!(
            restored.status.success() && !text(&restored).contains("/proc/"),
            "{}",
            text(&restored)
        );
        is_all_of(&at(name), owner);
        assert!(at(name).join("state.redb").exists() && at(name).join("ca/1/ca.key").exists());
    }
}

#[tokio::test]
async fn a_data_dir_that_others_control_is_refused_and_left_as_it_is() {
    let place = directory();
    let at = |name: &str| place.path().join(name);
    for name in ["open", "group", "above/data", "theirs", "sticky/theirs"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    mode(&at("open"), 0o777);
    mode(&at("group"), 0o770);
    mode(&at("above"), 0o777);
    mode(&at("sticky"), 0o1777);
    symlink(at("above/data"), at("link")).unwrap();
    let mut cases = vec![
        ("open", "open", "chmod go-w"),
        ("group", "group", "chmod go-w"),
        ("above/data", "above", "chmod go-w"),
        ("above/new", "above", "chmod go-w"),
        ("link", "above", "chmod go-w"),
    ];
    if geteuid().is_root() {
        chown(at("theirs"), Some(OTHER), Some(OTHER)).unwrap();
        chown(at("sticky/theirs"), Some(OTHER), Some(OTHER)).unwrap();
        cases.extend([
            ("theirs", "theirs", "uid 65534"),
            ("theirs/new", "theirs", "uid 65534"),
            ("sticky/theirs", "sticky/theirs", "uid 65534"),
        ]);
    }
    for server in ["wyneos-coordinator", "wyneos-agent"] {
        for (name, named, remedy) in &cases {
            let before = fs::metadata(at(name)).map(|found| found.mode()).ok();
            let (code, log) = ends(server, &at(name), &at("log")).await;
            assert_eq!(code, Some(64), "{server} {name}: {log}");
            let told = log.contains(at(named).to_str().unwrap()) && log.contains(remedy);
            assert!(told, "{server} {name}: {log}");
            assert_eq!(
                fs::metadata(at(name)).map(|found| found.mode()).ok(),
                before,
                "{server} {name}"
            );
            assert!(!fs::exists(at(name)).unwrap() || fs::read_dir(at(name)).unwrap().count() == 0);
        }
    }
}

/// Replacement for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Pipe,
    Socket,
    Device,
    Dangling,
    Text,
    Empty,
    /// Another file of the same data_dir.
    Other(&'static str),
    /// The file belongs to another user.
    Theirs,
    /// The file is writable for others.
    Open,
}

impl Kind {
    const SPECIAL: [Kind; 5] = [Kind::Directory, Kind::Pipe, Kind::Socket, Kind::Device, Kind::Dangling];

    /// Returns the text of the error; empty for replaced contents.
    fn told(self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::Pipe => "a named pipe",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
            Kind::Dangling => "leads nowhere",
            Kind::Theirs => "belongs to uid 65534",
            Kind::Open => "go-w",
            Kind::Text | Kind::Empty | Kind::Other(_) => "",
        }
    }

    fn put(self, data_dir: &Path, name: &str) {
        let path = data_dir.join(name);
        let before = fs::read(&path).unwrap();
        let replaced = |contents: &[u8]| {
            fs::write(&path, contents).unwrap();
            mode(&path, 0o600);
        };
        match self {
            Kind::Text => return replaced(b"not what it should be\n"),
            Kind::Empty => return replaced(b""),
            Kind::Other(other) => return replaced(&fs::read(data_dir.join(other)).unwrap()),
            Kind::Theirs => return chown(&path, Some(OTHER), Some(OTHER)).unwrap(),
            Kind::Open => return mode(&path, 0o620),
            _ => fs::remove_file(&path).unwrap(),
        }
        match self {
            Kind::Directory => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("kept"), before).unwrap();
            }
            Kind::Pipe => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
            Kind::Socket => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            Kind::Device => symlink("/dev/zero", &path).unwrap(),
            _ => symlink("nowhere", &path).unwrap(),
        }
    }
}

/// Replaces each of these files by each kind: the server exits with 64, names the file and the problem, and changes
/// nothing.
async fn each_kind(server: &str, original: &Path, cases: &[(&str, &[Kind])]) {
    let place = directory();
    let log = place.path().join("log");
    let mut number = 0;
    for (name, further) in cases {
        let mut kinds = Kind::SPECIAL.to_vec();
        kinds.extend(further.iter());
        if geteuid().is_root() {
            kinds.push(Kind::Theirs);
        }
        for kind in kinds {
            number += 1;
            // A path short enough for a socket.
            let data_dir = place.path().join(format!("{number}"));
            copied(original, &data_dir);
            kind.put(&data_dir, name);
            let (code, told) = ends(server, &data_dir, &log).await;
            assert_eq!(code, Some(64), "{server} {name} {kind:?}: {told}");
            // For contents, the message names the error: a key may be reported with its certificate.
            let is_named = kind.told().is_empty() || told.contains(data_dir.join(name).to_str().unwrap());
            assert!(
                is_named && told.contains(kind.told()),
                "{server} {name} {kind:?}: {told}"
            );
            let gone = data_dir.join("nowhere").exists() || data_dir.join(name).with_file_name("nowhere").exists();
            assert!(!gone, "{server} {name} {kind:?} made what the link leads to");
            fs::remove_dir_all(&data_dir).unwrap();
        }
    }
    assert!(number > 20, "{number}");
}

#[tokio::test]
async fn a_coordinators_file_of_another_kind_is_told_and_ends_it_for_good() {
    let mut cluster = Secure::start(&[]).await;
    cluster.snapshot().await;
    cluster.kill().await;
    let original = PathBuf::from(cluster.data_dir());
    drop(fs::remove_dir_all(original.join("audit-inbox")));
    use Kind::{Empty, Open, Other, Text};
    each_kind(
        "wyneos-coordinator",
        &original,
        &[
            (
                "state.redb",
                &[
                    Text,
                    Empty,
                    Other("history.redb"),
                    Other("audit.redb"),
                    Other("signing.key"),
                ],
            ),
            ("history.redb", &[Text, Other("state.redb"), Other("audit.redb")]),
            ("audit.redb", &[Text, Empty, Other("state.redb"), Other("history.redb")]),
            ("signing.key", &[Text, Empty, Open, Other("ca/state.toml")]),
            ("ca/state.toml", &[Text, Empty, Open, Other("signing.key")]),
            ("ca/1/ca.key", &[Text, Empty, Open, Other("ca/1/ca.pem")]),
            ("ca/1/ca.pem", &[Text, Empty, Open, Other("ca/1/ca.key")]),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_agents_file_of_another_kind_is_told_and_ends_it_for_good() {
    let cluster = Secure::start(&[]).await;
    cluster.joined("one").await.kill().await;
    let original = cluster.path("one");
    drop(File::create(original.join("lock")).unwrap());
    use Kind::{Empty, Open, Other, Text};
    each_kind(
        "wyneos-agent",
        &original,
        &[
            ("node-id", &[Text, Empty, Open, Other("incarnation")]),
            ("incarnation", &[Text, Empty, Open, Other("node-id")]),
            ("joined.toml", &[Text, Open, Other("node-id")]),
            ("identity/key.pem", &[Text, Empty, Open, Other("identity/cert.pem")]),
            ("identity/cert.pem", &[Text, Empty, Open, Other("node-id")]),
            ("identity/ca.pem", &[Text, Empty, Open, Other("node-id")]),
        ],
    )
    .await;
    // Files that can be recreated or count as lost do not end the server: they are replaced or reported.
    for (name, kind) in [
        ("begun", Kind::Directory),
        ("begun", Kind::Text),
        ("disk-check", Kind::Pipe),
    ] {
        let data_dir = cluster.path("again");
        copied(&original, &data_dir);
        drop(
            File::options()
                .create(true)
                .append(true)
                .open(data_dir.join(name))
                .unwrap(),
        );
        kind.put(&data_dir, name);
        let agent = cluster.agent("again");
        cluster.online("one").await;
        drop(agent);
        fs::remove_dir_all(&data_dir).unwrap();
    }
}
