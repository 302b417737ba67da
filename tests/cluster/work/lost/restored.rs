//! A `data_dir` that is incomplete, partly older, or in another place.

use std::os::unix::fs::MetadataExt;

use tempfile::TempDir;

use super::*;

/// A batch that counts its runs, and is done.
struct Counted(TempDir);

impl Counted {
    async fn done(site: &Site) -> Counted {
        let directory = TempDir::new().unwrap();
        // The program runs as another user.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let counted = Counted(directory);
        site.apply(&format!(
            "name = \"done\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo ran >> {}\"]\n",
            counted.0.path().join("runs").display()
        ));
        wait_until("the batch is done", async || {
            let rows = site.instances("done").await;
            (rows.len() == 1 && status(&rows[0]).complete).then_some(())
        })
        .await;
        assert_eq!(counted.runs(), 1);
        counted
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.0.path().join("runs")).unwrap().lines().count()
    }
}

impl Site {
    fn data_dir(&self, node: &str) -> PathBuf {
        self.cluster.directory.path().join(node)
    }

    async fn end_supervisors(&self, node: &str, all: &[(Subject, Damage)]) {
        for supervisor in self.supervisors(node) {
            kill(supervisor, Signal::KILL);
        }
        for (subject, _) in all {
            wait_until("its kernel has ended it", async || (!lives(subject.pid)).then_some(())).await;
        }
    }
}

/// Only the id is kept of a `data_dir`: the incarnation was used before, and there is no evidence that nothing was
/// started.
#[tokio::test]
async fn a_number_that_is_used_again_is_refused_and_leaves_no_list_to_trust() {
    let mut site = Site::start(&["one"]).await;
    let all = subjects(&site, &[("kept", |_, _| {})]).await;
    let counted = Counted::done(&site).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    watcher.sees_all(&watched).await;
    site.kill_agent("one").await;
    site.end_supervisors("one", &all).await;
    let (place, old) = (site.data_dir("one"), site.data_dir("old"));
    fs::rename(&place, &old).unwrap();
    fs::create_dir(&place).unwrap();
    fs::copy(old.join("node-id"), place.join("node-id")).unwrap();
    site.begin_agent("one");
    wait_until("the coordinator refuses that number", async || {
        let agent = site.agent("one").as_ref().unwrap();
        agent
            .log_text()
            .contains("was that of another process of this node")
            .then_some(())
    })
    .await;
    assert!(!place.join("begun").exists(), "it says what it does not know");
    site.kill_agent("one").await;
    // The next start has the next number.
    site.start_agent("one").await;
    for (subject, _) in &all {
        let status = site.has_ended(subject).await;
        assert!(
            !status.complete && status.detail.contains("begun"),
            "{subject:?}: {status:?}"
        );
    }
    for (subject, _) in all.iter().filter(|(subject, _)| subject.of == Of::Service) {
        site.has_successor(subject, PATIENCE).await;
    }
    assert_eq!(site.instances("done").await.len(), 1);
    assert_eq!(counted.runs(), 1, "it is done again");
    none_ran_twice(watcher, &all);
    site.ends().await;
}

/// The list is an older version without later instances: those that the coordinator knows are not started again.
#[tokio::test]
async fn a_list_that_is_older_than_its_instances_has_none_of_them_begun_again() {
    let mut site = Site::start(&["one"]).await;
    let place = site.data_dir("one");
    let (list, older) = (place.join("begun"), site.data_dir("older"));
    wait_until("the list is written once the agent is welcomed", async || {
        list.exists().then_some(())
    })
    .await;
    fs::copy(&list, &older).unwrap();
    let all = subjects(&site, &[DAMAGES[1], DAMAGES[2]]).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    watcher.sees_all(&watched).await;
    site.kill_agent("one").await;
    site.end_supervisors("one", &all).await;
    site.spoil("one", &all);
    fs::rename(&older, &list).unwrap();
    site.start_agent("one").await;
    for (subject, _) in &all {
        let status = site.has_ended(subject).await;
        assert!(!status.complete && status.outcome_unknown, "{subject:?}: {status:?}");
    }
    for (subject, _) in &all {
        match subject.of {
            Of::Service => site.has_successor(subject, PATIENCE).await,
            // The successor waits for the lease, which other tests cover.
            Of::Singleton => drop(site.shows(&subject.name, "was lost by its node").await),
            Of::Batch => assert_eq!(site.instances(&subject.name).await.len(), 1, "it is run again"),
        }
    }
    none_ran_twice(watcher, &all);
    site.ends().await;
}

/// Returns the supervisor of the instance started in this directory.
pub(super) fn supervisor_of(home: &Path) -> i32 {
    let is_one = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"supervise")
    };
    let mut all = processes_with(&home.display().to_string());
    all.retain(is_one);
    assert_eq!(all.len(), 1, "{}", home.display());
    all[0]
}

impl Site {
    /// Returns the supervisor of a subject that was started in a node's directory of this name.
    fn supervisor(&self, node: &str, subject: &Subject) -> i32 {
        supervisor_of(&self.instances_of(node).join(&subject.id))
    }
}

/// The directory of a node is moved with all instances, and only its identity is left: running instances are reported,
/// left alone and not started a second time, and attended again once the directory is put back.
#[tokio::test]
async fn what_goes_on_in_a_directory_that_is_elsewhere_is_told_and_has_no_successor() {
    for put_back in [true, false] {
        let mut site = Site::under(0o022, &[("one", &["--cgroup", "off"])]).await;
        let all = subjects(&site, &[("kept", |_, _| {})]).await;
        let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
        let watcher = Watcher::over(&watched);
        watcher.sees_all(&watched).await;
        site.kill_agent("one").await;
        let (place, old) = (site.data_dir("one"), site.data_dir("old"));
        fs::rename(&place, &old).unwrap();
        fs::create_dir(&place).unwrap();
        for name in ["node-id", "incarnation"] {
            fs::copy(old.join(name), place.join(name)).unwrap();
        }
        site.start_agent("one").await;
        for (subject, _) in &all {
            let home = old.join("instances").join(&subject.id);
            let told = format!(
                "its supervisor (pid {}) goes on in {}",
                site.supervisor("one", subject),
                home.display()
            );
            wait_until(&told, async || {
                let rows = site.instances(&subject.name).await;
                let row = rows.iter().find(|row| id(row) == subject.id)?;
                (phase(row) == InstancePhase::Stopping && status(row).detail.contains(&told)).then_some(())
            })
            .await;
        }
        // In the meantime, other work proceeds.
        site.apply("name = \"new\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
        site.runs("new", 1).await;
        for (subject, _) in &all {
            assert!(lives(subject.pid), "{subject:?} was ended");
            assert_eq!(
                site.instances(&subject.name).await.len(),
                1,
                "{subject:?} has a successor"
            );
        }
        if put_back {
            site.kill_agent("one").await;
            fs::copy(place.join("incarnation"), old.join("incarnation")).unwrap();
            fs::rename(&place, site.data_dir("other")).unwrap();
            fs::rename(&old, &place).unwrap();
            site.start_agent("one").await;
            for (subject, _) in &all {
                assert_eq!(pids(&site.runs(&subject.name, 1).await), [subject.pid], "{subject:?}");
            }
        } else {
            for (subject, _) in &all {
                kill(site.supervisor("one", subject), Signal::TERM);
                site.has_ended(subject).await;
            }
            for (subject, _) in &all {
                match subject.of {
                    Of::Service => site.has_successor(subject, PATIENCE).await,
                    Of::Singleton => drop(site.shows(&subject.name, "was lost by its node").await),
                    Of::Batch => assert_eq!(site.instances(&subject.name).await.len(), 1, "it is run again"),
                }
            }
        }
        none_ran_twice(watcher, &all);
        site.ends().await;
    }
}

/// The directory of all instances is replaced: their supervisors notice, and end them.
#[tokio::test]
async fn what_is_in_a_directory_of_instances_that_was_replaced_ends_by_itself() {
    let mut site = Site::under(0o022, &[("one", &["--cgroup", "off"])]).await;
    let all = subjects(&site, &[("kept", |_, _| {})]).await;
    let watched: Vec<Subject> = all.iter().map(|(subject, _)| subject.clone()).collect();
    let watcher = Watcher::over(&watched);
    watcher.sees_all(&watched).await;
    site.kill_agent("one").await;
    fs::rename(site.instances_of("one"), site.data_dir("one").join("aside")).unwrap();
    site.start_agent("one").await;
    for (subject, _) in &all {
        let status = site.has_ended(subject).await;
        assert!(!status.complete, "{subject:?}: {status:?}");
    }
    for (subject, _) in all.iter().filter(|(subject, _)| subject.of == Of::Service) {
        site.has_successor(subject, PATIENCE).await;
    }
    none_ran_twice(watcher, &all);
    site.ends().await;
}

/// A directory is restored to its state before the instance started, with or without the list of that time: the
/// finished work does not run again. Temporary files may be blocked by directories of their names.
#[tokio::test]
async fn a_directory_from_before_its_instance_began_has_it_not_run_again() {
    for (older_list, empty) in [(false, false), (false, true), (true, false)] {
        let what = format!("with the list of that time: {older_list}, nothing in it: {empty}");
        let mut site = Site::start(&["one"]).await;
        let place = site.data_dir("one");
        let (list, older) = (place.join("begun"), site.data_dir("older"));
        wait_until("the list is written once the agent is welcomed", async || {
            list.exists().then_some(())
        })
        .await;
        fs::copy(&list, &older).unwrap();
        let counted = Counted::done(&site).await;
        let before = id(&site.instances("done").await[0]);
        site.kill_agent("one").await;
        let (home, from) = (site.instances_of("one").join(&before), site.data_dir("from"));
        // As its agent wrote it, in its original directory.
        let original = fs::metadata(&home).unwrap();
        let made = original.created().ok();
        let made = made.map(|made| made.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let unbegun = serde_json::json!({
            "place": [original.dev(), original.ino()],
            "made": made.map(|made| made as u64),
            "boot": boot.trim(),
        });
        fs::create_dir(&from).unwrap();
        fs::copy(home.join("order.json"), from.join("order.json")).unwrap();
        let unbegun = if empty { String::new() } else { unbegun.to_string() };
        fs::write(from.join("unbegun"), unbegun).unwrap();
        fs::remove_dir_all(&home).unwrap();
        copy(&from, &home);
        if older_list {
            fs::rename(&older, &list).unwrap();
        }
        for name in [
            "begun.new",
            "instances.users.json.new",
            "incarnation.new",
            "node-id.new",
        ] {
            fs::create_dir_all(place.join(name).join("x")).unwrap();
        }
        for _ in 0..2 {
            site.start_agent("one").await;
            // Until the agent has received and completed later work.
            site.apply("name = \"behind\"\nkind = \"batch\"\ncommand = \"/bin/true\"\n");
            wait_until(&format!("what was asked behind that is done, {what}"), async || {
                let rows = site.instances("behind").await;
                rows.iter().any(|row| status(row).complete).then_some(())
            })
            .await;
            assert_eq!(counted.runs(), 1, "{what}: it ran again");
            let rows = site.instances("done").await;
            assert_eq!(
                rows.iter().map(id).collect::<Vec<_>>(),
                std::slice::from_ref(&before),
                "{what}"
            );
            assert!(site.ctl(&["delete", "behind"]).status.success());
            site.kill_agent("one").await;
        }
        assert!(place.join("begun.new/x").is_dir());
        site.ends().await;
    }
}
