//! Third-party tools: grpcurl, buf, a Python client, and gRPC-Web as in a browser.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output},
};

use wyneos::v1::Liveness;

use crate::{
    harness::{Cluster, skip},
    secure::Secure,
};

/// Runs a tool; returns `None`, with a message, if it is not installed. Under .ci/run it must be.
fn tool(name: &str, args: &[&str]) -> Option<Output> {
    match Command::new(name).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("{name} is not on this machine ({error}); .ci/run installs it"));
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_needs_nothing_but_the_address() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let address = cluster.address.as_str();
    let Some(listed) = tool("grpcurl", &["-plaintext", address, "list"]) else {
        return;
    };
    for service in [
        "AgentService",
        "ClusterService",
        "CoherenceService",
        "DecisionService",
        "EventService",
        "TelemetryService",
    ] {
        assert!(
            text(&listed).contains(&format!("wyneos.v1.{service}")),
            "{}",
            text(&listed)
        );
    }
    let call = |args: &[&str]| text(&tool("grpcurl", &[&["-plaintext"], args].concat()).unwrap());
    let described = call(&[address, "describe", "wyneos.v1.ClusterService.CordonNode"]);
    assert!(described.contains("no new work is placed on it"), "{described}");
    assert!(call(&[address, "wyneos.v1.ClusterService/ListNodes"]).contains("\"name\": \"one\""));
    let cordoned = call(&[
        "-d",
        r#"{"node":"one"}"#,
        address,
        "wyneos.v1.ClusterService/CordonNode",
    ]);
    assert!(cordoned.contains("ELIGIBILITY_CORDONED"), "{cordoned}");
    let unknown = call(&[
        "-d",
        r#"{"node":"nobody"}"#,
        address,
        "wyneos.v1.ClusterService/CordonNode",
    ]);
    assert!(
        unknown.contains("NotFound") && unknown.contains("NODE_UNKNOWN"),
        "{unknown}"
    );
    let health = call(&[
        "-d",
        r#"{"service":"wyneos.v1.ClusterService"}"#,
        address,
        "grpc.health.v1.Health/Check",
    ]);
    assert!(health.contains("SERVING"), "{health}");
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_needs_nothing_but_the_protos() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let python = "python3";
    let at = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let has_grpc = tool(python, &["-c", "import grpc, grpc_tools"]);
    if !has_grpc.is_some_and(|imported| imported.status.success()) {
        skip("Python's grpcio-tools are not on this machine; .ci/run installs them");
        return;
    }
    let ran = tool(
        python,
        &[&at("tests/python/client.py"), &at("proto"), &cluster.address, "one"],
    )
    .unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
    drop(agent);
}

#[test]
fn the_protos_pass_buf() {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let Some(linted) = tool("buf", &["lint", protos]) else {
        return;
    };
    assert!(linted.status.success(), "{}", text(&linted));
}

#[tokio::test]
async fn a_browser_can_call_by_grpc_web_over_http_1() {
    let cluster = Cluster::start().await;
    let mut stream = TcpStream::connect(&cluster.address).unwrap();
    // An empty message: no flags, length 0.
    let head = format!(
        "POST /wyneos.v1.ClusterService/GetCluster HTTP/1.1\r\nhost: {}\r\ncontent-type: application/grpc-web+proto\r\n\
         content-length: 5\r\nconnection: close\r\n\r\n",
        cluster.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[0; 5]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("grpc-status:0"), "{answer}");
    assert!(answer.contains(&cluster.snapshot().await.cluster_id), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_talks_tls_by_the_files_that_an_operator_has() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    let file = |name: &str| cluster.path("admin").join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let list = "wyneos.v1.ClusterService/ListNodes";
    let args = ["-cacert", &ca, "-cert", &cert, "-key", &key, &cluster.address, list];
    let Some(listed) = tool("grpcurl", &args) else { return };
    assert!(text(&listed).contains("\"name\": \"one\""), "{}", text(&listed));
    let bearer = cluster.wynectl(&["operator", "create", "script", "--role", "viewer", "--bearer"]);
    let header = format!(
        "authorization: Bearer {}",
        String::from_utf8(bearer.stdout).unwrap().trim()
    );
    let args = ["-cacert", &ca, "-H", &header, &cluster.address, list];
    let listed = tool("grpcurl", &args).unwrap();
    assert!(text(&listed).contains("\"name\": \"one\""), "{}", text(&listed));
    // An error is reported as such.
    let get = "wyneos.v1.ClusterService/GetNode";
    let args = [
        "-cacert",
        &ca,
        "-cert",
        &cert,
        "-key",
        &key,
        "-d",
        r#"{"node":"nobody"}"#,
        &cluster.address,
        get,
    ];
    let missing = tool("grpcurl", &args).unwrap();
    assert!(
        text(&missing).contains("NotFound") && text(&missing).contains("NODE_UNKNOWN"),
        "{}",
        text(&missing)
    );
    // The protocol is public, its data is not.
    let services = tool("grpcurl", &["-cacert", &ca, &cluster.address, "list"]).unwrap();
    assert!(
        text(&services).contains("wyneos.v1.AccessService"),
        "{}",
        text(&services)
    );
    let refused = tool("grpcurl", &["-cacert", &ca, &cluster.address, list]).unwrap();
    assert!(text(&refused).contains("Unauthenticated"), "{}", text(&refused));
}
