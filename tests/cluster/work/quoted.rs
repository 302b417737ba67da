//! The last line that an ended instance wrote to its standard error.

use super::*;

#[tokio::test]
async fn the_last_line_of_what_ended_is_quoted_and_kept() {
    let mut site = Site::start(&["one"]).await;
    let script = "echo starting >&2; printf '\\\\033[31mno such table: users\\\\n\\\\n' >&2; echo bye; exit 3";
    site.apply(&format!(
        "name = \"job\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n"
    ));
    let quoted = "its process ended: exit status 3; stderr: \\u{1b}[31mno such table: users";
    site.shows("job", quoted).await;
    let why = text(&site.ctl(&["why", "job.0"]));
    assert!(why.contains("\\u{1b}[31mno such table: users (last line"), "{why}");
    let line = |rows: &[v1::AssignmentRow]| status(&rows[0]).last_stderr;
    assert_eq!(line(&site.instances("job").await), "\\u{1b}[31mno such table: users");
    // The line is stored with the end of the instance, and is in no snapshot.
    site.cluster.kill().await;
    site.cluster.restart().await;
    site.shows("job", quoted).await;
    let snapshot = wait_until("a snapshot has it", async || {
        let all = site.cluster.snapshot().await.assignments;
        all.into_iter().find(|one| one.workload == "job")
    })
    .await;
    assert_eq!(snapshot.status.unwrap().last_stderr, "");
    site.ends().await;
}

#[tokio::test]
async fn what_runs_again_has_the_line_of_the_process_before_and_what_was_replaced_is_quoted() {
    let site = Site::start(&["one"]).await;
    let go = site.cluster.directory.path().join("go");
    let script = format!(
        "echo begins $WYNEOS_ASSIGNMENT >&2; trap 'printf ends. >&2; exit 0' TERM; while ! test -e {0}; do sleep 0.05; done; \
         echo crashes >&2; exit 1",
        go.display()
    );
    let declared = |number: u32| {
        format!(
            "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n[env]\nNUMBER = \"{number}\"\n\
             [restart]\nbackoff = \"100ms\"\n[update]\nmin_healthy = \"100ms\"\n"
        )
    };
    site.apply(&declared(1));
    let first = site.runs("app", 1).await;
    assert_eq!(status(&first[0]).last_stderr, "");
    fs::write(&go, "").unwrap();
    wait_until("its process has ended", async || {
        (status(&site.instances("app").await[0]).last_stderr == "crashes").then_some(())
    })
    .await;
    fs::remove_file(&go).unwrap();
    wait_until("it runs again", async || {
        (!site.running("app").await.is_empty()).then_some(())
    })
    .await;
    site.apply(&declared(2));
    wait_until("it is replaced", async || {
        let rows = site.instances("app").await;
        let ended = rows.iter().find(|row| phase(row) == InstancePhase::Ended)?;
        (status(ended).last_stderr == "ends.").then_some(())
    })
    .await;
    let why = text(&site.ctl(&["why", "app.0"]));
    assert!(why.contains(&format!("{} on one, ended", id(&first[0]))), "{why}");
    assert!(why.contains("stderr: ends."), "{why}");
    // If the supervisor cannot report the line, it is read from the disk.
    let second = site.runs("app", 1).await;
    let begins = format!("begins {}", id(&second[0]));
    wait_until("it has written that it begins", async || {
        (text(&site.ctl(&["logs", "app", "--stderr"])).trim_end() == begins).then_some(())
    })
    .await;
    kill(site.supervisors("one")[0], Signal::KILL);
    site.shows("app", &format!("stderr: {begins}")).await;
    site.ends().await;
}
