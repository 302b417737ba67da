//! `wyneos-agent join`: obtains a certificate, and writes a configuration, with a token.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use wyneos::{
    client::{self, ConnectError},
    identity::{self, BadToken, Expected, JoinToken, TlsError, client_config},
    v1::{self, enrollment_service_client::EnrollmentServiceClient},
};
use wyneos_core::limits;
use wyneos_shell::{
    clock::{BUILT, Behind, wait_until_past},
    config::{BadConfig, Layered as _},
    exit, files,
    rights::{self, Owner, Told},
    start::Fatal,
};

use crate::{
    config::Config,
    host::{self, HostError},
    identity::{IdentityError, is_in_use, node_id},
    tls::{self, TlsFailure},
};

/// Time limit for joining.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port on which an agent answers its peers.
const PORT: u16 = 7402;

/// The cluster to join, and the node's identity.
#[derive(Args)]
pub(crate) struct Join {
    /// The agent's configuration file (TOML), for options that are not given here: `coordinators`, of which the first
    /// is joined, `data_dir`, `name`, `listen` and `advertise`.
    #[arg(long, env = "WYNEOS_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// The coordinator, as host:port.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "config")]
    coordinator: Option<String>,
    /// The join token, as `wynectl token create` printed it. WYNEOS_JOIN_TOKEN keeps it out of the list of processes.
    #[arg(long, env = "WYNEOS_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// Directory of the node's id, its key and its certificate; created if it does not exist [default:
    /// /var/lib/wyneos-agent].
    #[arg(long, env = "WYNEOS_AGENT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the node; otherwise the host name.
    #[arg(long)]
    name: Option<String>,
    /// Address on which peers are answered; otherwise port 7402 of every address, or of loopback if the coordinator is
    /// there.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address that peers are told to probe, as host:port; otherwise the one with which this host reaches the
    /// coordinator.
    #[arg(long)]
    advertise: Option<String>,
}

/// The same, combined with the configuration file.
struct Plan<'a> {
    token: &'a str,
    /// The configuration file, if none of its options was overridden.
    config: Option<&'a Path>,
    coordinator: String,
    data_dir: PathBuf,
    name: Option<String>,
    listen: Option<SocketAddr>,
    advertise: Option<String>,
}

impl Join {
    fn plan(&self) -> Result<Plan<'_>, JoinError> {
        let file = self
            .config
            .as_deref()
            .map(Config::read)
            .transpose()?
            .unwrap_or_default();
        let first = file
            .coordinators
            .and_then(|coordinators| coordinators.0.into_iter().next());
        let missing = || BadConfig::field("coordinators", "missing; set it there, or use --coordinator");
        Ok(Plan {
            token: &self.token,
            config: self.config.as_deref().filter(|_| self.data_dir.is_none()),
            coordinator: self.coordinator.clone().or(first).ok_or_else(missing)?,
            data_dir: self
                .data_dir
                .clone()
                .or(file.data_dir)
                .unwrap_or(Config::default().data_dir),
            name: self.name.clone().or(file.name.filter(|name| !name.is_empty())),
            listen: self.listen.or(file.listen),
            advertise: self.advertise.clone().or(file.advertise),
        })
    }
}

/// The reason for which joining failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The configuration file is invalid.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The token is invalid.
    #[error("--token")]
    Token(#[from] BadToken),
    /// The host's facts cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The node's id is not available.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] TlsFailure),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key could not be generated.
    #[error("cannot generate a key: {0}")]
    Key(String),
    /// A file failed.
    #[error("{}: cannot write it", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// This host's clock is implausible: no certificate would be valid by it.
    #[error(transparent)]
    Clock(#[from] Behind),
    /// There is no connection.
    #[error("{}; is it the coordinator that issued the token?", client::describe(.0))]
    Connect(ConnectError),
    /// The coordinator refused.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// There was no answer in time.
    #[error("no answer from {0} within {PATIENCE:?}")]
    Late(String),
    /// An operation of the operating system failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl Fatal for JoinError {
    fn exit_code(&self) -> u8 {
        match self {
            JoinError::Config(_) | JoinError::Token(_) => exit::BAD_CONFIG,
            JoinError::Identity(error) => error.exit_code(),
            JoinError::Credentials(error) => error.exit_code(),
            JoinError::File(_, source) => exit::of(source),
            _ => exit::FAILED,
        }
    }
}

/// The configuration that joining writes for `wyneos-agent run`, with a lower precedence than files, the environment
/// and flags.
#[derive(Deserialize, Serialize)]
struct Joined {
    coordinators: Vec<String>,
    listen: SocketAddr,
    advertise: String,
    name: String,
}

/// Joins; repeating it changes only the certificate. In an existing directory root acts as its owner.
pub(crate) fn run(join: &Join) -> Result<(), Told> {
    let plan = join.plan().map_err(|error| Told::of(&error))?;
    let directory = &plan.data_dir;
    if files::is_missing(directory) {
        rights::check(directory).map_err(|error| Told::of(&error))?;
        return block_on(&plan, directory).map_err(|error| Told::of(&error));
    }
    let owner = Owner::of(directory).map_err(|error| Told::of(&error))?;
    let joined = owner.act(|at| block_on(&plan, at)).map_err(|error| Told::of(&error))?;
    joined.map_err(|error| owner.told(&error))
}

fn block_on(join: &Plan<'_>, data_dir: &Path) -> Result<(), JoinError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| JoinError::System("start a runtime", error))?;
    runtime.block_on(enroll(join, data_dir))
}

/// The key of this agent; generated when it first joins, and kept.
fn key(data_dir: &Path) -> Result<PrivateKeyDer<'static>, JoinError> {
    let path = tls::folder(data_dir).join("key.pem");
    if !files::is_missing(&path) {
        let pem = files::read_secret(&path).map_err(|error| JoinError::File(path.clone(), error))?;
        return PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let damaged = io::Error::new(
                io::ErrorKind::InvalidData,
                "no private key in it; remove it to generate a new one",
            );
            JoinError::File(path, damaged)
        });
    }
    let key = identity::new_key().map_err(|error| JoinError::Key(error.to_string()))?;
    // Before it is certified: if the answer is lost, the next attempt is for the same key.
    let folder = tls::folder(data_dir);
    let made = files::make_dir(&folder, 0o700);
    made.map_err(|error| JoinError::File(folder, error))?;
    let written = files::write_durably(&path, identity::key_pem(&key).as_bytes(), 0o600);
    written.map_err(|error| JoinError::File(path, error))?;
    Ok(key)
}

async fn enroll(join: &Plan<'_>, data_dir: &Path) -> Result<(), JoinError> {
    let token: JoinToken = join.token.parse()?;
    wait_until_past(BUILT, "this program was built", Duration::ZERO)?;
    files::make_dir(data_dir, 0o711).map_err(|error| JoinError::File(data_dir.to_owned(), error))?;
    let (node, _) = node_id(data_dir)?;
    let name = match &join.name {
        Some(name) => name.clone(),
        None => host::facts()?.hostname,
    };
    let key = key(data_dir)?;
    let certificate_request = identity::request_for(&key).map_err(|error| JoinError::Key(error.to_string()))?;
    let tls = client_config(None, Expected::Pinned(token.cluster, token.fingerprint))?;
    let address = &join.coordinator;
    let attempt = async {
        let channel = client::connect_with(address, Some(&tls)).await;
        let channel = channel.map_err(JoinError::Connect)?;
        let request = v1::EnrollRequest {
            token: join.token.trim().to_owned(),
            node_id: node.to_string(),
            name: name.clone(),
            certificate_request: certificate_request.to_vec(),
            machine: host::machine().map_or_else(Vec::new, |machine| machine.to_vec()),
        };
        let mut client = EnrollmentServiceClient::new(channel).max_decoding_message_size(limits::JOINING);
        let answer = client.enroll(request).await;
        answer.map_err(|status| JoinError::Refused(client::told(&status)))
    };
    let late = |_| JoinError::Late(address.clone());
    let response = tokio::time::timeout(PATIENCE, attempt).await.map_err(late)??;
    let response = response.into_inner();
    let admission = response.admission();
    let nothing = || TlsFailure::Issued("it is empty".to_owned());
    let credentials = tls::issued(response.certificate.ok_or_else(nothing)?, &key)?;
    if credentials.principal.node() != Some(node) || credentials.principal.cluster != token.cluster {
        let named = format!("it names {}", credentials.principal);
        return Err(TlsFailure::Issued(named).into());
    }
    tls::keep(data_dir, &credentials)?;
    let (listen, advertise) = addresses(join);
    let joined = Joined {
        coordinators: vec![address.clone()],
        listen,
        advertise,
        name: name.clone(),
    };
    let path = data_dir.join("joined.toml");
    let written = toml::to_string(&joined)
        .map_err(io::Error::other)
        .and_then(|text| files::write_durably(&path, text.as_bytes(), 0o600));
    written.map_err(|error| JoinError::File(path, error))?;
    let cluster = token.cluster;
    println!("joined cluster {cluster} as {name}, node {node}");
    if admission != v1::Admission::Admitted {
        println!("it is pending until an operator admits it: wynectl admit {name}");
    }
    let data_dir = join.data_dir.display();
    match is_in_use(&join.data_dir) {
        true => println!(
            "an agent is running with {data_dir}: restart it, so that it uses the new certificate and configuration"
        ),
        false => match join.config {
            Some(config) => println!("start it: wyneos-agent run --config {}", config.display()),
            None => println!("start it: wyneos-agent run --data-dir {data_dir}"),
        },
    }
    Ok(())
}

/// The listen address, and the address that peers are told.
fn addresses(join: &Plan<'_>) -> (SocketAddr, String) {
    let way = way_to(&join.coordinator);
    let near = way.is_some_and(|address| address.is_loopback());
    let any = match way {
        Some(IpAddr::V6(_)) => IpAddr::from([0u16; 8]),
        _ => IpAddr::from([0, 0, 0, 0]),
    };
    let listen = join.listen.unwrap_or(match way {
        Some(address) if near => SocketAddr::new(address, PORT),
        _ => SocketAddr::new(any, PORT),
    });
    // If it was not given, the agent determines it from its listen address, which may be configured otherwise.
    (listen, join.advertise.clone().unwrap_or_default())
}

/// The address that peers are told to probe, for an agent that listens on `bound`: the configured one; otherwise the
/// one that it listens on, or, for a wildcard address, the one with which this host reaches the coordinator.
pub(crate) fn advertised(config: &Config, bound: SocketAddr) -> String {
    let left = files::read_named_text(&config.data_dir.join("joined.toml"), files::TEXT).ok();
    let left: Option<Joined> = left.and_then(|left| toml::from_str(&left).ok());
    // The address that joining determined was for the port written beside it, of every address.
    let is_found = |left: &Joined| {
        let address = left.advertise.parse::<SocketAddr>();
        left.listen.ip().is_unspecified() && address.is_ok_and(|address| address.port() == left.listen.port())
    };
    let left = left.filter(|left| is_found(left) && left.advertise == config.advertise);
    let is_stale = left.is_some_and(|left| left.listen != config.listen);
    if !config.advertise.is_empty() && !is_stale {
        return config.advertise.clone();
    }
    let way = config
        .coordinators
        .0
        .first()
        .and_then(|coordinator| way_to(coordinator));
    match way.filter(|_| bound.ip().is_unspecified()) {
        Some(address) => SocketAddr::new(address, bound.port()).to_string(),
        None => bound.to_string(),
    }
}

/// The address with which this host reaches the coordinator. Nothing is sent.
fn way_to(coordinator: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs as _;
    let to = coordinator.to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path, listen: &str, advertise: &str) -> Config {
        Config {
            data_dir: directory.to_owned(),
            listen: listen.parse().unwrap(),
            advertise: advertise.to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn what_is_advertised_follows_what_is_listened_on() {
        let directory = tempfile::tempdir().unwrap();
        let at = |listen: &str, advertise: &str| {
            let config = config(directory.path(), listen, advertise);
            advertised(&config, config.listen)
        };
        assert_eq!(at("10.0.0.5:7500", ""), "10.0.0.5:7500");
        assert_eq!(at("0.0.0.0:7500", "edge.example:80"), "edge.example:80");
        // The coordinator is on this host.
        assert_eq!(at("0.0.0.0:7500", ""), "127.0.0.1:7500");
        // Earlier versions wrote the address that they determined when joining, for the port written beside it.
        let left = "coordinators = []\nlisten = \"0.0.0.0:7402\"\nadvertise = \"10.0.0.5:7402\"\nname = \"one\"\n";
        std::fs::write(directory.path().join("joined.toml"), left).unwrap();
        assert_eq!(at("0.0.0.0:7402", "10.0.0.5:7402"), "10.0.0.5:7402");
        assert_eq!(at("0.0.0.0:7500", "10.0.0.5:7402"), "127.0.0.1:7500");
        assert_eq!(at("0.0.0.0:7500", "edge.example:80"), "edge.example:80");
        // An address that was given when joining remains.
        std::fs::write(
            directory.path().join("joined.toml"),
            left.replace("10.0.0.5:7402", "edge.example:80"),
        )
        .unwrap();
        assert_eq!(at("0.0.0.0:7500", "edge.example:80"), "edge.example:80");
    }
}
