//! Waiting for the completion of changes.

use super::*;

fn service(more: &str) -> String {
    format!(
        "name = \"web\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n{more}\n\
         [update]\nmin_healthy = \"0s\"\ndeadline = \"3s\"\n"
    )
}

impl Site {
    /// Applies a declaration with these flags.
    fn apply_with(&self, declaration: &str, flags: &[&str]) -> Output {
        let path = self.cluster.directory.path().join("awaited.toml");
        fs::write(&path, declaration).unwrap();
        self.ctl(&[&["apply", "-f", &path.display().to_string()], flags].concat())
    }
}

#[tokio::test]
async fn an_update_is_waited_for_and_one_that_fails_says_why_and_leaves_what_ran() {
    let site = Site::start(&["one"]).await;
    let first = site.apply_with(&service(""), &["--wait"]);
    assert!(
        first.status.success() && text(&first).contains("well"),
        "{}",
        text(&first)
    );
    let before = site.runs("web", 1).await;
    let unfit = service("[resources]\nmemory = \"900TiB\"");
    let failed = site.apply_with(&unfit, &["--wait", "--wait-timeout", "60s"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    assert!(text(&failed).contains("no node takes it"), "{}", text(&failed));
    let after = site.runs("web", 1).await;
    assert_eq!(id(&after[0]), id(&before[0]));
    // The wait has a timeout: no node has 900 TiB, and nothing ran before.
    let never = unfit.replace("\"web\"", "\"huge\"");
    let late = site.apply_with(&never, &["--wait-timeout", "1s"]);
    assert_eq!(late.status.code(), Some(1), "{}", text(&late));
    assert!(text(&late).contains("1s"), "{}", text(&late));
    // The name is free once the command completes.
    let gone = site.ctl(&["delete", "web", "--wait"]);
    assert!(gone.status.success(), "{}", text(&gone));
    let again = site.apply_with(&service(""), &["--wait"]);
    assert!(again.status.success(), "{}", text(&again));
}

#[tokio::test]
async fn a_program_has_as_many_descriptors_as_it_is_given() {
    let site = Site::start(&["one"]).await;
    let batch = |name: &str, limit: u32| {
        format!(
            "name = \"{name}\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\n\
             args = [\"-c\", \"test $(ulimit -Sn) = 777 -a $(ulimit -Hn) = 777\"]\n[limits]\nnofile = {limit}\n"
        )
    };
    let given = site.apply_with(&batch("given", 777), &["--wait"]);
    assert!(given.status.success(), "{}", text(&given));
    let other = site.apply_with(&batch("other", 778), &["--wait"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other));
    let few = site.apply_with(&batch("few", 3), &[]);
    assert!(text(&few).contains("limits.nofile"), "{}", text(&few));
}

#[tokio::test]
async fn what_is_told_to_end_is_not_found_any_more_before_it_ends() {
    let site = Site::start(&["one"]).await;
    let declared = format!("{}[stop]\ndelay = \"3s\"\n", service("ports = [\"http\"]"));
    assert!(site.apply_with(&declared, &["--wait"]).status.success());
    let before = site.runs("web", 1).await;
    assert_eq!(before[0].addresses.len(), 1);
    assert!(site.ctl(&["delete", "web"]).status.success());
    let told = Instant::now();
    wait_until("it has no address any more", async || {
        site.instances("web").await[0].addresses.is_empty().then_some(())
    })
    .await;
    assert!(lives(status(&before[0]).pid), "it went before its users could notice");
    wait_until("it is gone", async || (!lives(status(&before[0]).pid)).then_some(())).await;
    assert!(told.elapsed() >= Duration::from_millis(2_900), "{:?}", told.elapsed());
}

#[tokio::test]
async fn a_batch_runs_again_when_it_is_restarted() {
    let site = Site::start(&["one"]).await;
    let log = site.cluster.directory.path().join("runs");
    let batch = format!(
        "name = \"job\"\nkind = \"batch\"\nreplicas = 2\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"echo $WYNEOS_SLOT >> {0}; test $WYNEOS_SLOT$(grep -c 1 {0}) != 12\"]\n",
        log.display()
    );
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(site.cluster.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let done = site.apply_with(&batch, &["--wait"]);
    assert!(done.status.success(), "{}", text(&done));
    let lines = || fs::read_to_string(&log).unwrap().lines().count();
    assert_eq!(lines(), 2);
    // Part 1 fails the second time.
    let failed = site.ctl(&["restart", "job", "--wait"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    assert_eq!(lines(), 4);
    // Only the failed part runs again.
    let mended = site.ctl(&["restart", "job", "--wait"]);
    assert!(mended.status.success(), "{}", text(&mended));
    assert_eq!(lines(), 5);
    let shown = site.ctl(&["workload", "job"]);
    let run = text(&shown)
        .lines()
        .find(|line| line.starts_with("run"))
        .map(str::to_owned);
    assert!(run.is_some_and(|run| run.ends_with(" 3")), "{}", text(&shown));
}

#[tokio::test]
async fn what_scaled_a_workload_stands_where_its_declaration_does_not_say_how_many() {
    let site = Site::start(&["one"]).await;
    assert!(site.apply_with(&service(""), &["--wait"]).status.success());
    assert!(site.ctl(&["scale", "web", "3", "--wait"]).status.success());
    let same = site.apply_with(&service(""), &[]);
    assert!(text(&same).contains("nothing differs"), "{}", text(&same));
    let planned = site.apply_with(&service("replicas = 1"), &["--plan"]);
    assert!(text(&planned).contains("3 → 1 instances"), "{}", text(&planned));
    site.runs("web", 3).await;
}
