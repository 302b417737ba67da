//! The binary starts; tests/ of the workspace's root run it in earnest. (Cargo builds a binary for tests only when its own
//! package has one like this.)

use std::process::Command;

#[test]
fn it_tells_its_version() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_wyneos-agent"))
        .arg("--version")
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.trim(), concat!("wyneos-agent ", env!("CARGO_PKG_VERSION")));
    Ok(())
}
