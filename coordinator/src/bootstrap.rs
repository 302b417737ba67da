//! Bootstrap: boots store, engine, services and pulse in order, and drains them in reverse.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rand::{TryRng, rngs::SysRng};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Semaphore, broadcast, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use wyneos::{
    identity::{BadAuthority, Principal, Role, server_config},
    served::{agent_service_server::AgentServiceServer, coherence_service_server::CoherenceServiceServer},
    v1::{
        AuditRecord, access_service_server::AccessServiceServer, cluster_service_server::ClusterServiceServer,
        decision_service_server::DecisionServiceServer, enrollment_service_server::EnrollmentServiceServer,
        event_service_server::EventServiceServer, telemetry_service_server::TelemetryServiceServer,
        workload_service_server::WorkloadServiceServer,
    },
};
use wyneos_core::{
    coordinator::{self, Coordinator, Input},
    id::{ClusterId, Uuid},
    integrity::{PublicKey, Sealer},
    limits,
    time::WallTime,
};
use wyneos_shell::{
    clock::{BUILT, Behind, Clock, wait_until_past},
    descriptors, exit, files,
    listener::{self, Conn},
    metrics as metrics_port,
    start::Fatal,
    stop,
};

use crate::{
    answers::{Answering, Ledger, Pacing, Quota},
    audit,
    board::Board,
    ca::{Ca, CaError},
    config::Config,
    engine::{self, Engine, ToEngine},
    gate::{self, Gate},
    limiter::Limiter,
    metrics::Metrics,
    publisher::{EVENTS_BEHIND, Publisher, Work},
    restore::{self, RestoreError},
    services::{Agents, Backups, Services},
    session::Conns,
    store::{Embedded, Retention, Store, StoreError},
};

/// Rpcs whose effect is not in the store.
const ROTATE: &str = "wyneos.v1.AccessService/RotateAuthority";
const BACKUP: &str = "wyneos.v1.ClusterService/Backup";

/// How long the drain may take until what is left is cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the first snapshot is waited for before the port is served.
const FIRST_CYCLE: Duration = Duration::from_secs(5);

/// A clock may be set back by so much, and be right all the same.
const SET_BACK: Duration = Duration::from_secs(300);

/// When agents may try again after a shutdown.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Streams of one connection at most.
const STREAMS: u32 = 2_048;

/// How long a connection stands whose other end shows neither a certificate nor a bearer token: to join, to ask for health.
const NOBODYS: Duration = Duration::from_secs(60);

/// Renewals of one key a minute at most: the shortest certificates want nine.
const RENEWALS: u32 = 30;

/// Bytes of a call's headers at most.
const HEADERS: u32 = 16 * 1024;

/// Whole snapshots that are read from the store at once.
const LOADING: usize = 2;

/// What is served, by the first part of its name; each has a health of its own. Not MeshService: agents serve that.
const SERVED: [&str; 9] = [
    "Access",
    "Agent",
    "Cluster",
    "Coherence",
    "Decision",
    "Enrollment",
    "Event",
    "Telemetry",
    "Workload",
];

/// How long a unary call, or the beginning of a streaming one, may take.
const CALL: Duration = Duration::from_secs(30);

/// HTTP/2 pings: sent after this much silence, and answered within [`PONG`], or the connection is closed.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// Why the coordinator could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A directory or file could not be prepared.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was put back from a backup is not all there.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// This host's clock cannot be right.
    #[error(transparent)]
    Clock(#[from] Behind),
    /// A port.
    #[error("{field} = {address}: cannot listen there; is another process using the port?")]
    Listen {
        /// The configuration's field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
    /// A server ended of itself.
    #[error("the {0} server failed")]
    Serve(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The limit of open files.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// Something of the operating system.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl Fatal for BootError {
    fn exit_code(&self) -> u8 {
        match self {
            BootError::Restore(error) => error.exit_code(),
            BootError::Descriptors(_) => exit::BAD_CONFIG,
            // A clock is set sooner or later: starting again helps then.
            BootError::Ca(error) if error.is_about_time() => exit::FAILED,
            BootError::Store(StoreError::Foreign { .. } | StoreError::Corrupt { .. }) | BootError::Ca(_) => {
                exit::BAD_CONFIG
            }
            _ => exit::FAILED,
        }
    }
}

/// Runs a coordinator until it is asked to stop, or until it cannot go on.
pub(crate) fn run(config: Config, exit_with_stdin: bool) -> Result<(), BootError> {
    // Engine and publisher have threads of their own. Sessions mostly sleep, and a worker that is woken for one heartbeat
    // costs more than the heartbeat: few workers find more to do each time.
    descriptors::raise();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cpus.div_ceil(2))
        .enable_all()
        .build()
        .map_err(|e| BootError::System("start threads", e))?;
    let result = boot(&runtime, config, exit_with_stdin);
    // What is still running (a read of standard input) does not hold the process.
    runtime.shutdown_background();
    result
}

/// Modes of what earlier versions left in the data_dir. Keys are not among them: one that others could read is refused, and not made to look as if
/// nobody had.
fn mode_of(path: &Path, is_directory: bool) -> Option<u32> {
    if path.starts_with(crate::audit::INBOX) {
        return Some(if is_directory { 0o700 } else { 0o600 });
    }
    let is_ours = path.extension().is_some_and(|end| end == "redb") || path == Path::new(crate::ca::CLUSTER_ID);
    (is_ours && !is_directory).then_some(0o600)
}

/// The secret that seals snapshots; made at the first start.
fn signing_key(config: &Config) -> Result<[u8; 32], BootError> {
    let path = config.data_dir.join("signing.key");
    let failed = |what| {
        let path = path.clone();
        move |source| BootError::File { path, what, source }
    };
    if files::is_missing(&path) {
        let mut secret = [0; 32];
        SysRng
            .try_fill_bytes(&mut secret)
            .map_err(|e| BootError::System("get random bytes", io::Error::other(e)))?;
        files::write_durably(&path, &secret, 0o600).map_err(failed("write"))?;
    }
    let secret = files::read_secret(&path).map_err(failed("read"))?;
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "not 32 bytes");
    secret.as_slice().try_into().map_err(wrong).map_err(failed("use"))
}

fn boot(runtime: &Runtime, config: Config, exit_with_stdin: bool) -> Result<(), BootError> {
    let config = Arc::new(config);
    let data_dir = &config.data_dir;
    // Before anything is made by it: a CA of 1970 would be no CA of now.
    wait_until_past(BUILT, "this program was built", config.clock_wait.0)?;
    let failed = |what| {
        move |source| BootError::File {
            path: data_dir.clone(),
            what,
            source,
        }
    };
    files::make_dir(data_dir, 0o700).map_err(failed("make the data_dir"))?;
    files::mend(data_dir, &mode_of);
    let retention = Retention {
        events: config.events_max_count,
        snapshots: config.history_max_count,
        snapshot_age: config.history_max_age.0,
    };
    restore::check_finished(data_dir)?;
    let mut store = Embedded::open(data_dir, retention)?;
    let secret = signing_key(&config)?;
    let clock = Clock::default();
    let durable = store.load(Uuid(*uuid::Uuid::new_v4().as_bytes()))?;
    let sealer = Sealer::new(durable.cluster, &secret, durable.last_snapshot.2);
    let (public_key, epoch) = (sealer.public_key(), durable.epoch);
    let (cluster, nodes) = (durable.cluster, durable.nodes.len());
    let (metrics, registry) = Metrics::new();
    let access = Arc::new(ArcSwap::new(Arc::clone(&durable.access)));
    wait_for_newest(&store, config.clock_wait.0)?;
    let ca = config.tls.then(|| open_ca(&config, cluster, public_key)).transpose()?;
    let opened = audit::Opened::new(data_dir, cluster, &secret, config.audit_max_count)?;
    let carried_out = store.carried_out(opened.next())?;
    let newest_step = ca.as_ref().map(|ca| ca.newest_step());
    let done = |intent: &AuditRecord| match intent.action.as_str() {
        ROTATE => newest_step.map(|step| step == intent.sequence),
        // It changes nothing here: how far it got, only its caller knows.
        BACKUP => None,
        _ => carried_out.tell(intent.sequence),
    };
    let (audit, audit_writer, audit_failed) = opened.start(data_dir, metrics.audit.clone(), done)?;
    let core = Coordinator::new(clock.now(), clock.wall(), core_config(&config, public_key), durable);

    let _guard = runtime.enter();
    let listener = runtime.block_on(listen("listen", config.listen))?;
    let metrics_listener = runtime.block_on(listen("metrics_listen", config.metrics_listen))?;
    let address = listener
        .local_addr()
        .map_err(|e| BootError::System("tell the address", e))?;
    let metrics_address = metrics_listener
        .local_addr()
        .map_err(|e| BootError::System("tell the address", e))?;
    let shares = descriptors::share(config.max_connections, 1)?;
    if shares.main < config.max_connections {
        let (connections, max_connections) = (shares.main, config.max_connections);
        tracing::warn!(
            connections,
            max_connections,
            "the limit of open files leaves room for fewer connections than max_connections; raise it (ulimit -n, LimitNOFILE)"
        );
    }

    let (sessions, inputs) = mpsc::channel(engine::INPUTS);
    let (to_engine, urgent) = mpsc::channel(engine::URGENT);
    let (seals, newest_seal) = watch::channel(None);
    let (work, work_queue) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(EVENTS_BEHIND);
    let (stopping, is_stopping) = watch::channel(false);
    let ledger = Ledger::new(config.answer_memory_mib << 20, Arc::clone(&metrics));
    let services = Services {
        board: Arc::new(Board::new(&ledger)),
        history: store.history(),
        engine: to_engine.clone(),
        events: events.clone(),
        subscribers: Quota::new(config.max_subscribers_per_identity, config.max_subscribers),
        ledger: Arc::clone(&ledger),
        loading: Arc::new(Semaphore::new(LOADING)),
        stopping: is_stopping.clone(),
        config: Arc::clone(&config),
        access: Arc::clone(&access),
        audit: audit.clone(),
        backups: Arc::new(Backups {
            source: store.source(),
            audit: audit.clone(),
            data_dir: data_dir.clone(),
            secret,
            one: Arc::new(Semaphore::new(1)),
            stopping: is_stopping.clone(),
        }),
        ca,
        limiter: Arc::new(Limiter::new(config.enrolments_per_minute)),
        renewals: Arc::new(Limiter::new(RENEWALS)),
        refused: Arc::default(),
        metrics: Arc::clone(&metrics),
        started: clock.wall(),
        public_key,
    };
    let publisher = Publisher {
        store: Box::new(store),
        sealer,
        epoch,
        board: Arc::clone(&services.board),
        events,
        engine: to_engine.clone(),
        access: Arc::clone(&access),
        ledger,
        metrics: Arc::clone(&metrics),
    };
    let accounts = audit.clone();
    runtime.spawn(audit.clone().keep_looking());
    let gate = Gate {
        access,
        audit,
        metrics: Arc::clone(&metrics),
        nobodys: Arc::new(Semaphore::new(gate::NOBODYS)),
        calls: Quota::new(gate::CALLS_OF_ONE, gate::CALLS),
    };
    let (publisher, failed) = start_publisher(publisher, work_queue)?;
    let engine = Engine::new(core, clock, inputs, urgent, work, seals, Arc::clone(&metrics));
    let engine = start_engine(engine)?;
    runtime.spawn(metrics_port::serve(
        metrics_listener,
        registry,
        metrics_port::limits(shares.metrics),
        Arc::new(MetricsPort(Arc::clone(&metrics))),
    ));
    let agents = Agents {
        engine: sessions,
        conns: Conns::default(),
        seals: newest_seal,
        metrics,
        gate,
    };
    let serving = Serving {
        connections: shares.main,
        to_engine,
        stopping,
        failed,
        audit_failed,
    };
    tracing::info!(%address, %metrics_address, %cluster, epoch, nodes, data_dir = %config.data_dir.display(), "listening");
    let stop = serving.to_engine.clone();
    let served = runtime.block_on(serving.run(listener, services, agents, exit_with_stdin));
    // Everything handed to the store is durable before the process ends.
    drop(stop.blocking_send(ToEngine::Stop));
    let panicked = |what| BootError::System(what, io::Error::other("it panicked"));
    engine.join().map_err(|_| panicked("end the engine"))?;
    publisher.join().map_err(|_| panicked("end the publisher"))??;
    accounts.stop(audit_writer);
    served?;
    tracing::info!("drained");
    Ok(())
}

/// Waits for a clock that is behind the newest snapshot. Whether that one was ahead cannot be told: then the coordinator starts.
fn wait_for_newest(store: &Embedded, bound: Duration) -> Result<(), BootError> {
    let Some(newest) = store.history().seals(u64::MAX, 1)?.pop() else {
        return Ok(());
    };
    let least = WallTime(newest.time.0.saturating_sub(SET_BACK.as_millis() as i64));
    if let Err(behind) = wait_until_past(least, "the newest snapshot was sealed, but for five minutes", bound) {
        tracing::warn!("starting all the same, as the clock may have been ahead before: {behind}");
    }
    Ok(())
}

/// The CA, once the clock is not before it: one that expired is refused at once.
fn open_ca(config: &Config, cluster: ClusterId, public_key: PublicKey) -> Result<Arc<Ca>, BootError> {
    match try_open_ca(config, cluster, public_key) {
        Err(CaError::Authority {
            source: BadAuthority::Outdated(held, _),
            ..
        }) if SystemTime::now() < held.start => {
            let since = held.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let made = WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
            wait_until_past(made, "the CA was made", config.clock_wait.0)?;
            Ok(try_open_ca(config, cluster, public_key)?)
        }
        opened => Ok(opened?),
    }
}

/// The CA: the cluster's own, or the one that is configured.
fn try_open_ca(config: &Config, cluster: ClusterId, public_key: PublicKey) -> Result<Arc<Ca>, CaError> {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&public_key.0).as_bytes()[..16]);
    let own = Principal::new(cluster, Role::Coordinator, &Uuid(id).to_string())
        .map_err(|_| CaError::Step("the coordinator has no name"))?;
    let external = !config.ca_cert.as_os_str().is_empty();
    let external = external.then_some((config.ca_cert.as_path(), config.ca_key.as_path()));
    let lifetime = config.certificate_ttl.0;
    Ca::open(&config.data_dir, external, own, hosts(config), lifetime).map(Arc::new)
}

/// Names and addresses for the coordinator's certificate.
fn hosts(config: &Config) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let listen = config.listen.ip();
    let more = (!listen.is_unspecified()).then(|| listen.to_string());
    let named = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let named = (!named.is_empty()).then_some(named);
    for host in config.names.0.iter().cloned().chain(more).chain(named) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn core_config(config: &Config, public_key: PublicKey) -> coordinator::Config {
    coordinator::Config {
        cycle: config.cycle.0,
        heartbeat: config.heartbeat.0,
        suspect_grace: config.suspect_grace.0,
        restart_grace: config.restart_grace.0,
        probe_interval: config.probe_interval.0,
        history: config.telemetry_history,
        max_nodes: config.max_nodes,
        forget_after: Some(config.forget_after.0).filter(|after| !after.is_zero()),
        certificate_life: config.certificate_ttl.0 + config.late_renewal.0,
        exposed: config.is_exposed(),
        ..coordinator::Config::new(wyneos::VERSION, public_key)
    }
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BootError::Listen { field, address, source })
}

/// Starts the engine: a thread and a runtime of its own, so that a cycle of many nodes holds up nobody's connection.
fn start_engine(engine: Engine) -> Result<thread::JoinHandle<()>, BootError> {
    let failed = |e| BootError::System("start the engine", e);
    let runtime = Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let thread = thread::Builder::new().name("engine".to_owned());
    thread.spawn(move || runtime.block_on(engine.run())).map_err(failed)
}

type PublisherThread = thread::JoinHandle<Result<(), BootError>>;

/// Starts the publisher; the receiver hears when it ends, as it does when the store fails.
fn start_publisher(
    publisher: Publisher,
    work: mpsc::UnboundedReceiver<Work>,
) -> Result<(PublisherThread, oneshot::Receiver<()>), BootError> {
    let (ended, failed) = oneshot::channel::<()>();
    let run = move || {
        let result = publisher.run(work).map_err(BootError::Store);
        drop(ended);
        result
    };
    let thread = thread::Builder::new().name("publisher".to_owned()).spawn(run);
    Ok((thread.map_err(|e| BootError::System("start the publisher", e))?, failed))
}

/// What runs while the coordinator serves.
struct Serving {
    /// Connections at most: `max_connections`, or what descriptors leave room for.
    connections: usize,
    to_engine: engine::EngineSender,
    stopping: watch::Sender<bool>,
    failed: oneshot::Receiver<()>,
    audit_failed: oneshot::Receiver<()>,
}

impl Serving {
    /// Serves until asked to stop, or until the store fails; then drains.
    async fn run(
        self,
        listener: TcpListener,
        services: Services,
        agents: Agents,
        exit_with_stdin: bool,
    ) -> Result<(), BootError> {
        // Whoever reads finds something to read: the first cycle is due at once.
        let mut newest = services.board.subscribe();
        drop(timeout(FIRST_CYCLE, newest.wait_for(Option::is_some)).await);
        let mut stopping = self.stopping.subscribe();
        let until_stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
        let incoming = accept(listener, self.connections, &services, &agents.gate)?;
        let mut server = tokio::spawn(serve(incoming, services, agents, until_stopped));
        let failed = |error: tonic::transport::Error| BootError::Serve("gRPC", error.into());
        tokio::select! {
            signal = stop::requested(exit_with_stdin) => {
                let signal = signal.map_err(|e| BootError::System("wait for signals", e))?;
                tracing::info!(signal, "draining");
            }
            _ = self.audit_failed => {
                self.stopping.send_replace(true);
                server.abort();
                let failed = io::Error::other("the log says why");
                return Err(BootError::System("write the audit", failed));
            }
            _ = self.failed => {
                // The publisher's own error says why.
                self.stopping.send_replace(true);
                server.abort();
                return Ok(());
            }
            ended = &mut server => return ended.unwrap_or(Ok(())).map_err(failed),
        }
        let shutdown = ToEngine::Fact(Input::Shutdown {
            retry_after: RETRY_AFTER,
        });
        drop(self.to_engine.send(shutdown).await);
        self.stopping.send_replace(true);
        if timeout(DRAIN, &mut server).await.is_err() {
            tracing::warn!(limit = ?DRAIN, "some clients did not end their calls in time; they are cut off");
            server.abort();
        }
        Ok(())
    }
}

/// Counts what the metrics port refuses. Who scrapes is nobody in particular, so the audit does not hear of it.
struct MetricsPort(Arc<Metrics>);

impl listener::Watch for MetricsPort {
    fn refused(&self, source: SocketAddr, refused: &listener::Refused) {
        self.0.connection_refused("metrics");
        tracing::debug!(%source, %refused, "connection to the metrics port refused");
    }
}

/// Connections, with TLS as the configuration says.
fn accept(
    listener: TcpListener,
    connections: usize,
    services: &Services,
    gate: &Gate,
) -> Result<ReceiverStream<io::Result<Conn>>, BootError> {
    let config = &services.config;
    let tls = match &services.ca {
        Some(ca) => {
            let ca = Arc::clone(ca);
            let tls = server_config(ca.keys(), ca.trust(), false).map_err(CaError::Tls)?;
            tokio::spawn(async move { ca.keep_renewed().await });
            Some(tls)
        }
        None => None,
    };
    let limits = listener::Limits {
        handshake: config.handshake_timeout.0,
        connections,
        // Where descriptors leave room for few connections, one source does not get them all.
        of_one_source: match connections < config.max_connections {
            true => config.max_connections_per_source.min((connections * 3 / 4).max(1)),
            false => config.max_connections_per_source,
        },
        nobodys: NOBODYS,
    };
    Ok(listener::accept(listener, tls, limits, Arc::new(gate.clone())))
}

async fn serve(
    incoming: ReceiverStream<io::Result<Conn>>,
    services: Services,
    agents: Agents,
    until_stopped: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let names = SERVED.map(|service| format!("wyneos.v1.{service}Service"));
    for name in &names {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let until_stopped = async move {
        until_stopped.await;
        for name in names.iter().map(String::as_str).chain([""]) {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
            // Ends the watches of it, once they have said so.
            let mut reporter = reporter.clone();
            reporter.clear_service_status(name).await;
        }
    };
    Server::builder()
        // gRPC-Web comes over HTTP/1.
        .accept_http1(true)
        .timeout(CALL)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(Some(HEADERS))
        .layer(Pacing(Arc::clone(&services.ledger)))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(agents.gate.clone())
        .layer(Answering)
        .add_service(health.max_decoding_message_size(limits::SYMBOL))
        .add_optional_service(
            reflection(tonic_reflection::server::Builder::build_v1)
                .map(|service| service.max_decoding_message_size(limits::SYMBOL)),
        )
        .add_optional_service(
            reflection(tonic_reflection::server::Builder::build_v1alpha)
                .map(|service| service.max_decoding_message_size(limits::SYMBOL)),
        )
        .add_service(
            AgentServiceServer::new(agents)
                .max_decoding_message_size(limits::AGENT_MESSAGE)
                .max_encoding_message_size(limits::NODE_MESSAGE),
        )
        .add_service(EnrollmentServiceServer::new(services.clone()).max_decoding_message_size(limits::JOINING))
        .add_service(AccessServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(ClusterServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(CoherenceServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(DecisionServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(EventServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(TelemetryServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(WorkloadServiceServer::new(services).max_decoding_message_size(limits::REQUEST))
        .serve_with_incoming_shutdown(incoming, until_stopped)
        .await
}

/// Reflection of both versions of its protocol; each lists itself, health and ours.
fn reflection<T>(
    build: impl FnOnce(tonic_reflection::server::Builder<'static>) -> Result<T, tonic_reflection::server::Error>,
) -> Option<T> {
    let mut builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wyneos::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What errors carry as details.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
    for name in SERVED {
        builder = builder.with_service_name(format!("wyneos.v1.{name}Service"));
    }
    builder = builder.with_service_name("grpc.health.v1.Health");
    let built = build(builder);
    if let Err(error) = &built {
        tracing::error!(%error, "reflection is off: the descriptor set is damaged");
    }
    built.ok()
}
