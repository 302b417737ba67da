//! Changes of every kind with kills among them: the audit's record of completed changes matches the state exactly.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tonic::{Status, transport::Channel};
use wyneos::{
    audit::Intents,
    client,
    v1::{self, AuditKind, AuditRecord, Eligibility, Liveness},
};

use super::{CALLERS, label, records};
use crate::harness::{Cluster, wait_until};

/// Number of kills while many changes are in progress.
const KILLS: usize = 24;

/// Verbs in events, and the corresponding rpcs.
const VERBS: [(&str, &str); 9] = [
    ("apply", "ApplyWorkload"),
    ("scale", "ScaleWorkload"),
    ("restart", "RestartWorkload"),
    ("promote", "PromoteWorkload"),
    ("delete", "DeleteWorkload"),
    ("label", "LabelNode"),
    ("cordon", "CordonNode"),
    ("uncordon", "UncordonNode"),
    ("drain", "DrainNode"),
];

/// A caller with a workload of its own, so that each of its changes is effective.
struct Deployer {
    name: String,
    channel: Channel,
    declared: bool,
    /// Whether its revision was neither restarted nor promoted.
    fresh: bool,
}

impl Deployer {
    async fn new(number: usize, channel: Channel) -> Result<Deployer, Status> {
        let name = format!("w{number}");
        let request = v1::GetWorkloadRequest { name: name.clone() };
        let shown = client::workloads(channel.clone()).get_workload(request).await;
        let declared = match shown {
            Ok(shown) => shown.into_inner().workload.is_some_and(|workload| !workload.deleted),
            Err(status) if status.code() == tonic::Code::NotFound => false,
            Err(status) => return Err(status),
        };
        Ok(Deployer {
            name,
            channel,
            declared,
            fresh: false,
        })
    }

    async fn change(&mut self, number: u64) -> Result<Option<v1::WorkloadChange>, Status> {
        let mut client = client::workloads(self.channel.clone());
        let (name, revision, plan) = (self.name.clone(), None, false);
        // The numbers of several callers interleave: any odd factor spreads the kinds over them.
        let kind = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        let change = match kind {
            _ if !self.declared => self.apply(number).await?,
            0..4 => self.apply(number).await?,
            _ if !self.fresh && (9..13).contains(&kind) => self.apply(number).await?,
            4..9 => {
                self.fresh = true;
                let replicas = 2 + u32::try_from(number % 211).unwrap();
                let request = v1::ScaleWorkloadRequest {
                    name,
                    replicas,
                    revision,
                    plan,
                };
                client.scale_workload(request).await?.into_inner().change
            }
            9..11 => {
                self.fresh = false;
                let request = v1::RestartWorkloadRequest { name, revision, plan };
                client.restart_workload(request).await?.into_inner().change
            }
            11..13 => {
                self.fresh = false;
                let request = v1::PromoteWorkloadRequest { name, revision, plan };
                client.promote_workload(request).await?.into_inner().change
            }
            13 => {
                // There is nothing to move: the call succeeds without a change.
                client.rebalance(v1::RebalanceRequest { plan }).await?;
                return Ok(None);
            }
            _ => {
                let request = v1::DeleteWorkloadRequest { name, revision, plan };
                let change = client.delete_workload(request).await?.into_inner().change;
                (self.declared, self.fresh) = (false, false);
                change
            }
        };
        Ok(change)
    }

    async fn apply(&mut self, number: u64) -> Result<Option<v1::WorkloadChange>, Status> {
        let spec = v1::WorkloadSpec {
            name: self.name.clone(),
            command: "/bin/sleep".to_owned(),
            args: vec![number.to_string()],
            kind: Some(v1::workload_spec::Kind::Service(v1::ServiceKind { replicas: 1 })),
            ..Default::default()
        };
        let request = v1::ApplyWorkloadRequest {
            spec: Some(spec),
            revision: None,
            keep_replicas: false,
            force: false,
        };
        let answer = client::workloads(self.channel.clone()).apply_workload(request).await?;
        (self.declared, self.fresh) = (true, true);
        Ok(answer.into_inner().change)
    }
}

/// Changes the node `one`, of which other callers change only labels, until the coordinator ends.
async fn operate(channel: Channel, next: &AtomicU64, acknowledged: &Mutex<Vec<u64>>) -> Result<(), Status> {
    let mut client = client::cluster(channel);
    let node = || "one".to_owned();
    let rows = client.list_nodes(v1::ListNodesRequest::default()).await?.into_inner();
    let mut eligible = rows.nodes[0].eligibility() == Eligibility::Eligible;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let event = match (eligible, number % 3) {
            (_, 0) => label(&mut client, number).await?,
            (true, 1) => {
                let request = v1::CordonNodeRequest { node: node() };
                client.cordon_node(request).await?.into_inner().event_sequence
            }
            (true, _) => {
                let (deadline, plan) = (None, false);
                let request = v1::DrainNodeRequest {
                    keep_daemons: false,
                    node: node(),
                    deadline,
                    plan,
                };
                client.drain_node(request).await?;
                0
            }
            (false, _) => {
                let request = v1::UncordonNodeRequest { node: node() };
                client.uncordon_node(request).await?.into_inner().event_sequence
            }
        };
        eligible ^= !number.is_multiple_of(3);
        acknowledged.lock().unwrap().push(event);
    }
}

/// The same for workloads.
async fn deploy(
    number: usize,
    channel: Channel,
    next: &AtomicU64,
    acknowledged: &Mutex<Vec<u64>>,
) -> Result<(), Status> {
    let mut deployer = Deployer::new(number, channel).await?;
    loop {
        if let Some(change) = deployer.change(next.fetch_add(1, Ordering::Relaxed)).await? {
            assert!(change.changed, "every change is one: {change:?}");
            acknowledged.lock().unwrap().push(change.event_sequence);
        }
    }
}

/// Returns the numbers of events caused by operators' changes, by verb.
fn changes(events: &[v1::Event]) -> BTreeMap<&'static str, Vec<u64>> {
    let mut changes: BTreeMap<_, Vec<u64>> = VERBS.iter().map(|(verb, _)| (*verb, Vec::new())).collect();
    for event in events {
        let by = match &event.body {
            Some(v1::event::Body::Command(command)) => &command.by,
            Some(v1::event::Body::Workload(workload)) => &workload.by,
            _ => continue,
        };
        let verb = event.summary.split(' ').next().unwrap_or_default();
        if let Some((verb, _)) = VERBS.iter().find(|(known, _)| *known == verb && !by.is_empty()) {
            changes.get_mut(verb).unwrap().push(event.sequence);
        }
    }
    changes
}

/// Returns how many calls of an rpc are recorded as carried out.
fn carried_out(records: &[AuditRecord], rpc: &str) -> usize {
    let done = |record: &&AuditRecord| {
        record.action.ends_with(&format!("/{rpc}"))
            && record.code == 0
            && matches!(record.kind(), AuditKind::Outcome | AuditKind::Reconciled)
    };
    records.iter().filter(done).count()
}

#[tokio::test]
async fn every_kind_of_change_is_in_the_state_if_and_only_if_the_audit_says_so() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    agent.terminate().await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::new(AtomicU64::new(0));
    for kill in 0..KILLS {
        let before = acknowledged.lock().unwrap().len();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (address, next) = (cluster.address.clone(), Arc::clone(&next));
                let acknowledged = Arc::clone(&acknowledged);
                tokio::spawn(async move {
                    let Ok(channel) = client::connect(&address).await else {
                        return;
                    };
                    // Until the coordinator ends.
                    drop(match caller {
                        0 => operate(channel, &next, &acknowledged).await,
                        _ => deploy(caller, channel, &next, &acknowledged).await,
                    });
                })
            })
            .collect();
        wait_until("some changes are acknowledged", async || {
            (acknowledged.lock().unwrap().len() >= before + 12 + kill % 11).then_some(())
        })
        .await;
        cluster.kill().await;
        for caller in callers {
            caller.await.unwrap();
        }
        cluster.restart().await;
        let records = records(&cluster.address).await;
        let mut intents = Intents::default();
        records.iter().for_each(|record| intents.take(record));
        assert!(
            intents.open.is_empty() && intents.unknown.is_empty(),
            "kill {kill}: {intents:?}"
        );
        let events = cluster.events().await;
        let changes = changes(&events);
        for (verb, rpc) in VERBS {
            let (done, there) = (carried_out(&records, rpc), changes[verb].len());
            assert_eq!(
                done, there,
                "kill {kill}: {verb} as the audit says, and as the state has it"
            );
        }
        for event in acknowledged.lock().unwrap().iter().filter(|event| **event > 0) {
            let is_there = changes.values().any(|known| known.contains(event));
            assert!(is_there, "kill {kill}: event {event} was acknowledged");
        }
    }
    let records = records(&cluster.address).await;
    let reconciled = records.iter().filter(|record| record.kind() == AuditKind::Reconciled);
    let done = reconciled.filter(|record| record.code == 0 && record.action.contains("Workload"));
    assert!(done.count() > 0, "no kill came between a change and its outcome");
    for (verb, rpc) in VERBS {
        assert!(carried_out(&records, rpc) > 0, "no {verb} was carried out");
    }
}
