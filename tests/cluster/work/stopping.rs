//! Stopping of instances.

use super::*;

#[tokio::test]
async fn nothing_is_left_of_what_does_not_want_to_end() {
    let site = Site::start(&["one"]).await;
    let script = "trap '' TERM; setsid sleep 4711 & sleep 4712 & while true; do sleep 0.1; done";
    site.apply(&format!(
        "name = \"stubborn\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n[stop]\ngrace = \"500ms\"\n"
    ));
    site.runs("stubborn", 1).await;
    let started = wait_until("it has started what it starts", async || {
        let all = site.processes("one");
        // Supervisor, shell, two sleeps and a short one.
        (all.len() >= 4).then_some(all)
    })
    .await;
    assert!(site.ctl(&["delete", "stubborn"]).status.success());
    wait_until("all of it is gone", async || {
        started.iter().all(|pid| !lives(*pid as u32)).then_some(())
    })
    .await;
    assert!(site.processes("one").is_empty());
    site.ends().await;
}

#[tokio::test]
async fn the_end_of_a_supervisor_is_the_end_of_its_program() {
    let site = Site::start(&["one"]).await;
    site.apply(
        "name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"sleep 4713 & sleep 4714\"]\n",
    );
    let before = site.runs("app", 1).await;
    let all = wait_until("it has started what it starts", async || {
        let all = site.processes("one");
        (all.len() >= 4).then_some(all)
    })
    .await;
    let supervisor = site.supervisors("one").first().copied();
    kill(supervisor.unwrap(), Signal::KILL);
    wait_until("all of it is gone", async || {
        all.iter().all(|pid| !lives(*pid as u32)).then_some(())
    })
    .await;
    wait_until("another one takes its place", async || {
        let rows = site.runs("app", 1).await;
        (id(&rows[0]) != id(&before[0])).then_some(())
    })
    .await;
    let shown = text(&site.ctl(&["workload", "app"]));
    assert!(shown.contains("its supervisor ended without saying why"), "{shown}");
    site.ends().await;
}

#[tokio::test]
async fn a_node_is_drained_when_it_is_empty_and_not_before() {
    let site = Site::start(&["one", "two"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 4\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[update]\nmin_healthy = \"300ms\"\n");
    site.runs("app", 4).await;
    wait_until("it has settled", async || {
        let workload = site.workload("app").await.workload.unwrap();
        (workload.stable_revision == 1).then_some(())
    })
    .await;
    let planned = text(&site.ctl(&["drain", "one", "--plan"]));
    assert!(planned.contains("2 instances would start"), "{planned}");
    assert_eq!(
        site.runs("app", 4)
            .await
            .iter()
            .filter(|row| row.node_name == "one")
            .count(),
        2
    );
    let drained = site.ctl(&["drain", "one"]);
    assert!(drained.status.success(), "{}", text(&drained));
    assert!(site.processes("one").is_empty());
    let rows = site.runs("app", 4).await;
    assert!(rows.iter().all(|row| row.node_name == "two"));
    // The last node cannot be drained, which is reported, and nothing is stopped.
    let blocked = site.ctl(&["drain", "two", "--plan"]);
    assert_eq!(blocked.status.code(), Some(1));
    assert!(text(&blocked).contains("no other node takes it"), "{}", text(&blocked));
    assert!(site.ctl(&["drain", "two", "--no-wait"]).status.success());
    let waiting = wait_until("it says what blocks it", async || {
        let waiting = site.workload("app").await.workload.unwrap().waiting;
        (!waiting.is_empty()).then_some(waiting)
    })
    .await;
    assert!(waiting[0].reason.contains("its node is to be emptied"), "{waiting:?}");
    site.runs("app", 4).await;
    // Until the deadline.
    assert!(
        site.ctl(&["drain", "two", "--no-wait", "--deadline", "500ms"])
            .status
            .success()
    );
    wait_until("both are empty", async || {
        let empty = site.processes("one").is_empty() && site.processes("two").is_empty();
        empty.then_some(())
    })
    .await;
    assert!(site.ctl(&["uncordon", "one"]).status.success());
    site.runs("app", 4).await;
    site.ends().await;
}
