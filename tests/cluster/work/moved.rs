//! A data_dir that is moved while its instances run, with or without an agent, and with anything in the old place.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use super::*;

/// Content of the old place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    Nothing,
    Copy,
    File,
    Directory,
}

impl Old {
    fn make(self, old: &Path, new: &Path) {
        match self {
            Old::Nothing => {}
            Old::Copy => {
                let copied = Command::new("cp").arg("-a").args([new, old]).status().unwrap();
                assert!(copied.success());
            }
            Old::File => fs::write(old, "a file").unwrap(),
            Old::Directory => fs::create_dir(old).unwrap(),
        }
    }
}

/// Returns everything below a path, with attributes that change on writes.
fn state(path: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Vec::new();
    };
    let mut found = vec![(path.to_owned(), there.len(), there.ctime(), there.ctime_nsec())];
    if there.is_dir() {
        let mut below: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        found.extend(below.iter().flat_map(|path| state(path)));
    }
    found
}

impl Site {
    /// Starts a node's agent on another directory than its usual one.
    pub(super) fn agent_in(&self, name: &str, data_dir: &Path) -> Process {
        let mut args = self.cluster.agent_args(name);
        let at = args.iter().position(|arg| arg == "--data-dir").unwrap();
        args[at + 1] = data_dir.display().to_string();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Process::start("wyneos-agent", &args, &self.cluster.agent_log(name))
    }
}

fn written(home: &Path) -> String {
    fs::read_to_string(home.join("status.json")).unwrap_or_default()
}

#[tokio::test]
async fn what_runs_goes_on_in_a_data_dir_that_was_moved_whatever_is_in_the_old_place() {
    for (old, attended) in [
        (Old::Nothing, false),
        (Old::Copy, false),
        (Old::File, false),
        (Old::Directory, false),
        (Old::Nothing, true),
        (Old::Copy, true),
    ] {
        let what = format!("{old:?}, with its agent: {attended}");
        let mut site = Site::start(&["one"]).await;
        site.apply(
            "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"pwd > where; echo $WYNEOS_DIRECTORY; exec sleep 1000\"]\n\
             [restart]\nbackoff = \"100ms\"\n[[checks]]\nexec = [\"/bin/sh\", \"-c\", \"test -f where\"]\ninterval = \"1s\"\n",
        );
        let before = site.runs("app", 1).await;
        let pid = status(&before[0]).pid;
        let [place, moved] = ["one", "moved"].map(|name| site.cluster.directory.path().join(name));
        if !attended {
            site.kill_agent("one").await;
        }
        fs::rename(&place, &moved).unwrap();
        old.make(&place, &moved);
        let untouched = state(&place);
        let home = moved.join("instances").join(id(&before[0]));
        kill(pid as i32, Signal::KILL);
        // As its own status file in the moved directory records.
        wait_until(&format!("it is started again, {what}"), async || {
            let now = written(&home);
            let again =
                now.contains("\"running\"") && now.contains("\"restarts\":1") && now.contains("\"healthy\":true");
            again.then_some(())
        })
        .await;
        let work = format!("{}\n", home.join("work").display());
        assert_eq!(fs::read_to_string(home.join("work/where")).unwrap(), work, "{what}");
        if attended {
            // New instances start in the agent's directory.
            site.apply("name = \"more\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
            let more = site.runs("more", 1).await;
            assert!(
                moved.join("instances").join(id(&more[0])).join("work").is_dir(),
                "{what}"
            );
            site.kill_agent("one").await;
        }
        assert_eq!(state(&place), untouched, "{what}");
        let agent = site.agent_in("one", &moved);
        *site.agent("one") = Some(agent);
        site.cluster.node_is("one", Liveness::Online).await;
        let after = wait_until("its agent attends it", async || {
            let rows = site.runs("app", 1).await;
            (status(&rows[0]).restarts == 1).then_some(rows)
        })
        .await;
        assert_eq!(id(&after[0]), id(&before[0]), "{what}");
        assert!(lives(status(&after[0]).pid), "{what}");
        let line = format!("{}\n", home.join("work").display());
        wait_until(&format!("what it wrote is read, {what}"), async || {
            (text(&site.ctl(&["logs", "app"])) == line).then_some(())
        })
        .await;
        assert!(site.ctl(&["delete", "app"]).status.success());
        wait_until(&format!("it is gone, {what}"), async || {
            (!lives(status(&after[0]).pid) && !home.exists()).then_some(())
        })
        .await;
        assert_eq!(state(&place), untouched, "{what}");
        site.ends().await;
    }
}

#[tokio::test]
async fn a_directory_that_is_not_where_it_was_is_told_and_not_made_again() {
    let mut site = Site::start(&["one"]).await;
    site.apply(
        "name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[restart]\nbackoff = \"100ms\"\nattempts = 100\n",
    );
    let before = site.runs("app", 1).await;
    site.kill_agent("one").await;
    let instances = site.cluster.directory.path().join("one/instances");
    let home = instances.join(id(&before[0]));
    let aside = site.cluster.directory.path().join("aside");
    // Outside of the directory of instances, where it is not an instance's directory.
    fs::rename(&home, &aside).unwrap();
    kill(status(&before[0]).pid as i32, Signal::KILL);
    wait_until("its supervisor says why it is not started", async || {
        written(&aside)
            .contains("is not the instance's directory any more")
            .then_some(())
    })
    .await;
    assert!(!home.exists());
    fs::rename(&aside, &home).unwrap();
    wait_until("it is started once that is put back", async || {
        written(&home).contains("\"running\"").then_some(())
    })
    .await;
    site.start_agent("one").await;
    assert_eq!(id(&site.runs("app", 1).await[0]), id(&before[0]));
    site.ends().await;
}

/// `cp -al` creates a copy of links: its locks and sockets are those of the original.
#[tokio::test]
async fn a_copy_that_is_made_of_links_touches_nothing_of_the_original() {
    for attended in [true, false] {
        let mut site = Site::start(&["one"]).await;
        site.apply(
            "name = \"only\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"500ms\"\n",
        );
        site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
        let (app, only) = (site.runs("app", 1).await, site.runs("only", 1).await);
        let supervisors = site.supervisors("one");
        let [original, copy] = ["one", "linked"].map(|name| site.cluster.directory.path().join(name));
        let copied = Command::new("cp").arg("-al").args([&original, &copy]).status().unwrap();
        assert!(copied.success());
        for name in ["node-id", "begun", "lock"] {
            fs::remove_file(copy.join(name)).unwrap();
        }
        let incarnation = fs::read(original.join("incarnation")).unwrap();
        if !attended {
            site.kill_agent("one").await;
        }
        let mut args = site.cluster.agent_args("linked");
        let at = args.iter().position(|arg| arg == "--name").unwrap();
        args[at + 1] = "two".to_owned();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let agent = Process::start("wyneos-agent", &args, &site.cluster.agent_log("two"));
        site.agents.push(("two".to_owned(), Some(agent)));
        site.cluster.node_is("two", Liveness::Online).await;
        for row in app.iter().chain(&only) {
            let told = format!("instance={}", id(row));
            wait_until("the copy has said what it found", async || {
                let log = fs::read_to_string(site.cluster.agent_log("two")).unwrap();
                let mut lines = log
                    .lines()
                    .filter(|line| line.contains(&told) || line.contains(&id(row)));
                lines
                    .any(|line| line.contains("this directory is a copy of one whose supervisor"))
                    .then_some(())
            })
            .await;
        }
        // The lease of the app need not be renewed.
        assert!(lives(status(&app[0]).pid), "attended: {attended}");
        assert_eq!(fs::read(original.join("incarnation")).unwrap(), incarnation);
        if attended {
            assert!(supervisors.iter().all(|pid| lives(*pid as u32)));
            for (name, before) in [("app", &app), ("only", &only)] {
                assert_eq!(pids(&site.runs(name, 1).await), pids(before));
            }
        } else {
            site.start_agent("one").await;
            wait_until("the original's agent attends it", async || {
                let rows = site.running("app").await;
                (rows
                    .iter()
                    .any(|row| id(row) == id(&app[0]) && status(row).pid == status(&app[0]).pid))
                .then_some(())
            })
            .await;
        }
        site.ends().await;
    }
}
