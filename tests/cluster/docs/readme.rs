//! README.md: `wynectl dev`, work on it, and joining hosts.

use super::{
    pages::{blocks, uncovered},
    shape::fits,
    terminal::Terminal,
};
use crate::harness::{skip, wait_until};

#[tokio::test]
async fn every_block_of_the_readme_is_run() {
    let blocks = blocks("README.md");
    let [dev, told, look, work, join] = &blocks[..] else {
        panic!("{}", uncovered(&blocks))
    };
    let mut reader = Terminal::new();
    if !reader.has("/usr/bin/python3") {
        return skip("/usr/bin/python3, for the README");
    }
    reader.block(dev).await;
    wait_until("two cycles are as they are printed", async || {
        (reader.dev().output().matches("links 6/6").count() > 1).then_some(())
    })
    .await;
    reader.block(look).await;
    // The commands must name the address, which is not the default one.
    let address = reader.dev().address.clone();
    wait_until("dev tells of the death", async || {
        let said = reader.dev().output().replace(&format!(" --listen {address}"), "");
        fits(&told.lines, &said).then_some(())
    })
    .await;
    reader
        .until("wynectl nodes", |said| said.matches("online").count() == 3)
        .await;
    reader.block(work).await;
    reader.run("wynectl delete web");
    reader.dev_ends().await;

    let mut host = Terminal::on_host();
    host.block(join).await;
    host.until("wynectl nodes", |said| said.contains("online")).await;
}
