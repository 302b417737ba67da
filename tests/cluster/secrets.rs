//! Values of `env`: who may see them, and all the places where they must not appear.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher as _, Hasher as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Buf as _;
use prost::Message;
use rustix::process::Signal;
use tonic::{Code, Status, transport::Channel};
use wyneos::v1::{self, InstancePhase};

use crate::{
    descriptors::scrape,
    harness::{PATIENCE, Process, free_address, wait_until},
    roles::{documented, rpcs},
    secure::{Secure, run, text, tls},
    untyped::{Call, Told},
    work::{kill, processes_with},
};

fn has(told: &Told, canary: &str) -> bool {
    let error = told.error.as_ref();
    let error = error.map(|status| [status.message().as_bytes(), status.details()].concat());
    told.messages.iter().chain(&error).any(|bytes| contains(bytes, canary))
}

fn contains(bytes: &[u8], canary: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(canary)
}

/// Time to wait for each further message of a stream, since some do not end.
const NEXT: Duration = Duration::from_millis(700);

async fn call(channel: &Channel, rpc: &str, request: Vec<u8>) -> Told {
    let call = Call {
        channel,
        rpc,
        request,
        stays: false,
        patience: [PATIENCE, NEXT],
    };
    call.answers().await
}

fn canary() -> String {
    format!("canary{:016x}", RandomState::new().build_hasher().finish())
}

/// Returns a workload with a secret.
fn declared(secret: &str) -> v1::WorkloadSpec {
    v1::WorkloadSpec {
        name: "web".to_owned(),
        command: "/bin/sleep".to_owned(),
        args: vec!["1000".to_owned()],
        directory: "/".to_owned(),
        env: vec![v1::EnvironmentVariable {
            name: "PASSWORD".to_owned(),
            value: secret.to_owned(),
        }],
        update: Some(v1::UpdatePolicy {
            order: v1::UpdateOrder::StartFirst.into(),
            max_parallel: 1,
            min_healthy: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
            deadline: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            canary: 1,
            rollback: true,
        }),
        ..Default::default()
    }
}

/// Returns requests that get as far as possible; rpcs without an entry need no content.
fn requests(rpc: &str, instance: &str, secret: &str) -> Vec<Vec<u8>> {
    fn bytes(messages: impl IntoIterator<Item = impl Message>) -> Vec<Vec<u8>> {
        messages.into_iter().map(|message| message.encode_to_vec()).collect()
    }
    let (node, name) = (|| "one".to_owned(), || "web".to_owned());
    let spec = || Some(declared(secret));
    let (_, method) = rpc.rsplit_once('/').unwrap();
    match method {
        "GetNode" => bytes([v1::GetNodeRequest { node: node() }]),
        "EstimateRtt" => bytes([v1::EstimateRttRequest {
            from: node(),
            to: node(),
        }]),
        "CordonNode" => bytes([v1::CordonNodeRequest { node: node() }]),
        "UncordonNode" => bytes([v1::UncordonNodeRequest { node: node() }]),
        "DrainNode" => bytes([true, false].map(|plan| v1::DrainNodeRequest {
            keep_daemons: false,
            node: node(),
            deadline: None,
            plan,
        })),
        "LabelNode" => bytes([v1::LabelNodeRequest {
            node: node(),
            set: vec![v1::Label {
                key: "a".to_owned(),
                value: "b".to_owned(),
            }],
            remove: Vec::new(),
        }]),
        "RefreshNode" => bytes([v1::RefreshNodeRequest { node: node() }]),
        "SetHeartbeatInterval" => bytes([v1::SetHeartbeatIntervalRequest {
            node: node(),
            interval: None,
        }]),
        "WatchSnapshots" => bytes([true, false].map(|always_full| v1::WatchSnapshotsRequest {
            always_full,
            ..Default::default()
        })),
        "ReadSnapshots" => bytes([v1::ReadSnapshotsRequest {
            from_cycle: 1,
            to_cycle: u64::MAX,
        }]),
        "ExplainNode" => bytes([v1::ExplainNodeRequest { node: node() }]),
        "ListEvents" => bytes([v1::ListEventsRequest {
            page_size: 1_000,
            ..Default::default()
        }]),
        "WatchEvents" => bytes([v1::WatchEventsRequest { from_sequence: 1 }]),
        "GetNodeTelemetry" => bytes([v1::GetNodeTelemetryRequest {
            node: node(),
            channel: String::new(),
        }]),
        "PlanWorkload" => bytes([v1::PlanWorkloadRequest {
            spec: spec(),
            keep_replicas: false,
        }]),
        "ApplyWorkload" => bytes([v1::ApplyWorkloadRequest {
            spec: spec(),
            revision: None,
            keep_replicas: false,
            force: false,
        }]),
        "ScaleWorkload" => {
            bytes(
                [(1, true), (2, false), (1, false)].map(|(replicas, plan)| v1::ScaleWorkloadRequest {
                    name: name(),
                    replicas,
                    revision: None,
                    plan,
                }),
            )
        }
        "RestartWorkload" => bytes([true, false].map(|plan| v1::RestartWorkloadRequest {
            name: name(),
            revision: None,
            plan,
        })),
        "PromoteWorkload" => bytes([true, false].map(|plan| v1::PromoteWorkloadRequest {
            name: name(),
            revision: None,
            plan,
        })),
        "DeleteWorkload" => bytes([v1::DeleteWorkloadRequest {
            name: name(),
            revision: None,
            plan: true,
        }]),
        "GetWorkload" => bytes([v1::GetWorkloadRequest { name: name() }]),
        "ListAssignments" => bytes([v1::ListAssignmentsRequest {
            ended: true,
            ..Default::default()
        }]),
        "WhatIf" => bytes([true, false].map(|drained| v1::WhatIfRequest { nodes: node(), drained })),
        "Rebalance" => bytes([true, false].map(|plan| v1::RebalanceRequest { plan })),
        "ExplainWorkload" => bytes([name(), instance.to_owned()].map(|name| v1::ExplainWorkloadRequest { name })),
        "ReadLogs" => bytes([v1::ReadLogsRequest {
            assignment: instance.to_owned(),
            ..Default::default()
        }]),
        "CreateOperator" => bytes([v1::CreateOperatorRequest {
            name: "made".to_owned(),
            role: v1::Role::Viewer.into(),
            ..Default::default()
        }]),
        "ListAudit" => bytes([v1::ListAuditRequest {
            page_size: 1_000,
            ..Default::default()
        }]),
        "WatchAudit" => bytes([v1::WatchAuditRequest { from_sequence: 1 }]),
        _ => vec![Vec::new()],
    }
}

/// Rpcs that require more than this cluster has: two nodes with coordinates, a pending decision, a certificate request.
const UNSUITABLE: [&str; 4] = ["EstimateRtt", "ApproveDecision", "RejectDecision", "Renew"];

/// A cluster whose servers log everything, with a workload that has a secret.
struct Vault {
    /// Ends before its directory is removed.
    _agent: Process,
    cluster: Secure,
    /// Addresses of both servers' metrics.
    metrics: [String; 2],
}

impl Vault {
    async fn start() -> Vault {
        let metrics = [free_address(), free_address()];
        let mut cluster = Secure::start(&["--log", "trace"]).await;
        cluster.kill().await;
        cluster.metrics = metrics[0].clone();
        cluster.restart().await;
        let joined = cluster.join("one", &cluster.token(1).await);
        assert!(joined.status.success(), "{}", text(&joined));
        let data_dir = cluster.path("one").display().to_string();
        let args = [
            "run",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data_dir,
            "--metrics-listen",
            &metrics[1],
            "--log",
            "trace",
        ];
        let agent = Process::start("wyneos-agent", &args, &cluster.path("one.log"));
        cluster.online("one").await;
        for role in ["viewer", "operator", "deployer"] {
            let out = cluster.path(role).display().to_string();
            cluster.done(&["operator", "create", role, "--role", role, "--out", &out]);
        }
        Vault {
            _agent: agent,
            cluster,
            metrics,
        }
    }

    async fn by(&self, role: &str) -> Channel {
        self.cluster.connect(&tls(&self.cluster.path(role))).await
    }

    /// Makes a call with a role, which must succeed.
    async fn told<T: Message + Default>(&self, role: &str, rpc: &str, request: impl Message) -> T {
        let rpc = format!("wyneos.v1.WorkloadService/{rpc}");
        let told = call(&self.by(role).await, &rpc, request.encode_to_vec()).await;
        assert!(told.error.is_none(), "{rpc} by {role}: {:?}", told.error);
        T::decode(told.messages[0].as_slice()).unwrap()
    }

    async fn apply(&self, spec: v1::WorkloadSpec) -> v1::WorkloadChange {
        let (spec, revision) = (Some(spec), None);
        let request = v1::ApplyWorkloadRequest {
            spec,
            revision,
            keep_replicas: false,
            force: false,
        };
        let answer: v1::ApplyWorkloadResponse = self.told("deployer", "ApplyWorkload", request).await;
        answer.change.unwrap()
    }

    async fn plan(&self, role: &str, spec: v1::WorkloadSpec) -> v1::WorkloadChange {
        let request = v1::PlanWorkloadRequest {
            spec: Some(spec),
            keep_replicas: false,
        };
        let answer: v1::PlanWorkloadResponse = self.told(role, "PlanWorkload", request).await;
        answer.change.unwrap()
    }

    /// Returns the value as shown to a role.
    async fn value(&self, role: &str) -> String {
        let name = "web".to_owned();
        let answer: v1::GetWorkloadResponse = self.told(role, "GetWorkload", v1::GetWorkloadRequest { name }).await;
        let env = answer.spec.unwrap().env;
        assert_eq!((env.len(), env[0].name.as_str()), (1, "PASSWORD"));
        env[0].value.clone()
    }

    /// Waits until an instance of the current revision runs; returns its id.
    async fn runs(&self) -> String {
        wait_until("an instance runs", async || {
            let request = v1::ListAssignmentsRequest::default();
            let answer: v1::ListAssignmentsResponse = self.told("viewer", "ListAssignments", request).await;
            let name = "web".to_owned();
            let shown: v1::GetWorkloadResponse = self
                .told("viewer", "GetWorkload", v1::GetWorkloadRequest { name })
                .await;
            let workload = shown.workload.unwrap();
            let mut rows = answer.assignments.into_iter().filter_map(|row| row.assignment);
            let is = |one: &v1::Assignment| {
                let phase = one.status.clone().unwrap_or_default().phase();
                phase == InstancePhase::Running && one.revision == workload.revision
            };
            rows.find(is).map(|one| one.id)
        })
        .await
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        // Processes that outlive their agent must not outlive the test.
        for pid in processes_with(&self.cluster.directory.path().display().to_string()) {
            kill(pid, Signal::TERM);
        }
    }
}

fn files(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).unwrap().flatten();
    let found = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    found.collect()
}

/// Returns the command lines of all processes.
fn command_lines() -> Vec<Vec<u8>> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .collect()
}

#[tokio::test]
async fn values_of_an_environment_are_shown_to_deployers_and_admins_and_nowhere_else() {
    let vault = Vault::start().await;
    let cluster = &vault.cluster;
    // The former value is kept in the revision for rollbacks.
    let secrets = [canary(), canary()];
    for secret in &secrets {
        vault.apply(declared(secret)).await;
        vault.runs().await;
    }
    let instance = vault.runs().await;
    for role in ["deployer", "admin"] {
        assert_eq!(vault.value(role).await, secrets[1], "{role}");
    }
    for role in ["viewer", "operator"] {
        assert_eq!(vault.value(role).await, "(hidden)", "{role}");
    }

    // Rejected values are not repeated, neither to the caller nor in the audit.
    let mut wrong = [declared(""), declared(""), declared("")];
    wrong[0].env[0].name = format!("PASSWORD={}", secrets[0]);
    wrong[1].env[0].value = format!("{}\0", secrets[0]);
    wrong[2].env[0].value = secrets[0].repeat(1_000);
    let deployer = vault.by("deployer").await;
    for spec in wrong {
        let (spec, revision) = (Some(spec), None);
        let request = v1::ApplyWorkloadRequest {
            spec,
            revision,
            keep_replicas: false,
            force: false,
        };
        let told = call(
            &deployer,
            "wyneos.v1.WorkloadService/ApplyWorkload",
            request.encode_to_vec(),
        )
        .await;
        assert_eq!(told.error.as_ref().map(Status::code), Some(Code::InvalidArgument));
        assert!(!secrets.iter().any(|secret| has(&told, secret)), "{:?}", told.error);
    }
    // The placeholder of a value is not accepted as a value.
    let (spec, revision) = (Some(declared("(hidden)")), None);
    let request = v1::ApplyWorkloadRequest {
        spec,
        revision,
        keep_replicas: false,
        force: false,
    };
    let told = call(
        &deployer,
        "wyneos.v1.WorkloadService/ApplyWorkload",
        request.encode_to_vec(),
    )
    .await;
    assert!(told.error.unwrap().message().contains("env.PASSWORD"));

    // Every rpc.
    let table = documented();
    for role in ["viewer", "operator", "deployer", "admin"] {
        let channel = vault.by(role).await;
        for rpc in rpcs() {
            let (_, method) = rpc.rsplit_once('/').unwrap();
            // Backups are checked below.
            if matches!(method, "Backup") {
                continue;
            }
            for request in requests(&rpc, &instance, &secrets[1]) {
                let told = call(&channel, &rpc, request).await;
                let shown = method == "GetWorkload" && matches!(role, "deployer" | "admin");
                for secret in &secrets {
                    let is_it = *secret == secrets[1];
                    assert_eq!(has(&told, secret), shown && is_it, "{rpc} by {role} tells a value");
                }
                let may = table[&rpc].split(", ").any(|name| name == role);
                if may && !UNSUITABLE.contains(&method) && !rpc.contains("AccessService") {
                    let known = matches!(method, "AdmitNode" | "ForgetNode" | "RevokeNode" | "SetAutonomy");
                    assert!(known || told.error.is_none(), "{rpc} by {role}: {:?}", told.error);
                }
            }
        }
    }

    // Files, exports and printed output.
    let path = |name: &str| cluster.path(name).display().to_string();
    cluster.done(&["snapshot", "export", "--output", &path("snapshots")]);
    cluster.done(&["backup", "--output", &path("backup")]);
    let as_deployer = |args: &[&str]| {
        let credentials = path("deployer");
        let common = ["--address", &cluster.address, "--credentials", &credentials];
        text(&run("wynectl", &[&common[..], args].concat()))
    };
    let file = cluster.path("web.json");
    let json = format!(
        "{{\"name\": \"web\", \"command\": \"/bin/sleep\", \"env\": {{\"PASSWORD\": \"{}\"}}}}",
        secrets[0]
    );
    fs::write(&file, json).unwrap();
    let file = file.display().to_string();
    let printed = [
        as_deployer(&["plan", "-f", &file, "-o", "json"]),
        as_deployer(&["restart", "web", "-o", "json"]),
        as_deployer(&["workload", "web"]),
        cluster.done(&["workloads", "-o", "json"]),
        cluster.done(&["why", "web", "-o", "json"]),
        cluster.done(&["events", "-o", "json"]),
        cluster.done(&["audit", "-o", "json"]),
        cluster.done(&["backup", "verify", &path("backup")]),
    ];
    for (at, printed) in printed.iter().enumerate() {
        for secret in &secrets {
            assert!(!printed.contains(secret), "output {at}: {printed}");
        }
    }
    assert!(printed[2].contains("PASSWORD"), "{}", printed[2]);
    assert!(as_deployer(&["workload", "web", "-o", "json"]).contains(&secrets[1]));

    for address in &vault.metrics {
        let served = wait_until("metrics are served", async || scrape(address).await).await;
        assert!(served.contains("wyneos_"), "{served}");
        assert!(
            !secrets.iter().any(|secret| served.contains(secret)),
            "the metrics of {address}"
        );
    }
    for bytes in command_lines() {
        assert!(!secrets.iter().any(|secret| contains(&bytes, secret)), "a command line");
    }
    let mut looked_at = 0;
    for name in ["history.redb", "audit.redb"] {
        let bytes = fs::read(cluster.path("coordinator").join(name)).unwrap();
        assert!(!secrets.iter().any(|secret| contains(&bytes, secret)), "{name}");
        looked_at += 1;
    }
    for name in ["coordinator.log", "one.log", "snapshots"] {
        let bytes = fs::read(cluster.path(name)).unwrap();
        assert!(
            !bytes.is_empty() && !secrets.iter().any(|secret| contains(&bytes, secret)),
            "{name}"
        );
        looked_at += 1;
    }
    assert_eq!(looked_at, 5);
    // Files with secrets are readable only by their owner.
    let mut holding = 0;
    for server in ["coordinator", "one"] {
        for file in files(&cluster.path(server)) {
            // The file may be gone by now.
            let (Ok(bytes), Ok(metadata)) = (fs::read(&file), fs::metadata(&file)) else {
                continue;
            };
            if secrets.iter().any(|secret| contains(&bytes, secret)) {
                holding += 1;
                let mode = metadata.permissions().mode() & 0o777;
                assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
            }
        }
    }
    assert!(holding >= 2, "the state and an order at least: {holding}");
    // A backup contains the values in its records of workloads, and nowhere else.
    let mut bytes = fs::read(cluster.path("backup"))
        .unwrap()
        .split_off(wyneos::backup::MAGIC.len());
    let mut rest = bytes::Bytes::from(std::mem::take(&mut bytes));
    let mut held = 0;
    while rest.has_remaining() {
        let part = v1::BackupResponse::decode_length_delimited(&mut rest).unwrap();
        let encoded = part.encode_to_vec();
        let holds = secrets.iter().any(|secret| contains(&encoded, secret));
        let is_workload = match &part.part {
            Some(v1::backup_response::Part::Record(record)) => record.kind() == v1::BackupKind::Workload,
            _ => false,
        };
        assert!(!holds || is_workload, "a part of a backup");
        held += usize::from(holds);
    }
    assert!(held > 0, "a backup is whole");
}

#[tokio::test]
async fn a_plan_does_not_tell_whether_a_value_was_guessed() {
    let vault = Vault::start().await;
    let secret = canary();
    vault.apply(declared(&secret)).await;
    vault.runs().await;
    let guessed = declared(&secret);
    let missed = declared(&canary());
    for role in ["viewer", "operator"] {
        let answers = [
            vault.plan(role, guessed.clone()).await,
            vault.plan(role, missed.clone()).await,
        ];
        assert_eq!(answers[0], answers[1], "{role}");
        assert!(!answers[0].changed, "{role}");
        let mut more = guessed.clone();
        more.env.push(v1::EnvironmentVariable {
            name: "USER".to_owned(),
            value: "web".to_owned(),
        });
        assert!(
            vault.plan(role, more).await.changed,
            "{role}: another variable is a change"
        );
    }
    assert!(!vault.plan("deployer", guessed).await.changed);
    assert!(vault.plan("deployer", missed).await.changed);
}

#[tokio::test]
async fn without_tls_everybody_is_shown_values() {
    let cluster = crate::harness::Cluster::start().await;
    let secret = canary();
    let channel = cluster.channel().await;
    let (mut spec, revision) = (declared(&secret), None);
    spec.kind = Some(v1::workload_spec::Kind::Service(v1::ServiceKind { replicas: 0 }));
    let request = v1::ApplyWorkloadRequest {
        spec: Some(spec),
        revision,
        keep_replicas: false,
        force: false,
    };
    let rpc = |name: &str| format!("wyneos.v1.WorkloadService/{name}");
    let told = call(&channel, &rpc("ApplyWorkload"), request.encode_to_vec()).await;
    assert!(told.error.is_none() && !has(&told, &secret), "{:?}", told.error);
    let name = "web".to_owned();
    let request = v1::GetWorkloadRequest { name };
    let told = call(&channel, &rpc("GetWorkload"), request.encode_to_vec()).await;
    assert!(has(&told, &secret));
}
