//! Roles: every rpc by every kind of caller, compared with the table in docs/security.md.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use rustls::ClientConfig;
use tonic::{Code, transport::Channel};
use tonic_prost::ProstCodec;
use wyneos::{
    client,
    identity::{Principal, Role},
    v1,
};
use wyneos_core::id::Uuid;

use crate::{
    harness::{PATIENCE, wait_until},
    secure::{Secure, nobody, run, text, valid},
};

const NODE: Uuid = Uuid([0x11; 16]);

/// The roles of operators.
const PEOPLE: [(v1::Role, Role); 4] = [
    (v1::Role::Viewer, Role::Viewer),
    (v1::Role::Operator, Role::Operator),
    (v1::Role::Deployer, Role::Deployer),
    (v1::Role::Admin, Role::Admin),
];

/// Returns every rpc of the protocol.
pub fn rpcs() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(wyneos::FILE_DESCRIPTOR_SET).unwrap();
    let mut rpcs = Vec::new();
    for file in set.file {
        for service in &file.service {
            let of = format!("{}.{}", file.package(), service.name());
            rpcs.extend(service.method.iter().map(|method| format!("{of}/{}", method.name())));
        }
    }
    rpcs
}

/// Returns the table in docs/security.md: permitted callers by rpc.
pub fn documented() -> BTreeMap<String, String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| *line != "| rpc | callers |")
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let rpc = cells[0].trim_matches('`');
        let rpc = match rpc.starts_with("grpc.") {
            true => rpc.to_owned(),
            false => format!("wyneos.v1.{rpc}"),
        };
        (rpc, cells[1].to_owned())
    };
    rows.map(row).collect()
}

/// A kind of caller.
struct Somebody {
    role: Option<Role>,
    tls: Arc<ClientConfig>,
    bearer: Option<String>,
}

impl Somebody {
    fn may(&self, callers: &str) -> bool {
        match (callers, self.role) {
            ("anybody", _) => true,
            (_, None) => false,
            ("holders of a certificate", Some(role)) => role != Role::Coordinator && self.bearer.is_none(),
            (roles, Some(role)) => roles.split(", ").any(|name| name == role.name()),
        }
    }
}

async fn everybody(cluster: &Secure) -> Vec<Somebody> {
    let unknown = nobody(&cluster.path("admin"));
    let by = |role: Role, name: &str| {
        let principal = Principal::new(cluster.cluster(), role, name).unwrap();
        Somebody {
            role: Some(role),
            tls: cluster.certificate(&principal, valid()),
            bearer: None,
        }
    };
    let mut all = vec![Somebody {
        role: None,
        tls: Arc::clone(&unknown),
        bearer: None,
    }];
    let mut access = client::access(cluster.admin().await);
    for (wire, role) in PEOPLE {
        all.push(by(role, "somebody"));
        let request = v1::CreateOperatorRequest {
            name: format!("bearer-{}", role.name()),
            role: wire.into(),
            ..Default::default()
        };
        let answer = access.create_operator(request).await.unwrap().into_inner();
        all.push(Somebody {
            role: Some(role),
            tls: Arc::clone(&unknown),
            bearer: Some(answer.bearer_token),
        });
    }
    all.push(by(Role::Agent, &NODE.to_string()));
    all.push(by(Role::Coordinator, &NODE.to_string()));
    all
}

/// Makes a call without content; returns its status, or that of the beginning of its answer.
async fn call(channel: &Channel, rpc: &str, bearer: Option<&str>) -> Code {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/{rpc}").parse().unwrap();
    let mut request = tonic::Request::new(tokio_stream::once(()));
    if let Some(token) = bearer {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let answer = grpc.streaming(request, path, ProstCodec::<(), ()>::default());
    match tokio::time::timeout(PATIENCE, answer).await.unwrap() {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn every_rpc_answers_whom_the_documented_table_names_and_nobody_else() {
    let cluster = Secure::start(&[]).await;
    let table = documented();
    for rpc in rpcs() {
        assert!(table.contains_key(&rpc), "docs/security.md has no row for {rpc}");
    }
    for somebody in everybody(&cluster).await {
        let channel = cluster.connect(&somebody.tls).await;
        let bearer = somebody.bearer.as_deref();
        let who = format!("{:?} (bearer: {})", somebody.role, bearer.is_some());
        for (rpc, callers) in &table {
            let code = call(&channel, rpc, bearer).await;
            let refused = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
            assert_eq!(refused, !somebody.may(callers), "{rpc} by {who}: {code:?}");
            let unproven = somebody.role.is_none() || callers == "holders of a certificate" && bearer.is_some();
            if refused {
                let expected = if unproven {
                    Code::Unauthenticated
                } else {
                    Code::PermissionDenied
                };
                assert_eq!(code, expected, "{rpc} by {who}");
            }
        }
        let unknown = call(&channel, "wyneos.v1.ClusterService/Erase", bearer).await;
        assert_eq!(unknown, Code::Unimplemented, "{who}");
    }
    let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
    let wrong = call(
        &channel,
        "wyneos.v1.ClusterService/ListNodes",
        Some("wyneos-bearer-1-00"),
    )
    .await;
    assert_eq!(wrong, Code::Unauthenticated);
}

#[tokio::test]
async fn an_operator_runs_the_cluster_and_a_deployer_brings_the_code() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    for role in ["operator", "deployer"] {
        let out = cluster.path(role).display().to_string();
        cluster.done(&["operator", "create", role, "--role", role, "--out", &out]);
    }
    let by = |role: &str, args: &[&str]| {
        let credentials = cluster.path(role).display().to_string();
        let common = ["--address", &cluster.address, "--credentials", &credentials];
        run("wynectl", &[&common[..], args].concat())
    };
    let does = |role: &str, args: &[&str]| {
        let output = by(role, args);
        assert!(output.status.success(), "{role}: {args:?}: {}", text(&output));
    };
    let may_not = |role: &str, args: &[&str], needs: &str| {
        let output = by(role, args);
        assert!(!output.status.success(), "{role}: {args:?}");
        assert!(text(&output).contains(needs), "{role}: {args:?}: {}", text(&output));
    };
    let file = cluster.path("web.toml");
    std::fs::write(
        &file,
        "name = \"web\"\nreplicas = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n",
    )
    .unwrap();
    let file = file.display().to_string();
    let deployers = "one of the roles deployer, admin";
    may_not("operator", &["apply", "-f", &file], deployers);
    does("deployer", &["apply", "-f", &file]);
    does("operator", &["plan", "-f", &file]);
    does("operator", &["restart", "web"]);
    does("deployer", &["restart", "web"]);
    does("operator", &["scale", "web", "1"]);
    does("deployer", &["scale", "web", "0"]);
    may_not("operator", &["promote", "web"], deployers);
    may_not("operator", &["logs", "web.0"], deployers);
    may_not("operator", &["delete", "web"], deployers);
    does("operator", &["cordon", "one"]);
    for order in [
        &["uncordon", "one"][..],
        &["drain", "one"],
        &["label", "one", "a=b"],
        &["rebalance"],
    ] {
        may_not("deployer", order, "one of the roles operator, admin");
    }
    for role in ["operator", "deployer"] {
        let out = cluster.path("more").display().to_string();
        let make = ["operator", "create", "more", "--role", "viewer", "--out", &out];
        may_not(role, &make, "the role admin");
        may_not(role, &["audit"], "the role admin");
    }
    // The last line that an ended instance wrote is part of its log.
    let told =
        "name = \"told\"\nkind = \"batch\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo hunter2 >&2; exit 1\"]\n";
    std::fs::write(&file, told).unwrap();
    does("operator", &["uncordon", "one"]);
    does("deployer", &["apply", "-f", &file]);
    let shown = |role: &str, args: &[&str]| text(&by(role, &[args, &["-o", "json"]].concat()));
    let reads = [
        &["workload", "told"][..],
        &["why", "told.0"],
        &["assignments", "--ended"],
    ];
    for read in reads {
        wait_until("it has ended, and is quoted", async || {
            shown("deployer", read).contains("\"hunter2\"").then_some(())
        })
        .await;
        let hidden = shown("operator", read);
        assert!(
            hidden.contains("exit status 1") && !hidden.contains("\"hunter2\""),
            "{hidden}"
        );
    }
    does("deployer", &["delete", "told"]);
    does("deployer", &["delete", "web"]);
    let listed = cluster.done(&["operator", "list"]);
    assert!(listed.contains("deployer"), "{listed}");
    let principal = cluster
        .audited("who applied", |record| {
            record.action.ends_with("/ApplyWorkload") && record.code == 0
        })
        .await
        .principal;
    assert_eq!(principal, "deployer/deployer");
}
