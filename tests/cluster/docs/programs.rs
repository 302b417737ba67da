//! docs/api.md: grpcurl with and without TLS, and generated SDKs; docs/integrity.md.

use std::{fs, path::Path};

use super::{
    pages::{blocks, uncovered},
    terminal::Terminal,
};
use crate::secure::copy;

/// Python, without a plugin that would have to be downloaded.
const BUF_GEN: &str = "version: v2
plugins:
  - protoc_builtin: python
    protoc_path: [python, -m, grpc_tools.protoc]
    out: by-buf
";

#[tokio::test]
async fn every_block_of_the_api_is_run() {
    let of_page = blocks("docs/api.md");
    let [with_tls, plaintext, generate] = &of_page[..] else {
        panic!("{}", uncovered(&of_page))
    };
    let mut host = Terminal::on_host();
    host.block(&blocks("docs/security.md")[0]).await;
    host.has_a_bearer_token();
    host.block(with_tls).await;

    let mut reader = Terminal::new();
    reader.start_dev("wynectl dev").await;
    reader.block(plaintext).await;

    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"),
        &reader.folder.join("proto"),
    );
    fs::write(reader.folder.join("buf.gen.yaml"), BUF_GEN).unwrap();
    reader.block(generate).await;
    reader.dev_ends().await;
}

#[tokio::test]
async fn every_block_of_integrity_is_run() {
    let blocks = blocks("docs/integrity.md");
    let [verify] = &blocks[..] else {
        panic!("{}", uncovered(&blocks))
    };
    let mut reader = Terminal::new();
    reader.start_dev("wynectl dev").await;
    let said = reader
        .until("wynectl snapshot verify", |said| said.contains("signed by "))
        .await;
    let (_, key) = said.trim_end().rsplit_once(' ').unwrap();
    reader.set("key", key);
    reader.block(verify).await;
    reader.dev_ends().await;
}
