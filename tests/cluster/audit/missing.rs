//! Audits with missing entries about workload changes, after every kind of coordinator exit.

use std::{fs, path::Path};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use wyneos::{
    client,
    v1::{self, AuditKind},
};

use super::{records, verdict};
use crate::{
    harness::{Cluster, wait_until},
    secure::{run, text},
};

async fn apply(cluster: &Cluster, name: &str) {
    let spec = v1::WorkloadSpec {
        name: name.to_owned(),
        command: "/bin/true".to_owned(),
        kind: Some(v1::workload_spec::Kind::Service(v1::ServiceKind { replicas: 1 })),
        ..Default::default()
    };
    let request = v1::ApplyWorkloadRequest {
        spec: Some(spec),
        revision: None,
        keep_replicas: false,
        force: false,
    };
    let mut client = client::workloads(cluster.channel().await);
    client.apply_workload(request).await.unwrap();
}

async fn scale(cluster: &Cluster, name: &str, replicas: u32) {
    let request = v1::ScaleWorkloadRequest {
        name: name.to_owned(),
        replicas,
        revision: None,
        plan: false,
    };
    let mut client = client::workloads(cluster.channel().await);
    client.scale_workload(request).await.unwrap();
}

/// Ends the coordinator and damages its audit in the meantime.
async fn lose(cluster: &mut Cluster, kills: bool, older: Option<&[u8]>) {
    match kills {
        true => cluster.kill().await,
        false => assert!(cluster.terminate().await.success()),
    }
    let audit = cluster.directory.path().join("coordinator/audit.redb");
    match older {
        Some(older) => fs::write(&audit, older).unwrap(),
        None => fs::remove_file(&audit).unwrap(),
    }
    cluster.restart().await;
}

/// The loss is recorded in the audit, after every issued number, in the events, and in the output of `--verify`.
async fn is_told(cluster: &Cluster, newest: u64) {
    let all = records(&cluster.address).await;
    let lost = all.iter().rfind(|record| record.kind() == AuditKind::Lost);
    assert!(lost.expect("an entry of the loss").sequence > newest, "{lost:?}");
    let (code, told) = verdict(&cluster.address, None);
    assert_eq!(code, 4, "{told}");
    wait_until("there is an event", async || {
        let events = cluster.events().await;
        let told = events.iter().any(|event| event.summary.contains("the audit was"));
        told.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_audit_without_the_newest_changes_of_workloads_is_noticed() {
    let mut runner = TestRunner::deterministic();
    for (kills, removes) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut cluster = Cluster::start().await;
        apply(&cluster, "w1").await;
        let audit = cluster.directory.path().join("coordinator/audit.redb");
        assert!(cluster.terminate().await.success());
        let older = fs::read(&audit).unwrap();
        if !removes {
            cluster.restart().await;
        } else {
            // The coordinator must not have started before with an audit that has entries.
            cluster = Cluster::start().await;
            apply(&cluster, "w1").await;
        }
        let scalings = (1u32..5).new_tree(&mut runner).unwrap().current();
        for replicas in 0..scalings {
            scale(&cluster, "w1", 2 + replicas).await;
        }
        // The intent of the newest change; a kill may cut off later entries.
        let all = records(&cluster.address).await;
        let newest = all.iter().rfind(|record| record.kind() == AuditKind::Intent).unwrap();
        let older = (!removes).then_some(older.as_slice());
        lose(&mut cluster, kills, older).await;
        is_told(&cluster, newest.sequence).await;
    }
}

#[tokio::test]
async fn what_a_clean_stop_left_is_noticed_to_its_last_entry() {
    let mut cluster = Cluster::start().await;
    apply(&cluster, "w1").await;
    assert!(cluster.terminate().await.success());
    let older = fs::read(cluster.directory.path().join("coordinator/audit.redb")).unwrap();
    cluster.restart().await;
    // A refusal changes nothing: only the number stored at shutdown records it in the state.
    let request = v1::CordonNodeRequest {
        node: "nobody".to_owned(),
    };
    let refused = client::cluster(cluster.channel().await).cordon_node(request).await;
    assert!(refused.is_err());
    let newest = records(&cluster.address).await.last().unwrap().sequence;
    lose(&mut cluster, false, Some(&older)).await;
    is_told(&cluster, newest).await;
}

#[tokio::test]
async fn with_another_signing_key_the_coordinator_does_not_start_and_puts_nothing_aside() {
    let mut cluster = Cluster::start().await;
    apply(&cluster, "w1").await;
    assert!(cluster.terminate().await.success());
    let data_dir = cluster.data_dir();
    let key = Path::new(&data_dir).join("signing.key");
    let right = fs::read(&key).unwrap();
    fs::write(&key, [8; 32]).unwrap();
    let any = "127.0.0.1:0";
    let args = [
        "run",
        "--tls=false",
        "--listen",
        any,
        "--metrics-listen",
        any,
        "--data-dir",
        &data_dir,
    ];
    let refused = run("wyneos-coordinator", &args);
    assert_eq!(refused.status.code(), Some(64), "{}", text(&refused));
    assert!(text(&refused).contains("signing.key"), "{}", text(&refused));
    assert!(!Path::new(&data_dir).join("audit.redb.foreign").exists());
    fs::write(&key, right).unwrap();
    cluster.restart().await;
    let (code, told) = verdict(&cluster.address, None);
    assert_eq!(code, 0, "{told}");
}
