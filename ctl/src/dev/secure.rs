//! `wynectl dev --tls`: credentials for this program, and for the agents, obtained as an operator would.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use wyneos::{client, convert, v1};

use super::{DevArgs, DevError};
use crate::config;

/// Time limit for the coordinator to create its CA, and to answer.
const START: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(50);

/// Lifetime of the join token.
const TOKEN: Duration = Duration::from_secs(300);

fn failed(what: impl Into<String>, why: impl ToString) -> DevError {
    DevError::system(what)(std::io::Error::other(why.to_string()))
}

/// Runs one of the servers' programs to its end.
async fn run(program: &Path, args: &[&str]) -> Result<(), DevError> {
    let what = format!(
        "run {} {}",
        program.display(),
        args.first().copied().unwrap_or_default()
    );
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        // A signal leaves no process behind that still writes.
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(DevError::system(what.clone()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(what, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Directory of the admin's credentials.
pub(super) fn admin(directory: &Path) -> PathBuf {
    directory.join("admin")
}

/// Obtains an admin's credentials, and makes every agent that has none yet join.
pub(super) async fn set_up(args: &DevArgs, binaries: &Path, directory: &Path) -> Result<(), DevError> {
    let data_dir = directory.join("coordinator");
    let state = data_dir.join("ca").join("state.toml");
    let deadline = Instant::now() + START;
    while !state.exists() {
        if Instant::now() > deadline {
            return Err(failed("find the CA", format!("no {} after {START:?}", state.display())));
        }
        sleep(RETRY).await;
    }
    let admin = admin(directory);
    let (data_dir, out) = (data_dir.display().to_string(), admin.display().to_string());
    run(
        &binaries.join("wyneos-coordinator"),
        &[
            "admin",
            "--data-dir",
            &data_dir,
            "--name",
            "dev",
            "--ttl",
            "30d",
            "--out",
            &out,
        ],
    )
    .await?;
    let tls = config::tls(&admin).map_err(|failure| failed("use the admin's credentials", failure))?;
    let address = args.listen.to_string();
    let token = loop {
        match token(&address, &tls, args.agents).await {
            Ok(token) => break token,
            Err(why) if Instant::now() > deadline => return Err(failed("create a join token", why)),
            Err(_) => sleep(RETRY).await,
        }
    };
    for number in 1..=args.agents {
        let folder = directory.join(format!("agent-{number}"));
        if folder.join("identity").join("cert.pem").exists() {
            continue;
        }
        let (data_dir, name) = (folder.display().to_string(), format!("node-{number}"));
        let join = [
            "join",
            "--coordinator",
            &address,
            "--token",
            &token,
            "--data-dir",
            &data_dir,
            "--name",
            &name,
        ];
        run(&binaries.join("wyneos-agent"), &join).await?;
    }
    Ok(())
}

async fn token(
    address: &str,
    tls: &std::sync::Arc<rustls::ClientConfig>,
    uses: u32,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let channel = client::connect_with(address, Some(tls)).await?;
    let request = v1::CreateJoinTokenRequest {
        ttl: Some(convert::duration(TOKEN)),
        uses,
        ..v1::CreateJoinTokenRequest::default()
    };
    let answer = client::access(channel).create_join_token(request).await?;
    Ok(answer.into_inner().token)
}
