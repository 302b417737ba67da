//! Fuzz targets for everything that reads bytes from the wire or from a file. Configurations are fuzzed where they are
//! defined: `coordinator/`, `agent/`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Cursor;

use prost::Message as _;
use wyneos::{
    audit::Verifier,
    backup,
    convert::{self, Beacon},
    delta, export,
    identity::{
        Authority, Credentials, JoinToken, Principal, Role, Trust, key_of, key_of_request, new_key, request_for,
        validity,
    },
    v1::{self, session_request, session_response},
};
use wyneos_core::{
    command,
    coordinator::Message,
    id::{Cycle, Epoch, Uuid},
    integrity::{DigestSigner, PublicKey, Sealer},
    node::{ConnId, Origin},
};
use wyneos_fuzz::run;

const ID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
const CLUSTER: Uuid = Uuid([3; 16]);

fn hello() -> v1::Hello {
    v1::Hello {
        node_id: ID.to_owned(),
        name: "web-1".to_owned(),
        incarnation: 1,
        agent_version: "0.1.0".to_owned(),
        boot_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        capacity: Some(v1::Capacity {
            cpu_millis: 1000,
            memory_bytes: 1,
            disk_bytes: 0,
        }),
        attributes: Some(v1::Attributes {
            cpus: 1,
            memory_bytes: 1,
            cgroups: "none".to_owned(),
            containment: wyneos_core::node::PID_NAMESPACE.to_owned(),
            users: Some(v1::NodeUsers {
                default_user: "nobody".to_owned(),
                permitted: vec![v1::NodeUser {
                    name: "nobody".to_owned(),
                    uid: Some(65_534),
                }],
                unknown: vec!["postgres".to_owned()],
                own_only: true,
            }),
            ..Default::default()
        }),
        labels: vec![v1::Label {
            key: "zone".to_owned(),
            value: "a".to_owned(),
        }],
        channels: vec!["cpu.used".to_owned()],
        binary_digest: vec![1; 32],
        config_digest: vec![2; 32],
        probe_address: "10.0.0.1:7402".to_owned(),
        instance: vec![3; 16],
        machine: vec![4; 32],
        last_failure: String::new(),
        ..Default::default()
    }
}

fn said(message: session_request::Message) -> Vec<u8> {
    v1::SessionRequest { message: Some(message) }.encode_to_vec()
}

#[test]
fn fuzz_what_agents_say() {
    use session_request::Message as Up;
    let observation = v1::Observation {
        subject_id: ID.to_owned(),
        sight: v1::Sight::Silent.into(),
        last_heard_age_millis: Some(5),
    };
    let seeds = [
        said(Up::Hello(hello())),
        said(Up::Heartbeat(v1::Heartbeat {
            sequence: 1,
            load: 0.5,
            values: vec![0.5, 0.0],
            absent: vec![1],
            ..Default::default()
        })),
        said(Up::Goodbye(v1::Goodbye { reason: "x".to_owned() })),
        said(Up::Sightings(v1::Sightings {
            observations: vec![observation.clone()],
            health: Some(v1::AgentHealth::default()),
            sent_millis: 3,
        })),
        said(Up::Question(v1::Question {
            number: 1,
            asker_id: ID.to_owned(),
            incarnation: 2,
            path_ids: vec![ID.to_owned()],
            observations: vec![observation],
            sent_millis: 3,
        })),
        said(Up::Directive(v1::DirectiveUpdate {
            id: 1,
            state: v1::DirectiveState::Done.into(),
            detail: "d".to_owned(),
        })),
    ];
    run("what agents say", &seeds, |bytes| {
        let request = v1::SessionRequest::decode(bytes).map_err(|error| error.to_string())?;
        let input = convert::session_input(ConnId(1), &Origin::default(), request);
        input
            .map(|input| std::mem::discriminant(&input))
            .map_err(|error| error.field)
    });
}

#[test]
fn fuzz_what_coordinators_say() {
    use session_response::Message as Down;
    let answer = |message| v1::SessionResponse {
        message: Some(message),
        heard_sequence: 1,
    };
    let welcome = v1::Welcome {
        cluster_id: ID.to_owned(),
        epoch: 1,
        session: 2,
        cycle_interval: Some(convert::duration(std::time::Duration::from_secs(6))),
        heartbeat_interval: Some(convert::duration(std::time::Duration::from_secs(2))),
        probe_plan: Some(v1::ProbePlan {
            version: 1,
            interval: Some(convert::duration(std::time::Duration::from_secs(1))),
            targets: vec![v1::ProbeTarget {
                node_id: ID.to_owned(),
                address: "a:1".to_owned(),
            }],
            observer_ids: vec![ID.to_owned()],
        }),
        admission: v1::Admission::Admitted.into(),
        lease: Some(convert::duration(std::time::Duration::from_secs(30))),
        next_assignment: 1 << 32,
        notes_sightings: true,
    };
    let seeds = [
        answer(Down::Welcome(welcome)).encode_to_vec(),
        answer(Down::Ping(v1::Ping { number: 1 })).encode_to_vec(),
        answer(Down::Refused(v1::Refused {
            reason: v1::RefusalReason::Stale.into(),
            detail: "old".to_owned(),
            retry_after: None,
        }))
        .encode_to_vec(),
    ];
    run("what coordinators say", &seeds, |bytes| {
        let response = v1::SessionResponse::decode(bytes).map_err(|error| error.to_string())?;
        Message::try_from(response)
            .map(|message| std::mem::discriminant(&message))
            .map_err(|error| error.field)
    });
}

#[test]
fn fuzz_what_operators_ask() {
    let label = v1::LabelNodeRequest {
        node: "web-1".to_owned(),
        set: hello().labels,
        remove: vec!["rack".to_owned()],
    };
    let token = v1::CreateJoinTokenRequest {
        ttl: Some(convert::duration(std::time::Duration::from_secs(60))),
        uses: 3,
        labels: hello().labels,
        name: "web-7".to_owned(),
        pending: true,
    };
    let seeds = [label.encode_to_vec(), token.encode_to_vec()];
    run("what operators ask", &seeds, |bytes| {
        macro_rules! commands {
            ($($request:ident $command:ident),+) => {
                [$(v1::$request::decode(bytes)
                    .ok()
                    .map(|request| command::$command::try_from(request).map(|_| ()).map_err(|error| error.field))),+]
            };
        }
        let commands = commands!(
            LabelNodeRequest Label,
            CordonNodeRequest Cordon,
            SetHeartbeatIntervalRequest SetHeartbeat,
            AdmitNodeRequest Admit,
            RevokeNodeRequest Revoke,
            RevokeOperatorRequest RevokeOperator,
            DeleteJoinTokenRequest DeleteToken
        );
        let token = v1::CreateJoinTokenRequest::decode(bytes)
            .ok()
            .map(|request| convert::token_in(request).map(|_| ()).map_err(|error| error.field));
        (commands, token)
    });
}

#[test]
fn fuzz_beacons() {
    let id = Uuid([3; 16]);
    let beacon = Beacon {
        cluster: id,
        sender: id,
        receiver: id,
        observes: true,
        sequence: 7,
    };
    let seeds = [
        convert::beacon_out(beacon, Some(&[1; 32])),
        convert::beacon_out(beacon, None),
    ];
    run("beacons", &seeds, |bytes| {
        let proven = convert::beacon_is_proven(bytes, &[1; 32]);
        (
            proven,
            convert::beacon_in(bytes).map(|_| ()).map_err(|error| error.field),
        )
    });
}

#[test]
fn fuzz_tokens_and_names() {
    let token = JoinToken::new(CLUSTER, [4; 32], [5; 28]).to_string();
    let name = Principal::agent(CLUSTER, Uuid([7; 16])).to_string();
    let seeds = [token.into_bytes(), name.into_bytes()];
    run("tokens and names", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        (text.parse::<JoinToken>().is_ok(), text.parse::<Principal>())
    });
}

#[test]
fn fuzz_certificates_and_requests() {
    let now = std::time::SystemTime::now();
    let (authority, _) = Authority::new(CLUSTER, now).unwrap();
    let request = request_for(&new_key().unwrap()).unwrap();
    let principal = Principal::new(CLUSTER, Role::Viewer, "ada").unwrap();
    let holds = now..now + std::time::Duration::from_secs(60);
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let chain = authority.issue(&request, &principal, &hosts, holds).unwrap();
    let trust = Trust::new(CLUSTER, &[authority.root().clone()]).unwrap();
    let seeds = [chain[0].to_vec(), chain[1].to_vec(), request.to_vec()];
    run("certificates and requests", &seeds, |bytes| {
        let certificate = rustls_pki_types::CertificateDer::from(bytes);
        let read = (
            Principal::of(&certificate),
            key_of(&certificate).is_ok(),
            validity(&certificate).is_ok(),
        );
        let genuine = trust.once(&certificate).is_ok();
        assert!(
            !genuine || bytes.starts_with(&chain[0]) || bytes.starts_with(&chain[1]),
            "forged"
        );
        let asked = key_of_request(&bytes.into())
            .map(|_| ())
            .map_err(|error| error.to_string());
        (read, genuine, asked)
    });
}

#[test]
fn fuzz_credentials() {
    let now = std::time::SystemTime::now();
    let (authority, pem) = Authority::new(CLUSTER, now).unwrap();
    let key = new_key().unwrap();
    let principal = Principal::new(CLUSTER, Role::Viewer, "ada").unwrap();
    let holds = now..now + std::time::Duration::from_secs(60);
    let chain = authority
        .issue(&request_for(&key).unwrap(), &principal, &[], holds)
        .unwrap();
    let roots = vec![authority.root().clone()];
    let credentials = Credentials {
        principal,
        chain,
        key,
        roots,
    };
    let texts = credentials.to_pem();
    let seeds = [texts.chain, texts.key, texts.roots, pem.certificate, pem.key].map(String::into_bytes);
    run("credentials", &seeds, |bytes| {
        let good = &seeds;
        [
            Credentials::from_pem(bytes, &good[1], &good[2]),
            Credentials::from_pem(&good[0], bytes, &good[2]),
            Credentials::from_pem(&good[0], &good[1], bytes),
        ]
        .map(|read| read.map(|_| ()).map_err(|error| error.to_string()))
    });
}

#[test]
fn fuzz_snapshots_and_their_steps() {
    let snapshot = v1::Snapshot {
        cycle: 1,
        ..Default::default()
    };
    let step = v1::SnapshotDelta::default();
    let seeds = [snapshot.encode_to_vec(), step.encode_to_vec()];
    run("snapshots and their steps", &seeds, |bytes| {
        let mut state = v1::Snapshot::decode(bytes).unwrap_or_default();
        let step = v1::SnapshotDelta::decode(bytes).unwrap_or_default();
        delta::apply(&mut state, step).map_err(|error| error.to_string())
    });
}

#[test]
fn fuzz_exports() {
    let mut sealer = Sealer::new(CLUSTER, &[7; 32], [0; 32]);
    let mut writer = export::Writer::new(Cursor::new(Vec::new()), CLUSTER, sealer.public_key()).unwrap();
    for cycle in 5..8 {
        let snapshot = v1::Snapshot {
            cluster_id: CLUSTER.to_string(),
            epoch: 1,
            cycle,
            ..Default::default()
        };
        let bytes = snapshot.encode_to_vec();
        let seal = Some((&sealer.seal(Epoch(1), Cycle(cycle), &bytes)).into());
        let snapshot = bytes.into();
        writer.write(&v1::ReadSnapshotsResponse { snapshot, seal }).unwrap();
    }
    let mut file = Vec::new();
    writer.finish(&mut file).unwrap();
    run("exports", &[file], |bytes| match export::verify(bytes, None) {
        Ok(_) => (None, ""),
        Err(export::ExportError::Bad { place, field, .. }) => (Some(format!("{place:?}")), field),
        Err(export::ExportError::Io { .. }) => (None, "io"),
    });
}

#[test]
fn fuzz_backups() {
    let mut maker = backup::Maker::new(DigestSigner::new(&[7; 32]));
    let header = v1::BackupHeader {
        cluster_id: CLUSTER.to_string(),
        time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let mut parts = vec![maker.header(header)];
    parts.extend(maker.record(v1::BackupKind::File, "signing.key", &[7; 32]));
    parts.extend(maker.record(v1::BackupKind::Policy, "", br#"{"heal":"act","rebalance":"advise"}"#));
    parts.push(maker.end());
    let mut file = backup::MAGIC.to_vec();
    file.extend(parts.iter().flat_map(|part| part.encode_length_delimited_to_vec()));
    backup::verify(&file[..], None).unwrap();
    run("backups", &[file], |bytes| match backup::verify(bytes, None) {
        Ok(_) => (None, ""),
        Err(export::ExportError::Bad { place, field, .. }) => (Some(format!("{place:?}")), field),
        Err(export::ExportError::Io { .. }) => (None, "io"),
    });
}

#[test]
fn fuzz_the_audit() {
    let (entry, _) = wyneos::audit::Signer::new(&[7; 32]).seal(CLUSTER, [0; 32], v1::AuditRecord::default());
    run("the audit", &[entry.encode_to_vec()], |bytes| {
        let entry = v1::AuditEntry::decode(bytes).map_err(|error| error.to_string())?;
        let mut verifier = Verifier::new(CLUSTER, PublicKey([7; 32]));
        verifier.next(&entry).map_err(|error| error.to_string())
    });
}

#[test]
fn fuzz_scenarios() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.unwrap().path()).unwrap();
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(folder).unwrap().map(read).collect();
    assert!(seeds.len() > 10);
    run("scenarios", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.parse::<wyneos_sim::Scenario>().map(|_| ()).map_err(|_| ())
    });
}

#[test]
fn fuzz_declarations() {
    let mut spec = convert::spec_out(
        &wyneos_core::workload::Spec::new("web", "/bin/web"),
        convert::Values::Shown,
    );
    spec.env.push(v1::EnvironmentVariable {
        name: "LOG".to_owned(),
        value: "info".to_owned(),
    });
    spec.constraints.push(v1::Constraint {
        key: "zone".to_owned(),
        operator: v1::ConstraintOperator::In.into(),
        values: vec!["a".to_owned()],
    });
    run("declarations", &[spec.encode_to_vec()], |bytes| {
        let spec = v1::WorkloadSpec::decode(bytes).map_err(|error| error.to_string())?;
        let spec = convert::spec_in(spec).map_err(|error| error.field)?;
        // An accepted declaration is accepted again, unchanged.
        assert_eq!(
            convert::spec_in(convert::spec_out(&spec, convert::Values::Shown)).as_ref(),
            Ok(&spec)
        );
        Ok::<_, String>(())
    });
}
