//! Bootstrap: boots store, engine, services and pulse in order, and drains them in reverse.

mod error;
mod keys;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Semaphore, broadcast, mpsc, oneshot, watch},
    time::timeout,
};
use wyneos::v1::AuditRecord;
use wyneos_core::{
    coordinator::{self, Coordinator, Input},
    id::Uuid,
    integrity::{PublicKey, Sealer},
    time::WallTime,
};
use wyneos_shell::{
    clock::{BUILT, Clock, wait_until_past},
    config::Listen,
    descriptors, files, metrics as metrics_port, rights,
};

pub(crate) use error::BootError;
use keys::{open_ca, signing_key};

use crate::{
    answers::{Ledger, Quota},
    audit,
    board::Board,
    config::Config,
    engine::{self, Engine, ToEngine},
    gate::{Gate, Shares},
    limiter::Limiter,
    metrics::Metrics,
    publisher::{EVENTS_BEHIND, Publisher, Work},
    reads, restore,
    services::{Agents, Backups, PLANS, Services},
    serving::{MetricsPort, Serving},
    session::Conns,
    store::{Embedded, Retention, Store},
    turns::Turns,
};

/// Rpcs whose effect is not in the store.
const ROTATE: &str = "wyneos.v1.AccessService/RotateAuthority";
const BACKUP: &str = "wyneos.v1.ClusterService/Backup";

/// Renews an agent's certificate, which the state notes, or an operator's, which nothing notes.
const RENEW: &str = "wyneos.v1.EnrollmentService/Renew";

/// How long what is left to write may take, behind the drain. Longer: a slow disk gets everything; shorter: a disk that stands still holds up
/// the end for less time.
const STOP: Duration = Duration::from_secs(10);

/// How often a thread that is to end is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A clock may be set back by so much, and be right all the same.
const SET_BACK: Duration = Duration::from_secs(300);

/// Renewals of one key a minute at most: the shortest certificates want nine.
const RENEWALS: u32 = 30;

/// Runs a coordinator until it is asked to stop, or until it cannot go on.
pub(crate) fn run(config: Config, exit_with_stdin: bool) -> Result<(), BootError> {
    // Engine and publisher have threads of their own. Sessions mostly sleep, and a worker that is woken for one heartbeat
    // costs more than the heartbeat: few workers find more to do each time.
    descriptors::raise();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cpus.div_ceil(2))
        .max_blocking_threads(reads::THREADS)
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
    rights::check(data_dir)?;
    files::make_dir(data_dir, 0o700).map_err(failed("make the data_dir"))?;
    // Whoever may write above may have made it first.
    rights::check(data_dir)?;
    files::mend(data_dir, &mode_of);
    let retention = Retention {
        events: config.events_max_count,
        event_bytes: config.events_max_mib << 20,
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
    let known = store.known_audit()?;
    let mut opened = audit::Opened::new(data_dir, cluster, &secret, config.audit_max_count, known)?;
    let mut carried_out = store.carried_out(opened.next())?;
    let is_set_back = opened.is_ahead(carried_out.newest(), changes_state)?;
    if is_set_back {
        carried_out.set_back();
    }
    let newest_step = ca.as_ref().map(|ca| ca.newest_step());
    let done = |intent: &AuditRecord| match intent.action.as_str() {
        ROTATE => newest_step.and_then(|step| was_taken(step, intent.sequence)),
        // It changes nothing here: how far it got, only its caller knows.
        BACKUP => None,
        _ => carried_out.tell(intent.sequence),
    };
    let audit::Started {
        audit,
        writer: audit_writer,
        failed: audit_failed,
        end,
        lost,
    } = opened.start(data_dir, metrics.audit.clone(), done)?;
    let audit_end = store.audit_end();
    audit_end.keep(end)?;
    if is_set_back {
        // Only once the audit tells of it.
        store.keep_set_back(end.0 + 1)?;
    }
    let core = Coordinator::new(clock.now(), clock.wall(), core_config(&config, public_key), durable);

    let _guard = runtime.enter();
    let listener = runtime.block_on(listen("listen", config.listen))?;
    let metrics_listener = match config.metrics_listen.0 {
        Some(address) => Some(runtime.block_on(listen("metrics_listen", address))?),
        None => None,
    };
    let address = listener
        .local_addr()
        .map_err(|e| BootError::System("tell the address", e))?;
    let metrics_address = metrics_listener
        .as_ref()
        .map(tokio::net::TcpListener::local_addr)
        .transpose();
    let metrics_address = Listen(metrics_address.map_err(|e| BootError::System("tell the address", e))?);
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
    for detail in lost {
        // There is room: nobody else has the queue yet.
        drop(to_engine.try_send(ToEngine::Fact(Input::AuditLost { detail })));
    }
    let ledger = Ledger::new(config.answer_memory_mib << 20, Arc::clone(&metrics));
    let services = Services {
        board: Arc::new(Board::new(&ledger)),
        history: store.history(),
        engine: to_engine.clone(),
        events: events.clone(),
        subscribers: Quota::new(config.max_subscribers_per_identity, config.max_subscribers),
        ledger: Arc::clone(&ledger),
        plans: Turns::new(PLANS),
        reads: Arc::default(),
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
        shares: Shares::new(shares.main),
    };
    let (publisher, failed) = start_publisher(publisher, work_queue)?;
    let engine = Engine::new(core, clock, inputs, urgent, work, seals, Arc::clone(&metrics));
    let engine = start_engine(engine)?;
    if let Some(listener) = metrics_listener {
        runtime.spawn(metrics_port::serve(
            listener,
            registry,
            metrics_port::limits(shares.metrics),
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
    let until = Instant::now() + STOP;
    tell(runtime, until, async move { drop(stop.send(ToEngine::Stop).await) });
    joined("engine", engine, until)?;
    joined("publisher", publisher, until)??;
    tell(runtime, until, async move { accounts.stop().await });
    if let Some(end) = joined("audit", audit_writer, until)? {
        audit_end.keep(end)?;
    }
    served?;
    tracing::info!("drained");
    Ok(())
}

/// Whether an intent of a step of the CA's replacement was carried out, by the intent of the newest step that was taken. Of an earlier one
/// nothing is remembered.
fn was_taken(newest: u64, intent: u64) -> Option<bool> {
    (intent >= newest).then_some(intent == newest)
}

/// True for a call whose effect is in the store, with its intent.
fn changes_state(record: &AuditRecord) -> bool {
    record.action.starts_with("wyneos.v1.") && !matches!(record.action.as_str(), ROTATE | BACKUP | RENEW)
}

/// Tells a thread something, if it can be told in time.
fn tell(runtime: &Runtime, until: Instant, told: impl Future<Output = ()>) {
    // Whoever is not told does not end, which is noticed.
    drop(runtime.block_on(async { timeout(until.saturating_duration_since(Instant::now()), told).await }));
}

/// What a thread ends with; an error if it does not end in time.
fn joined<T>(name: &'static str, thread: thread::JoinHandle<T>, until: Instant) -> Result<T, BootError> {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return Err(BootError::Stuck(name));
        }
        thread::sleep(LOOK);
    }
    let panicked = |_| BootError::System("end a thread", io::Error::other(format!("the {name} thread panicked")));
    thread.join().map_err(panicked)
}

/// Waits for a clock that is behind the newest snapshot. Whether that one was ahead cannot be told: then the coordinator starts.
fn wait_for_newest(store: &Embedded, bound: Duration) -> Result<(), BootError> {
    let Some(newest) = store.history().seals(u64::MAX, 1)?.pop() else {
        return Ok(());
    };
    let least = WallTime(newest.time.0.saturating_sub(SET_BACK.as_millis() as i64));
    if let Err(behind) = wait_until_past(least, "the newest snapshot was sealed, but for five minutes", bound) {
        tracing::warn!("starting anyway, as the clock may have been ahead before: {behind}");
    }
    Ok(())
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

#[cfg(test)]
mod tests;
