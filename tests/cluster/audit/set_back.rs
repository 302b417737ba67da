//! An older state restored beside its newer audit.

use std::{fs, path::PathBuf};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use wyneos::{client, v1::AuditKind};

use super::{label, records, verdict};
use crate::harness::{Cluster, wait_until};
use wyneos::v1::Liveness;

/// Returns the files of the state and their contents.
fn state(cluster: &Cluster) -> Vec<(PathBuf, Vec<u8>)> {
    let data_dir = PathBuf::from(cluster.data_dir());
    let read = |name: &str| {
        let path = data_dir.join(name);
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    ["state.redb", "history.redb"].map(read).to_vec()
}

#[tokio::test]
async fn a_state_that_is_older_than_its_audit_is_told_of_once_and_nothing_is_told_of_any_other() {
    let mut runner = TestRunner::deterministic();
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    agent.terminate().await;
    let told = async |cluster: &Cluster| {
        let records = records(&cluster.address).await;
        records
            .into_iter()
            .filter(|record| record.kind() == AuditKind::SetBack)
            .collect::<Vec<_>>()
    };
    let mut value = 0;
    for (round, kills) in [false, true].into_iter().enumerate() {
        let mut change = async |cluster: &Cluster, times: u32| {
            let mut client = client::cluster(cluster.channel().await);
            for _ in 0..times {
                value += 1;
                label(&mut client, value).await.unwrap();
            }
        };
        let times = |runner: &mut TestRunner| (1u32..6).new_tree(runner).unwrap().current();
        change(&cluster, times(&mut runner)).await;
        assert!(cluster.terminate().await.success());
        let older = state(&cluster);
        cluster.restart().await;
        assert_eq!(told(&cluster).await.len(), round, "nothing new is wrong yet");
        let before = records(&cluster.address).await.last().unwrap().sequence;
        change(&cluster, times(&mut runner)).await;
        match kills {
            true => cluster.kill().await,
            false => assert!(cluster.terminate().await.success()),
        }
        for (path, bytes) in &older {
            fs::write(path, bytes).unwrap();
        }
        cluster.restart().await;
        let entries = told(&cluster).await;
        assert_eq!(entries.len(), round + 1);
        let entry = entries.last().unwrap();
        assert!(entry.sequence > before && entry.code == 15, "{entry:?}");
        assert!(entry.reason.contains("the state was put back"), "{entry:?}");
        wait_until("there is an event", async || {
            let events = cluster.events().await;
            events
                .iter()
                .any(|event| event.summary.contains("the state was put back"))
                .then_some(())
        })
        .await;
        let (code, shown) = verdict(&cluster.address, None);
        assert_eq!(code, 0, "the audit is whole: {shown}");
        // The loss is reported once, and later changes are recorded as usual.
        change(&cluster, 1).await;
        cluster.kill().await;
        cluster.restart().await;
        assert_eq!(told(&cluster).await.len(), round + 1);
    }
}
