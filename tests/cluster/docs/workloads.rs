//! docs/workloads.md: every declaration is planned and applied.

use rustix::process::geteuid;

use super::{pages::blocks, terminal::Terminal};
use crate::{
    harness::{free_address, skip, wait_until},
    work::Site,
};

#[tokio::test]
async fn every_block_of_workloads_is_run() {
    let mut reader = Terminal::new();
    if !geteuid().is_root() {
        // No package could provide this.
        return eprintln!("skipped: only root changes users, and contains what singletons start");
    }
    if !reader.has("curl") || !reader.has("/usr/bin/python3") {
        return skip("curl and /usr/bin/python3, for docs/workloads.md");
    }
    let site = Site::under(0o022, &[("node-1", &["--users", "daemon,web"]), ("node-2", &[])]).await;
    reader.talks_to(&site.cluster.address);
    let proxy = free_address();
    reader.set("proxy", proxy.rsplit_once(':').unwrap().1);
    let blocks = blocks("docs/workloads.md");
    for (number, block) in blocks.iter().enumerate() {
        if block.language != "toml" {
            for step in block.steps() {
                if step.command.starts_with("wynectl logs") {
                    // So that there is output to show.
                    let web = wait_until("web.0 is reached", async || {
                        Some(reader.web_0()?["addresses"][0].as_str()?.to_owned())
                    })
                    .await;
                    reader
                        .until(&format!("curl -s http://{web}/"), |said| said.contains("DOCTYPE"))
                        .await;
                }
                reader.step(&step).await;
            }
            continue;
        }
        let file = reader.declaration(block);
        reader.run(&format!("wynectl plan -f {file}"));
        let next = blocks.get(number + 1).filter(|next| next.language != "toml");
        let apply = format!("wynectl apply -f {file}");
        if !next.is_some_and(|next| next.steps().iter().any(|step| step.command == apply)) {
            let said = reader.run(&apply);
            assert!(said.contains("revision 1"), "{said}");
        }
    }
    if reader.has("haproxy") {
        let through = format!("curl -s http://{proxy}/");
        reader.until(&through, |said| said.contains("DOCTYPE")).await;
    }
    site.runs("scheduler", 1).await;
    site.runs("collector", 2).await;
    reader
        .until("wynectl logs scheduler", |said| {
            said.starts_with("my fencing number is ")
        })
        .await;
    wait_until("the batch is done", async || {
        let workload = site.workload("report").await.workload.unwrap();
        (workload.complete == 3).then_some(())
    })
    .await;
    wait_until("the service is well", async || {
        let workload = site.workload("api").await.workload.unwrap();
        (workload.stable_revision == 1).then_some(())
    })
    .await;
    site.ends().await;
}
