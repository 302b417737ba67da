//! Health checks.

use std::{process::ChildStdin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use wyneos_core::workload::{Exit, Probe};

use super::Order;

/// Bytes of an HTTP answer that are examined.
const STATUS_LINE: usize = 64;

/// Executes a check once; returns the reason for a failure, or `None` if it passed.
///
/// A check that is a program was started by the caller; `program` is its result.
pub(super) async fn ask(order: &Order, check: usize, program: Result<Program, String>) -> Option<String> {
    let spec = &order.assigned.spec;
    let check = spec.checks.get(check)?;
    let host = match check.address.as_str() {
        "" => order.address.as_str(),
        address => address,
    };
    let port = |name: &str| {
        let at = spec.ports.iter().position(|known| known == name);
        let port = at.and_then(|at| order.ports.get(at));
        port.map(|port| (host, *port)).ok_or("the port is not known")
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

/// A check's program, in its runner. When this is dropped, the runner ends the program with everything that it started.
pub(super) struct Program {
    /// The runner's standard input.
    pub(super) _input: ChildStdin,
    /// The exit status, once it has ended.
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

/// The address of a port to check, or the reason for which it is not known.
type Asked<'a> = Result<(&'a str, u16), &'static str>;

async fn connect(asked: Asked<'_>) -> Result<TcpStream, String> {
    let address = asked?;
    let stream = TcpStream::connect(address).await;
    stream.map_err(|error| format!("{}: {error}", shown(address)))
}

/// An address for people.
fn shown((host, port): (&str, u16)) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Sends GET by HTTP/1.0: only the answer's first line counts.
async fn get(asked: Asked<'_>, path: &str) -> Result<(), String> {
    let mut stream = connect(asked).await?;
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

async fn serving(asked: Asked<'_>) -> Result<(), String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", shown(asked?)))
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::net::TcpListener;
    use wyneos_core::{
        id::Revision,
        workload::{Assigned, AssignmentId, Check, Spec},
    };

    use super::*;

    /// The result of a check at `address` of an instance whose published address is `published`.
    async fn asked(port: u16, published: &str, address: &str) -> Option<String> {
        let mut spec = Spec::new("web", "/bin/web");
        spec.ports = vec!["http".to_owned()];
        spec.checks = vec![Check {
            probe: Probe::Tcp("http".to_owned()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 1,
            start_grace: None,
            address: address.to_owned(),
        }];
        let order = Order {
            assigned: Assigned {
                id: AssignmentId(1),
                slot: 0,
                revision: Revision(1),
                spec: Arc::new(spec),
            },
            ports: vec![port],
            ephemeral: false,
            node: "one".to_owned(),
            of: None,
            address: published.to_owned(),
            group: None,
            contained: false,
        };
        ask(&order, 0, Err("it is no program".to_owned())).await
    }

    #[tokio::test]
    async fn a_port_is_asked_where_others_reach_it_or_where_the_check_says() {
        for own in ["127.0.0.1", "127.0.0.2", "::1"] {
            let Ok(listener) = TcpListener::bind((own, 0)).await else {
                // A host without IPv6.
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(asked(port, own, "").await, None, "{own}");
            assert_eq!(asked(port, "127.0.0.3", own).await, None, "{own}");
            let elsewhere = asked(port, "127.0.0.3", "").await.unwrap();
            assert!(elsewhere.starts_with("127.0.0.3:"), "{elsewhere}");
        }
        let nobody = asked(1, "::1", "").await.unwrap();
        assert!(nobody.starts_with("[::1]:1: "), "{nobody}");
    }
}
