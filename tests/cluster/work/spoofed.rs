//! Processes that falsely claim to belong to an instance.

use std::os::unix::fs::MetadataExt as _;

use rustix::process::geteuid;

use super::*;

/// Starts `sleep 1` repeatedly with the mark of an instance, as an unrelated user of the host.
struct Spoofer(Process);

impl Spoofer {
    fn start(site: &Site, user: &str, marks: &[(&str, String)]) -> Spoofer {
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--reuid",
            user,
            "--clear-groups",
            "sh",
            "-c",
            "while :; do sleep 1 & sleep 0.02; done",
        ]);
        command.envs(marks.iter().map(|(name, value)| (*name, value)));
        let log = site.cluster.directory.path().join("spoofer.log");
        Spoofer(Process::of(command, &log))
    }
}

/// Returns the marks in the environment of an instance's processes.
fn marks(directory: &Path) -> [(&'static str, String); 2] {
    let found = fs::metadata(directory).unwrap();
    [
        ("WYNEOS_PLACE", format!("{}:{}", found.dev(), found.ino())),
        (
            "WYNEOS_DIRECTORY",
            directory.canonicalize().unwrap().display().to_string(),
        ),
    ]
}

#[tokio::test]
async fn a_process_that_bears_an_instances_mark_does_not_keep_it_from_ending() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root starts programs of other users");
    }
    let site = Site::start(&["one"]).await;
    let instances = site.cluster.directory.path().join("one/instances");
    // Users of instances (among them the default one, 65534) and another one.
    for (name, user) in [("app", "65533"), ("other", "65534")] {
        site.apply(&format!(
            "name = \"{name}\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n"
        ));
        let before = site.runs(name, 1).await;
        let spoofer = Spoofer::start(&site, user, &marks(&instances.join(id(&before[0]))));
        let supervisor = wait_until("its supervisor is there", async || {
            let own = id(&before[0]);
            let is_own = |pid: &i32| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&command).contains(&own)
            };
            site.supervisors("one").into_iter().find(is_own)
        })
        .await;
        kill(supervisor, Signal::KILL);
        wait_until("another one takes its place", async || {
            let rows = site.running(name).await;
            rows.iter().any(|row| id(row) != id(&before[0])).then_some(())
        })
        .await;
        // A process that merely has the mark is not killed either.
        assert!(spoofer.0.is_running());
    }
    site.ends().await;
}

#[tokio::test]
async fn where_nothing_is_contained_a_mark_counts_of_the_instances_own_user_alone() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root gives up what root may");
    }
    let mut site = Site::start(&[]).await;
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"])
        .arg(crate::harness::binary("wyneos-agent"))
        .args(site.cluster.agent_args("one"));
    let agent = Process::of(command, &site.cluster.agent_log("one"));
    site.agents.push(("one".to_owned(), Some(agent)));
    site.cluster.node_is("one", Liveness::Online).await;
    site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 1).await;
    let directory = site.cluster.directory.path().join("one/instances").join(id(&before[0]));
    let marks = marks(&directory);
    let stranger = Spoofer::start(&site, "65533", &marks);
    kill(site.supervisors("one")[0], Signal::KILL);
    let after = wait_until("another one takes its place", async || {
        let rows = site.running("app").await;
        rows.into_iter().find(|row| id(row) != id(&before[0]))
    })
    .await;
    drop(stranger);
    // A process of the instance's own user is indistinguishable: the instance waits for it, and shows that.
    let directory = directory.with_file_name(id(&after));
    let own = Spoofer::start(&site, "65534", &self::marks(&directory)[..1]);
    kill(site.supervisors("one")[0], Signal::KILL);
    wait_until("it is shown why the instance has not ended", async || {
        let shown = text(&site.ctl(&["workload", "app"]));
        let told = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        (told.contains("as fast as these are killed") || site.running("app").await.len() == 1).then_some(())
    })
    .await;
    drop(own);
    wait_until("the next one runs", async || {
        let rows = site.running("app").await;
        rows.iter().any(|row| id(row) != id(&after)).then_some(())
    })
    .await;
    assert!(site.ctl(&["delete", "app"]).status.success());
    wait_until("nothing is left", async || {
        site.processes("one").is_empty().then_some(())
    })
    .await;
    site.ends().await;
}
