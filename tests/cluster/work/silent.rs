//! Supervisors that are alive but do nothing: stopped, or hanging.

use super::*;

/// Returns a program that counts its starts, with a check that only its supervisor can run.
fn declaration(name: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"exec sleep 1000\"]\n[stop]\ngrace = \"1s\"\n[restart]\nbackoff = \"100ms\"\n{more}"
    )
}

/// Returns the supervisor of an instance.
fn supervisor_of(site: &Site, id: &str) -> i32 {
    let is_own = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(id)
    };
    site.supervisors("one").into_iter().find(is_own).unwrap()
}

#[tokio::test]
async fn a_supervisor_that_is_stopped_is_noticed_and_its_instance_replaced() {
    let mut site = Site::start(&["one"]).await;
    site.apply(&declaration(
        "heard",
        "[[checks]]\nexec = [\"/bin/true\"]\ninterval = \"1s\"\n",
    ));
    site.apply(&declaration("found", ""));
    let heard = site.runs("heard", 1).await;
    let found = site.runs("found", 1).await;
    kill(supervisor_of(&site, &id(&heard[0])), Signal::STOP);
    kill(status(&heard[0]).pid as i32, Signal::KILL);
    // The other supervisor never communicated with the agent that finds it.
    kill(supervisor_of(&site, &id(&found[0])), Signal::STOP);
    site.kill_agent("one").await;
    site.start_agent("one").await;
    let stopped = Instant::now();
    for (name, row) in [("heard", &heard[0]), ("found", &found[0])] {
        site.shows(name, "cannot be reached").await;
        let row = wait_until("it does not count as well", async || {
            let rows = site.instances(name).await;
            rows.into_iter().find(|one| id(one) == id(row) && !status(one).healthy)
        })
        .await;
        assert!(!status(&row).healthy);
    }
    assert!(stopped.elapsed() < Duration::from_secs(20), "{:?}", stopped.elapsed());
    for (name, row) in [("heard", &heard[0]), ("found", &found[0])] {
        let old = id(row);
        wait_until(&format!("{name} is replaced"), async || {
            let rows = site.running(name).await;
            rows.iter().any(|row| id(row) != old).then_some(())
        })
        .await;
        assert!(!lives(status(row).pid), "the program of {name} outlived its supervisor");
    }
    site.ends().await;
}

#[tokio::test]
async fn a_supervisor_that_stands_still_for_a_while_keeps_its_work() {
    let site = Site::start(&["one"]).await;
    site.apply(&declaration("app", ""));
    let before = site.runs("app", 1).await;
    let supervisor = supervisor_of(&site, &id(&before[0]));
    for _ in 0..2 {
        kill(supervisor, Signal::STOP);
        site.shows("app", "cannot be reached").await;
        kill(supervisor, Signal::CONT);
        wait_until("it is well again", async || {
            let rows = site.instances("app").await;
            let well = rows
                .iter()
                .all(|row| status(row).healthy && status(row).detail.is_empty());
            (rows.len() == 1 && well).then_some(())
        })
        .await;
    }
    assert_eq!(pids(&before), pids(&site.runs("app", 1).await));
    site.ends().await;
}

/// Like a suspended host, or a debugger that holds all of them.
#[tokio::test]
async fn an_agent_that_stood_still_with_its_supervisors_kills_none_of_them() {
    let mut site = Site::start(&["one"]).await;
    site.apply(&declaration("app", ""));
    let before = site.runs("app", 1).await;
    let supervisor = supervisor_of(&site, &id(&before[0]));
    for already in [false, true] {
        kill(supervisor, Signal::STOP);
        if already {
            // Also if the agent was waiting for the supervisor already.
            site.shows("app", "cannot be reached").await;
        }
        // The coordinator too, because it would declare the node offline.
        site.cluster.coordinator.as_ref().unwrap().signal(Signal::STOP);
        site.agent("one").as_ref().unwrap().signal(Signal::STOP);
        // Longer than a supervisor may be silent: 5 s, 15 s and the grace.
        tokio::time::sleep(Duration::from_secs(24)).await;
        site.agent("one").as_ref().unwrap().signal(Signal::CONT);
        kill(supervisor, Signal::CONT);
        site.cluster.coordinator.as_ref().unwrap().signal(Signal::CONT);
        site.cluster.node_is("one", Liveness::Online).await;
        wait_until("it is well", async || {
            let rows = site.instances("app").await;
            let well = rows
                .iter()
                .all(|row| status(row).healthy && status(row).detail.is_empty());
            (rows.len() == 1 && well).then_some(())
        })
        .await;
        assert_eq!(pids(&before), pids(&site.runs("app", 1).await));
    }
    site.ends().await;
}
