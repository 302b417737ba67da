//! There are never two copies of a singleton.

use super::*;

/// Maximum time that a singleton may run after its agent's last request: twice the minimum lease.
const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_singleton_whose_supervisor_is_stopped_by_hand_ends_before_its_lease() {
    let mut site = Site::start(&["one"]).await;
    let declared = |name: &str| {
        format!(
            "name = \"{name}\"\nsingleton = true\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"setsid sleep 4716 & sleep 4717\"]\n\
             [stop]\ngrace = \"1s\"\n"
        )
    };
    site.apply(&declared("only"));
    site.runs("only", 1).await;
    let supervisor = site.supervisors("one")[0];
    let before = wait_until("it has started what it starts", async || {
        // Supervisor, first process, shell and two sleeps.
        let all = site.processes("one");
        (all.len() == 5).then_some(all)
    })
    .await;
    kill(supervisor, Signal::STOP);
    // No process of WyneOS is left to end it: the kernel does.
    site.kill_agent("one").await;
    // The lease counts from before this moment.
    let cut = Instant::now();
    while before.iter().any(|pid| lives(*pid as u32)) {
        assert!(
            cut.elapsed() < LEASE,
            "it runs although its lease is over: {:?}",
            before
                .iter()
                .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/stat"))))
                .collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // An agent that finds a silent supervisor does not wait for a lease that it does not know.
    site.start_agent("one").await;
    // The coordinator may still have the row of the previous instance.
    let second = wait_until("it runs again", async || {
        let rows = site.runs("only", 1).await;
        lives(status(&rows[0]).pid).then_some(rows)
    })
    .await;
    let supervisor = site.supervisors("one")[0];
    kill(supervisor, Signal::STOP);
    site.kill_agent("one").await;
    site.start_agent("one").await;
    wait_until("what does not answer is ended", async || {
        (!lives(status(&second[0]).pid)).then_some(())
    })
    .await;
    wait_until("another one has its place", async || {
        let rows = site.runs("only", 1).await;
        (id(&second[0]) != id(&rows[0])).then_some(())
    })
    .await;
    site.ends().await;
}
