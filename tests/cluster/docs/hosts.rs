//! docs/operations.md and docs/security.md: servers with TLS, as on hosts.

use super::{
    pages::{blocks, uncovered},
    terminal::Terminal,
};

#[tokio::test]
async fn every_block_of_operations_is_run() {
    let blocks = blocks("docs/operations.md");
    let [install, backup] = &blocks[..] else {
        panic!("{}", uncovered(&blocks))
    };
    let mut host = Terminal::on_host();
    host.block(install).await;
    host.until("wynectl nodes", |said| said.contains("online")).await;
    host.block(backup).await;
}

#[tokio::test]
async fn every_block_of_security_is_run() {
    let blocks = blocks("docs/security.md");
    let [start, call] = &blocks[..] else {
        panic!("{}", uncovered(&blocks))
    };
    let mut host = Terminal::on_host();
    host.block(start).await;
    host.until("wynectl nodes", |said| said.contains("online")).await;
    host.has_a_bearer_token();
    host.block(call).await;
}
