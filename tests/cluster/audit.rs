//! The audit: intents are recorded before the changes.

mod missing;
mod mixed;
mod set_back;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tonic::Code;
use wyneos::{
    audit::Intents,
    client,
    v1::{self, AuditKind, AuditRecord, Liveness},
};

use crate::{
    harness::{Cluster, binary, skip, wait_until},
    secure::{Secure, text},
};

/// Number of kills while many changes are in progress.
const KILLS: usize = 20;

/// Number of concurrent callers.
const CALLERS: usize = 8;

async fn records(address: &str) -> Vec<AuditRecord> {
    let mut client = client::access(client::connect(address).await.unwrap());
    let mut request = v1::ListAuditRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let mut records = Vec::new();
    loop {
        let page = client.list_audit(request).await.unwrap().into_inner();
        records.extend(page.entries.into_iter().filter_map(|entry| entry.record));
        if page.next_sequence == 0 {
            return records;
        }
        request.from_sequence = page.next_sequence;
    }
}

fn verify(address: &str) -> String {
    let output = Command::new(binary("wynectl"))
        .args(["--address", address, "audit", "--verify"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

async fn label(
    client: &mut wyneos::v1::cluster_service_client::ClusterServiceClient<tonic::transport::Channel>,
    value: u64,
) -> Result<u64, tonic::Status> {
    let request = v1::LabelNodeRequest {
        node: "one".to_owned(),
        set: vec![v1::Label {
            key: "at".to_owned(),
            value: value.to_string(),
        }],
        remove: Vec::new(),
    };
    Ok(client.label_node(request).await?.into_inner().event_sequence)
}

#[tokio::test]
async fn every_change_has_an_intent_and_an_outcome_whenever_the_coordinator_is_killed() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    agent.terminate().await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::new(AtomicU64::new(0));
    for kill in 0..KILLS {
        let before = acknowledged.lock().unwrap().len();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (address, next) = (cluster.address.clone(), Arc::clone(&next));
                let acknowledged = Arc::clone(&acknowledged);
                tokio::spawn(async move {
                    let Ok(channel) = client::connect(&address).await else {
                        return;
                    };
                    let mut client = client::cluster(channel);
                    while let Ok(event) = label(&mut client, next.fetch_add(1, Ordering::Relaxed)).await {
                        acknowledged.lock().unwrap().push(event);
                    }
                })
            })
            .collect();
        wait_until("some changes are acknowledged", async || {
            (acknowledged.lock().unwrap().len() >= before + 3 + kill % 11).then_some(())
        })
        .await;
        cluster.kill().await;
        for caller in callers {
            caller.await.unwrap();
        }
        cluster.restart().await;
    }
    let records = records(&cluster.address).await;
    let mut intents = Intents::default();
    records.iter().for_each(|record| intents.take(record));
    assert!(intents.open.is_empty(), "{intents:?}");
    // Every change in the state was recorded as carried out, and no other: the counts are equal.
    let carried_out = records.iter().filter(|record| {
        record.action.ends_with("/LabelNode")
            && record.code == 0
            && matches!(record.kind(), AuditKind::Outcome | AuditKind::Reconciled)
    });
    let events = cluster.events().await;
    let changes: Vec<u64> = events
        .iter()
        .filter(|event| matches!(&event.body, Some(v1::event::Body::Command(command)) if command.verb == "label"))
        .map(|event| event.sequence)
        .collect();
    assert_eq!(carried_out.count(), changes.len());
    for event in acknowledged.lock().unwrap().iter() {
        assert!(changes.contains(event), "event {event} was acknowledged");
    }
    // An intent precedes its outcome, and names the caller and the action.
    for record in records.iter().filter(|record| record.intent > 0) {
        let intent = &records[record.intent as usize - 1];
        assert_eq!((intent.sequence, intent.kind()), (record.intent, AuditKind::Intent));
        assert!(
            intent.sequence < record.sequence && intent.target.starts_with("node one: at="),
            "{intent:?}"
        );
    }
    let cut_off = intents.applied.len() + intents.not_applied.len();
    assert!(cut_off > 0 && intents.unknown.is_empty(), "{intents:?}");
    let told = verify(&cluster.address);
    assert!(told.contains("cut off"), "{told}");
}

/// A file system of its own for the audit, of minimum size; unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path) -> Option<Small<'a>> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "wyneos-test"])
            .arg(path)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Small(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).output());
    }
}

#[tokio::test]
async fn while_the_audit_cannot_be_written_nothing_is_changed_and_reads_go_on() {
    let place = tempfile::tempdir().unwrap();
    let small = place.path().join("small");
    let Some(_mounted) = Small::mount(&small) else {
        return skip("a file system of a test's own, which only root may mount");
    };
    let mut cluster = Cluster::start().await;
    assert!(cluster.terminate().await.success());
    let audit = cluster.directory.path().join("coordinator/audit.redb");
    fs::copy(&audit, small.join("audit.redb")).unwrap();
    fs::remove_file(&audit).unwrap();
    std::os::unix::fs::symlink(small.join("audit.redb"), &audit).unwrap();
    cluster.restart().await;
    let _agent = cluster.agent("one");
    let online = cluster.node_is("one", Liveness::Online).await;
    // The disk fills up; free pages within the file are used first.
    let filler = small.join("filler");
    let fill = || {
        use std::io::Write as _;
        let mut file = fs::File::options().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    fill();
    let mut client = client::cluster(cluster.channel().await);
    let mut number = 0;
    let refused = wait_until("a change is refused", async || {
        fill();
        number += 1;
        label(&mut client, number).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("audit"), "{refused:?}");
    let again = label(&mut client, number + 1).await.unwrap_err();
    assert!(again.message().contains("nothing was done"), "{again:?}");
    // No change was made, while reads (including those of the audit) and the agent's session continue.
    let labels = cluster.snapshot().await.nodes[0].labels.clone();
    assert!(
        labels.iter().all(|label| label.value != number.to_string()),
        "{labels:?}"
    );
    assert!(!records(&cluster.address).await.is_empty());
    let cycle = cluster.snapshot().await.cycle;
    wait_until("cycles go on", async || {
        (cluster.snapshot().await.cycle > cycle + 3).then_some(())
    })
    .await;
    let still = cluster.node_is("one", Liveness::Online).await;
    assert_eq!(still.session, online.session);
    // Space is available again.
    fs::remove_file(&filler).unwrap();
    wait_until("changes are carried out again", async || {
        label(&mut client, number + 2).await.ok()
    })
    .await;
    let told = verify(&cluster.address);
    assert!(!told.contains("no outcome"), "{told}");
}

#[tokio::test]
async fn what_this_hosts_own_commands_did_is_in_the_audit() {
    let cluster = Secure::start(&[]).await;
    // The harness created an admin beside the running coordinator.
    let made = cluster
        .audited("the admin's credentials", |record| {
            record.action == "wyneos-coordinator admin" && record.code == 0
        })
        .await;
    assert!(made.target.starts_with("admin admin, for "), "{made:?}");
    assert!(made.principal.starts_with("local/uid ") && made.intent > 0, "{made:?}");
    let records = cluster.audit().await;
    let intent = records.iter().find(|record| record.sequence == made.intent).unwrap();
    assert_eq!(intent.kind(), AuditKind::Intent);
    // A failed attempt is recorded as well, and one that cannot be recorded creates nothing.
    let (data_dir, out) = (cluster.data_dir(), cluster.path("admin").display().to_string());
    let args = ["admin", "--data-dir", &data_dir, "--out", &out];
    assert!(!crate::secure::run("wyneos-coordinator", &args).status.success());
    cluster
        .audited("the refused one", |record| {
            record.action == "wyneos-coordinator admin" && record.reason.contains("--out")
        })
        .await;
    let inbox = cluster.path("coordinator").join("audit-inbox");
    fs::remove_dir_all(&inbox).unwrap();
    fs::write(&inbox, "in the way").unwrap();
    let out = cluster.path("other").display().to_string();
    let args = ["admin", "--data-dir", &data_dir, "--out", &out];
    let refused = crate::secure::run("wyneos-coordinator", &args);
    assert_eq!(refused.status.code(), Some(64), "{}", text(&refused));
    assert!(!Path::new(&out).exists());
}

/// Returns the exit status and the output of `wynectl audit --verify`.
fn verdict(address: &str, from: Option<u64>) -> (i32, String) {
    let mut command = Command::new(binary("wynectl"));
    command.args(["--address", address, "audit", "--verify"]);
    if let Some(from) = from {
        command.args(["--from", &from.to_string()]);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), text(&output))
}

#[tokio::test]
async fn an_audit_that_was_lost_or_cut_back_is_told_of_everywhere() {
    let mut cluster = Cluster::start().await;
    let _agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let mut client = client::cluster(cluster.channel().await);
    label(&mut client, 1).await.unwrap();
    assert!(cluster.terminate().await.success());
    let audit = cluster.directory.path().join("coordinator/audit.redb");
    let older = fs::read(&audit).unwrap();
    // The state counts effective changes only: each one sets another value.
    for (value, spoil) in [(2, "cut back"), (3, "lost or emptied")] {
        cluster.restart().await;
        let mut client = client::cluster(cluster.channel().await);
        wait_until("a change is made", async || label(&mut client, value).await.ok()).await;
        let newest = records(&cluster.address).await.last().unwrap().sequence;
        cluster.kill().await;
        match spoil {
            "cut back" => fs::write(&audit, &older).unwrap(),
            _ => fs::remove_file(&audit).unwrap(),
        }
        cluster.restart().await;
        let log = cluster.coordinator.as_ref().unwrap().log_text();
        let told = log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(told.contains(spoil), "{log}");
        // The intent of the last change is the highest number recorded in the state.
        let all = records(&cluster.address).await;
        let entry = all.iter().rfind(|record| record.kind() == AuditKind::Lost).unwrap();
        assert!(entry.sequence >= newest && entry.reason.contains(spoil), "{entry:?}");
        wait_until("there is an event", async || {
            let events = cluster.events().await;
            events.iter().any(|event| event.summary.contains(spoil)).then_some(())
        })
        .await;
        let (code, told) = verdict(&cluster.address, None);
        assert_eq!(code, 4, "{told}");
        assert!(told.contains("were lost"), "{told}");
        let (code, told) = verdict(&cluster.address, Some(entry.sequence + 1));
        assert_eq!(code, 0, "{told}");
        assert!(cluster.terminate().await.success());
    }
    // An empty or truncated audit is refused, and the coordinator does not serve.
    let whole = fs::read(&audit).unwrap();
    for (left, reason) in [(0, "remove it"), (whole.len() / 2, "from a backup")] {
        fs::write(&audit, &whole[..left]).unwrap();
        let data_dir = cluster.data_dir();
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
        let refused = crate::secure::run("wyneos-coordinator", &args);
        assert_eq!(refused.status.code(), Some(64), "{}", text(&refused));
        assert!(
            text(&refused).contains("audit.redb") && text(&refused).contains(reason),
            "{}",
            text(&refused)
        );
    }
    fs::write(&audit, &whole).unwrap();
    cluster.restart().await;
}
