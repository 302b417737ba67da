//! A data_dir that is moved while its instances run: by its agent's back, and with anything in the old place.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use super::*;

/// What is where the directory was.
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

/// Everything below a path, with what changes when it is written to.
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
    /// A node's agent on another directory than its usual one.
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
        // By its own word, in the directory that it has.
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
            // What is begun is begun where its agent is.
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
        let line = format!("{}\n", home.display());
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
    // Apart from the others: it is no instance's directory there.
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
