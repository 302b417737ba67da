use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Signal;
use wyneos::{
    client,
    v1::{self, Liveness},
};
use wyneos_core::integrity::{PublicKey, Seal, Verifier};

use crate::harness::{Cluster, Process, wait_until};

/// Number of kills under write load. Each takes well under a second.
const KILLS: usize = 50;

/// Writes labels until the coordinator ends; records each acknowledged one with its event.
async fn write(
    cluster_address: String,
    key: String,
    next: Arc<Mutex<u64>>,
    acknowledged: Arc<Mutex<Vec<(String, u64, u64)>>>,
) {
    let Ok(channel) = client::connect(&cluster_address).await else {
        return;
    };
    let mut client = client::cluster(channel);
    loop {
        let value = {
            let mut next = next.lock().unwrap();
            *next += 1;
            *next
        };
        let set = vec![v1::Label {
            key: key.clone(),
            value: value.to_string(),
        }];
        let request = v1::LabelNodeRequest {
            node: "one".to_owned(),
            set,
            remove: Vec::new(),
        };
        match client.label_node(request).await {
            Ok(answer) => acknowledged
                .lock()
                .unwrap()
                .push((key.clone(), value, answer.into_inner().event_sequence)),
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_fifty_kills() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    agent.terminate().await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::new(Mutex::new(0));
    for kill in 0..KILLS {
        let before = acknowledged.lock().unwrap().len();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (next, acknowledged) = (Arc::clone(&next), Arc::clone(&acknowledged));
                tokio::spawn(write(cluster.address.clone(), format!("w{writer}"), next, acknowledged))
            })
            .collect();
        // Each kill hits a different point of the writing.
        wait_until("some writes are acknowledged", async || {
            (acknowledged.lock().unwrap().len() >= before + 3 + kill % 7).then_some(())
        })
        .await;
        cluster.kill().await;
        for writer in writers {
            writer.await.unwrap();
        }
        cluster.restart().await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= KILLS * 3);
    let events: BTreeMap<u64, v1::Event> = cluster
        .events()
        .await
        .into_iter()
        .map(|event| (event.sequence, event))
        .collect();
    for (key, value, sequence) in &acknowledged {
        let event = events
            .get(sequence)
            .unwrap_or_else(|| panic!("event {sequence} is lost"));
        assert!(
            event.summary.contains(&format!("{key}={value}")),
            "event {sequence}: {}",
            event.summary
        );
    }
    // For each writer's key, the node has the last acknowledged value, or a later one whose answer was cut off.
    let labels = cluster.snapshot().await.nodes[0].labels.clone();
    for writer in 0..4 {
        let key = format!("w{writer}");
        let last = acknowledged
            .iter()
            .filter(|(of, ..)| *of == key)
            .map(|(_, value, _)| *value)
            .max();
        let kept = labels
            .iter()
            .find(|label| label.key == key)
            .and_then(|label| label.value.parse::<u64>().ok());
        assert!(kept >= last, "{key}: kept {kept:?}, acknowledged {last:?}");
    }
    // The numbers have no gap.
    let sequences: Vec<u64> = events.keys().copied().collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<u64>>());
}

#[tokio::test]
async fn cordons_survive_and_the_chain_goes_on_across_a_restart() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let request = v1::CordonNodeRequest { node: "one".to_owned() };
    assert!(
        client::cluster(cluster.channel().await)
            .cordon_node(request)
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    cluster.kill().await;
    cluster.restart().await;
    let row = cluster.node_is("one", Liveness::Online).await;
    assert_eq!(row.eligibility(), v1::Eligibility::Cordoned);

    let mut client = client::coherence(cluster.channel().await);
    let listed = client
        .list_snapshots(v1::ListSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let key = PublicKey(listed.public_key.as_slice().try_into().unwrap());
    let mut verifier = Verifier::new(listed.cluster_id.parse().unwrap(), key).unwrap();
    let mut read = client
        .read_snapshots(v1::ReadSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut epochs = Vec::new();
    while let Some(kept) = read.message().await.unwrap() {
        let seal = Seal::try_from(&kept.seal.unwrap()).unwrap();
        verifier.check(&kept.snapshot, &seal).unwrap();
        epochs.push(seal.epoch.0);
    }
    assert!(epochs.contains(&1) && epochs.contains(&2), "{epochs:?}");
    drop(agent);
}

fn run(data_dir: &str, listen: &str, log: &std::path::Path) -> Process {
    let args = [
        "run",
        "--tls=false",
        "--listen",
        listen,
        "--metrics-listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir,
    ];
    Process::start("wyneos-coordinator", &args, log)
}

#[tokio::test]
async fn a_store_in_use_a_port_in_use_and_a_broken_store_are_told_apart() {
    let mut cluster = Cluster::start().await;
    let log = cluster.directory.path().join("second.log");
    let mut second = run(&cluster.data_dir(), "127.0.0.1:0", &log);
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(
        second.log_text().contains("in use by another coordinator"),
        "{}",
        second.log_text()
    );

    let other = cluster.directory.path().join("other").display().to_string();
    let log = cluster.directory.path().join("third.log");
    let mut third = run(&other, &cluster.address, &log);
    assert_eq!(third.ended().await.code(), Some(1));
    assert!(third.log_text().contains("cannot listen there"), "{}", third.log_text());

    assert!(cluster.terminate().await.success());
    for (number, contents) in [vec![0u8; 5_000], b"not a store".repeat(1_000)].into_iter().enumerate() {
        std::fs::write(cluster.directory.path().join("coordinator/state.redb"), contents).unwrap();
        let log = cluster.directory.path().join(format!("broken-{number}.log"));
        let mut broken = run(&cluster.data_dir(), "127.0.0.1:0", &log);
        assert_eq!(broken.ended().await.code(), Some(64), "{}", broken.log_text());
        assert!(broken.log_text().contains("state.redb"), "{}", broken.log_text());
    }
}

#[tokio::test]
async fn a_coordinator_that_is_asked_to_stop_drains() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let mut watch = client::coherence(cluster.channel().await)
        .watch_snapshots(v1::WatchSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap();
    let coordinator = cluster.coordinator.as_ref().unwrap();
    coordinator.signal(Signal::TERM);
    let ended = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), tonic::Code::Unavailable);
    assert!(cluster.coordinator.as_mut().unwrap().ended().await.success());
    cluster.coordinator = None;
    tokio::time::timeout(Duration::from_secs(60), cluster.restart())
        .await
        .unwrap();
    cluster.node_is("one", Liveness::Online).await;
    drop(agent);
}

/// A mounted file system in a file; it is thawed and removed when dropped.
struct Frozen(std::path::PathBuf);

impl Frozen {
    fn run(program: &str, args: &[&std::ffi::OsStr]) -> bool {
        let output = std::process::Command::new(program).args(args).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn mount(image: &std::path::Path, place: &std::path::Path) -> Option<Frozen> {
        std::fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
        let made = Frozen::run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        let args = ["-o".as_ref(), "loop".as_ref(), image.as_ref(), place.as_ref()];
        (made && Frozen::run("mount", &args)).then(|| Frozen(place.to_owned()))
    }

    fn set(&self, flag: &str) -> bool {
        Frozen::run("fsfreeze", &[flag.as_ref(), self.0.as_ref()])
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.set("-u");
        Frozen::run("umount", &["-l".as_ref(), self.0.as_ref()]);
    }
}

#[tokio::test]
async fn a_disk_that_stands_still_does_not_hold_up_the_end() {
    let mut cluster = Cluster::start().await;
    assert!(cluster.terminate().await.success());
    let place = cluster.directory.path().join("coordinator");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::create_dir(&place).unwrap();
    let Some(disk) = Frozen::mount(&cluster.directory.path().join("image"), &place) else {
        return crate::harness::skip("a file system in a file, which only root may mount");
    };
    cluster.restart().await;
    let mut coordinator = cluster.coordinator.take().unwrap();
    assert!(disk.set("-f"));
    coordinator.signal(rustix::process::Signal::TERM);
    wait_until("it gives up", async || {
        coordinator
            .log_text()
            .contains("thread did not end within 10s")
            .then_some(())
    })
    .await;
    // The kernel releases a process once its writes are complete.
    assert!(disk.set("-u"));
    assert_eq!(coordinator.ended().await.code(), Some(1));
    cluster.restart().await;
    assert!(cluster.terminate().await.success());
    drop(disk);
}
