use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

/// An unprivileged user.
const OTHER: u32 = 65_534;

/// A temporary directory, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wyneos-rights-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        // The path of the temporary directory may contain a link.
        let place = Place(fs::canonicalize(path).unwrap());
        place.mode("", 0o755);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    fn make(&self, name: &str, mode: u32, owner: Option<u32>) {
        fs::create_dir_all(self.at(name)).unwrap();
        self.mode(name, mode);
        if let Some(owner) = owner {
            chown(self.at(name), Some(owner), Some(owner)).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Checks a path in the place; returns the name of the rejected path and the message, or `None` for a path that is
/// accepted.
fn found(place: &Place, name: &str) -> Option<(String, String)> {
    let error = check(&place.at(name)).err()?;
    let path = match &error {
        Untrusted::Owner { path, .. } | Untrusted::Writable { path, .. } | Untrusted::File { path, .. } => path.clone(),
        Untrusted::Become { .. } => panic!("{error}"),
    };
    assert_eq!(error.exit_code(), exit::BAD_CONFIG, "{error}");
    let below = path.strip_prefix(&place.0).unwrap_or(&path);
    Some((below.display().to_string(), error.to_string()))
}

#[test]
fn a_directory_that_others_may_write_is_refused_wherever_it_is_on_the_way() {
    let place = Place::new();
    place.make("own/data", 0o700, None);
    place.make("open/data", 0o700, None);
    place.make("group/data", 0o700, None);
    place.make("sticky/data", 0o700, None);
    place.make("leaf", 0o777, None);
    symlink(place.at("open/data"), place.at("link")).unwrap();
    symlink("own/../group", place.at("relative")).unwrap();
    symlink("loop", place.at("loop")).unwrap();
    place.mode("open", 0o777);
    place.mode("group", 0o775);
    place.mode("sticky", 0o1777);
    for (name, wrong) in [
        ("own/data", None),
        ("own/data/./../data", None),
        ("own/new/newer", None),
        ("sticky/data", None),
        ("sticky", None),
        ("open/data", Some("open")),
        ("open/new", Some("open")),
        ("own/../open/data", Some("open")),
        ("group/data", Some("group")),
        ("leaf", Some("leaf")),
        ("link", Some("open")),
        ("link/new", Some("open")),
        ("relative/data", Some("group")),
        ("loop/data", Some("loop")),
    ] {
        let found = found(&place, name);
        let at = found.as_ref().map(|(at, _)| at.as_str());
        assert_eq!(at, wrong, "{name}: {found:?}");
    }
    let (_, told) = found(&place, "leaf").unwrap();
    assert!(told.contains("mode 0777") && told.contains("chmod go-w"), "{told}");
}

#[test]
fn what_another_user_controls_is_refused_wherever_it_is_on_the_way() {
    if !geteuid().is_root() {
        return;
    }
    let place = Place::new();
    place.make("theirs", 0o700, Some(OTHER));
    place.make("above/data", 0o700, None);
    chown(place.at("above"), Some(OTHER), None).unwrap();
    place.make("target", 0o700, None);
    // A link that belongs to another user may point elsewhere at the next start.
    place.make("sticky", 0o1777, None);
    symlink(place.at("target"), place.at("sticky/link")).unwrap();
    std::os::unix::fs::lchown(place.at("sticky/link"), Some(OTHER), None).unwrap();
    place.make("sticky/theirs", 0o755, Some(OTHER));
    for (name, wrong) in [
        ("theirs", "theirs"),
        ("theirs/new", "theirs"),
        ("above/data", "above"),
        ("sticky/link", "sticky/link"),
        ("sticky/theirs/data", "sticky/theirs"),
    ] {
        let (at, told) = found(&place, name).unwrap();
        assert_eq!(at, wrong, "{told}");
        let remedy = told.contains("uid 65534") && told.contains("chown") && told.contains("container");
        assert!(remedy, "{told}");
    }
    for (owner, mode, is_fault) in [
        (0, 0o600, false),
        (0, 0o644, false),
        (0, 0o620, true),
        (0, 0o602, true),
        (OTHER, 0o600, true),
    ] {
        let file = place.at("file");
        fs::write(&file, "x").unwrap();
        place.mode("file", mode);
        chown(&file, Some(owner), None).unwrap();
        assert_eq!(
            fault(&fs::metadata(&file).unwrap()).is_some(),
            is_fault,
            "{owner} {mode:o}"
        );
        assert_eq!(crate::files::read(&file, 10).is_err(), is_fault);
        assert_eq!(crate::files::check_own(&file).is_err(), is_fault);
        crate::files::read_regular(&file, 10).unwrap();
    }
}

#[test]
fn root_acts_as_the_owner_and_only_there() {
    if !geteuid().is_root() {
        return;
    }
    let place = Place::new();
    fs::write(place.at("secret"), "secret").unwrap();
    place.mode("secret", 0o600);
    for above in ["open", "closed"] {
        // As with systemd's directories of dynamic users, the owner cannot traverse the parent.
        let data = format!("{above}/data");
        place.make(&data, 0o700, Some(OTHER));
        place.mode(above, if above == "open" { 0o755 } else { 0o700 });
        symlink(place.at("secret"), place.at(&data).join("link")).unwrap();
        let owner = Owner::of(&place.at(&data)).unwrap();
        owner
            .act(|at| {
                assert_eq!(geteuid().as_raw(), OTHER);
                fs::write(at.join("made"), "x").unwrap();
                let error = fs::read(at.join("link")).unwrap_err();
                let expected = ErrorKind::PermissionDenied;
                assert_eq!(error.kind(), expected);
                fs::write(at.join("../outside"), "x").unwrap_err();
                let inner = thread::scope(|scope| scope.spawn(geteuid).join());
                assert_eq!(inner.unwrap().as_raw(), OTHER);
            })
            .unwrap();
        assert!(geteuid().is_root());
        let made = fs::metadata(place.at(&data).join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (OTHER, OTHER));
        // The reported error has the directory's own name.
        let told = owner.act(|at| Untrusted::File {
            path: at.join("ca/x"),
            source: ErrorKind::NotFound.into(),
        });
        let told = owner.told(&told.unwrap()).to_string();
        assert!(
            told.starts_with(&format!("{}/ca/x: ", place.at(&data).display())),
            "{told}"
        );
        // Credentials of root are not written to a path that the owner controls.
        for (outside, is_refused) in [
            ("open/../out", false),
            (data.as_str(), true),
            (&format!("{data}/out"), true),
        ] {
            assert_eq!(
                owner.check_outside(&place.at(outside)).is_err(),
                is_refused,
                "{outside}"
            );
        }
    }
    // A directory of root acts as root, and no other user may control the path to it.
    place.make("roots/data", 0o700, None);
    let own = Owner::of(&place.at("roots/data")).unwrap();
    assert!(own.act(|_| geteuid().is_root()).unwrap());
    chown(place.at("roots"), Some(OTHER), None).unwrap();
    Owner::of(&place.at("roots/data")).unwrap_err();
    Owner::of(&place.at("secret")).unwrap_err();
}
