//! Serving: the ports, the channels between services, engine and publisher, and their threads; and the drain in reverse.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Semaphore, broadcast, mpsc, watch},
};
use wyneos_core::{access::Access, coordinator::Input, event::Event, integrity::Digest, recycled::Recycled};
use wyneos_shell::{
    config::Listen,
    descriptors::{self, Shares as Descriptors},
    metrics as metrics_port,
};

use super::{
    BootError,
    lead::Leading,
    threads::{PublisherThread, joined, start_engine, start_publisher, tell},
};
use crate::{
    answers::{Ledger, Quota},
    audit::Audit,
    board::Board,
    config::Config,
    engine::{self, Engine, EngineSender, ToEngine},
    gate::{Gate, Shares},
    limiter::Limiter,
    publisher::{EVENTS_BEHIND, Publisher},
    services::{Agents, Backups, PLANS, Services},
    serving::{MetricsPort, Serving},
    session::Conns,
    store::{AuditEnd, Store as _},
    turns::Turns,
};

/// Time limit for the remaining writes after the drain. Longer: a slow disk receives everything; shorter: a stalled
/// disk delays the exit less.
pub(super) const STOP: Duration = Duration::from_secs(10);

/// Maximum number of renewals of one key per minute: the shortest certificates need nine.
const RENEWALS: u32 = 30;

/// The ports, and the number of connections that there is room for.
struct Ports {
    main: TcpListener,
    metrics: Option<TcpListener>,
    shares: Descriptors,
}

impl Ports {
    fn addresses(&self) -> Result<(SocketAddr, Listen), BootError> {
        let address = |listener: &TcpListener| listener.local_addr();
        let told = |e| BootError::System("tell the address", e);
        let metrics = self.metrics.as_ref().map(address).transpose();
        Ok((address(&self.main).map_err(told)?, Listen(metrics.map_err(told)?)))
    }
}

/// Opens the ports.
fn listen(runtime: &Runtime, config: &Config) -> Result<Ports, BootError> {
    let bind = |field, address| runtime.block_on(bind(field, address));
    let main = bind("listen", config.listen)?;
    let metrics = config.metrics_listen.0;
    let metrics = metrics.map(|address| bind("metrics_listen", address)).transpose()?;
    let shares = descriptors::share(config.max_connections, 1)?;
    if shares.main < config.max_connections {
        let (connections, max_connections) = (shares.main, config.max_connections);
        tracing::warn!(
            connections,
            max_connections,
            "the limit of open files leaves room for fewer connections than max_connections; raise it (ulimit -n, LimitNOFILE)"
        );
    }
    Ok(Ports { main, metrics, shares })
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BootError::Listen { field, address, source })
}

/// State shared by the services and the publisher.
struct Shared {
    to_engine: EngineSender,
    events: broadcast::Sender<Arc<Event>>,
    board: Arc<Board>,
    ledger: Arc<Ledger>,
    /// The durable access data.
    access: Arc<ArcSwap<Access>>,
    is_stopping: watch::Receiver<bool>,
}

fn services(leading: &Leading, shared: &Shared) -> Services {
    let (config, audit) = (&leading.config, &leading.audit.audit);
    Services {
        board: Arc::clone(&shared.board),
        history: leading.store.history(),
        engine: shared.to_engine.clone(),
        events: shared.events.clone(),
        subscribers: Quota::new(config.max_subscribers_per_identity, config.max_subscribers),
        ledger: Arc::clone(&shared.ledger),
        plans: Turns::new(PLANS),
        reads: Arc::default(),
        stopping: shared.is_stopping.clone(),
        config: Arc::clone(config),
        access: Arc::clone(&shared.access),
        audit: audit.clone(),
        backups: Arc::new(Backups {
            source: leading.store.source(),
            audit: audit.clone(),
            data_dir: config.data_dir.clone(),
            secret: leading.secret,
            one: Arc::new(Semaphore::new(1)),
            stopping: shared.is_stopping.clone(),
        }),
        ca: leading.ca.clone(),
        limiter: Arc::new(Limiter::new(config.enrolments_per_minute)),
        renewals: Arc::new(Limiter::new(RENEWALS)),
        refused: Arc::default(),
        metrics: Arc::clone(&leading.metrics),
        started: leading.clock.wall(),
        public_key: leading.public_key,
    }
}

/// Serves until asked to stop, or until the store fails.
pub(super) fn serve(runtime: &Runtime, leading: Leading, exit_with_stdin: bool) -> Result<(), BootError> {
    let _guard = runtime.enter();
    let config = Arc::clone(&leading.config);
    let (cluster, epoch, nodes) = (leading.cluster, leading.epoch, leading.nodes);
    let ports = listen(runtime, &config)?;
    let (address, metrics_address) = ports.addresses()?;
    let (sessions, inputs) = mpsc::channel(engine::INPUTS);
    let (to_engine, urgent) = mpsc::channel(engine::URGENT);
    let (seals, newest_seal) = watch::channel(None);
    let (work, work_queue) = mpsc::unbounded_channel();
    let (stopping, is_stopping) = watch::channel(false);
    let ledger = Ledger::new(config.answer_memory_mib << 20, Arc::clone(&leading.metrics));
    let shared = Shared {
        to_engine,
        events: broadcast::channel(EVENTS_BEHIND).0,
        board: Arc::new(Board::new(&ledger)),
        ledger,
        access: Arc::new(ArcSwap::new(Arc::clone(&leading.access))),
        is_stopping,
    };
    let services = services(&leading, &shared);
    let Leading { audit, metrics, .. } = leading;
    for detail in audit.lost {
        // There is room: no other sender has the queue yet.
        drop(shared.to_engine.try_send(ToEngine::Fact(Input::AuditLost { detail })));
    }
    runtime.spawn(audit.audit.clone().keep_looking());
    let gate = Gate {
        access: Arc::clone(&shared.access),
        audit: audit.audit.clone(),
        metrics: Arc::clone(&metrics),
        shares: Shares::new(ports.shares.main),
    };
    let publisher = Publisher {
        store: Box::new(leading.store),
        sealer: leading.sealer,
        epoch: leading.epoch,
        board: shared.board,
        events: shared.events,
        engine: shared.to_engine.clone(),
        access: shared.access,
        ledger: shared.ledger,
        metrics: Arc::clone(&metrics),
        memory: Recycled::default(),
    };
    let (publisher, failed) = start_publisher(publisher, work_queue)?;
    let engine = Engine::new(
        leading.core,
        leading.clock,
        inputs,
        urgent,
        work,
        seals,
        Arc::clone(&metrics),
    );
    let running = Running {
        engine: start_engine(engine)?,
        stop: shared.to_engine.clone(),
        publisher,
        audit: audit.audit,
        audit_writer: audit.writer,
        audit_end: audit.end,
    };
    if let Some(listener) = ports.metrics {
        runtime.spawn(metrics_port::serve(
            listener,
            leading.registry,
            metrics_port::limits(ports.shares.metrics),
            Arc::new(MetricsPort(Arc::clone(&metrics))),
        ));
    }
    let agents = Agents {
        engine: sessions,
        conns: Conns::default(),
        seals: newest_seal,
        metrics,
        gate,
    };
    let serving = Serving {
        connections: ports.shares.main,
        to_engine: shared.to_engine,
        stopping,
        failed,
        audit_failed: audit.failed,
    };
    tracing::info!(%address, %metrics_address, %cluster, epoch = epoch.0, nodes, data_dir = %config.data_dir.display(), "listening");
    let served = runtime.block_on(serving.run(ports.main, services, agents, exit_with_stdin));
    running.drain(runtime)?;
    served?;
    tracing::info!("drained");
    Ok(())
}

/// The parts that end after the services.
struct Running {
    engine: thread::JoinHandle<()>,
    stop: EngineSender,
    publisher: PublisherThread,
    audit: Audit,
    audit_writer: thread::JoinHandle<Option<(u64, Digest)>>,
    audit_end: AuditEnd,
}

impl Running {
    /// Ends the threads in the order of the data flow, so that everything handed to the store is durable before the
    /// process ends.
    fn drain(self, runtime: &Runtime) -> Result<(), BootError> {
        let until = Instant::now() + STOP;
        let stop = self.stop;
        tell(runtime, until, async move { drop(stop.send(ToEngine::Stop).await) });
        joined("engine", self.engine, until)?;
        joined("publisher", self.publisher, until)??;
        let audit = self.audit;
        tell(runtime, until, async move { audit.stop().await });
        if let Some(end) = joined("audit", self.audit_writer, until)? {
            self.audit_end.keep(end)?;
        }
        Ok(())
    }
}
