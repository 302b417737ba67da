//! A cluster with default settings: with TLS, joined by tokens.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use wyneos::{
    client,
    identity::{
        Authority, AuthorityPem, Credentials, Expected, Keys, Principal, Trust, client_config, new_key, request_for,
    },
    v1::{self, Liveness},
};
use wyneos_core::id::{ClusterId, NodeId};
use wyneos_shell::files;

use crate::harness::{Process, QUICK, binary, directory, free_address, wait_until};

pub struct Secure {
    pub address: String,
    /// Address of the coordinator's metrics, from its next start on.
    pub metrics: String,
    pub coordinator: Option<Process>,
    pub extra: Vec<&'static str>,
    /// Dropped last, because it contains the coordinator's log.
    pub directory: TempDir,
}

pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    // The expected text may be in a long line.
    Command::new(binary(program))
        .args(args)
        .env("COLUMNS", "1000")
        .output()
        .unwrap()
}

impl Secure {
    pub async fn start(extra: &[&'static str]) -> Secure {
        let mut cluster = Secure {
            directory: directory(),
            address: free_address(),
            metrics: "127.0.0.1:0".to_owned(),
            coordinator: None,
            extra: extra.to_vec(),
        };
        cluster.restart().await;
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn data_dir(&self) -> String {
        self.path("coordinator").display().to_string()
    }

    /// Starts or restarts the coordinator, creates an admin's credentials if there are none, and waits until they are
    /// accepted.
    pub async fn restart(&mut self) {
        let data_dir = self.data_dir();
        let mut args = vec![
            "run",
            "--listen",
            &self.address,
            "--metrics-listen",
            &self.metrics,
            "--data-dir",
            &data_dir,
        ];
        let quick = QUICK.chunks(2).filter(|pair| !self.extra.contains(&pair[0]));
        args.extend(quick.flatten());
        args.extend(&self.extra);
        self.coordinator = Some(Process::start(
            "wyneos-coordinator",
            &args,
            &self.path("coordinator.log"),
        ));
        let admin = self.path("admin").display().to_string();
        let own_ca = self.extra.chunks(2).filter(|pair| pair[0].starts_with("--ca-"));
        let mut make = vec!["admin", "--data-dir", &data_dir, "--out", &admin];
        make.extend(own_ca.flatten());
        wait_until("the coordinator has a CA", async || {
            let made = || run("wyneos-coordinator", &make);
            (self.path("admin").join("cert.pem").exists() || made().status.success()).then_some(())
        })
        .await;
        wait_until("the coordinator answers", async || self.try_snapshot().await).await;
    }

    pub async fn kill(&mut self) {
        self.coordinator.take().unwrap().kill().await;
    }

    /// Returns the cluster's CA, read from its files.
    pub fn authority(&self) -> Authority {
        let place = self.path("coordinator").join("ca").join("1");
        let pem = AuthorityPem {
            certificate: std::fs::read_to_string(place.join("ca.pem")).unwrap(),
            key: std::fs::read_to_string(place.join("ca.key")).unwrap(),
        };
        Authority::from_pem(self.cluster(), &pem, SystemTime::now()).unwrap()
    }

    pub fn cluster(&self) -> ClusterId {
        let credentials = Credentials::load_from(&self.path("admin")).unwrap();
        credentials.principal.cluster
    }

    pub async fn connect(&self, tls: &Arc<ClientConfig>) -> Channel {
        client::connect_with(&self.address, Some(tls)).await.unwrap()
    }

    /// Returns a channel with an admin's credentials.
    pub async fn admin(&self) -> Channel {
        self.connect(&tls(&self.path("admin"))).await
    }

    async fn try_snapshot(&self) -> Option<v1::Snapshot> {
        let tls = tls(&self.path("admin"));
        let channel = client::connect_with(&self.address, Some(&tls)).await.ok()?;
        let answer = client::coherence(channel)
            .get_snapshot(v1::GetSnapshotRequest::default())
            .await;
        answer.ok()?.into_inner().snapshot
    }

    pub async fn snapshot(&self) -> v1::Snapshot {
        wait_until("a snapshot", async || self.try_snapshot().await).await
    }

    /// Waits until `is` holds for a node in a snapshot.
    pub async fn node(&self, name: &str, is: impl Fn(&v1::NodeRow) -> bool) -> v1::NodeRow {
        wait_until(&format!("{name} is as it should be"), async || {
            let nodes = self.try_snapshot().await?.nodes;
            nodes.into_iter().find(|node| node.name == name && is(node))
        })
        .await
    }

    pub async fn online(&self, name: &str) -> v1::NodeRow {
        self.node(name, |node| node.liveness() == Liveness::Online).await
    }

    pub async fn token(&self, uses: u32) -> String {
        let request = v1::CreateJoinTokenRequest {
            uses,
            ..Default::default()
        };
        self.token_for(request).await
    }

    pub async fn token_for(&self, request: v1::CreateJoinTokenRequest) -> String {
        let mut client = client::access(self.admin().await);
        client.create_join_token(request).await.unwrap().into_inner().token
    }

    pub fn join(&self, name: &str, token: &str) -> Output {
        let data_dir = self.path(name).display().to_string();
        let args = [
            "join",
            "--coordinator",
            &self.address,
            "--token",
            token,
            "--data-dir",
            &data_dir,
            "--name",
            name,
        ];
        run("wyneos-agent", &args)
    }

    /// Runs an agent that has joined.
    pub fn agent(&self, name: &str) -> Process {
        let data_dir = self.path(name).display().to_string();
        let args = ["run", "--listen", "127.0.0.1:0", "--data-dir", &data_dir];
        Process::start("wyneos-agent", &args, &self.path(&format!("{name}.log")))
    }

    /// Joins with a new token, runs the agent, and waits until the node is online.
    pub async fn joined(&self, name: &str) -> Process {
        let joined = self.join(name, &self.token(1).await);
        assert!(joined.status.success(), "{}", text(&joined));
        let agent = self.agent(name);
        self.online(name).await;
        agent
    }

    pub fn wynectl(&self, args: &[&str]) -> Output {
        let admin = self.path("admin").display().to_string();
        let common = ["--address", &self.address, "--credentials", &admin];
        Command::new(binary("wynectl"))
            .args(common)
            .args(args)
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("COLUMNS", "1000")
            .output()
            .unwrap()
    }

    pub fn done(&self, args: &[&str]) -> String {
        let output = self.wynectl(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    }

    pub async fn audit(&self) -> Vec<v1::AuditRecord> {
        let request = v1::ListAuditRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let answer = client::access(self.admin().await).list_audit(request).await.unwrap();
        let entries = answer.into_inner().entries;
        entries.into_iter().filter_map(|entry| entry.record).collect()
    }

    /// Waits until the audit has an outcome or a refusal for which `is` holds.
    pub async fn audited(&self, what: &str, is: impl Fn(&v1::AuditRecord) -> bool) -> v1::AuditRecord {
        wait_until(&format!("the audit has {what}"), async || {
            let mut records = self.audit().await.into_iter();
            records.find(|record| record.kind() != v1::AuditKind::Intent && is(record))
        })
        .await
    }

    /// Returns TLS with a certificate for `principal` issued by the cluster's CA.
    pub fn certificate(&self, principal: &Principal, holds: std::ops::Range<SystemTime>) -> Arc<ClientConfig> {
        let (key, chain) = issue(&self.authority(), principal, holds);
        shown(principal, key, chain, self.authority().root())
    }

    pub fn as_agent(&self, node: NodeId) -> Arc<ClientConfig> {
        self.certificate(&Principal::agent(self.cluster(), node), valid())
    }
}

/// From a minute ago, for an hour.
pub fn valid() -> std::ops::Range<SystemTime> {
    let now = SystemTime::now();
    now - Duration::from_secs(60)..now + Duration::from_secs(3600)
}

pub fn issue(
    authority: &Authority,
    principal: &Principal,
    holds: std::ops::Range<SystemTime>,
) -> (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>) {
    let key = new_key().unwrap();
    let chain = authority
        .issue(&request_for(&key).unwrap(), principal, &[], holds)
        .unwrap();
    (key, chain)
}

/// Returns TLS that presents a certificate, and trusts `root`.
pub fn shown(
    principal: &Principal,
    key: PrivateKeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    root: &CertificateDer<'static>,
) -> Arc<ClientConfig> {
    let roots = vec![root.clone()];
    let credentials = Credentials {
        principal: principal.clone(),
        chain,
        key,
        roots,
    };
    let trust = Trust::new(principal.cluster, &credentials.roots).unwrap();
    client_config(Some(&Keys::new(&credentials).unwrap()), Expected::Coordinator(trust)).unwrap()
}

/// Returns TLS with the credentials in a directory.
pub fn tls(folder: &Path) -> Arc<ClientConfig> {
    let credentials = Credentials::load_from(folder).unwrap();
    let trust = Trust::new(credentials.principal.cluster, &credentials.roots).unwrap();
    client_config(Some(&Keys::new(&credentials).unwrap()), Expected::Coordinator(trust)).unwrap()
}

/// Returns TLS without a certificate that trusts the coordinator named by a directory's credentials.
pub fn nobody(folder: &Path) -> Arc<ClientConfig> {
    let credentials = Credentials::load_from(folder).unwrap();
    let trust = Trust::new(credentials.principal.cluster, &credentials.roots).unwrap();
    client_config(None, Expected::Coordinator(trust)).unwrap()
}

/// Opens a channel to a peer's agent, as the agent in `folder`.
pub async fn to_peer(folder: &Path, peer: NodeId, address: &str) -> Result<Channel, tonic::transport::Error> {
    let credentials = Credentials::load_from(&folder.join("identity")).unwrap();
    let trust = Trust::new(credentials.principal.cluster, &credentials.roots).unwrap();
    let keys = Keys::new(&credentials).unwrap();
    let tls = client_config(Some(&keys), Expected::Node(trust, peer)).unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    client::open(&endpoint, Some(&tls)).await
}

/// Copies a file's contents, as to another host.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Makes a key readable for others.
pub fn expose(path: &Path) {
    let contents = std::fs::read(path).unwrap();
    std::fs::remove_file(path).unwrap();
    files::write_durably(path, &contents, 0o644).unwrap();
}
