//! Joining, admission and revocation.

use std::time::{Duration, Instant};

use wyneos::{
    client,
    identity::{JoinToken, new_key, request_for},
    v1::{
        self, Admission, Liveness, enrollment_service_client::EnrollmentServiceClient,
        mesh_service_client::MeshServiceClient,
    },
};

use crate::{
    harness::{Process, wait_until},
    secure::{Secure, nobody, run, text, to_peer},
};

#[tokio::test]
async fn joining_is_one_command_and_harmless_twice() {
    let cluster = Secure::start(&[]).await;
    let token = cluster
        .token_for(v1::CreateJoinTokenRequest {
            uses: 1,
            labels: vec![v1::Label {
                key: "zone".to_owned(),
                value: "a".to_owned(),
            }],
            ..Default::default()
        })
        .await;
    let joined = cluster.join("one", &token);
    assert!(joined.status.success(), "{}", text(&joined));
    let agent = cluster.agent("one");
    let row = cluster.online("one").await;
    assert_eq!(row.admission(), Admission::Admitted);
    let ruling = row.ruling.unwrap();
    assert!(ruling.by.starts_with("join token "), "{}", ruling.by);
    assert!(
        row.labels
            .iter()
            .any(|label| (label.key.as_str(), label.value.as_str()) == ("zone", "a"))
    );
    // The same host with the same key: no use is consumed, although the only one is gone.
    let again = cluster.join("one", &token);
    assert!(again.status.success(), "{}", text(&again));
    let row_again = cluster.online("one").await;
    assert_eq!((row_again.id, row_again.session), (row.id, row.session));
    // Another host cannot use the token.
    let other = cluster.join("two", &token);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other).contains("wynectl token create"), "{}", text(&other));
    let refused = cluster
        .audited("the refusal, with its cause", |record| {
            record.action.ends_with("/Enroll") && record.code != 0
        })
        .await;
    assert!(refused.target.contains("used up"), "{refused:?}");
    drop(agent);
}

#[tokio::test]
async fn the_configuration_of_a_server_says_what_joining_and_making_an_admin_need() {
    let cluster = Secure::start(&[]).await;
    let token = cluster.token(1).await;
    let own = |name: &str| cluster.path(name).display().to_string();
    let file = own("agent.toml");
    let [data_dir, named] = [own("elsewhere"), own("flagged")];
    let text_of = |more: &str| {
        let address = &cluster.address;
        format!(
            "coordinators = [{address:?}]\ndata_dir = {data_dir:?}\nname = \"by-file\"\nlisten = \"127.0.0.1:0\"\n{more}"
        )
    };
    std::fs::write(&file, text_of("")).unwrap();
    let joined = run("wyneos-agent", &["join", "--config", &file, "--token", &token]);
    assert!(joined.status.success(), "{}", text(&joined));
    assert!(text(&joined).contains("as by-file"), "{}", text(&joined));
    let agent = Process::start("wyneos-agent", &["run", "--config", &file], &cluster.path("agent.log"));
    cluster.online("by-file").await;
    // Flags take precedence.
    let token = cluster.token(1).await;
    let flags = ["--data-dir", &named, "--name", "by-flag"];
    let joined = run(
        "wyneos-agent",
        &[&["join", "--config", &file, "--token", &token], &flags[..]].concat(),
    );
    assert!(
        joined.status.success() && text(&joined).contains("as by-flag"),
        "{}",
        text(&joined)
    );
    assert!(cluster.path("flagged").join("joined.toml").exists());
    // Errors name an invalid field, and a missing one.
    for (more, named) in [("colour = 1\n", "colour"), ("ports = \"1\"\n", "ports")] {
        std::fs::write(&file, text_of(more)).unwrap();
        let refused = run("wyneos-agent", &["join", "--config", &file, "--token", &token]);
        assert_eq!(refused.status.code(), Some(64), "{}", text(&refused));
        assert!(text(&refused).contains(named), "{}", text(&refused));
    }
    std::fs::write(&file, "name = \"x\"\n").unwrap();
    let refused = run("wyneos-agent", &["join", "--config", &file, "--token", &token]);
    assert!(text(&refused).contains("coordinators") && text(&refused).contains("--coordinator"));
    let (file, out) = (own("coordinator.toml"), own("second"));
    std::fs::write(&file, format!("data_dir = {:?}\n", cluster.data_dir())).unwrap();
    let made = run(
        "wyneos-coordinator",
        &["admin", "--config", &file, "--name", "second", "--out", &out],
    );
    assert!(made.status.success(), "{}", text(&made));
    assert!(cluster.path("second").join("cert.pem").exists());
    agent.kill().await;
}

#[tokio::test]
async fn three_nodes_that_joined_probe_one_another() {
    let cluster = Secure::start(&[]).await;
    let token = cluster.token(3).await;
    let mut agents = Vec::new();
    for name in ["a", "b", "c"] {
        assert!(cluster.join(name, &token).status.success());
        agents.push(cluster.agent(name));
    }
    wait_until("all links are up", async || {
        let mesh = cluster.snapshot().await.mesh?;
        (mesh.planned_links == 6 && mesh.live_links == 6).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tokens_that_are_no_good_let_nobody_in_and_say_so() {
    let mut cluster = Secure::start(&[]).await;
    let refused = |cluster: &Secure, token: &str, says: &str| {
        let output = cluster.join("one", token);
        assert!(!output.status.success(), "{token}");
        assert!(text(&output).contains(says), "{says}: {}", text(&output));
        assert!(!text(&output).contains(&token[60..]), "the token is told");
    };
    let token = cluster.token(1).await;
    let mut altered = token.clone();
    let last = altered.pop().unwrap();
    altered.push(if last == '0' { '1' } else { '0' });
    refused(&cluster, &altered, "altered");
    let good: JoinToken = token.parse().unwrap();
    let forged = JoinToken::new(good.cluster, good.fingerprint, [5; 28]).to_string();
    refused(&cluster, &forged, "wynectl token create");
    // A token of another cluster: this coordinator is not the one that it names.
    let foreign = JoinToken::new(wyneos_core::id::Uuid([4; 16]), good.fingerprint, [5; 28]).to_string();
    refused(&cluster, &foreign, "is it the coordinator that issued the token?");
    let pinned = JoinToken::new(good.cluster, [9; 32], [5; 28]).to_string();
    refused(&cluster, &pinned, "is it the coordinator that issued the token?");
    let named = v1::CreateJoinTokenRequest {
        name: "web-7".to_owned(),
        ..Default::default()
    };
    refused(&cluster, &cluster.token_for(named).await, "another name");
    let short = v1::CreateJoinTokenRequest {
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let short = cluster.token_for(short).await;
    let expires = Instant::now() + Duration::from_millis(1_100);
    // Used and expiring tokens survive a kill.
    assert!(cluster.join("other", &token).status.success());
    cluster.kill().await;
    cluster.restart().await;
    refused(&cluster, &token, "wynectl token create");
    tokio::time::sleep_until(expires.into()).await;
    refused(&cluster, &short, "wynectl token create");
    let deleted = cluster.token(1).await;
    let id = deleted.parse::<JoinToken>().unwrap().name();
    cluster.done(&["token", "delete", &id]);
    refused(&cluster, &deleted, "wynectl token create");
}

#[tokio::test]
async fn guesses_are_limited_by_their_source() {
    let cluster = Secure::start(&["--enrolments-per-minute", "5"]).await;
    let good: JoinToken = cluster.token(1).await.parse().unwrap();
    let mut client = EnrollmentServiceClient::new(cluster.connect(&nobody(&cluster.path("admin"))).await);
    let mut codes = Vec::new();
    for guess in 0..8 {
        let token = JoinToken::new(good.cluster, good.fingerprint, [guess; 28]).to_string();
        let request = v1::EnrollRequest {
            token,
            node_id: "01020304-0506-0708-090a-0b0c0d0e0f10".to_owned(),
            name: "guess".to_owned(),
            certificate_request: request_for(&new_key().unwrap()).unwrap().to_vec(),
            machine: Vec::new(),
        };
        codes.push(client.enroll(request).await.unwrap_err().code());
    }
    assert_eq!(codes[..5], [tonic::Code::PermissionDenied; 5]);
    assert_eq!(codes[5..], [tonic::Code::ResourceExhausted; 3]);
}

#[tokio::test]
async fn requests_that_ask_for_more_than_a_certificate_get_none() {
    let cluster = Secure::start(&[]).await;
    let token = cluster.token(5).await;
    let mut client = EnrollmentServiceClient::new(cluster.connect(&nobody(&cluster.path("admin"))).await);
    let key = new_key().unwrap();
    let good = request_for(&key).unwrap().to_vec();
    let mut tampered = good.clone();
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    let named = {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["coordinator.example".to_owned()];
        let params = rcgen::CertificateParams::new(names).unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    for (what, certificate_request) in [
        ("tampered", tampered),
        ("asks for names", named),
        ("empty", Vec::new()),
        ("too long", vec![0x30; 20_000]),
    ] {
        let request = v1::EnrollRequest {
            token: token.clone(),
            node_id: "01020304-0506-0708-090a-0b0c0d0e0f10".to_owned(),
            name: "x".to_owned(),
            certificate_request,
            machine: Vec::new(),
        };
        let status = client.enroll(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().contains("certificate_request"), "{what}: {status}");
    }
    let mut access = client::access(cluster.admin().await);
    let list = access
        .list_join_tokens(v1::ListJoinTokensRequest::default())
        .await
        .unwrap();
    assert_eq!(list.into_inner().tokens[0].uses_left, 5);
}

#[tokio::test]
async fn a_pending_node_waits_for_an_operator() {
    let cluster = Secure::start(&[]).await;
    let pending = v1::CreateJoinTokenRequest {
        pending: true,
        ..Default::default()
    };
    let joined = cluster.join("late", &cluster.token_for(pending).await);
    assert!(text(&joined).contains("wynectl admit late"), "{}", text(&joined));
    let _agent = cluster.agent("late");
    let row = cluster.online("late").await;
    assert_eq!(row.admission(), Admission::Pending);
    cluster.done(&["admit", "late"]);
    let row = cluster
        .node("late", |node| {
            node.admission() == Admission::Admitted && node.liveness() == Liveness::Online
        })
        .await;
    assert_eq!(row.ruling.unwrap().by, "admin/admin");
}

#[tokio::test]
async fn a_revoked_node_is_shut_out_by_the_coordinator_and_by_its_peers() {
    let mut cluster = Secure::start(&[]).await;
    let (_one, _two) = (cluster.joined("one").await, cluster.joined("two").await);
    let (one, two) = (cluster.online("one").await, cluster.online("two").await);
    let peer = one.id.parse().unwrap();
    let probe = async || {
        let channel = to_peer(&cluster.path("two"), peer, &one.probe_address).await.unwrap();
        let request = v1::ProbeRequest {
            cluster_id: cluster.cluster().to_string(),
            observer_id: two.id.clone(),
            subject_id: one.id.clone(),
            sequence: 1,
            beacon_key: Vec::new(),
        };
        MeshServiceClient::new(channel).probe(request).await
    };
    wait_until("its peer answers it", async || probe().await.ok()).await;
    cluster.done(&["revoke", "two", "--reason", "stolen"]);
    let revoked = Instant::now();
    wait_until("its peer refuses it", async || {
        probe()
            .await
            .err()
            .filter(|status| status.code() == tonic::Code::PermissionDenied)
    })
    .await;
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    let row = cluster.node("two", |node| node.admission() == Admission::Revoked).await;
    assert_eq!(row.liveness(), Liveness::Left);
    let ruling = row.ruling.unwrap();
    assert_eq!((ruling.by.as_str(), ruling.reason.as_str()), ("admin/admin", "stolen"));
    cluster
        .audited("the refused session", |record| {
            record.action.ends_with("/Session") && record.reason.contains("revoked")
        })
        .await;
    // The revocation is durable, and a token does not revert it.
    cluster.kill().await;
    cluster.restart().await;
    let again = cluster.join("two", &cluster.token(1).await);
    assert!(text(&again).contains("wynectl admit"), "{}", text(&again));
    cluster.done(&["admit", "two"]);
    cluster.online("two").await;
}

#[tokio::test]
async fn an_agent_that_has_not_joined_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().display().to_string();
    let output = run("wyneos-agent", &["run", "--data-dir", &data_dir]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("wyneos-agent join"), "{}", text(&output));
}
