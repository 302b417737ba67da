//! Taking the lead: the durable state, the CA, an audit in which every intent has an outcome, and the core.

use std::{sync::Arc, thread};

use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use wyneos::v1::AuditRecord;
use wyneos_core::{
    access::Access,
    coordinator::{self, Coordinator},
    id::{ClusterId, Epoch, Uuid},
    integrity::{Digest, PublicKey, Sealer},
};
use wyneos_shell::clock::Clock;

use super::{BootError, keys::open_ca, open::Opened};
use crate::{
    audit::{self, Audit},
    ca::Ca,
    config::Config,
    metrics::Metrics,
    store::{AuditEnd, Embedded, Store as _},
};

/// Rpcs whose effect is not in the store.
const ROTATE: &str = "wyneos.v1.AccessService/RotateAuthority";
const BACKUP: &str = "wyneos.v1.ClusterService/Backup";

/// Renews an agent's certificate, which the state records, or an operator's, which is not recorded.
const RENEW: &str = "wyneos.v1.EnrollmentService/Renew";

/// A coordinator that leads: its engine is ready, and no requests are accepted yet.
pub(super) struct Leading {
    pub(super) config: Arc<Config>,
    pub(super) store: Embedded,
    pub(super) secret: [u8; 32],
    pub(super) clock: Clock,
    pub(super) core: Coordinator,
    pub(super) sealer: Sealer,
    pub(super) public_key: PublicKey,
    pub(super) cluster: ClusterId,
    pub(super) epoch: Epoch,
    /// Number of nodes on record.
    pub(super) nodes: usize,
    /// The durable access data.
    pub(super) access: Arc<Access>,
    /// `None` without TLS.
    pub(super) ca: Option<Arc<Ca>>,
    pub(super) audit: Auditing,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
}

/// A running audit.
pub(super) struct Auditing {
    pub(super) audit: Audit,
    pub(super) writer: thread::JoinHandle<Option<(u64, Digest)>>,
    /// Notified when the writer ends.
    pub(super) failed: oneshot::Receiver<()>,
    /// Records the end of the audit, for the next start.
    pub(super) end: AuditEnd,
    /// Descriptions of missing entries or changes.
    pub(super) lost: Vec<String>,
}

/// Begins an epoch of this coordinator.
pub(super) fn lead(opened: Opened) -> Result<Leading, BootError> {
    let Opened {
        config,
        mut store,
        secret,
    } = opened;
    let clock = Clock::default();
    let durable = store.load(Uuid(*uuid::Uuid::new_v4().as_bytes()))?;
    let sealer = Sealer::new(durable.cluster, &secret, durable.last_snapshot.2);
    let (public_key, epoch) = (sealer.public_key(), durable.epoch);
    let (cluster, nodes) = (durable.cluster, durable.nodes.len());
    let access = Arc::clone(&durable.access);
    let (metrics, registry) = Metrics::new();
    let ca = config.tls.then(|| open_ca(&config, cluster, public_key)).transpose()?;
    let audit = start_audit(&config, &store, (cluster, &secret), &metrics, ca.as_deref())?;
    let core = Coordinator::new(clock.now(), clock.wall(), core_config(&config, public_key), durable);
    Ok(Leading {
        config,
        store,
        secret,
        clock,
        core,
        sealer,
        public_key,
        cluster,
        epoch,
        nodes,
        access,
        ca,
        audit,
        metrics,
        registry,
    })
}

/// Opens the audit, and records the result of each call that was cut off.
fn start_audit(
    config: &Config,
    store: &Embedded,
    (cluster, secret): (ClusterId, &[u8; 32]),
    metrics: &Metrics,
    ca: Option<&Ca>,
) -> Result<Auditing, BootError> {
    let data_dir = &config.data_dir;
    let known = store.known_audit()?;
    let mut opened = audit::Opened::new(data_dir, cluster, secret, config.audit_max_count, known)?;
    let mut carried_out = store.carried_out(opened.next())?;
    let is_set_back = opened.is_ahead(carried_out.newest(), changes_state)?;
    if is_set_back {
        carried_out.set_back();
    }
    let newest_step = ca.map(Ca::newest_step);
    let done = |intent: &AuditRecord| match intent.action.as_str() {
        ROTATE => newest_step.and_then(|step| was_taken(step, intent.sequence)),
        // A backup changes nothing here, and only its caller knows its progress.
        BACKUP => None,
        _ => carried_out.tell(intent.sequence),
    };
    let started = opened.start(data_dir, metrics.audit.clone(), done)?;
    let end = store.audit_end();
    end.keep(started.end)?;
    if is_set_back {
        // Only once the audit reports it.
        store.keep_set_back(started.end.0 + 1)?;
    }
    Ok(Auditing {
        audit: started.audit,
        writer: started.writer,
        failed: started.failed,
        end,
        lost: started.lost,
    })
}

/// Returns whether an intent of a step of the CA's replacement was carried out, by the intent of the newest step.
/// Earlier steps are not recorded.
pub(super) fn was_taken(newest: u64, intent: u64) -> Option<bool> {
    (intent >= newest).then_some(intent == newest)
}

/// Returns whether the effect of the recorded call is in the store, with its intent.
fn changes_state(record: &AuditRecord) -> bool {
    record.action.starts_with("wyneos.v1.") && !matches!(record.action.as_str(), ROTATE | BACKUP | RENEW)
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
