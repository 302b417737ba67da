//! Batches whose program ended while nothing could report it.

use super::*;

/// Returns a part that prints each start and end, and exits with status `exit`.
fn declaration(name: &str, seconds: &str, exit: i32) -> String {
    format!(
        "name = \"{name}\"\nkind = \"batch\"\nretries = 2\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"echo start; sleep {seconds}; echo end; exit {exit}\"]\n[stop]\ngrace = \"1s\"\n"
    )
}

fn supervisor_of(site: &Site, id: &str) -> i32 {
    let is_own = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(id)
    };
    site.supervisors("one").into_iter().find(is_own).unwrap()
}

/// Waits until the newest instance of a workload has ended, and returns all of them.
async fn all_ended(site: &Site, name: &str, count: usize) -> Vec<v1::AssignmentRow> {
    wait_until(&format!("{count} of {name} have ended"), async || {
        let rows = site.instances(name).await;
        let ended = rows.iter().filter(|row| phase(row) == InstancePhase::Ended).count();
        (ended >= count).then_some(rows)
    })
    .await
}

fn code(row: &v1::AssignmentRow) -> Option<v1::process_exit::How> {
    status(row).exit.and_then(|exit| exit.how)
}

#[tokio::test]
async fn a_part_that_finished_while_its_supervisor_stood_still_is_not_run_again() {
    let site = Site::start(&["one"]).await;
    site.apply(&declaration("done", "1", 0));
    let rows = site.runs("done", 1).await;
    let supervisor = supervisor_of(&site, &id(&rows[0]));
    kill(supervisor, Signal::STOP);
    wait_until("the program has ended", async || {
        (!lives(status(&rows[0]).pid)).then_some(())
    })
    .await;
    let trace = site
        .cluster
        .directory
        .path()
        .join("one/instances")
        .join(id(&rows[0]))
        .join("exit");
    wait_until("that is written down", async || {
        fs::read_to_string(&trace).ok().filter(|text| text.contains("code"))
    })
    .await;
    kill(supervisor, Signal::KILL);
    let ended = all_ended(&site, "done", 1).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    let last = status(&ended[0]);
    assert!(
        last.complete && !last.outcome_unknown && last.detail.contains("done"),
        "{last:?}"
    );
    assert_eq!(code(&ended[0]), Some(v1::process_exit::How::Code(0)));
    site.ends().await;
}

#[tokio::test]
async fn a_part_that_failed_while_its_supervisor_stood_still_has_failed_with_its_status() {
    let site = Site::start(&["one"]).await;
    site.apply(&declaration("bad", "1", 7));
    let rows = site.runs("bad", 1).await;
    // Only its agent ends it, and reads the result first.
    kill(supervisor_of(&site, &id(&rows[0])), Signal::STOP);
    let ended = all_ended(&site, "bad", 1).await;
    let first = ended.iter().find(|row| id(row) == id(&rows[0])).unwrap();
    assert_eq!(code(first), Some(v1::process_exit::How::Code(7)), "{first:?}");
    assert!(!status(first).complete && !status(first).outcome_unknown);
    wait_until("it is tried again", async || {
        (site.instances("bad").await.len() > 1).then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_part_that_was_cut_off_is_run_again() {
    let site = Site::start(&["one"]).await;
    site.apply(&declaration("cut", "1000", 0));
    let rows = site.runs("cut", 1).await;
    let trace = site
        .cluster
        .directory
        .path()
        .join("one/instances")
        .join(id(&rows[0]))
        .join("exit");
    wait_until("its program is watched", async || {
        fs::read_to_string(&trace).ok().filter(|text| text.contains("watched"))
    })
    .await;
    kill(supervisor_of(&site, &id(&rows[0])), Signal::KILL);
    wait_until("another one runs", async || {
        let rows_now = site.running("cut").await;
        rows_now.iter().any(|row| id(row) != id(&rows[0])).then_some(())
    })
    .await;
    let all = site.instances("cut").await;
    let first = all.iter().find(|row| id(row) == id(&rows[0])).unwrap();
    assert!(!status(first).complete && !status(first).outcome_unknown, "{first:?}");
    site.ends().await;
}

#[tokio::test]
async fn a_part_of_which_there_is_no_trace_is_unknown_and_not_run_again() {
    let site = Site::start(&["one"]).await;
    site.apply(&declaration("gone", "1000", 0));
    let rows = site.runs("gone", 1).await;
    let supervisor = supervisor_of(&site, &id(&rows[0]));
    // As for an instance of an earlier version, or one that was not observed.
    fs::remove_file(
        site.cluster
            .directory
            .path()
            .join("one/instances")
            .join(id(&rows[0]))
            .join("exit"),
    )
    .unwrap();
    kill(supervisor, Signal::KILL);
    let ended = all_ended(&site, "gone", 1).await;
    assert!(status(&ended[0]).outcome_unknown, "{ended:?}");
    site.shows("gone", "not run again by itself").await;
    assert_eq!(site.instances("gone").await.len(), 1);
    site.ends().await;
}
