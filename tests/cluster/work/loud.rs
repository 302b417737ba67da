//! Limits on the cost of large and verbose workloads.

use std::time::{Duration, Instant};

use wyneos::v1;

use super::Site;
use crate::harness::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn forty_instances_of_the_largest_declaration_run_on_one_node() {
    let mut site = Site::start(&["one"]).await;
    let session = site.session("one").await;
    let values = vec![format!("\"{}\"", "x".repeat(250)); 32].join(", ");
    let affinity = format!("[[affinity]]\nkey = \"zone\"\noperator = \"in\"\nvalues = [{values}]\n");
    let declaration = format!(
        "name = \"large\"\nkind = \"service\"\nreplicas = 40\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n\
         [resources]\ncpu = \"1m\"\nmemory = \"2MiB\"\n{}",
        affinity.repeat(28)
    );
    assert!(declaration.len() > 224_000, "{}", declaration.len());
    site.apply(&declaration);
    site.runs("large", 40).await;
    assert_eq!(site.session("one").await, session, "all in one session");
    // A returning agent is not sent what it has already.
    site.kill_agent("one").await;
    site.start_agent("one").await;
    site.runs("large", 40).await;
    assert!(site.ctl(&["delete", "large"]).status.success());
    site.runs("large", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_at_once_is_started_ever_more_rarely_and_told_of_once() {
    let site = Site::start(&["one"]).await;
    site.apply(
        "name = \"loop\"\nkind = \"service\"\ncommand = \"/bin/false\"\n\
         [restart]\nattempts = 1000000\nbackoff = \"50ms\"\nbackoff_max = \"50ms\"\n",
    );
    let began = Instant::now();
    let restarts = wait_until("it was started seven times", async || {
        let rows = site.instances("loop").await;
        let restarts = rows.first()?.assignment.as_ref()?.status.as_ref()?.restarts;
        (restarts >= 7).then_some(restarts)
    })
    .await;
    // 50, 100, 200, 400, 800, 1,600 and 3,200 ms.
    assert!(
        began.elapsed() >= Duration::from_millis(3_150),
        "{restarts} in {:?}",
        began.elapsed()
    );
    let events = site.cluster.events().await;
    let about: Vec<&v1::Event> = events
        .iter()
        .filter(|event| event.summary.contains("is started again"))
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
    let path = site.cluster.directory.path().join("short.toml");
    std::fs::write(
        &path,
        "name = \"loop\"\nkind = \"service\"\ncommand = \"/bin/false\"\n[restart]\nbackoff = \"1ms\"\n",
    )
    .unwrap();
    let refused = site.ctl(&["apply", "-f", &path.display().to_string()]);
    let said = crate::secure::text(&refused);
    assert!(!refused.status.success() && said.contains("restart.backoff"), "{said}");
}
