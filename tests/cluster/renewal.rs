//! Replacement of certificates and CAs while everything runs.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use wyneos::{
    client,
    identity::{Authority, Credentials, validity},
    v1::Liveness,
};
use wyneos_shell::files;

use crate::{
    harness::wait_until,
    operators::by_context,
    secure::{Secure, run, text, tls},
    work::{disks::Disk, stalled::Device},
};

fn certificate(cluster: &Secure, name: &str) -> Vec<u8> {
    let folder = cluster.path(name).join("identity");
    let credentials = Credentials::load_from(&folder).unwrap();
    credentials.chain[0].to_vec()
}

#[tokio::test]
async fn certificates_are_renewed_while_the_stream_is_alive() {
    let cluster = Secure::start(&["--certificate-ttl", "10s"]).await;
    let _agent = cluster.joined("one").await;
    let before = cluster.online("one").await;
    let (first, key) = (
        certificate(&cluster, "one"),
        fs::read(cluster.path("one").join("identity").join("key.pem")).unwrap(),
    );
    let watching = cluster.admin().await;
    let mut stream = client::coherence(watching)
        .watch_snapshots(wyneos::v1::WatchSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let renewed = wait_until("the certificate is renewed", async || {
        let now = certificate(&cluster, "one");
        (now != first).then_some(now)
    })
    .await;
    // Past the expiry of the first certificates of the agent and of the coordinator.
    let ends = validity(&first.clone().into()).unwrap().end;
    wait_until("the first one has expired", async || {
        (std::time::SystemTime::now() > ends + Duration::from_secs(1)).then_some(())
    })
    .await;
    assert!(validity(&renewed.into()).unwrap().end > ends);
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
    assert_eq!(
        fs::read(cluster.path("one").join("identity").join("key.pem")).unwrap(),
        key
    );
    // The coordinator presents another certificate now, and the existing stream continues.
    cluster.admin().await;
    stream.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_though_the_disk_is_full() {
    let cluster = Secure::start(&["--certificate-ttl", "10s"]).await;
    let Some(disk) = Disk::mount(cluster.path("one")) else {
        return;
    };
    let agent = cluster.joined("one").await;
    let before = cluster.online("one").await;
    disk.fill();
    let written = certificate(&cluster, "one");
    wait_until("it is renewed, and not written", async || {
        let log = agent.log_text();
        log.contains("it is used from memory, and lost if this agent ends")
            .then_some(())
    })
    .await;
    assert_eq!(certificate(&cluster, "one"), written);
    let ends = validity(&written.clone().into()).unwrap().end;
    wait_until("the one on the disk has expired", async || {
        (SystemTime::now() > ends + Duration::from_secs(1)).then_some(())
    })
    .await;
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
    disk.empty();
    wait_until("it is written", async || {
        (certificate(&cluster, "one") != written).then_some(())
    })
    .await;
}

#[tokio::test]
async fn certificates_are_renewed_though_the_disk_is_frozen() {
    let cluster = Secure::start(&["--certificate-ttl", "10s"]).await;
    let Some(device) = Device::mount(cluster.path("one")) else {
        return;
    };
    // Thawed before the agent is killed, because until then nothing can end it.
    let (_agent, device) = (cluster.joined("one").await, device);
    let before = cluster.online("one").await;
    device.freeze();
    let written = certificate(&cluster, "one");
    let ends = validity(&written.clone().into()).unwrap().end;
    wait_until("the one after that on the disk has expired, too", async || {
        (SystemTime::now() > ends + Duration::from_secs(11)).then_some(())
    })
    .await;
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
    assert_eq!(certificate(&cluster, "one"), written);
    device.thaw();
    wait_until("it is written", async || {
        (certificate(&cluster, "one") != written).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_was_off_longer_than_its_certificate_comes_back_by_itself() {
    let mut cluster = Secure::start(&["--certificate-ttl", "10s"]).await;
    let agent = cluster.joined("one").await;
    agent.kill().await;
    let expired = async |cluster: &Secure| {
        let ends = validity(&certificate(cluster, "one").into()).unwrap().end;
        wait_until("its certificate has expired", async || {
            (std::time::SystemTime::now() > ends + Duration::from_secs(1)).then_some(())
        })
        .await;
    };
    expired(&cluster).await;
    cluster.node("one", |node| node.liveness() != Liveness::Online).await;
    let agent = cluster.agent("one");
    cluster.online("one").await;
    cluster
        .audited("the recovery", |record| {
            record.action.ends_with("/Recover") && record.code == 0
        })
        .await;
    agent.kill().await;
    // Where the policy does not allow it, a command on that host does.
    cluster.extra = vec!["--certificate-ttl", "10s", "--late-renewal", "0s"];
    cluster.kill().await;
    cluster.restart().await;
    expired(&cluster).await;
    let agent = cluster.agent("one");
    wait_until("it says what to do", async || {
        agent.log_text().contains("join with a token").then_some(())
    })
    .await;
    let row = cluster
        .snapshot()
        .await
        .nodes
        .into_iter()
        .find(|node| node.name == "one");
    assert_ne!(row.unwrap().liveness(), Liveness::Online);
    agent.kill().await;
    let joined = cluster.join("one", &cluster.token(1).await);
    assert!(joined.status.success(), "{}", text(&joined));
    let _agent = cluster.agent("one");
    cluster.online("one").await;
    assert_eq!(cluster.snapshot().await.nodes.len(), 1, "the same node as before");
}

#[tokio::test]
async fn a_new_ca_is_rolled_in_with_both_trusted_for_a_time() {
    let cluster = Secure::start(&["--certificate-ttl", "10s"]).await;
    let _agent = cluster.joined("one").await;
    let before = cluster.online("one").await;
    let shown = cluster.done(&["ca", "show"]);
    let old = shown
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    let early = cluster.wynectl(&["ca", "activate"]);
    assert!(
        !early.status.success() && text(&early).contains("prepare"),
        "{}",
        text(&early)
    );
    let ada = cluster.path("ada").display().to_string();
    cluster.done(&["operator", "create", "ada", "--role", "viewer", "--out", &ada]);
    let add = [
        "context",
        "add",
        "ada",
        "--coordinator",
        &cluster.address,
        "--from",
        &ada,
    ];
    assert!(by_context(&cluster, &add).status.success());
    cluster.done(&["ca", "prepare"]);
    // Nodes receive the new CA when they renew; activating it earlier would disconnect them.
    let too_soon = cluster.wynectl(&["ca", "activate"]);
    assert!(text(&too_soon).contains("NODES_BEHIND"), "{}", text(&too_soon));
    let step = async |step: &str| {
        wait_until(step, async || {
            cluster.wynectl(&["ca", step]).status.success().then_some(())
        })
        .await;
    };
    step("activate").await;
    let roots = || {
        let pem = fs::read_to_string(cluster.path("one").join("identity").join("ca.pem")).unwrap();
        pem.matches("BEGIN").count()
    };
    assert_eq!(roots(), 2);
    // Callers without the new CA are still served. The admin gets new credentials, an operator renews its own.
    let (data_dir, admin) = (cluster.data_dir(), cluster.path("new").display().to_string());
    let made = run(
        "wyneos-coordinator",
        &["admin", "--data-dir", &data_dir, "--out", &admin],
    );
    assert!(made.status.success(), "{}", text(&made));
    let user = |args: &[&str]| by_context(&cluster, args);
    let renewed = user(&["context", "renew"]);
    assert!(renewed.status.success(), "{}", text(&renewed));
    // A host that joins in between authenticates the coordinator by its token.
    let _late = cluster.joined("late").await;
    step("retire").await;
    assert!(user(&["nodes"]).status.success());
    let new = tls(&cluster.path("new"));
    wait_until("the node trusts the new one alone", async || {
        (roots() == 1).then_some(())
    })
    .await;
    let channel = cluster.connect(&new).await;
    let nodes = client::cluster(channel)
        .list_nodes(wyneos::v1::ListNodesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .nodes;
    let after = nodes.iter().find(|node| node.name == "one").unwrap();
    assert_eq!(after.session, before.session);
    // Certificates of the old CA are no longer accepted.
    let lost = cluster.wynectl(&["nodes"]);
    assert!(!lost.status.success(), "{}", text(&lost));
    let fingerprint = client::access(cluster.connect(&new).await)
        .get_authorities(wyneos::v1::GetAuthoritiesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(fingerprint.authorities.len(), 1);
    assert_ne!(fingerprint.authorities[0].fingerprint, old);
}

#[tokio::test]
async fn a_stolen_ca_is_replaced_by_three_commands_in_a_row() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    cluster.online("one").await;
    let shown = cluster.done(&["ca", "show"]);
    assert!(shown.contains("certificates of 0 nodes"), "{shown}");
    cluster.done(&["ca", "prepare"]);
    // The node has not renewed its certificate: it is counted immediately, and does not prevent a forced step.
    let shown = cluster.done(&["ca", "show"]);
    assert!(shown.contains("certificates of 1 node "), "{shown}");
    let refused = cluster.wynectl(&["ca", "activate"]);
    assert!(text(&refused).contains("1 admitted nodes have"), "{}", text(&refused));
    cluster.done(&["ca", "activate", "--force"]);
    let (data_dir, admin) = (cluster.data_dir(), cluster.path("new").display().to_string());
    let made = run(
        "wyneos-coordinator",
        &["admin", "--data-dir", &data_dir, "--out", &admin],
    );
    assert!(made.status.success(), "{}", text(&made));
    cluster.done(&["ca", "retire", "--force"]);
    let lost = cluster.wynectl(&["nodes"]);
    assert!(!lost.status.success(), "{}", text(&lost));
    let new = client::access(cluster.connect(&tls(&cluster.path("new"))).await)
        .get_authorities(wyneos::v1::GetAuthoritiesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (new.authorities.len(), new.nodes_behind, new.nodes_behind_unknown),
        (1, 1, false)
    );
}

#[tokio::test]
async fn an_operators_own_ca_is_used_and_replaced_by_its_files() {
    let place = tempfile::tempdir().unwrap();
    let (certificate, key) = (place.path().join("ca.pem"), place.path().join("ca.key"));
    let made = || {
        Authority::new(wyneos_core::id::Uuid([1; 16]), SystemTime::now())
            .unwrap()
            .1
    };
    let write = |path: &Path, text: &str| files::write_durably(path, text.as_bytes(), 0o600).unwrap();
    let (old, new) = (made(), made());
    write(&certificate, &old.certificate);
    write(&key, &old.key);
    // For the lifetime of the test's process.
    let leaked = |path: &Path| -> &'static str { Box::leak(path.display().to_string().into_boxed_str()) };
    let extra = [
        "--certificate-ttl",
        "10s",
        "--ca-cert",
        leaked(&certificate),
        "--ca-key",
        leaked(&key),
    ];
    let cluster = Secure::start(&extra).await;
    let _agent = cluster.joined("one").await;
    let before = cluster.online("one").await;
    let refused = cluster.wynectl(&["ca", "prepare"]);
    assert!(text(&refused).contains("from files"), "{}", text(&refused));
    let roots = || {
        let pem = fs::read_to_string(cluster.path("one").join("identity").join("ca.pem")).unwrap();
        pem.matches("BEGIN").count()
    };
    write(&certificate, &format!("{}{}", old.certificate, new.certificate));
    wait_until("the node trusts both", async || (roots() == 2).then_some(())).await;
    // The same for operators.
    let both = format!("{}{}", old.certificate, new.certificate);
    write(&cluster.path("admin").join("ca.pem"), &both);
    write(&key, &new.key);
    let by_new = || {
        let wanted = CertificateDer::from_pem_slice(new.certificate.as_bytes()).unwrap();
        certificate_of(&cluster) == wanted
    };
    wait_until("the new one signs the node's", async || by_new().then_some(())).await;
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
}

/// Returns the CA that issued a node's certificate.
fn certificate_of(cluster: &Secure) -> CertificateDer<'static> {
    let folder = cluster.path("one").join("identity");
    Credentials::load_from(&folder).unwrap().chain[1].clone()
}
