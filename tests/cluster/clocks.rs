//! Wall clocks that are wrong or adjusted: libfaketime changes them for one process each, without its monotonic clock.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tonic::transport::Channel;
use wyneos::{
    client,
    identity::{Credentials, Principal, Role, validity},
    v1,
};
use wyneos_shell::clock::BUILT;

use crate::{
    harness::{Process, QUICK, binary, skip, wait_until},
    secure::{Secure, text},
};

const DAY: u64 = 24 * 3600;

/// Returns the path of the library on Debian and Fedora.
fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
    ];
    places.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// An adjustable clock for one program while it runs.
struct Clock {
    library: PathBuf,
    place: TempDir,
}

impl Clock {
    /// Returns `None` if the library is not installed.
    fn new() -> Option<Clock> {
        let Some(library) = library() else {
            skip("libfaketime, which moves the clock of one process");
            return None;
        };
        let place = tempfile::tempdir().unwrap();
        let clock = Clock { library, place };
        clock.set("+0");
        Some(clock)
    }

    /// Returns a file in the directory of the clock.
    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Sets the clock to an offset such as `+3d`, or to a time such as `@1970-01-01 00:00:05`.
    fn set(&self, to: &str) {
        files(&self.path("clock"), to);
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binary(program));
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.path("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
            .env("TZ", "UTC");
        command
    }
}

/// Replaces a file atomically, because it is read continuously.
fn files(path: &Path, contents: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, contents).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn coordinator(cluster: &Secure, clock: &Clock, extra: &[&str]) -> Process {
    let mut command = clock.command("wyneos-coordinator");
    let data_dir = cluster.data_dir();
    command.args(["run", "--listen", &cluster.address, "--metrics-listen", "127.0.0.1:0"]);
    command.args(["--data-dir", &data_dir]).args(QUICK).args(extra);
    Process::of(command, &cluster.path("coordinator.log"))
}

/// A cluster whose coordinator uses a clock, and whose admin's certificate is valid by any.
async fn cluster_by(clock: &Clock, flags: &[&'static str]) -> Secure {
    let mut cluster = Secure::start(flags).await;
    cluster.kill().await;
    long_lived(&cluster);
    cluster.coordinator = Some(coordinator(&cluster, clock, flags));
    cluster
}

/// Joins a host as the node `one`, using a clock.
fn join(cluster: &Secure, clock: &Clock, token: &str) -> Output {
    let data_dir = cluster.path("one").display().to_string();
    let mut command = clock.command("wyneos-agent");
    command.args(["join", "--coordinator", &cluster.address, "--token", token]);
    command.args(["--data-dir", &data_dir, "--name", "one"]);
    command.output().unwrap()
}

/// Waits until a node received another certificate without presenting its own.
async fn recovered(cluster: &Secure) {
    let is = |record: &v1::AuditRecord| record.action.ends_with("/Recover") && record.code == 0;
    cluster.audited("the recovery", is).await;
}

fn agent(cluster: &Secure, clock: &Clock, name: &str) -> Process {
    let data_dir = cluster.path(name).display().to_string();
    let mut command = clock.command("wyneos-agent");
    command.args(["run", "--listen", "127.0.0.1:0", "--data-dir", &data_dir]);
    Process::of(command, &cluster.path(&format!("{name}.log")))
}

fn held(cluster: &Secure, name: &str) -> std::ops::Range<SystemTime> {
    let credentials = Credentials::load_from(&cluster.path(name).join("identity")).unwrap();
    validity(&credentials.chain[0]).unwrap()
}

async fn seals(channel: &Channel) -> Vec<u64> {
    let request = v1::ListSnapshotsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let listed = client::coherence(channel.clone()).list_snapshots(request).await;
    let entries = listed.unwrap().into_inner().entries;
    entries
        .into_iter()
        .filter_map(|entry| Some(entry.seal?.cycle))
        .collect()
}

/// Returns the cycle and the time of the newest snapshot.
async fn newest(channel: &Channel) -> (u64, SystemTime) {
    let request = v1::GetSnapshotRequest::default();
    let answer = client::coherence(channel.clone()).get_snapshot(request).await.unwrap();
    let snapshot = answer.into_inner().snapshot.unwrap();
    let seconds = u64::try_from(snapshot.time.unwrap().seconds).unwrap();
    (snapshot.cycle, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

async fn token(channel: &Channel) -> String {
    let request = v1::CreateJoinTokenRequest::default();
    let answer = client::access(channel.clone()).create_join_token(request).await;
    answer.unwrap().into_inner().token
}

/// Creates an admin's credentials that are valid as long as the CA's, by any clock.
fn long_lived(cluster: &Secure) {
    let admin = Principal::new(cluster.cluster(), Role::Admin, "admin").unwrap();
    let now = SystemTime::now();
    let holds = now - Duration::from_secs(3_000)..now + Duration::from_secs(3_000 * DAY);
    let authority = cluster.authority();
    let (key, chain) = crate::secure::issue(&authority, &admin, holds);
    let credentials = Credentials {
        principal: admin,
        chain,
        key,
        roots: vec![authority.root().clone()],
    };
    wyneos_shell::files::write_credentials(&cluster.path("admin"), &credentials).unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_three_days_ahead_for_a_moment_deletes_nothing() {
    let Some(clock) = Clock::new() else { return };
    let cluster = cluster_by(&clock, &[]).await;
    cluster.snapshot().await;
    // The connection stays open, because no client accepts a certificate issued by a clock that is ahead.
    let channel = cluster.admin().await;
    let by = token(&channel).await;
    let before = seals(&channel).await;
    clock.set("+3d");
    wait_until("cycles run by the clock that is ahead", async || {
        let (cycle, time) = newest(&channel).await;
        let ahead = time > SystemTime::now() + Duration::from_secs(2 * DAY);
        (ahead && cycle > before[0] + 5).then_some(())
    })
    .await;
    // Creating a token would remove expired ones.
    token(&channel).await;
    clock.set("+0");
    wait_until("cycles run by the clock that was set back", async || {
        let (cycle, time) = newest(&channel).await;
        let back = time < SystemTime::now() + Duration::from_secs(DAY);
        (back && cycle > before[0] + 10).then_some(())
    })
    .await;
    let after = seals(&channel).await;
    assert!(
        before.iter().all(|cycle| after.contains(cycle)),
        "{before:?}, {after:?}"
    );
    wait_until("a host joins by the token", async || {
        cluster.join("one", &by).status.success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_as_a_new_ca_was_prepared_keeps_nobody_from_going_on() {
    let Some(clock) = Clock::new() else { return };
    let cluster = cluster_by(&clock, &[]).await;
    cluster.snapshot().await;
    let channel = cluster.admin().await;
    clock.set("+3d");
    wait_until("a snapshot is of the clock that is ahead", async || {
        let (_, time) = newest(&channel).await;
        (time > SystemTime::now() + Duration::from_secs(2 * DAY)).then_some(())
    })
    .await;
    // Uses the existing channel, because the coordinator may renew its own certificate by this clock.
    let rotate = async |step: v1::RotationStep| {
        let step = step.into();
        let request = v1::RotateAuthorityRequest { step, force: false };
        client::access(channel.clone()).rotate_authority(request).await
    };
    rotate(v1::RotationStep::Prepare).await.unwrap();
    clock.set("+0");
    let request = v1::GetAuthoritiesRequest {};
    let shown = client::access(channel.clone()).get_authorities(request).await;
    let shown = shown.unwrap().into_inner();
    assert_eq!((shown.nodes_behind, shown.nodes_behind_unknown), (0, false));
    // The new CA was issued by that clock too. Another one replaces it, and every step is atomic.
    let early = rotate(v1::RotationStep::Activate).await.unwrap_err();
    assert!(early.message().contains("ca prepare"), "{early}");
    for step in [
        v1::RotationStep::Prepare,
        v1::RotationStep::Activate,
        v1::RotationStep::Retire,
    ] {
        rotate(step).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_kept_for_a_time_goes_though_the_clock_was_set_back() {
    let Some(clock) = Clock::new() else { return };
    // Within the first hour of the CA, certificates are valid.
    let cluster = cluster_by(&clock, &["--history-max-age", "2s"]).await;
    cluster.snapshot().await;
    let channel = cluster.admin().await;
    let oldest = *seals(&channel).await.last().unwrap();
    clock.set("-20m");
    wait_until("the oldest snapshot goes", async || {
        (!seals(&channel).await.contains(&oldest)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_of_1970_waits_makes_no_ca_and_ends_so_that_it_is_started_again() {
    let Some(clock) = Clock::new() else { return };
    clock.set("@1970-01-01 00:00:05");
    let data_dir = clock.path("data");
    let start = |wait: &str| {
        let mut command = clock.command("wyneos-coordinator");
        command.args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--clock-wait",
            wait,
        ]);
        command.arg("--data-dir").arg(&data_dir);
        Process::of(command, &clock.path("log"))
    };
    let mut early = start("300ms");
    // Not 64, after which systemd would not restart the unit.
    assert_eq!(early.ended().await.code(), Some(1), "{}", early.log_text());
    let log = early.log_text();
    assert!(
        log.contains("waiting for the clock") && log.contains("1970-01-01T00:00:0"),
        "{log}"
    );
    assert!(!data_dir.join("ca").exists());
    // A coordinator with a sufficient timeout starts once the clock is set, and creates its CA by the set clock.
    let patient = start("1h");
    let log = || patient.log_text();
    wait_until("it waits", async || {
        (log().matches("waiting for the clock").count() > 1).then_some(())
    })
    .await;
    assert!(!data_dir.join("ca").exists());
    clock.set("+0");
    wait_until("it listens", async || log().contains("listening").then_some(())).await;
    let pem = fs::read(data_dir.join("ca/1/ca.pem")).unwrap();
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let made = validity(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let built = SystemTime::UNIX_EPOCH + Duration::from_millis(BUILT.0 as u64);
    assert!(made.start + Duration::from_secs(3_600) >= built, "{made:?}");
    patient.kill().await;
    // The command on the coordinator's host creates no credentials with a clock of 1970, nor does a coordinator with a
    // later CA.
    clock.set("@1970-01-01 00:00:05");
    let output = clock
        .command("wyneos-coordinator")
        .args(["admin", "--data-dir"])
        .arg(&data_dir)
        .arg("--out")
        .arg(clock.path("out"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let mut again = start("0s");
    assert_eq!(again.ended().await.code(), Some(1), "{}", again.log_text());
}

#[tokio::test]
async fn an_agent_of_1970_says_so_and_comes_by_itself_once_its_clock_is_set() {
    let Some(clock) = Clock::new() else { return };
    let cluster = Secure::start(&[]).await;
    clock.set("@1970-01-01 00:00:05");
    let token = cluster.token(1).await;
    let refused = join(&cluster, &clock, &token);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused).contains("this host's clock says 1970"),
        "{}",
        text(&refused)
    );
    clock.set("+0");
    let joined = join(&cluster, &clock, &token);
    assert!(joined.status.success(), "{}", text(&joined));
    clock.set("@1970-01-01 00:00:05");
    let agent = agent(&cluster, &clock, "one");
    wait_until("it says whose certificate does not hold, by which clock", async || {
        let log = agent.log_text();
        (log.contains("not valid yet: it holds from") && log.contains("this host's clock says 1970")).then_some(())
    })
    .await;
    clock.set("+0");
    cluster.online("one").await;
}

#[tokio::test]
async fn certificates_of_a_coordinator_that_was_ahead_are_replaced_once_its_clock_is_set() {
    let Some(clock) = Clock::new() else { return };
    // Coordinator and node are three days ahead: issued certificates are not valid for hosts with the correct time.
    clock.set("+3d");
    let cluster = cluster_by(&clock, &[]).await;
    let node_clock = Clock::new().unwrap();
    node_clock.set("+3d");
    let token = {
        let mut command = clock.command("wynectl");
        command.args(["--address", &cluster.address, "--credentials"]);
        command.arg(cluster.path("admin"));
        command.args(["token", "create", "--ttl", "30d", "-o", "json"]);
        let output = wait_until("a token is made", async || {
            let output = command.output().unwrap();
            output.status.success().then_some(output)
        })
        .await;
        let answer = String::from_utf8(output.stdout).unwrap();
        let mut parts = answer.split('"').skip_while(|part| *part != "token");
        parts.nth(2).unwrap().to_owned()
    };
    let joined = join(&cluster, &node_clock, &token);
    assert!(joined.status.success(), "{}", text(&joined));
    assert!(held(&cluster, "one").start > SystemTime::now() + Duration::from_secs(2 * DAY));
    // Both clocks are set: the node's certificate is not yet valid.
    clock.set("+0");
    node_clock.set("+0");
    let agent = agent(&cluster, &node_clock, "one");
    cluster.online("one").await;
    wait_until("it has a certificate that holds", async || {
        held(&cluster, "one").contains(&SystemTime::now()).then_some(())
    })
    .await;
    recovered(&cluster).await;
    drop(agent);
}

#[tokio::test]
async fn an_agent_whose_certificate_the_coordinator_takes_for_early_is_told_so_and_gets_another() {
    let Some(clock) = Clock::new() else { return };
    // The coordinator's clock is behind: certificates issued an hour or more ahead are not yet valid by its clock
    // alone.
    let mut cluster = Secure::start(&[]).await;
    let first = cluster.joined("one").await;
    first.kill().await;
    cluster.kill().await;
    long_lived(&cluster);
    // The certificate of a coordinator that was an hour ahead of this one and of this host.
    let credentials = Credentials::load_from(&cluster.path("one").join("identity")).unwrap();
    let authority = cluster.authority();
    let now = SystemTime::now();
    let request = wyneos::identity::request_for(&credentials.key).unwrap();
    let holds = now - Duration::from_secs(60)..now + Duration::from_secs(DAY);
    let chain = authority.issue(&request, &credentials.principal, &[], holds).unwrap();
    let credentials = Credentials { chain, ..credentials };
    wyneos_shell::files::write_credentials(&cluster.path("one").join("identity"), &credentials).unwrap();
    clock.set("-30m");
    cluster.coordinator = Some(coordinator(&cluster, &clock, &["--clock-wait", "0s"]));
    let agent = cluster.agent("one");
    cluster.online("one").await;
    let log = agent.log_text();
    assert!(
        log.contains("refuses this node's certificate as expired or not valid yet"),
        "{log}"
    );
    recovered(&cluster).await;
}
