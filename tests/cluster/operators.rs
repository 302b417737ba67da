//! Operators, contexts, and the audit.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::Duration,
};

use tonic::Code;
use tonic_types::StatusExt as _;
use wyneos::{
    client,
    identity::{Principal, Role},
    v1,
};

use crate::{
    harness::{Process, binary, wait_until},
    secure::{Secure, run, text, tls},
};

/// Runs `wynectl` as a user does, with contexts only.
pub fn by_context(cluster: &Secure, args: &[&str]) -> Output {
    Command::new(binary("wynectl"))
        .args(args)
        .env("XDG_CONFIG_HOME", cluster.path("config"))
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_context_is_all_that_a_user_needs() {
    let cluster = Secure::start(&[]).await;
    let ada = cluster.path("ada").display().to_string();
    let made = cluster.done(&["operator", "create", "ada", "--role", "viewer", "--out", &ada]);
    assert!(made.contains("wynectl context add ada"), "{made}");
    let user = |args: &[&str]| by_context(&cluster, args);
    let add = [
        "context",
        "add",
        "home",
        "--coordinator",
        &cluster.address,
        "--from",
        &ada,
    ];
    assert!(user(&add).status.success());
    let kept = cluster.path("config").join("wyneos").join("credentials").join("home");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), mode(&kept.join("key.pem"))), (0o700, 0o600));
    assert!(user(&["nodes"]).status.success());
    let listed = text(&user(&["context", "list"]));
    assert!(listed.contains("home") && listed.contains("viewer/ada"), "{listed}");
    let refused = user(&["cordon", "x"]);
    assert!(
        text(&refused).contains("requires one of the roles operator, admin"),
        "{}",
        text(&refused)
    );
    // Switch to another context, and back.
    let add = ["context", "add", "away", "--coordinator", "127.0.0.1:1"];
    assert!(user(&add).status.success());
    assert!(user(&["nodes"]).status.success(), "the first stays in use");
    assert!(user(&["context", "use", "away"]).status.success());
    assert_eq!(user(&["nodes"]).status.code(), Some(3));
    assert!(user(&["nodes", "--context", "home"]).status.success());
    assert_eq!(user(&["context", "use", "nowhere"]).status.code(), Some(5));
    assert!(user(&["context", "remove", "away"]).status.success());
    // Revoked from the next call on, also over an established channel.
    let channel = cluster.connect(&tls(&kept)).await;
    let list = |channel| async {
        let answer = client::cluster(channel)
            .list_nodes(v1::ListNodesRequest::default())
            .await;
        answer.map_err(|status| status.code())
    };
    list(channel.clone()).await.unwrap();
    let watch = v1::WatchSnapshotsRequest::default();
    let watched = client::coherence(channel.clone()).watch_snapshots(watch).await;
    let mut watched = watched.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    cluster.done(&["operator", "revoke", "ada"]);
    assert_eq!(list(channel).await.unwrap_err(), Code::Unauthenticated);
    let ended = loop {
        match watched.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(
        ended.unwrap_err().code(),
        Code::Unauthenticated,
        "a stream of before ends, too"
    );
    assert!(cluster.done(&["operator", "list"]).contains("ada"));
}

#[tokio::test]
async fn an_admin_who_lost_the_key_gets_another_one_on_the_coordinators_host() {
    let cluster = Secure::start(&[]).await;
    let (data_dir, out) = (cluster.data_dir(), cluster.path("again").display().to_string());
    let args = ["admin", "--data-dir", &data_dir, "--name", "again", "--out", &out];
    let made = run("wyneos-coordinator", &args);
    assert!(made.status.success(), "{}", text(&made));
    let again = cluster.connect(&tls(&cluster.path("again"))).await;
    // The lost operator is revoked by name, although it was not on record.
    let name = "admin".to_owned();
    let mut access = client::access(again);
    access
        .revoke_operator(v1::RevokeOperatorRequest { name, force: false })
        .await
        .unwrap();
    let lost = cluster.wynectl(&["nodes"]);
    assert!(text(&lost).contains("revoked"), "{}", text(&lost));
}

#[tokio::test]
async fn a_name_that_is_not_on_record_is_shut_out_and_said_to_be_unknown() {
    let cluster = Secure::start(&[]).await;
    let told = cluster.done(&["operator", "revoke", "nobodyhere"]);
    assert!(
        told.contains("nobodyhere is not on record, and is revoked by name"),
        "{told}"
    );
    let listed = cluster.done(&["operator", "list"]);
    let row = listed.lines().find(|line| line.starts_with("nobodyhere")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().take(3).collect();
    assert_eq!(cells, ["nobodyhere", "-", "-"], "{listed}");
    assert!(
        listed.contains("`wyneos-coordinator admin` on the coordinator's host are not on record"),
        "{listed}"
    );
}

#[tokio::test]
async fn an_operator_ends_its_own_access_only_by_force_and_hears_that_it_did() {
    let cluster = Secure::start(&[]).await;
    let refused = cluster.wynectl(&["operator", "revoke", "admin"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert!(cluster.wynectl(&["nodes"]).status.success(), "nothing was changed");
    let told = cluster.done(&["operator", "revoke", "admin", "--force"]);
    assert!(
        told.contains("admin is not on record, and is revoked by name"),
        "{told}"
    );
    assert!(text(&cluster.wynectl(&["nodes"])).contains("this operator was revoked"));
    // A credential that replaces the caller's own is delivered as well.
    let (data_dir, out) = (cluster.data_dir(), cluster.path("bob").display().to_string());
    let made = run(
        "wyneos-coordinator",
        &["admin", "--data-dir", &data_dir, "--name", "bob", "--out", &out],
    );
    assert!(made.status.success(), "{}", text(&made));
    let mut request = v1::CreateOperatorRequest {
        name: "bob".to_owned(),
        role: v1::Role::Admin.into(),
        ..Default::default()
    };
    let mut access = client::access(cluster.connect(&tls(&cluster.path("bob"))).await);
    let unforced = access.create_operator(request.clone()).await.unwrap_err();
    assert_eq!(unforced.code(), Code::FailedPrecondition);
    assert!(unforced.message().contains("--force"), "{unforced}");
    access
        .list_operators(v1::ListOperatorsRequest::default())
        .await
        .unwrap();
    request.force = true;
    let bearer = access
        .create_operator(request.clone())
        .await
        .unwrap()
        .into_inner()
        .bearer_token;
    assert!(bearer.starts_with("wyneos-bearer"));
    let shut = access.create_operator(request).await.unwrap_err();
    assert_eq!(shut.code(), Code::Unauthenticated);
}

/// Creates an admin's credentials on the coordinator's host, in a directory with the admin's name.
fn host_made(cluster: &Secure, name: &str) {
    let (data_dir, out) = (cluster.data_dir(), cluster.path(name).display().to_string());
    let args = ["admin", "--data-dir", &data_dir, "--name", name, "--out", &out];
    let made = run("wyneos-coordinator", &args);
    assert!(made.status.success(), "{}", text(&made));
}

#[tokio::test]
async fn an_operators_own_name_is_given_another_credential_only_by_force() {
    let cluster = Secure::start(&[]).await;
    let create = ["operator", "create", "admin", "--role", "viewer", "--bearer"];
    let refused = cluster.wynectl(&create);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert!(cluster.wynectl(&["nodes"]).status.success(), "nothing was changed");
    // Credentials of this name made on the coordinator's host are revoked, and the output says so.
    host_made(&cluster, "zed");
    let told = cluster.wynectl(&["operator", "create", "zed", "--role", "viewer", "--bearer"]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(
        said.contains("zed was not on record") && said.contains("are revoked"),
        "{said}"
    );
    cluster.done(&["operator", "revoke", "zed"]);
    let again = cluster.wynectl(&["operator", "create", "zed", "--role", "viewer", "--bearer"]);
    let said = text(&again);
    assert!(again.status.success() && !said.contains("not on record"), "{said}");
    let forced = cluster.wynectl(&[&create[..], &["--force"]].concat());
    assert!(forced.status.success(), "{}", text(&forced));
    assert!(text(&cluster.wynectl(&["nodes"])).contains("took its place"));
}

#[tokio::test]
async fn whoever_was_shut_out_stays_out_however_many_operators_are_created() {
    let cluster = Secure::start(&[]).await;
    let brief = |name: &str| v1::CreateOperatorRequest {
        name: name.to_owned(),
        role: v1::Role::Viewer.into(),
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let mut admin = client::access(cluster.admin().await);
    for name in ["revoked", "replaced", "late"] {
        host_made(&cluster, name);
    }
    admin.create_operator(brief("revoked")).await.unwrap();
    cluster.done(&["operator", "revoke", "revoked"]);
    admin.create_operator(brief("replaced")).await.unwrap();
    let mut shut = Vec::new();
    for name in ["revoked", "replaced"] {
        shut.push((name, cluster.connect(&tls(&cluster.path(name))).await));
    }
    // A full table of valid operators, for which a hint to retry would be wrong.
    let fill = |number: usize| v1::CreateOperatorRequest {
        ttl: None,
        ..brief(&format!("fill-{number}"))
    };
    let (mut made, mut full) = (0, None);
    for start in (0..1_200).step_by(50) {
        let mut creating = tokio::task::JoinSet::new();
        for number in start..start + 50 {
            let (mut admin, request) = (admin.clone(), fill(number));
            creating.spawn(async move { admin.create_operator(request).await });
        }
        for answer in creating.join_all().await {
            match answer {
                Ok(_) => made += 1,
                Err(status) => full = Some(status),
            }
        }
    }
    let full = full.unwrap();
    assert_eq!((made, full.code()), (1_000, Code::ResourceExhausted));
    assert!(full.get_error_details().retry_info().is_none(), "{full:?}");
    let message = full.message();
    assert!(!message.contains("try again") && !message.contains("retry"), "{full}");
    // With a full table, an operator that is not on record can still be revoked.
    let late = cluster.connect(&tls(&cluster.path("late"))).await;
    client::access(late.clone())
        .list_join_tokens(v1::ListJoinTokensRequest::default())
        .await
        .unwrap();
    let told = cluster.done(&["operator", "revoke", "late"]);
    assert!(told.contains("revoked by name"), "{told}");
    shut.push(("late", late));
    let listed = cluster.done(&["operator", "list"]);
    for (name, channel) in shut {
        let answer = client::access(channel)
            .list_join_tokens(v1::ListJoinTokensRequest::default())
            .await;
        assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated, "{name}");
        let mut rows = listed.lines().map(|line| line.split_whitespace().next());
        assert!(rows.any(|first| first == Some(name)), "{name}: {listed}");
    }
    // Revoking an operator frees a place.
    cluster.done(&["operator", "revoke", "fill-7"]);
    admin.create_operator(fill(2_000)).await.unwrap();
}

#[tokio::test]
async fn a_bearer_token_reads_what_its_role_may_until_it_expires() {
    let cluster = Secure::start(&[]).await;
    let made = cluster.wynectl(&[
        "operator", "create", "script", "--role", "viewer", "--bearer", "--ttl", "2s",
    ]);
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let nodes = async || {
        let channel = cluster.connect(&crate::secure::nobody(&cluster.path("admin"))).await;
        let mut request = tonic::Request::new(v1::ListNodesRequest::default());
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        client::cluster(channel).list_nodes(request).await
    };
    nodes().await.unwrap();
    wait_until("it expires", async || {
        nodes()
            .await
            .err()
            .filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}

#[tokio::test]
async fn the_audit_says_who_did_what_and_survives_a_kill() {
    let mut cluster = Secure::start(&[]).await;
    let mut command = Command::new(binary("wynectl"));
    command
        .args(["--address", &cluster.address, "--credentials"])
        .arg(cluster.path("admin"))
        .args(["audit", "--follow", "-o", "json"]);
    let following = Process::with_output(command, &cluster.path("followed"), &cluster.path("following.log"));
    let followed = |what: &str| {
        fs::read_to_string(cluster.path("followed"))
            .unwrap()
            .contains(what)
            .then_some(())
    };
    let _agent = cluster.joined("one").await;
    cluster.done(&["cordon", "one"]);
    wait_until("the follower sees it", async || followed("CordonNode")).await;
    let cordon = cluster
        .audited("the cordon", |record| record.action.ends_with("/CordonNode"))
        .await;
    assert_eq!((cordon.principal.as_str(), cordon.code), ("admin/admin", 0));
    assert!(
        cordon.source.starts_with("127.0.0.1:") && cordon.target == "node one",
        "{cordon:?}"
    );
    let missing = cluster.wynectl(&["cordon", "nobody"]);
    assert_eq!(missing.status.code(), Some(5));
    cluster.kill().await;
    following.kill().await;
    cluster.restart().await;
    let listed = cluster.done(&["audit", "--verify"]);
    for part in ["join token", "CordonNode", "NOT_FOUND", "verified"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let numbers: Vec<u64> = cluster.audit().await.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>());
    // Verification with a key other than the coordinator's fails.
    let other = "11".repeat(32);
    let wrong = cluster.wynectl(&["audit", "--verify", "--public-key", &other]);
    assert_eq!(wrong.status.code(), Some(4), "{}", text(&wrong));
}

#[tokio::test]
async fn whoever_hangs_up_is_in_the_audit_all_the_same() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    let mut client = client::cluster(cluster.admin().await);
    for number in 0..60u64 {
        let node = "one".to_owned();
        let patience = Duration::from_micros(300 + 100 * (number % 20));
        if number % 2 == 0 {
            let mut request = tonic::Request::new(v1::CordonNodeRequest { node });
            request.set_timeout(patience);
            drop(client.cordon_node(request).await);
        } else {
            let mut request = tonic::Request::new(v1::UncordonNodeRequest { node });
            request.set_timeout(patience);
            drop(client.uncordon_node(request).await);
        }
    }
    let done = async || {
        let request = v1::ListEventsRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let events = client::events(cluster.admin().await)
            .list_events(request)
            .await
            .unwrap();
        let command = |event: &v1::Event| match &event.body {
            Some(v1::event::Body::Command(command)) => command.verb.ends_with("cordon"),
            _ => false,
        };
        events.into_inner().events.iter().filter(|event| command(event)).count()
    };
    wait_until("every change has its entry", async || {
        let entries = cluster.audit().await;
        let entries = entries
            .iter()
            .filter(|record| record.action.to_lowercase().ends_with("cordonnode"));
        (entries.filter(|record| record.code == 0).count() >= done().await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_flood_of_refusals_fills_the_audit() {
    let cluster = Secure::start(&[]).await;
    let mut channel = cluster.connect(&crate::secure::nobody(&cluster.path("admin"))).await;
    for number in 0..500 {
        let path = format!("/wyneos.v1.Made/Up{number}").parse().unwrap();
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        grpc.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    }
    let ada = cluster.path("ada").display().to_string();
    cluster.done(&["operator", "create", "ada", "--role", "viewer", "--out", &ada]);
    channel = cluster.connect(&tls(&cluster.path("ada"))).await;
    let mut junk = v1::enrollment_service_client::EnrollmentServiceClient::new(channel.clone());
    for _ in 0..200 {
        junk.renew(v1::RenewRequest::default()).await.unwrap_err();
    }
    let node = "x".to_owned();
    let refused = client::cluster(channel)
        .cordon_node(v1::CordonNodeRequest { node })
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let told = cluster
        .audited("what others were refused", |record| {
            record.action.ends_with("/CordonNode")
        })
        .await;
    assert_eq!(told.principal, "viewer/ada");
    let entries = cluster.audit().await.len();
    assert!(entries < 20, "{entries} entries");
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_connection_stands_lets_nobody_in() {
    let cluster = Secure::start(&[]).await;
    let now = std::time::SystemTime::now();
    let admin = Principal::new(cluster.cluster(), Role::Admin, "brief").unwrap();
    let holds = now - Duration::from_secs(1)..now + Duration::from_secs(3);
    let channel = cluster.connect(&cluster.certificate(&admin, holds)).await;
    let mut client = client::cluster(channel);
    client.list_nodes(v1::ListNodesRequest::default()).await.unwrap();
    wait_until("it lets nobody in", async || {
        let answer = client.list_nodes(v1::ListNodesRequest::default()).await;
        answer.err().filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}

#[tokio::test]
async fn without_tls_it_is_said_and_nobody_needs_a_certificate() {
    let cluster = crate::harness::Cluster::start().await;
    let args = ["--address", &cluster.address, "token", "create"];
    let output = run("wynectl", &args);
    assert!(text(&output).contains("NO_TLS"), "{}", text(&output));
    let cordon = run("wynectl", &["--address", &cluster.address, "cordon", "nobody"]);
    assert_eq!(cordon.status.code(), Some(5));
    let audit = run("wynectl", &["--address", &cluster.address, "audit"]);
    assert!(text(&audit).contains("anybody"), "{}", text(&audit));
}

#[tokio::test]
async fn long_lists_of_tokens_and_operators_come_in_pages() {
    let cluster = Secure::start(&[]).await;
    let mut access = client::access(cluster.admin().await);
    let label = |at: usize| v1::Label {
        key: format!("{at:063}"),
        value: "v".repeat(255),
    };
    // About 20 KiB each: together more than a page.
    let mut made = Vec::new();
    for _ in 0..60 {
        let request = v1::CreateJoinTokenRequest {
            labels: (0..64).map(label).collect(),
            ..Default::default()
        };
        let answer = access.create_join_token(request).await.unwrap().into_inner();
        made.push(answer.details.unwrap().id);
    }
    made.sort();
    for page_size in [0, 7, 1_000] {
        let (mut found, mut pages, mut page_token) = (Vec::new(), 0, String::new());
        loop {
            let request = v1::ListJoinTokensRequest { page_size, page_token };
            let page = access.list_join_tokens(request).await.unwrap().into_inner();
            assert!(prost::Message::encoded_len(&page) < 1_100_000);
            (found, pages) = ([found, page.tokens].concat(), pages + 1);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let found: Vec<String> = found.into_iter().map(|token| token.id).collect();
        assert!(found == made && pages >= 2, "{pages} pages of {page_size}");
    }
    let listed = cluster.done(&["token", "list"]);
    assert!(made.iter().all(|id| listed.contains(id.as_str())));
    for number in 0..5 {
        let request = v1::CreateOperatorRequest {
            name: format!("op-{number}"),
            role: v1::Role::Viewer.into(),
            ..Default::default()
        };
        access.create_operator(request).await.unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListOperatorsRequest {
            page_size: 2,
            page_token,
        };
        let page = access.list_operators(request).await.unwrap().into_inner();
        assert!(page.operators.len() <= 2);
        names.extend(page.operators.into_iter().map(|operator| operator.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["op-0", "op-1", "op-2", "op-3", "op-4"]);
    let request = v1::ListOperatorsRequest {
        page_size: 1_001,
        ..Default::default()
    };
    let refused = access.list_operators(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn looking_at_autonomy_is_a_viewers_read_and_changes_are_in_the_audit_in_full() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    let ada = cluster.path("ada").display().to_string();
    cluster.done(&["operator", "create", "ada", "--role", "viewer", "--out", &ada]);
    let by_ada = |args: &[&str]| {
        let common = ["--address", &cluster.address, "--credentials", &ada];
        run("wynectl", &[&common[..], args].concat())
    };
    let looked = by_ada(&["autonomy"]);
    assert!(
        looked.status.success() && text(&looked).contains("heal:"),
        "{}",
        text(&looked)
    );
    assert_eq!(text(&looked), cluster.done(&["autonomy"]));
    let refused = text(&by_ada(&["autonomy", "--heal", "observe"]));
    assert!(refused.contains("requires the role admin"), "{refused}");
    cluster.done(&["autonomy", "--heal", "advise"]);
    let looked = text(&by_ada(&["autonomy"]));
    assert!(looked.contains("advise"), "{looked}");
    let audit = cluster.audit().await;
    let of = |rpc: &str| -> Vec<&v1::AuditRecord> { audit.iter().filter(|one| one.action.ends_with(rpc)).collect() };
    assert!(of("/GetAutonomy").is_empty());
    // The refusal, and the change's intent and outcome.
    assert_eq!(of("/SetAutonomy").len(), 3, "{:?}", of("/SetAutonomy"));

    cluster.done(&["label", "one", "zone=a", "rack=7"]);
    cluster.done(&["label", "one", "zone-"]);
    cluster.done(&["set-heartbeat", "one", "1s"]);
    cluster.done(&["set-heartbeat", "one", "default"]);
    let audit = cluster.audit().await;
    for target in [
        "node one: rack=7, zone=a",
        "node one: zone-",
        "node one: every 1s",
        "node one: the cluster's own interval",
    ] {
        let entries = audit.iter().filter(|one| one.target == target).count();
        assert_eq!(entries, 2, "{target}: {audit:?}");
    }

    cluster.done(&["operator", "revoke", "ada"]);
    assert!(!by_ada(&["nodes"]).status.success());
    let shut = cluster
        .audited("the refusal", |one| one.action.ends_with("/ListNodes") && one.code != 0)
        .await;
    assert_eq!(shut.principal, "viewer/ada");
    assert_ne!(shut.target, shut.action, "{shut:?}");
    let listed = cluster.done(&["audit"]);
    assert!(listed.lines().next().unwrap().contains("WHO"), "{listed}");
}

#[tokio::test]
async fn a_retired_ca_ends_its_tokens_and_whoever_it_cut_off_learns_the_remedy() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    cluster.done(&["token", "create", "--uses", "3"]);
    assert!(cluster.done(&["token", "list"]).contains("EXPIRES"));
    cluster.done(&["ca", "prepare"]);
    cluster.done(&["ca", "activate", "--force"]);
    let channel = cluster.admin().await;
    let retired = cluster.wynectl(&["ca", "retire", "--force"]);
    let told = text(&retired);
    assert!(retired.status.success(), "{told}");
    for part in ["operators with earlier credentials", "earlier join tokens"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // An established connection continues.
    let request = v1::ListJoinTokensRequest::default();
    let left = client::access(channel)
        .list_join_tokens(request)
        .await
        .unwrap()
        .into_inner();
    assert!(left.tokens.is_empty(), "{left:?}");
    let cut_off = wait_until("its own certificate is of the new CA", async || {
        let cut_off = cluster.wynectl(&["nodes"]);
        (!cut_off.status.success()).then(|| text(&cut_off))
    })
    .await;
    assert!(cut_off.contains("wyneos-coordinator admin"), "{cut_off}");
    assert!(!cut_off.contains("is a coordinator running"), "{cut_off}");
}
