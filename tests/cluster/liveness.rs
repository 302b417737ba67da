use rustix::process::Signal;
use wyneos::v1::{Liveness, LivenessCause};

use crate::harness::{Cluster, wait_until};

#[tokio::test]
async fn three_agents_make_a_coherent_cluster() {
    let cluster = Cluster::start().await;
    let agents = [1, 2, 3].map(|number| cluster.agent(&format!("node-{number}")));
    let snapshot = wait_until(
        "all are online, every link is up, telemetry and acknowledgements are there",
        async || {
            let snapshot = cluster.snapshot().await;
            let online = snapshot
                .nodes
                .iter()
                .filter(|node| node.liveness() == Liveness::Online)
                .count();
            let mesh = snapshot.mesh.clone()?;
            let read = snapshot
                .telemetry
                .as_ref()?
                .channels
                .iter()
                .find(|channel| channel.channel == "memory.used")?
                .count;
            let report = snapshot.coherence.as_ref()?;
            let holds = report
                .invariants
                .iter()
                .filter(|one| one.severity > 1)
                .all(|one| one.holds);
            (online == 3 && mesh.live_links == 6 && mesh.components_total == 1 && read == 3 && holds)
                .then_some(snapshot)
        },
    )
    .await;
    assert!(snapshot.coherence.unwrap().invariants.len() >= 10);
    assert_eq!(
        snapshot
            .links
            .iter()
            .map(|observer| observer.links.len())
            .sum::<usize>(),
        6
    );
    assert!(
        snapshot
            .links
            .iter()
            .flat_map(|observer| &observer.links)
            .all(|link| link.rtt_micros > 0)
    );
    let binaries = snapshot.integrity.unwrap().binaries;
    assert_eq!((binaries.len(), binaries[0].nodes), (1, 3));
    drop(agents);
}

#[tokio::test]
async fn a_killed_agent_is_suspect_then_offline_and_comes_back_with_the_next_incarnation() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    let row = cluster.node_is("one", Liveness::Online).await;
    assert_eq!(row.incarnation, 1);
    agent.kill().await;
    let row = cluster.node_is("one", Liveness::Offline).await;
    assert_eq!(row.cause(), LivenessCause::SessionEnded);
    let again = cluster.agent("one");
    let row = cluster.node_is("one", Liveness::Online).await;
    assert_eq!(row.incarnation, 2);
    assert_eq!(
        cluster.transitions("one").await,
        [Liveness::Online, Liveness::Suspect, Liveness::Offline, Liveness::Online]
    );
    drop(again);
}

#[tokio::test]
async fn a_paused_agent_is_found_out_though_its_connection_stands() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    agent.signal(Signal::STOP);
    let row = cluster.node_is("one", Liveness::Offline).await;
    assert_eq!(row.cause(), LivenessCause::Silent);
    agent.signal(Signal::CONT);
    cluster.node_is("one", Liveness::Online).await;
}

#[tokio::test]
async fn an_agent_that_is_asked_to_stop_says_goodbye() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    assert!(agent.terminate().await.success());
    cluster.node_is("one", Liveness::Left).await;
    assert_eq!(cluster.transitions("one").await, [Liveness::Online, Liveness::Left]);
}

#[tokio::test]
async fn a_paused_coordinator_blames_nobody() {
    let cluster = Cluster::start().await;
    let agents = [1, 2, 3].map(|number| cluster.agent(&format!("node-{number}")));
    for number in 1..=3 {
        cluster.node_is(&format!("node-{number}"), Liveness::Online).await;
    }
    let coordinator = cluster.coordinator.as_ref().unwrap();
    coordinator.signal(Signal::STOP);
    // Longer than silence limit and grace together: this tests the pause itself.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    coordinator.signal(Signal::CONT);
    let cycle = cluster.snapshot().await.cycle;
    wait_until("some cycles later", async || {
        (cluster.snapshot().await.cycle > cycle + 6).then_some(())
    })
    .await;
    for number in 1..=3 {
        let transitions = cluster.transitions(&format!("node-{number}")).await;
        assert!(!transitions.contains(&Liveness::Offline), "{transitions:?}");
        cluster.node_is(&format!("node-{number}"), Liveness::Online).await;
    }
    drop(agents);
}

#[tokio::test]
async fn a_coordinator_that_restarts_marks_nobody_down() {
    let mut cluster = Cluster::start().await;
    let agents = [1, 2].map(|number| cluster.agent(&format!("node-{number}")));
    for number in 1..=2 {
        cluster.node_is(&format!("node-{number}"), Liveness::Online).await;
    }
    let before = cluster.snapshot().await;
    cluster.kill().await;
    cluster.restart().await;
    for number in 1..=2 {
        let name = format!("node-{number}");
        cluster.node_is(&name, Liveness::Online).await;
        assert_eq!(cluster.transitions(&name).await, [Liveness::Online, Liveness::Online]);
    }
    let after = cluster.snapshot().await;
    assert_eq!(after.epoch, before.epoch + 1);
    assert!(after.cycle > before.cycle);
    drop(agents);
}
