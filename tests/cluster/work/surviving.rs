//! Failures, and their effects on work.

use super::*;

/// Number of agent kills.
const KILLS: usize = 8;

#[tokio::test]
async fn work_goes_on_without_its_agent_and_what_happened_is_told() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 3\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[restart]\nbackoff = \"100ms\"\n");
    let before = site.runs("app", 3).await;
    site.kill_agent("one").await;
    assert!(pids(&before).into_iter().all(lives), "work ended with its agent");
    // An instance ends while no agent observes it.
    let victim = status(&before[0]).pid;
    kill(victim as i32, Signal::KILL);
    wait_until("its supervisor starts it again", async || {
        (!lives(victim)).then_some(())
    })
    .await;
    site.start_agent("one").await;
    let after = wait_until("what happened meanwhile is told", async || {
        let rows = site.runs("app", 3).await;
        rows.iter().any(|row| status(row).restarts == 1).then_some(rows)
    })
    .await;
    let (old, new) = (pids(&before), pids(&after));
    assert_eq!(old[1..], new[1..]);
    assert_ne!(old[0], new[0]);
    assert_eq!(
        status(&after[0]).exit.unwrap().how,
        Some(v1::process_exit::How::Signal(9))
    );
    site.ends().await;
}

#[tokio::test]
async fn no_exit_status_is_lost_however_often_an_agent_is_killed() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 2\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 2).await;
    let kills = std::env::var("WYNEOS_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS);
    // Parts end one after another for about as long as agents are killed.
    let span = kills / 4;
    site.apply(&format!(
        "name = \"job\"\nkind = \"batch\"\nreplicas = 12\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"sleep $((WYNEOS_SLOT * {span} / 12)).$((WYNEOS_SLOT % 7)); exit $((WYNEOS_SLOT % 3))\"]\n"
    ));
    for _ in 0..kills {
        let before = site.session("one").await;
        site.kill_agent("one").await;
        site.begin_agent("one");
        // The node soon counts as flapping, and is no longer considered online; it is still heard.
        wait_until("it is back", async || {
            (site.session("one").await > before).then_some(())
        })
        .await;
    }
    let ended = wait_until("every part of the batch has ended", async || {
        let rows = site.instances("job").await;
        let ended = rows.len() == 12 && rows.iter().all(|row| phase(row) == InstancePhase::Ended);
        ended.then_some(rows)
    })
    .await;
    for row in &ended {
        let one = row.assignment.clone().unwrap();
        let status = one.status.unwrap();
        let expected = (one.slot % 3) as i32;
        let how = status.exit.as_ref().and_then(|exit| exit.how);
        assert_eq!(how, Some(v1::process_exit::How::Code(expected)), "{status:?}");
        assert_eq!(status.complete, expected == 0);
    }
    assert_eq!(pids(&before), pids(&site.runs("app", 2).await));
    site.ends().await;
}

#[tokio::test]
async fn work_of_a_dead_machine_runs_elsewhere() {
    let mut site = Site::start(&["one", "two", "three"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 6\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\nreschedule_delay = \"0s\"\n");
    let before = site.runs("app", 6).await;
    let lost: Vec<String> = before.iter().filter(|row| row.node_name == "two").map(id).collect();
    assert_eq!(lost.len(), 2);
    // Like a power failure: everything on the node ends at once.
    let processes = site.processes("two");
    let died = Instant::now();
    site.kill_agent("two").await;
    processes.into_iter().for_each(|pid| kill(pid, Signal::KILL));
    let after = wait_until("six run on what is left", async || {
        let rows = site.running("app").await;
        let elsewhere = rows.iter().filter(|row| row.node_name != "two").count();
        (elsewhere == 6).then_some(rows)
    })
    .await;
    assert!(died.elapsed() < Duration::from_secs(15), "{:?}", died.elapsed());
    let kept = before.iter().filter(|row| row.node_name != "two").map(id);
    for id_before in kept {
        assert!(after.iter().any(|row| id(row) == id_before), "{id_before} was moved");
    }
    let why = text(&site.ctl(&["why", "app"]));
    assert!(why.contains("the one before was lost"), "{why}");
    // The node returned without its work, which is known: nothing is moved again.
    site.start_agent("two").await;
    let rows = site.runs("app", 6).await;
    assert!(rows.iter().all(|row| row.node_name != "two"));
    site.ends().await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_finds_the_work_again() {
    let mut site = Site::start(&["one", "two"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 4\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 4).await;
    site.cluster.kill().await;
    site.cluster.restart().await;
    let after = site.runs("app", 4).await;
    assert_eq!(
        before.iter().map(id).collect::<Vec<_>>(),
        after.iter().map(id).collect::<Vec<_>>()
    );
    assert_eq!(pids(&before), pids(&after));
    site.ends().await;
}
