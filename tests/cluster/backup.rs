//! Backups, and coordinators restored from them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use wyneos::{
    backup, client,
    v1::{self, Liveness},
};

use crate::{
    harness::{Cluster, Process, wait_until},
    secure::{Secure, run, text},
    work::{Site, id, lives, pids},
};

const WEB: &str = "name = \"web\"\nreplicas = 3\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n";
const LEADER: &str =
    "name = \"leader\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"1s\"\n";
const LATE: &str = "name = \"late\"\nreplicas = 2\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n";
const ONLY: &str =
    "name = \"only\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"1s\"\n";

fn restore(file: &str, data_dir: &str) -> Output {
    run("wynectl", &["restore", file, "--data-dir", data_dir])
}

/// Writes labels continuously, and counts the acknowledged ones.
async fn write(address: String, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut client = client::cluster(client::connect(&address).await.unwrap());
    while !stop.load(Ordering::Relaxed) {
        let value = acknowledged.load(Ordering::Relaxed) + 1;
        let set = vec![v1::Label {
            key: "count".to_owned(),
            value: value.to_string(),
        }];
        let request = v1::LabelNodeRequest {
            node: "one".to_owned(),
            set,
            remove: Vec::new(),
        };
        client.label_node(request).await.unwrap();
        acknowledged.store(value, Ordering::Relaxed);
    }
}

/// Replaces the coordinator with one restored from the backup, as after the loss of its host.
async fn restored(cluster: &mut Cluster, file: &str) {
    cluster.kill().await;
    fs::rename(cluster.data_dir(), cluster.directory.path().join("lost")).unwrap();
    let done = restore(file, &cluster.data_dir());
    assert!(done.status.success(), "{}", text(&done));
    cluster.restart().await;
}

#[tokio::test]
async fn a_restored_coordinator_takes_over_what_runs_and_moves_nothing() {
    let mut site = Site::start(&["one", "two"]).await;
    site.apply(WEB);
    site.apply(LEADER);
    let (web, leader) = (site.runs("web", 3).await, site.runs("leader", 1).await);

    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn(write(
        site.cluster.address.clone(),
        Arc::clone(&acknowledged),
        Arc::clone(&stop),
    ));
    wait_until("there is load", async || {
        (acknowledged.load(Ordering::Relaxed) > 50).then_some(())
    })
    .await;
    let before = acknowledged.load(Ordering::Relaxed);
    let file = site
        .cluster
        .directory
        .path()
        .join("cluster.backup")
        .display()
        .to_string();
    let made = site.ctl(&["backup", "--output", &file]);
    assert!(made.status.success(), "{}", text(&made));
    wait_until("the load goes on", async || {
        (acknowledged.load(Ordering::Relaxed) > before + 50).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let verified = text(&run("wynectl", &["backup", "verify", &file]));
    assert!(
        verified.contains("leader, web") && verified.contains("signing.key"),
        "{verified}"
    );

    // Changes after the backup.
    site.apply(LATE);
    site.apply(ONLY);
    let (late, only) = (site.runs("late", 2).await, site.runs("only", 1).await);
    let newest = site.cluster.events().await.last().unwrap().sequence;
    let old = site.cluster.snapshot().await;
    let occupied = restore(&file, &site.cluster.data_dir());
    assert!(text(&occupied).contains("not empty"), "{}", text(&occupied));

    restored(&mut site.cluster, &file).await;
    let one = site.cluster.node_is("one", Liveness::Online).await;
    site.cluster.node_is("two", Liveness::Online).await;
    let label = one.labels.iter().find(|label| label.key == "count").unwrap();
    assert!(
        label.value.parse::<u64>().unwrap() >= before,
        "what was acknowledged before it is in it"
    );
    // The coordinator waits until all nodes have reported, and then places as usual.
    wait_until("what runs is known", async || {
        let events = site.cluster.events().await;
        events
            .iter()
            .find(|event| event.summary.contains("was restored from"))
            .map(|_| ())
    })
    .await;
    let shown = wait_until("what is not known is shown", async || {
        let shown = text(&site.ctl(&["assignments"]));
        (shown.matches("orphaned").count() == 3).then_some(shown)
    })
    .await;
    assert!(shown.contains("apply or delete late"), "{shown}");
    let again = [("web", &web), ("leader", &leader), ("late", &late), ("only", &only)];
    for (name, rows) in again {
        let now = site.runs(name, rows.len()).await;
        assert_eq!(pids(&now), pids(rows), "{name}");
    }
    // No number was issued twice.
    let now = site.cluster.snapshot().await;
    assert!(now.epoch > old.epoch && now.cluster_id == old.cluster_id);
    let events = site.cluster.events().await;
    let gap = events.iter().find(|event| event.epoch == now.epoch).unwrap();
    assert!(gap.sequence > newest, "{} after {newest}", gap.sequence);

    // Applying the same file adopts its running instances.
    let taken_over = [
        (LATE, "2 running instances are adopted"),
        (ONLY, "1 running instance is adopted"),
    ];
    for (declaration, expected) in taken_over {
        let told = site.apply(declaration);
        assert!(told.contains(expected) && told.contains("0 instances start"), "{told}");
    }
    // Longer than the time in which nothing is started, plus a few cycles.
    let told = |events: &[v1::Event]| events.iter().any(|event| event.summary.contains("late: all instances"));
    wait_until("it is placed as usual", async || {
        told(&site.cluster.events().await).then_some(())
    })
    .await;
    for (name, rows) in again {
        let now = site.runs(name, rows.len()).await;
        assert_eq!(pids(&now), pids(rows), "{name}");
        assert_eq!(
            now.iter().map(id).collect::<Vec<_>>(),
            rows.iter().map(id).collect::<Vec<_>>()
        );
    }
    assert!(!text(&site.ctl(&["assignments"])).contains("orphaned"));
    // The chain continues from the snapshot in the backup.
    let key: String = old
        .integrity
        .unwrap()
        .public_key
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let chain = site.ctl(&["snapshot", "verify", "--public-key", &key]);
    assert!(chain.status.success(), "{}", text(&chain));
    let cycle = backup::verify(&fs::read(&file).unwrap()[..], None)
        .unwrap()
        .header
        .cycle;
    assert!(text(&chain).contains(&format!("cycles {cycle} to")), "{}", text(&chain));
    // The restored state survives a restart.
    site.cluster.kill().await;
    site.cluster.restart().await;
    site.cluster.node_is("one", Liveness::Online).await;
    assert_eq!(pids(&site.runs("late", 2).await), pids(&late));
    site.ends().await;
}

#[tokio::test]
async fn what_is_not_wanted_after_a_restoration_is_deleted_by_its_name() {
    let mut site = Site::start(&["one"]).await;
    let file = site
        .cluster
        .directory
        .path()
        .join("cluster.backup")
        .display()
        .to_string();
    let made = site.ctl(&["backup", "--output", &file]);
    assert!(made.status.success(), "{}", text(&made));
    site.apply(LATE);
    let late = site.runs("late", 2).await;
    restored(&mut site.cluster, &file).await;
    site.cluster.node_is("one", Liveness::Online).await;
    wait_until("it is shown", async || {
        let shown = text(&site.ctl(&["assignments", "--workload", "late"]));
        (shown.matches("orphaned").count() == 2).then_some(())
    })
    .await;
    let planned = text(&site.ctl(&["delete", "late", "--plan"]));
    assert!(planned.contains("2 would stop"), "{planned}");
    assert!(pids(&late).into_iter().all(lives));
    let done = site.ctl(&["delete", "late"]);
    assert!(done.status.success(), "{}", text(&done));
    wait_until("it has ended", async || {
        let ended = !pids(&late).into_iter().any(lives) && site.instances("late").await.is_empty();
        ended.then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn what_was_altered_cut_short_or_not_finished_is_refused() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let directory = cluster.directory.path().to_owned();
    let path = |name: &str| -> PathBuf { directory.join(name) };
    let file = path("cluster.backup");
    let shown = file.display().to_string();
    let made = run(
        "wynectl",
        &["--address", &cluster.address, "backup", "--output", &shown],
    );
    assert!(made.status.success(), "{}", text(&made));
    let sound = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], why: &str| {
        let (bad, target) = (path("bad.backup"), path("target"));
        fs::write(&bad, bytes).unwrap();
        let verified = run("wynectl", &["backup", "verify", &bad.display().to_string()]);
        assert_eq!(verified.status.code(), Some(4), "{}", text(&verified));
        assert!(text(&verified).contains(why), "{why}: {}", text(&verified));
        let args = [&bad.display().to_string(), "--data-dir", &target.display().to_string()];
        for (program, code) in [("wynectl", 4), ("wyneos-coordinator", 64)] {
            let restored = run(program, &[&["restore"], &args[..]].concat());
            assert_eq!(restored.status.code(), Some(code), "{}", text(&restored));
            assert!(text(&restored).contains(why), "{}", text(&restored));
        }
        assert!(!target.exists(), "nothing is written");
    };
    refused(&sound[..sound.len() / 2], "ends");
    refused(&sound[..sound.len() - 1], "ends");
    refused(b"something else", "not a backup");
    for at in [60, sound.len() / 3, sound.len() / 2, sound.len() - 10] {
        let mut altered = sound.clone();
        altered[at] ^= 0x10;
        assert!(backup::verify(&altered[..], None).is_err(), "byte {at}");
    }
    let mut altered = sound.clone();
    let end = altered.len() - 1;
    altered[end] ^= 1;
    refused(&altered, "signature");
    let other = "11".repeat(32);
    let untrusted = run("wynectl", &["backup", "verify", &shown, "--public-key", &other]);
    assert_eq!(untrusted.status.code(), Some(4), "{}", text(&untrusted));

    // An interrupted restore leaves no startable state.
    cluster.kill().await;
    let half = path("half");
    let done = restore(&shown, &half.display().to_string());
    assert!(done.status.success(), "{}", text(&done));
    fs::write(half.join("restore-unfinished"), "").unwrap();
    let log = path("half.log");
    let data_dir = half.display().to_string();
    let args = [
        "run",
        "--tls=false",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--data-dir",
        &data_dir,
    ];
    let mut unfinished = Process::start("wyneos-coordinator", &args, &log);
    assert_eq!(unfinished.ended().await.code(), Some(64), "{}", unfinished.log_text());
    assert!(
        unfinished.log_text().contains("not finished"),
        "{}",
        unfinished.log_text()
    );
    let again = restore(&shown, &data_dir);
    assert!(text(&again).contains("not finished"), "{}", text(&again));
    drop(agent);
}

#[tokio::test]
async fn only_an_admin_makes_a_backup_and_it_brings_the_keys_back() {
    let mut cluster = Secure::start(&[]).await;
    let known = cluster.joined("known").await;
    let file = cluster.path("cluster.backup").display().to_string();
    let bob = cluster.path("bob").display().to_string();
    cluster.done(&["operator", "create", "bob", "--role", "operator", "--out", &bob]);
    let args = [
        "--address",
        &cluster.address,
        "--credentials",
        &bob,
        "backup",
        "--output",
        &file,
    ];
    let refused = run("wynectl", &args);
    assert!(text(&refused).contains("requires the role admin"), "{}", text(&refused));
    assert!(!cluster.path("cluster.backup").exists());
    let made = cluster.done(&["backup", "--output", &file]);
    assert!(
        made.contains("ca/1/ca.key") && made.contains("contains the cluster's keys"),
        "{made}"
    );
    let action = "wyneos.v1.ClusterService/Backup";
    let entry = cluster
        .audited("the backup", |entry| entry.action == action && entry.code == 0)
        .await;
    assert!(entry.principal.contains("admin/"), "{}", entry.principal);
    let later = cluster.joined("later").await;

    cluster.kill().await;
    fs::rename(cluster.data_dir(), cluster.path("lost")).unwrap();
    let done = restore(&file, &cluster.data_dir());
    assert!(done.status.success(), "{}", text(&done));
    let mode = |name: &str| {
        fs::metadata(cluster.path("coordinator").join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("ca"), mode("ca/1/ca.key"), mode("signing.key")),
        (0o700, 0o600, 0o600)
    );
    // The credentials of the admin and of the nodes are still accepted, and still accept the coordinator.
    cluster.restart().await;
    cluster.online("known").await;
    let unknown = cluster
        .node("later", |node| node.admission() == v1::Admission::Pending)
        .await;
    assert!(
        text(&cluster.wynectl(&["node", "later"])).contains("restored from before it joined"),
        "{unknown:?}"
    );
    cluster.done(&["admit", "later"]);
    cluster
        .node("later", |node| {
            node.admission() == v1::Admission::Admitted && node.liveness() == Liveness::Online
        })
        .await;
    cluster.done(&["audit", "--verify"]);
    tokio::time::timeout(Duration::from_secs(30), cluster.joined("new"))
        .await
        .unwrap();
    drop((known, later));
}
