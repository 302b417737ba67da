//! The binary starts; tests/ of the workspace's root run it in earnest. (Cargo builds a binary for tests only when its own
//! package has one like this.)

use std::{
    fs,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

#[test]
fn it_tells_its_version() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_wyneos-agent"))
        .arg("--version")
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.trim(), concat!("wyneos-agent ", env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// A first process of an instance's namespaces, in a mount namespace alone; what it said.
fn init(args: &[&str]) -> io::Result<(Child, UnixStream, String)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let child = Command::new(env!("CARGO_BIN_EXE_wyneos-agent"))
        .arg("init")
        .args(args)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    ours.read_to_string(&mut said)?;
    Ok((child, ours, said))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// What cannot be hidden from an instance keeps it from starting, whatever the reason.
#[test]
fn an_instance_sees_its_own_directory_alone_or_is_not_started() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let instances = place.path().canonicalize()?.join("instances");
    for id in ["1", "2"] {
        fs::create_dir_all(instances.join(id))?;
    }
    fs::write(instances.join("file"), "")?;
    fs::write(instances.join("1/here"), "")?;
    let path = |id: &str| instances.join(id).display().to_string();
    let number = |id: &str| fs::metadata(instances.join(id)).map(|found| format!("{}:{}", found.dev(), found.ino()));
    let (own, other) = (number("1")?, number("2")?);
    let link = instances.join("link");
    std::os::unix::fs::symlink("1", &link)?;
    for (directory, place) in [
        (path("1"), other.as_str()),
        (path("3"), own.as_str()),
        (path("file"), own.as_str()),
        (path("link"), own.as_str()),
        ("/".to_owned(), own.as_str()),
        ("trial".to_owned(), own.as_str()),
    ] {
        let (mut child, _ours, said) = init(&[&directory, "--place", place])?;
        let refused = said.starts_with("cannot hide the directories of other instances");
        assert!(refused, "{directory}, {place}: {said}");
        child.wait()?;
    }
    let (mut child, ours, said) = init(&[&path("1"), "--place", &own])?;
    assert_eq!(said, "ready");
    let seen = Path::new("/proc").join(child.id().to_string()).join("root");
    let within = |path: &Path| seen.join(path.strip_prefix("/").unwrap_or(path));
    assert_eq!(names(&within(&instances))?, ["1"]);
    assert_eq!(names(&within(&instances.join("1")))?, ["here"]);
    assert_eq!(names(&instances)?.len(), 4, "the host sees all");
    drop(ours);
    child.wait()?;
    Ok(())
}
