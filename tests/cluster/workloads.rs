//! Plans of declarations.

use wyneos::v1::Liveness;

use crate::{
    harness::Cluster,
    secure::{run, text},
};

#[tokio::test]
async fn a_plan_says_where_instances_would_go_and_why_not_elsewhere() {
    let cluster = Cluster::start().await;
    let mut agents = Vec::new();
    for name in ["one", "two", "three"] {
        agents.push(cluster.agent(name));
        cluster.node_is(name, Liveness::Online).await;
    }
    let ctl = |args: &[&str]| run("wynectl", &[&["--address", &cluster.address], args].concat());
    assert!(ctl(&["cordon", "three"]).status.success());
    crate::harness::wait_until("the cordon is in a snapshot", async || {
        let nodes = cluster.snapshot().await.nodes;
        let cordoned = |node: &wyneos::v1::NodeRow| node.eligibility() == wyneos::v1::Eligibility::Cordoned;
        nodes.iter().any(cordoned).then_some(())
    })
    .await;
    let path = cluster.directory.path().join("web.toml");
    std::fs::write(
        &path,
        "name = \"web\"\ncommand = \"/bin/web\"\nreplicas = 3\nalone = true\n",
    )
    .unwrap();
    let file = path.display().to_string();
    let plan = text(&ctl(&["plan", "-f", &file]));
    assert!(plan.contains("2 instances would start, 1 would wait"), "{plan}");
    assert!(plan.contains("it is cordoned: it takes no new work"), "{plan}");
    assert!(plan.contains("it has an instance already"), "{plan}");
    std::fs::write(&path, "name = \"web\"\ncommand = \"/bin/web\"\nreplica = 3\n").unwrap();
    let typo = ctl(&["plan", "-f", &file]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(text(&typo).contains("replica"), "{}", text(&typo));
}
