//! Conclusions about nodes are readable immediately. The cycle is so long that only the first snapshot is published
//! during the tests.

use std::time::{Duration, Instant};

use tonic::{Code, transport::Channel};
use wyneos::{
    client,
    v1::{self, Admission, Eligibility, Liveness},
};

use crate::{
    harness::{Cluster, wait_until},
    secure::{Secure, text},
};

/// Maximum delay until a reader sees a conclusion: 50 ms, plus a margin for busy machines.
const SOON: Duration = Duration::from_secs(1);

/// Reads a node by every rpc that shows one; all must show the same state. `None` if a list does not contain the node
/// and no earlier read did.
async fn read(channel: &Channel, name: &str) -> Option<v1::NodeRow> {
    let node = name.to_owned();
    let explained = client::decisions(channel.clone())
        .explain_node(v1::ExplainNodeRequest { node: node.clone() })
        .await;
    let got = client::cluster(channel.clone())
        .get_node(v1::GetNodeRequest { node })
        .await;
    let page = client::cluster(channel.clone())
        .list_nodes(v1::ListNodesRequest::default())
        .await;
    let mut nodes = page.unwrap().into_inner().nodes.into_iter();
    let Some(listed) = nodes.find(|node| node.name == name) else {
        assert_eq!(got.unwrap_err().code(), Code::NotFound);
        assert_eq!(explained.unwrap_err().code(), Code::NotFound);
        return None;
    };
    // The node registered between two reads: from now on, all of them show it.
    let (Ok(got), Ok(explained)) = (got, explained) else {
        return Box::pin(read(channel, name)).await;
    };
    let got = got.into_inner().node.unwrap();
    let explained = explained.into_inner().node.unwrap();
    for other in [got, explained] {
        assert_eq!(
            (other.admission, other.eligibility),
            (listed.admission, listed.eligibility)
        );
        assert_eq!(other.labels, listed.labels);
    }
    Some(listed)
}

async fn cycle(channel: &Channel) -> u64 {
    let cluster = client::cluster(channel.clone())
        .get_cluster(v1::GetClusterRequest {})
        .await;
    cluster.unwrap().into_inner().read.unwrap().cycle
}

#[tokio::test]
async fn the_next_read_shows_what_ones_own_command_did() {
    let cluster = Secure::start(&["--cycle", "10m"]).await;
    let channel = cluster.admin().await;
    let began = cycle(&channel).await;
    for name in ["one", "two"] {
        let joined = cluster.join(name, &cluster.token(1).await);
        assert!(joined.status.success(), "{}", text(&joined));
    }
    let _agent = cluster.agent("one");
    let online = async || {
        read(&channel, "one")
            .await
            .filter(|row| row.liveness() == Liveness::Online)
    };
    wait_until("one is online", online).await;
    let one = async || read(&channel, "one").await.unwrap();
    cluster.done(&["cordon", "one"]);
    assert_eq!(one().await.eligibility(), Eligibility::Cordoned);
    cluster.done(&["uncordon", "one"]);
    assert_eq!(one().await.eligibility(), Eligibility::Eligible);
    cluster.done(&["drain", "one"]);
    assert_eq!(one().await.eligibility(), Eligibility::Draining);
    cluster.done(&["label", "one", "disk=ssd"]);
    assert!(
        one()
            .await
            .labels
            .iter()
            .any(|label| label.key == "disk" && label.value == "ssd")
    );
    cluster.done(&["revoke", "two"]);
    assert_eq!(read(&channel, "two").await.unwrap().admission(), Admission::Revoked);
    let told = cluster.done(&["nodes"]);
    assert!(
        told.lines()
            .any(|line| line.contains("two") && line.contains("revoked")),
        "{told}"
    );
    cluster.done(&["admit", "two"]);
    assert_eq!(read(&channel, "two").await.unwrap().admission(), Admission::Admitted);
    cluster.done(&["revoke", "two"]);
    cluster.done(&["forget", "two"]);
    assert!(read(&channel, "two").await.is_none());
    let why = cluster.wynectl(&["why", "two"]);
    assert!(!why.status.success(), "{}", text(&why));
    cluster.done(&["revoke", "one"]);
    let revoked = one().await;
    assert_eq!(
        (revoked.admission(), revoked.liveness()),
        (Admission::Revoked, Liveness::Left)
    );
    assert_eq!(cycle(&channel).await, began, "a snapshot came between");
}

#[tokio::test]
async fn readers_see_a_killed_agent_and_one_that_is_back_without_waiting_for_a_cycle() {
    let mut cluster = Cluster::start_with(&["--cycle", "10m", "--suspect-grace", "20s"]).await;
    let agent = cluster.agent("one");
    let channel = cluster.channel().await;
    let began = cycle(&channel).await;
    let is = async |channel: &Channel, liveness| read(channel, "one").await.filter(|row| row.liveness() == liveness);
    wait_until("one is online", async || is(&channel, Liveness::Online).await).await;
    agent.kill().await;
    let suspected = async || {
        cluster
            .transitions("one")
            .await
            .contains(&Liveness::Suspect)
            .then(Instant::now)
    };
    // In the meantime, `why` never contradicts itself.
    let concluded = wait_until("an event says so", async || {
        explained(&channel).await;
        suspected().await
    })
    .await;
    wait_until("readers see it", async || {
        explained(&channel).await;
        is(&channel, Liveness::Suspect).await
    })
    .await;
    assert!(
        concluded.elapsed() < SOON,
        "seen {:?} after the event",
        concluded.elapsed()
    );
    assert_eq!(cycle(&channel).await, began, "a snapshot came between");
    let agent = cluster.agent("one");
    wait_until("one is back", async || is(&channel, Liveness::Online).await).await;
    let sessions = cluster.transitions("one").await.len();
    cluster.kill().await;
    cluster.restart().await;
    let channel = cluster.channel().await;
    let concluded = wait_until("an event says that it is back", async || {
        (cluster.transitions("one").await.len() > sessions).then(Instant::now)
    })
    .await;
    wait_until("readers see it", async || is(&channel, Liveness::Online).await).await;
    assert!(
        concluded.elapsed() < SOON,
        "seen {:?} after the event",
        concluded.elapsed()
    );
    drop(agent);
}

/// Reads the explanation of a node, and checks that its row and its newest decision agree.
async fn explained(channel: &Channel) {
    let node = "one".to_owned();
    let why = client::decisions(channel.clone())
        .explain_node(v1::ExplainNodeRequest { node })
        .await;
    let why = why.unwrap().into_inner();
    let (row, decision) = (why.node.unwrap().liveness(), why.liveness.unwrap().action);
    let says = [(Liveness::Online, "is online"), (Liveness::Suspect, "is suspect")];
    for (liveness, predicate) in says {
        assert_eq!(
            row == liveness,
            decision.contains(predicate),
            "{row:?} and {decision:?}"
        );
    }
}
