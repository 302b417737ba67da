//! Bootstrap: identity, host facts, probe server and driver, in order; and the drain in reverse.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rand::{TryRng, rngs::SysRng};
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Builder,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, service::InterceptorLayer, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use wyneos::v1::mesh_service_server::MeshServiceServer;
use wyneos_core::{
    agent::{self, Agent, Input},
    id::{ClusterId, ProcessId},
    limits,
    mesh::Coordinate,
    node::{Attributes, Capacity, Facts},
    time::WallTime,
};
use wyneos_shell::{
    clock::Clock,
    config::Layered,
    descriptors, exit, files,
    listener::{self, Limits, Peer, Refused, Watch},
    log, metrics as metrics_port,
    start::Fatal,
    stop,
};

use crate::{
    beacons::{self, Links, Outgoing},
    config::Config,
    driver::{self, Driver, State, ToAgent},
    host::{self, Sampler},
    identity::{self, Identity, IdentityError},
    instance::{self, Begun, Groups, Instances, Means, Own, Policy, Prefix},
    join,
    mesh::{Answering, Members, Peers},
    metrics::Metrics,
    modes,
    tls::{Tls, TlsFailure},
};

/// Maximum size of a call's headers, bytes.
const HEADERS: u32 = 16 * 1024;

/// Bytes that a peer may send ahead of the reader, per probe and per connection.
const STREAM_WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024;

/// HTTP/2 pings to silent connections, and the time limit of their answers.
const PING: Duration = Duration::from_secs(15);

/// Limits of the port for probes: peers and relays are a few dozen; a source may be a whole rack behind one address.
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(5),
    connections: 512,
    of_one_source: 128,
    nobodys: Duration::from_secs(5),
};

/// Number of connections of peers that an agent needs in any cluster: its observers, and as many relays and
/// reconnections.
const PEERS: usize = 32;

/// The port for probes gets one in this many of the connections that the limit of open files permits.
const ITS_OWN: usize = 4;

/// Counts refusals of the listeners.
struct Refusals(Arc<Metrics>);

impl Watch for Refusals {
    fn refused(&self, source: SocketAddr, refused: &Refused) {
        self.0.connections_refused.inc();
        tracing::debug!(%source, %refused, "connection refused");
    }
}

/// Number of ports that are tried if none is configured.
const FREE_PORTS: u32 = 16;

/// The reason for which the agent could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The identity failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The host lacks a fact that every host should report.
    #[error(transparent)]
    Host(#[from] host::HostError),
    /// A port could not be opened.
    #[error("{field} = {address}: cannot listen there; is another process using the port?")]
    Listen {
        /// The configuration's field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// An operation of the operating system failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl Fatal for BootError {
    fn exit_code(&self) -> u8 {
        match self {
            BootError::Identity(error) => error.exit_code(),
            BootError::Tls(error) => error.exit_code(),
            BootError::Descriptors(_) => exit::BAD_CONFIG,
            BootError::System(_, source) => exit::of(source),
            _ => exit::FAILED,
        }
    }
}

/// Runs an agent until it is asked to stop.
pub(crate) fn run(config: Config, exit_with_stdin: bool, ephemeral: bool) -> Result<(), BootError> {
    // The reader of the log must not delay heartbeats.
    log::aside().map_err(|error| BootError::System("start a thread for the log", error))?;
    // A single thread: an agent has little to do, and must not burden its host.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| BootError::System("start a runtime", error))?;
    let result = runtime.block_on(boot(config, exit_with_stdin, ephemeral));
    // Blocking operations that still run (a read of standard input) do not delay the exit.
    runtime.shutdown_background();
    result
}

/// Opens this node's files, takes stock of existing instances, serves its peers, and then drives the logic.
async fn boot(config: Config, exit_with_stdin: bool, ephemeral: bool) -> Result<(), BootError> {
    let node = Node::open(&config)?;
    let sockets = Sockets::bind(config.listen).await?;
    let (sender, inputs) = mpsc::channel(driver::INPUTS);
    let (core, instances) = take_stock(&config, &node, sockets.address, ephemeral, &sender)?;
    let served = Served::begin(&config, &node, sockets, &core, &sender).await?;
    tokio::spawn(stop_when_asked(exit_with_stdin, sender.clone()));
    let Node { identity, tls, clock } = node;
    let driver = Driver {
        core,
        clock,
        id: identity.id,
        sampler: Sampler::new(),
        touched: PathBuf::from("disk-check"),
        cluster: served.cluster,
        metrics: served.metrics,
        ready: served.ready,
        coordinate: served.coordinate,
        inputs,
        sender,
        peers: Peers::default(),
        beacons: served.beacons,
        instances,
        members: served.members,
        tls,
        links: served.links,
        state: State::default(),
    };
    driver.run().await;
    tracing::info!("stopped");
    Ok(())
}

/// The agent's identity.
struct Node {
    /// Held until the end, because it holds the lock of the `data_dir`.
    identity: Identity,
    tls: Option<Tls>,
    clock: Clock,
}

impl Node {
    /// Opens the `data_dir`, and makes it the working directory.
    fn open(config: &Config) -> Result<Node, BootError> {
        let identity = Identity::start(&config.data_dir)?;
        let tls = config
            .tls
            .then(|| Tls::load(&config.data_dir, identity.id))
            .transpose()?;
        // From here on the directory's name is not used, because it may refer to another one.
        identity.enter(&config.data_dir)?;
        let clock = Clock::default();
        Ok(Node { identity, tls, clock })
    }
}

/// The sockets at which peers reach this agent.
struct Sockets {
    listener: TcpListener,
    datagrams: UdpSocket,
    address: SocketAddr,
}

impl Sockets {
    async fn bind(address: SocketAddr) -> Result<Sockets, BootError> {
        let (listener, datagrams) = sockets(address).await?;
        let address = listener
            .local_addr()
            .map_err(|error| BootError::System("tell the address", error))?;
        Ok(Sockets {
            listener,
            datagrams,
            address,
        })
    }
}

/// Determines the host's facts and the instances of earlier agents, with which the logic begins.
fn take_stock(
    config: &Config,
    node: &Node,
    address: SocketAddr,
    ephemeral: bool,
    sender: &mpsc::Sender<ToAgent>,
) -> Result<(Agent, Instances), BootError> {
    let Node { identity, clock, .. } = node;
    let policy = Policy::new(&config.work_user, &config.users.0);
    let prefix = Prefix::new(identity.id, Path::new("."));
    let prefix = prefix.map_err(|error| BootError::System("examine the data_dir", error))?;
    let (facts, means) = facts(config, identity, prefix.clone(), address, &policy)?;
    let seed = SysRng
        .try_next_u64()
        .map_err(|error| BootError::System("get random bytes", io::Error::other(error)))?;
    let (coordinators, incarnation) = (config.coordinators.0.clone(), identity.incarnation);
    tracing::info!(id = %identity.id, name = facts.name, incarnation, %address, ?coordinators, "starting");
    let own = Own {
        instances: PathBuf::from("instances"),
        prefix,
        begun: Begun::open(PathBuf::from("begun"), identity.id, identity.is_new),
    };
    let begun = own.begun.beyond();
    set_modes(&own.instances, means.uncontained.is_none(), &policy)?;
    let (instances, found) = Instances::find(
        own,
        facts.name.clone(),
        config.ports.clone(),
        means,
        ephemeral,
        clock.wall(),
        sender.clone(),
    )
    .map_err(|error| BootError::System("examine existing instances", error))?;
    let core_config = agent::Config {
        facts,
        incarnation,
        coordinators,
        seed,
        process_id: ProcessId(*uuid::Uuid::new_v4().as_bytes()),
        machine: host::machine().unwrap_or_default(),
        instances: found,
        begun,
    };
    Ok((Agent::new(clock.now(), clock.wall(), core_config), instances))
}

/// Creates the directory of instances, and sets the modes of the files in the `data_dir`.
fn set_modes(instances: &Path, contained: bool, policy: &Policy) -> Result<(), BootError> {
    let mode = instance::mode_of_instances(instances, contained);
    files::mend(Path::new("."), &|path, is_directory| {
        modes::mode_of(path, is_directory, mode)
    });
    instance::prepare(instances, mode, policy)
        .map_err(|error| BootError::System("create the directory of instances", error))
}

/// The servers, and the channels by which the driver updates them.
struct Served {
    metrics: Arc<Metrics>,
    cluster: Arc<OnceLock<ClusterId>>,
    ready: watch::Sender<bool>,
    coordinate: watch::Sender<Coordinate>,
    members: watch::Sender<Members>,
    links: Option<Arc<Links>>,
    beacons: Outgoing,
}

impl Served {
    /// Serves metrics, probes and beacons, and keeps the certificate renewed.
    async fn begin(
        config: &Config,
        node: &Node,
        sockets: Sockets,
        core: &Agent,
        sender: &mpsc::Sender<ToAgent>,
    ) -> Result<Served, BootError> {
        let Node { identity, tls, .. } = node;
        let (metrics, registry) = Metrics::new();
        let watch: Arc<dyn Watch> = Arc::new(Refusals(Arc::clone(&metrics)));
        let shares = shares()?;
        if let Some(address) = config.metrics_listen.0 {
            let listener = listen("metrics_listen", address).await?;
            let limits = metrics_port::limits(shares.metrics);
            tokio::spawn(metrics_port::serve(listener, registry, limits, Arc::clone(&watch)));
        }
        let links = match tls {
            Some(_) => Some(Arc::new(Links::new(random()?, identity.incarnation))),
            None => None,
        };
        let cluster = Arc::new(OnceLock::new());
        let (ready, is_ready) = watch::channel(false);
        let (coordinate, is_at) = watch::channel(core.coordinate());
        let (members, who_may_ask) = watch::channel(Members::default());
        let answering = Answering {
            id: identity.id,
            incarnation: identity.incarnation,
            cluster: Arc::clone(&cluster),
            coordinate: is_at,
            driver: sender.clone(),
            members: tls.is_some().then_some(who_may_ask),
            links: links.clone(),
        };
        let server = tls.as_ref().map(Tls::server).transpose().map_err(TlsFailure::Tls)?;
        let incoming = listener::accept(sockets.listener, server, limits_of_probes(shares.main), watch);
        tokio::spawn(serve(incoming, answering, is_ready));
        if let Some(tls) = tls {
            let coordinators = config.coordinators.0.clone();
            tokio::spawn(tls.clone().keep_renewed(coordinators, Arc::clone(&metrics)));
        }
        let datagrams = Arc::new(sockets.datagrams);
        let beacons = beacons::sending(Arc::clone(&datagrams), links.clone());
        tokio::spawn(beacons::receive(datagrams, identity.id, sender.clone(), links.clone()));
        Ok(Served {
            metrics,
            cluster,
            ready,
            coordinate,
            members,
            links,
            beacons,
        })
    }
}

/// The share of each port in the connections that the limit of open files permits: the session, outgoing probes,
/// supervisors and logs need descriptors, too. The limit is not raised, because workloads inherit it.
fn shares() -> Result<descriptors::Shares, BootError> {
    let shares = descriptors::share(LIMITS.connections, ITS_OWN)?;
    if shares.main < PEERS {
        tracing::warn!(
            connections = shares.main,
            "the limit of open files leaves room for few connections of peers; raise it (ulimit -n, LimitNOFILE)"
        );
    }
    Ok(shares)
}

/// Limits of the port for probes.
fn limits_of_probes(connections: usize) -> Limits {
    Limits {
        connections,
        of_one_source: LIMITS.of_one_source.min((connections * 3 / 4).max(1)),
        ..LIMITS
    }
}

fn random() -> Result<[u8; 32], BootError> {
    let mut bytes = [0; 32];
    let filled = SysRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| BootError::System("get random bytes", io::Error::other(error)))?;
    Ok(bytes)
}

/// The sockets for probes and beacons, on the same port.
async fn sockets(address: SocketAddr) -> Result<(TcpListener, UdpSocket), BootError> {
    let mut tries = if address.port() == 0 { FREE_PORTS } else { 1 };
    loop {
        let listener = listen("listen", address).await?;
        let chosen = listener
            .local_addr()
            .map_err(|error| BootError::System("tell the address", error))?;
        tries -= 1;
        match UdpSocket::bind(chosen).await {
            Ok(datagrams) => return Ok((listener, datagrams)),
            // A port that is free for one protocol may be in use for the other.
            Err(_) if tries > 0 => {}
            Err(source) => {
                return Err(BootError::Listen {
                    field: "listen",
                    address: chosen,
                    source,
                });
            }
        }
    }
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BootError::Listen { field, address, source })
}

/// The node's facts, and the host's means to limit and contain instances.
fn facts(
    config: &Config,
    identity: &Identity,
    prefix: Prefix,
    address: SocketAddr,
    policy: &Policy,
) -> Result<(Facts, Means), BootError> {
    let host = host::facts()?;
    let found = match &config.cgroup.0 {
        Some(below) => Groups::find(below, prefix, host.cpus),
        None => Err("cgroup = \"off\"".to_owned()),
    };
    let groups = found
        .inspect_err(|reason| tracing::warn!(reason, "instances run without limits of CPU, memory and processes: this host has no control groups that the agent can use"))
        .ok();
    let contained = instance::probe().inspect_err(|reason| {
        tracing::warn!(
            reason,
            "instances are not contained: no singleton is placed on this node, and processes may outlive their instance"
        )
    });
    let binary_digest = identity::binary_digest().map_err(|error| BootError::System("read this binary", error))?;
    let facts = Facts {
        id: identity.id,
        name: if config.name.is_empty() {
            host.hostname
        } else {
            config.name.clone()
        },
        agent_version: wyneos::VERSION.to_owned(),
        boot_time: WallTime(host.boot_unix_millis),
        capacity: Capacity {
            cpu_millis: u64::from(host.cpus) * 1000,
            memory_bytes: host.memory_bytes,
            disk_bytes: host.disk_bytes,
        },
        attributes: Attributes {
            os: host.os,
            kernel: host.kernel,
            architecture: host.architecture,
            cpus: host.cpus,
            memory_bytes: host.memory_bytes,
            cgroups: groups.as_ref().map_or("none", Groups::version).to_owned(),
            users: Some(policy.told()),
            ..Attributes::default()
        }
        .with_containment(contained.clone()),
        labels: config.labels.0.clone(),
        binary_digest,
        config_digest: blake3::hash(config.to_toml().as_bytes()).into(),
        probe_address: join::advertised(config, address),
    };
    tracing::info!(listen = %address, advertise = facts.probe_address, "peers probe this agent at the advertised address");
    let uncontained = contained.err();
    let address = host_of(&facts.probe_address).to_owned();
    let means = Means {
        address,
        groups,
        uncontained,
    };
    Ok((facts, means))
}

/// The host part of an address with a port, without brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

async fn stop_when_asked(exit_with_stdin: bool, driver: mpsc::Sender<ToAgent>) {
    let reason = match stop::requested(exit_with_stdin).await {
        Ok(reason) => reason.to_owned(),
        Err(error) => format!("cannot wait for signals: {error}"),
    };
    tracing::info!(reason, "stopping");
    drop(driver.send(ToAgent::Fact(Input::Shutdown { reason })).await);
}

/// Answers peers' probes, and reports whether a session is established.
async fn serve(
    incoming: ReceiverStream<io::Result<listener::Conn>>,
    answering: Answering,
    is_ready: watch::Receiver<bool>,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MeshServiceServer<Answering>>().await;
    tokio::spawn(report(reporter, is_ready));
    let served = Server::builder()
        .http2_max_header_list_size(Some(HEADERS))
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(64)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .timeout(Duration::from_secs(5))
        .layer(InterceptorLayer::new(vouch_without_tls))
        .add_service(health)
        .add_service(MeshServiceServer::new(answering).max_decoding_message_size(limits::PROBE))
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the port for probes has failed: peers cannot reach this agent until it is restarted");
    }
}

/// Without TLS no caller can be authenticated, so a call is the only proof that a connection is used.
fn vouch_without_tls(request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(peer) = request.extensions().get::<Peer>().filter(|peer| !peer.tls) {
        peer.vouch();
    }
    Ok(request)
}

/// The overall health: serving while a session is established.
async fn report(reporter: HealthReporter, mut is_ready: watch::Receiver<bool>) {
    loop {
        let ready = *is_ready.borrow_and_update();
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        if is_ready.changed().await.is_err() {
            return;
        }
    }
}
