//! File modes for any umask of the process, and access by other users.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::process::geteuid;

use crate::{
    harness::wait_until,
    secure::{Secure, text},
    work::{Site, id, status},
};

/// Returns the documented files of a server in docs/security.md: path patterns, in which `*` stands for one name, and
/// modes.
fn documented(server: &str) -> Vec<(Vec<String>, u32)> {
    let book = include_str!("../../docs/security.md");
    let section = book.split("## File modes\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, of, path, mode, ..] = cells.as_slice() else {
            return None;
        };
        let mode = u32::from_str_radix(mode, 8).ok()?;
        let parts = |path: &str| path.split('/').map(str::to_owned).collect();
        let paths = path.split(", ").map(|path| path.trim_matches('`'));
        (*of == server).then(|| paths.map(|path| (parts(path), mode)).collect::<Vec<_>>())
    });
    let rows: Vec<_> = rows.flatten().collect();
    assert!(rows.len() > 3, "the book has no table of modes for {server}");
    rows
}

/// Returns everything in a directory, which is itself "."; the contents of instances' working directories are omitted.
fn all(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() && !path.ends_with("work") {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// Checks that everything in a data_dir has the documented mode, and nothing else is in it.
fn check(server: &str, data_dir: &Path, when: &str) {
    let documented = documented(server);
    for path in all(data_dir) {
        let below = path.strip_prefix(data_dir).unwrap();
        let parts: Vec<&str> = match below.iter().count() {
            0 => vec!["."],
            _ => below.iter().map(|part| part.to_str().unwrap()).collect(),
        };
        // The file may have been temporary, about to be renamed.
        let Ok(there) = fs::symlink_metadata(&path) else {
            continue;
        };
        let fits = |pattern: &[String]| {
            pattern.len() == parts.len() && pattern.iter().zip(&parts).all(|(one, part)| one == "*" || one == part)
        };
        let exact = documented.iter().filter(|(pattern, _)| fits(pattern));
        let right = exact.min_by_key(|(pattern, _)| pattern.iter().filter(|part| *part == "*").count());
        let mode = there.permissions().mode() & 0o7777;
        match right {
            Some((_, right)) => assert_eq!(mode, *right, "{when}: {server} {} has {mode:04o}", below.display()),
            None => panic!("{when}: {server} {} is not in the book", below.display()),
        }
    }
}

/// Makes everything in a data_dir accessible to all users, as earlier versions did by inheriting the umask.
fn expose(data_dir: &Path) {
    for path in all(data_dir) {
        let is_key =
            path.extension().is_some_and(|end| end == "key") || path.ends_with("key.pem") || path.ends_with("ca");
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if !is_key && !kind.is_socket() {
            let mode = if kind.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Actions of an unprivileged user: reading each file of a list, listing each directory, and writing into it.
const SPY: &str = "while read -r path; do \
    if [ -d \"$path\" ]; then ls \"$path\" >/dev/null 2>&1 && echo \"listed $path\"; touch \"$path/x\" 2>/dev/null && echo \"wrote $path\"; \
    else head -c 1 \"$path\" >/dev/null 2>&1 && echo \"read $path\"; fi; done < $0; \
    echo mine > mine && cat mine && stat -c %a mine && umask && echo done";

#[tokio::test]
async fn nothing_of_others_can_be_read_whatever_the_umask() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root changes users");
        return;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let drawn = now.subsec_micros() & 0o777;
    for umask in [0o022, 0o077, 0o000, drawn] {
        let when = format!("umask {umask:03o}");
        let mut site = Site::under(umask, &[("one", &["--users", "daemon"])]).await;
        site.apply(
            "name = \"victim\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo $SECRET | tee mine; exec sleep 1000\"]\nuser = \"daemon\"\n\
             [env]\nSECRET = \"hunter2\"\n",
        );
        site.runs("victim", 1).await;
        wait_until("it has written", async || {
            (text(&site.ctl(&["logs", "victim"])) == "hunter2\n").then_some(())
        })
        .await;
        // An instance of the spy's own user: where the kernel contains instances, even that does not help.
        site.apply("name = \"neighbour\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo > mine; exec sleep 1000\"]\n");
        site.runs("neighbour", 1).await;
        let contained = text(&site.ctl(&["node", "one"])).contains("pid-namespace");
        let directory = site.cluster.directory.path().to_owned();
        let (coordinator, agent) = (directory.join("coordinator"), directory.join("one"));
        check("coordinator", &coordinator, &when);
        check("agent", &agent, &when);
        let mut tried: Vec<PathBuf> = [&coordinator, &agent]
            .into_iter()
            .flat_map(|server| all(server))
            .collect();
        let work = tried.iter().filter(|path| path.ends_with("work")).cloned();
        let work: Vec<PathBuf> = work.map(|work| work.join("mine")).collect();
        assert!(work.len() == 2 && tried.len() > 15, "{tried:?}");
        tried.extend(work);
        if !contained {
            let rows = site.runs("neighbour", 1).await;
            tried.retain(|path| !path.starts_with(agent.join("instances").join(id(&rows[0]))));
        }
        let list = directory.join("list");
        let lines = tried.iter().map(|path| format!("{}\n", path.display()));
        fs::write(&list, lines.collect::<String>()).unwrap();
        fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
        site.apply(&format!(
            "name = \"spy\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {SPY:?}, {:?}]\n",
            list.display().to_string()
        ));
        let told = wait_until("the spy is done", async || {
            let told = text(&site.ctl(&["logs", "spy"]));
            told.ends_with("done\n").then_some(told)
        })
        .await;
        assert_eq!(told, "mine\n644\n0022\ndone\n", "{when}");
        // Modes left by an earlier version are repaired.
        site.cluster.terminate().await;
        site.kill_agent("one").await;
        expose(&coordinator);
        expose(&agent);
        site.cluster.restart().await;
        site.start_agent("one").await;
        check("coordinator", &coordinator, &format!("{when}, mended"));
        check("agent", &agent, &format!("{when}, mended"));
        let rows = site.runs("victim", 1).await;
        assert!(status(&rows[0]).restarts == 0, "{}", id(&rows[0]));
        site.ends().await;
    }
}

#[tokio::test]
async fn keys_certificates_and_what_wynectl_writes_are_as_documented() {
    let mut cluster = Secure::start(&[]).await;
    let agent = cluster.joined("one").await;
    cluster.online("one").await;
    check("coordinator", Path::new(&cluster.data_dir()), "with TLS");
    check("agent", &cluster.path("one"), "with TLS");
    check("operator", &cluster.path("admin"), "an admin's");
    let (backup, export) = (cluster.path("backup"), cluster.path("export"));
    for args in [
        vec!["backup", "--output", backup.to_str().unwrap()],
        vec!["snapshot", "export", "--output", export.to_str().unwrap()],
    ] {
        let output = cluster.wynectl(&args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
    }
    for file in [&backup, &export] {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    drop(agent);
    cluster.kill().await;
}
