//! An HTTP service under load behind a real proxy that follows the watch, with the proxy's retries off: no intended
//! change of the service loses a request.

use wyneos_netns::{Load, Proxy, SERVICE};

use super::*;
use crate::harness::skip;

/// Minimum number of requests.
const REQUESTS: u64 = 10_000;

/// Changes of a service by operators, and a kill of the coordinator, which does not affect the service.
#[derive(Clone, Copy, Debug)]
enum Change {
    Update,
    Restart,
    Scale,
    Drain,
    Coordinator,
}

/// A source of numbers (splitmix64), reproducible by its seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

impl Site {
    /// Runs wynectl, which must succeed.
    fn does(&self, args: &[&str]) {
        let output = self.ctl(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
    }

    async fn change(&mut self, change: Change, number: usize, draw: &mut Draw) {
        match change {
            Change::Update => {
                let path = self.cluster.directory.path().join("next.toml");
                fs::write(&path, format!("{SERVICE}\n[env]\nNUMBER = \"{number}\"\n")).unwrap();
                self.does(&["apply", "-f", &path.display().to_string(), "--wait"]);
            }
            Change::Restart => self.does(&["restart", "web", "--wait"]),
            Change::Scale => {
                self.does(&["scale", "web", "2", "--wait"]);
                self.runs("web", 2).await;
                self.does(&["scale", "web", "4", "--wait"]);
            }
            Change::Drain => {
                let node = ["one", "two", "three"][draw.below(3)];
                self.does(&["drain", node]);
                assert!(self.processes(node).is_empty());
                self.does(&["uncordon", node]);
            }
            Change::Coordinator => {
                self.cluster.kill().await;
                self.cluster.restart().await;
            }
        }
        self.runs("web", 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_service_loses_no_request() {
    if let Some(why) = Proxy::missing() {
        return skip(&why);
    }
    let seed = std::env::var("WYNEOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut draw = Draw(seed);
    let mut site = Site::start(&["one", "two", "three"]).await;
    site.apply(SERVICE);
    site.runs("web", 4).await;
    let proxy = Proxy::start(&site.cluster.address, "web", None, &[]);
    wait_until("the service answers", async || {
        let trial = Load::start(&proxy.socket(), "web ");
        wait_until("requests are answered", async || (trial.sent() > 8).then_some(())).await;
        trial.end().1.is_empty().then_some(())
    })
    .await;
    let load = Load::start(&proxy.socket(), "web ");
    let mut changes = Vec::new();
    let mut told = Vec::new();
    while load.sent() < REQUESTS || !changes.is_empty() {
        if changes.is_empty() {
            changes = vec![
                Change::Update,
                Change::Restart,
                Change::Scale,
                Change::Drain,
                Change::Coordinator,
            ];
        }
        let change = changes.swap_remove(draw.below(changes.len()));
        // At any phase of the polling of the follower and the coordinator.
        let phase = Duration::from_millis(10 * draw.below(100) as u64);
        tokio::time::sleep(phase).await;
        let began = Instant::now();
        site.change(change, told.len(), &mut draw).await;
        told.push((change, began, Instant::now()));
    }
    let (sent, failed) = load.end();
    let during = |at: Instant| told.iter().rfind(|(_, began, _)| *began <= at);
    for failure in &failed {
        let during = during(failure.began).map(|(change, began, _)| (*change, failure.began - *began));
        eprintln!(
            "{}, after {:?}, begun {during:?}",
            failure.why,
            failure.ended - failure.began
        );
    }
    let done: Vec<_> = told
        .iter()
        .map(|(change, began, ended)| (*change, *ended - *began))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {sent} failed, seed {seed}: {done:?}",
        failed.len()
    );
    println!("{sent} requests, none failed: {done:?}");
    drop(proxy);
    site.ends().await;
}
