//! Health checks.

use std::{process::ChildStdin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use wyneos_core::workload::{Exit, Probe, Spec};

/// Bytes of an HTTP answer that are looked at.
const STATUS_LINE: usize = 64;

/// Asks once; why it failed, or `None` when it passed.
///
/// A check that is a program was started by the caller; `program` is its end.
pub(super) async fn ask(spec: &Spec, ports: &[u16], check: usize, program: Result<Program, String>) -> Option<String> {
    let check = spec.checks.get(check)?;
    let port = |name: &str| {
        let at = spec.ports.iter().position(|known| known == name)?;
        ports.get(at).copied()
    };
    let asked = async {
        match &check.probe {
            Probe::Exec(_) => match program {
                Ok(program) => program.ends().await,
                Err(why) => Err(why),
            },
            Probe::Tcp(name) => connect(port(name)).await.map(drop),
            Probe::Http(name, path) => get(port(name), path).await,
            Probe::Grpc(name) => serving(port(name)).await,
        }
    };
    match timeout(check.timeout, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some(format!("no answer within {:?}", check.timeout)),
    }
}

/// A check's program, in its runner. When this is dropped, the runner ends the program with all that it started.
pub(super) struct Program {
    /// The runner's standard input.
    pub(super) _input: ChildStdin,
    /// How it ended, once it has.
    pub(super) exit: oneshot::Receiver<Exit>,
}

impl Program {
    async fn ends(self) -> Result<(), String> {
        match self.exit.await {
            Ok(exit) if exit.is_success() => Ok(()),
            Ok(exit) => Err(exit.to_string()),
            Err(_) => Err("its end was not seen".to_owned()),
        }
    }
}

async fn connect(port: Option<u16>) -> Result<TcpStream, String> {
    let port = port.ok_or("the port is not known")?;
    TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|error| format!("port {port}: {error}"))
}

/// GET by HTTP/1.0: the answer's first line is all that counts.
async fn get(port: Option<u16>, path: &str) -> Result<(), String> {
    let mut stream = connect(port).await?;
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: wyneos\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    while line.len() < STATUS_LINE && !line.contains(&b'\n') {
        let mut byte = [0; 32];
        match stream.read(&mut byte).await.map_err(|error| error.to_string())? {
            0 => break,
            read => line.extend_from_slice(&byte[..read]),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.get(..3)?.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path}: status {status}")),
        None => Err(format!("GET {path}: no HTTP answer")),
    }
}

async fn serving(port: Option<u16>) -> Result<(), String> {
    let port = port.ok_or("the port is not known")?;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(Duration::from_secs(10));
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| wyneos::client::describe(&error))?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("says {}", other.as_str_name())),
    }
}
