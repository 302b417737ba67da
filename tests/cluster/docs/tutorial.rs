//! The tutorial's commands, as printed and in order.

use super::{pages::blocks, terminal::Terminal};
use crate::harness::{skip, wait_until};

impl Terminal {
    fn is(&self, node: &str, liveness: &str) -> Option<()> {
        let all = self.json("wynectl nodes");
        let mut rows = all["nodes"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == node).unwrap();
        (row["liveness"] == liveness).then_some(())
    }

    fn agent_of_node_2(&mut self) -> u32 {
        self.dev.as_ref().map_or(0, |dev| dev.printed_pid("node-2"))
    }
}

#[tokio::test]
async fn every_block_of_the_tutorial_does_what_it_says() {
    let mut reader = Terminal::new();
    if !reader.has("curl") || !reader.has("/usr/bin/python3") {
        return skip("curl and /usr/bin/python3, for the tutorial");
    }
    let steps = blocks("docs/tutorial.md").into_iter().flat_map(|block| block.steps());
    let (mut started, mut last) = (false, String::new());
    for step in steps {
        let words: Vec<&str> = step.command.split_whitespace().take(3).collect();
        if words[0] == "curl" {
            let address = reader.web_0().unwrap()["addresses"][0].as_str().unwrap().to_owned();
            reader.set("address", &address);
            reader
                .until(&format!("curl -s http://{address}/"), |said| said.contains("DOCTYPE"))
                .await;
        }
        let agent = reader.agent_of_node_2();
        let said = reader.step(&step).await;
        let says = |what: &str| assert!(said.contains(what), "{}: {said}", step.command);
        match words[..] {
            ["curl", ..] => says("DOCTYPE"),
            ["wynectl", "logs", ..] => drop(reader.until(&step.command, |said| said.contains("GET / ")).await),
            ["wynectl", "apply", ..] => {
                says("6 instances start");
                wait_until("six run", async || (reader.running().len() == 6).then_some(())).await;
            }
            ["wynectl", "why", "web.0"] => {
                let number = said.trim().trim_start_matches("\"pid\": ").trim_end_matches(',');
                assert!(number.parse::<u32>().is_ok(), "{said}");
                reader.set("pid", number);
            }
            ["kill", "-9", "PID-OF-WEB.0"] => {
                wait_until("web.0 is restarted", async || {
                    let web_0 = reader.web_0()?;
                    (web_0["assignment"]["status"]["restarts"] == 1).then_some(())
                })
                .await;
            }
            ["wynectl", "whatif", ..] => says("2 instances would start elsewhere"),
            ["wynectl", "dev", "kill"] => {
                reader.dev().says(&format!("agent of node-2 (pid {agent}) ended")).await;
                wait_until("node-2 is offline", async || reader.is("node-2", "LIVENESS_OFFLINE")).await;
                wait_until("six run elsewhere", async || {
                    let rows = reader.running();
                    let elsewhere = rows.iter().filter(|row| row["nodeName"] != "node-2");
                    (elsewhere.count() == 6).then_some(())
                })
                .await;
            }
            ["wynectl", "why", "node-2"] => {
                says("agent-gone");
                says("Evidence");
            }
            ["wynectl", "dev", "start"] => {
                assert!(reader.dev().printed_command().contains(" dev start node-2"));
                wait_until("node-2 is back", async || reader.is("node-2", "LIVENESS_ONLINE")).await;
                started = true;
            }
            ["wynectl", "why", "web"] => says("node-2"),
            _ => {}
        }
        last = step.command;
    }
    assert_eq!(last, "wynectl delete web");
    assert!(started, "the tutorial starts the agent again");
    let watched = reader.going.pop().expect("the tutorial watches").log_text();
    assert!(watched.contains("node-2") && watched.contains("node-3"), "{watched}");
    reader.dev_ends().await;
}
